"""open_flamingo's own model, run from its package, and ours after conversion: the same logits, the same words."""

from functools import cache

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from flamingo_blocks import Flamingo
from flamingo_blocks.interop import export_foreign, load_foreign
from tests.flamingos import TAG as TAG_TOKEN
from tests.flamingos import TEXT, prompt_rows
from tests.interop.open_flamingo_peer import (
    DECODER_LAYERS,
    END,
    SIDE,
    TAG,
    build_peer,
    our_tower,
    plain_language_model,
    saved_by_peer,
    their_pixels,
)
from tests.language_models import VOCAB
from tests.strategies import heavy, seeds

pytestmark = pytest.mark.peers
BOUND = 1e-4
COMMON = ("opt", "llama")
RARER = [pytest.param(name, marks=pytest.mark.full) for name in DECODER_LAYERS if name not in COMMON]
# No image, one, several, two side by side, three side by side, an image at the very end; pads on the left.
ROWS = (
    [0, 0, 2, TAG, 5, 6, END, TAG, 7, 8],
    [2, TAG, TAG, 9, 10, END, 11, TAG, TAG, TAG],
    [0, 0, 0, 2, 5, 6, 7, 8, 9, 10],
    [2, 4, 5, TAG, 9, 8, 7, 6, 5, TAG],
)


@cache
def converted(name: str, layout: str = "live", every: int = 1, depth: int = 2) -> tuple[nn.Module, Flamingo]:
    """Peer and ours with its weights; the peer's language model comes plain to us."""
    peer = build_peer(name, every=every, depth=depth)
    lm = plain_language_model(name, depth=depth)
    return peer, load_foreign(saved_by_peer(peer, layout), lm=lm, vision=our_tower())


def compare_logits(peer: nn.Module, ours: Flamingo, ids: Tensor, real: Tensor, seed: int = 0) -> None:
    tags = ids == TAG
    noise = torch.Generator().manual_seed(seed)
    pixels = torch.randn(int(tags.sum()), 1, 3, SIDE, SIDE, generator=noise)
    with torch.no_grad():
        expected = peer(their_pixels(pixels, tags), ids, attention_mask=real.long()).logits
        found = ours(ids, pixels=pixels, attention_mask=real.long()).logits
    assert expected[real].abs().max() > 2  # a wrong mask moves such logits by far more than the bound
    torch.testing.assert_close(found[real], expected[real], atol=BOUND, rtol=0)


@pytest.mark.parametrize("name", [*COMMON, *RARER])
def test_logits_of_the_whole_model(name):
    """No image, one, several and consecutive ones, rows padded on the left: logits differ by 1e-4 at most."""
    peer, ours = converted(name)
    ids = torch.tensor(ROWS)
    compare_logits(peer, ours, ids, ids != 0)
    compare_logits(peer, ours, ids[2:3], ids[2:3] != 0)  # no image in the whole batch


@pytest.mark.parametrize("name", [*COMMON, *RARER])
def test_blocks_at_every_second_layer(name):
    """With a block before each second layer the first stands before layer 1, and logits are the same."""
    peer, ours = converted(name, every=2, depth=4)
    assert list(ours.blocks) == ["1", "3"]
    ids = torch.tensor(ROWS)
    compare_logits(peer, ours, ids, ids != 0)


@heavy()
@given(prompt_rows(), seeds)
def test_logits_of_any_text(rows, seed):
    """Any text with any images between, padded on the left: the same logits."""
    peer, ours = converted("opt")
    kinds = {TEXT: 5, TAG_TOKEN: TAG}
    ids = torch.tensor([[kinds.get(token, 0) for token in row] for row in rows])
    words = torch.randint(3, VOCAB, ids.shape, generator=torch.Generator().manual_seed(seed))
    ids = torch.where(ids == 5, words, ids)
    tags, real = ids == TAG, ids != 0
    pixels = torch.randn(int(tags.sum()), 1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = peer(their_pixels(pixels, tags), ids, attention_mask=real.long()).logits
        found = ours(ids, pixels=pixels, attention_mask=real.long()).logits
    torch.testing.assert_close(found[real], expected[real], atol=BOUND, rtol=0)


def attending_to_all(peer: nn.Module) -> nn.Module:
    """The peer in its other mode, which its blocks have and its factory does not set."""
    for block in peer.lang_encoder.gated_cross_attn_layers:
        block.attn.only_attend_immediate_media = False
    return peer


@pytest.mark.parametrize("name", [*COMMON, *RARER])
def test_logits_of_a_model_that_attends_to_all_images(name):
    """Loaded with scope "all" it gives the same logits where rows begin with an image, and it comes back."""
    peer = attending_to_all(build_peer(name))
    checkpoint = saved_by_peer(peer, "live")
    ours = load_foreign(checkpoint, lm=plain_language_model(name), vision=our_tower(), scope="all")
    ids = torch.tensor(
        [[TAG, 5, 6, END, TAG, 7, 8, 9, TAG, TAG], [0, 0, 0, TAG, TAG, 9, TAG, 10, 11, 12], [0] * 8 + [TAG, 5]]
    )
    compare_logits(peer, ours, ids, ids != 0)
    with pytest.raises(AssertionError, match="not close"):  # with the other scope they differ
        compare_logits(peer, converted(name)[1], ids, ids != 0)
    for options in ({"like": checkpoint}, {"layout": "live"}):
        back = export_foreign(ours, family="open_flamingo", scope="all", **options)
        assert all(torch.equal(back[key], tensor) for key, tensor in checkpoint.items())


def test_text_before_the_first_image_is_where_the_peer_differs():
    """Attending to all images, the peer's text before the first one moves with the images; ours does not."""
    peer = attending_to_all(build_peer("opt"))
    ours = load_foreign(
        saved_by_peer(peer, "live"), lm=plain_language_model("opt"), vision=our_tower(), scope="all"
    )  # fmt: skip
    ids = torch.tensor([[0, 2, 5, TAG, 6, TAG, 7]])
    pixels = torch.randn(2, 2, 1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    mask = (ids != 0).long()
    with torch.no_grad():
        theirs = [peer(their_pixels(images, ids == TAG), ids, attention_mask=mask).logits for images in pixels]
        mine = [ours(ids, pixels=images, attention_mask=mask).logits for images in pixels]
    assert (theirs[0] - theirs[1])[0, 1:3].abs().max() > 0.05
    assert torch.equal(mine[0][0, 1:3], mine[1][0, 1:3])


@pytest.mark.parametrize("layout", ["v1", "v2"])
@pytest.mark.parametrize("name", [*COMMON, *RARER])
def test_logits_of_what_its_training_saves(name, layout):
    """Of the tensors that its training code saves: logits of the whole vocabulary, and of new tokens where it is tied.

    An untied head is not among these tensors, unless its name has "embed" in it, as GPT-NeoX's has in transformers 5.0;
    open_flamingo then draws the two new rows anew, as we take the mean row.
    """
    peer, ours = converted(name, layout)
    ids = torch.tensor(ROWS)
    table, head = (getattr(peer.lang_encoder, f"get_{kind}_embeddings")().weight for kind in ("input", "output"))
    saved = any(name.endswith("embed_out.weight") for name in saved_by_peer(peer, layout))
    if not saved and not torch.equal(head, table):
        mean = ours.lm.get_output_embeddings().weight.mean(0)
        torch.testing.assert_close(ours.token_rows.output, mean.expand(2, -1))
        with torch.no_grad():
            head[VOCAB:] = mean
    compare_logits(peer, ours, ids, ids != 0)
    converted.cache_clear()


def generated(peer: nn.Module, ours: Flamingo, rows: list[list[int]], **options: object) -> tuple[Tensor, Tensor]:
    ids = torch.tensor(rows)
    tags, real = ids == TAG, (ids != 0).long()
    pixels = torch.randn(int(tags.sum()), 1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    forward = type(peer.lang_encoder).forward

    def with_mask(self, input_ids, attention_mask=None, past_key_values=None, **rest):
        """Transformers 5 keeps an all-ones mask to itself, and `forward` of the peer wants one."""
        if attention_mask is None:
            past = 0 if past_key_values is None else past_key_values.get_seq_length()
            attention_mask = torch.ones(len(input_ids), past + input_ids.shape[1], dtype=torch.long)
        return forward(self, input_ids, attention_mask, past_key_values=past_key_values, **rest)

    type(peer.lang_encoder).forward = with_mask
    options = {"max_new_tokens": 8, "pad_token_id": 0, "suppress_tokens": [TAG], **options}
    try:
        expected = peer.generate(their_pixels(pixels, tags), ids, attention_mask=real, **options)
    finally:
        type(peer.lang_encoder).forward = forward
    return expected, ours.generate(ids, pixels=pixels, attention_mask=real, eos_token_id=END, **options)


PROMPTS = {
    "padded": [
        [0, 0, 2, TAG, 5, 6, END, TAG, 7], [2, TAG, TAG, 9, 10, END, 11, TAG, 3], [0, 0, 0, 0, 2, 5, TAG, 8, 9],
        [0, 0, 0, 2, 5, 6, 10, 8, 9],  # no image
    ],
    "unpadded": [[2, TAG, 5, 6], [2, 5, TAG, TAG]],
}  # fmt: skip


@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize(
    "name", ["opt", *(pytest.param(n, marks=pytest.mark.full) for n in DECODER_LAYERS if n != "opt")]
)
def test_generation_token_for_token(name, num_beams, prompts):
    """Greedy and with beams: the same tokens, while no beam writes the media tag (see the next test)."""
    expected, found = generated(*converted(name), PROMPTS[prompts], num_beams=num_beams, do_sample=False)
    assert found.tolist() == expected.tolist()


def test_a_media_tag_that_one_row_writes_blinds_the_others_in_the_peer():
    """Where one row writes `<image>`, the peer's other rows see their images no more; ours go on as if alone."""
    peer, ours = converted("opt")
    ids = torch.tensor([[0, 2, TAG, 5, 6], [2, 3, 5, TAG, 7]])  # a pad, so that the peer gets a mask
    pixels = torch.randn(2, 1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))

    def force(input_ids, scores):
        """The first row writes the tag, the other a word."""
        if input_ids.shape[1] == ids.shape[1]:
            scores = torch.full_like(scores, -torch.inf)
            scores[0, TAG] = scores[1:, 9] = 0.0
        return scores

    media = {"vision_x": their_pixels(pixels, ids == TAG), "lang_x": ids}
    steps = {
        "attention_mask": (ids != 0).long(), "max_new_tokens": 2, "logits_processor": [force], "do_sample": False,
        "output_logits": True, "return_dict_in_generate": True, "pad_token_id": 0, "eos_token_id": END,
    }  # fmt: skip
    theirs = peer.generate(**media, **steps).logits[1][1]
    mine = ours.generate(ids, pixels=pixels, **steps).logits[1][1]
    alone = torch.cat([ids[1:], torch.tensor([[9]])], 1)
    with torch.no_grad():
        wanted = peer(media["vision_x"][1:], alone, attention_mask=torch.ones_like(alone)).logits[0, -1]
    assert (theirs - wanted).abs().max() > 0.05
    torch.testing.assert_close(mine, wanted, atol=BOUND, rtol=0)


@pytest.mark.parametrize("layout", ["v1", "v2", "live"])
@pytest.mark.parametrize("name", [*COMMON, *RARER])
def test_there_and_back(name, layout):
    """What the peer saves comes back as the same names and the same tensors, told which or by the layout's name."""
    peer = build_peer(name)
    checkpoint = saved_by_peer(peer, layout)
    ours = load_foreign(checkpoint, lm=plain_language_model(name), vision=our_tower())
    for back in (
        export_foreign(ours, family="open_flamingo", like=checkpoint),
        export_foreign(ours, family="open_flamingo", layout=layout),
    ):
        assert back.keys() == checkpoint.keys()
        assert all(torch.equal(back[key], tensor) for key, tensor in checkpoint.items())
    peer.load_state_dict(export_foreign(ours, family="open_flamingo", layout="live"), strict=True)
