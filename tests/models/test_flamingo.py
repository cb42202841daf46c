"""The reference Flamingo: what it refuses and how it says so, its loss, its keys, its copies."""

import copy
import io
import pickle
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flamingo_blocks import Flamingo, MediaLayout, MediaState, PerceiverResampler
from flamingo_blocks.models import build_tiny_flamingo
from tests.flamingos import (
    EXAMPLE_ROWS,
    KNOWN_TAG,
    NEW_TAG,
    VISION_DIM,
    close,
    make_batch,
    make_block,
    make_flamingo,
)
from tests.language_models import DIM, NAMES, VOCAB, make_language_model
from tests.oracle import naive_block, naive_resampler, seen_slots

language_models = pytest.mark.parametrize("name", NAMES)


def plain_batch():
    batch = make_batch(EXAMPLE_ROWS, 0)
    return replace(batch, real=torch.ones_like(batch.real))


def test_the_whole_model_is_its_formula():
    """Tower, resampler, token rows and blocks, each from its weights alone in plain loops, give the same logits."""
    flamingo, batch = make_flamingo("plain"), plain_batch()
    actual = flamingo(**batch.arguments()).logits
    given = batch.arguments()
    pixels, exists = given["pixels"].nan_to_num(), given["frame_valid"]
    maps = flamingo.vision.encoder(pixels.flatten(0, 1))
    features = maps.flatten(2).transpose(1, 2).unflatten(0, pixels.shape[:2])
    media = naive_resampler(
        flamingo.resampler.state_dict(), features, num_heads=2, depth=1, activation="squared_relu",
        valid=exists[..., None].expand(features.shape[:-1]),
    )  # fmt: skip
    offsets = [0, *batch.is_media.sum(1).cumsum(0).tolist()]
    rule = {"scope": "last", "direction": "previous", "grouped": False}
    seen = [
        [[offset + slot for slot in slots] for slots in seen_slots(row, **rule)]
        for offset, row in zip(offsets, without_pads(EXAMPLE_ROWS), strict=False)
    ]
    lm, rows = copy.deepcopy(flamingo.lm), flamingo.token_rows.state_dict()
    for module in lm.modules():
        module._forward_hooks.clear(), module._forward_pre_hooks.clear()
    table = torch.cat([lm.embedding.weight, rows["input"]])
    text = table[batch.input_ids] + lm.positions.weight[: batch.input_ids.shape[1]]
    for index, layer in enumerate(lm.layers):
        if str(index) in flamingo.blocks:
            weights = flamingo.blocks[str(index)].state_dict()
            text = naive_block(weights, text, media, seen, head_dim=8, activation="squared_relu")
        text = layer(text)
    expected = torch.cat([text @ lm.head.weight.T + lm.head.bias, text @ rows["output"].T], -1)
    close(actual, expected)


def without_pads(rows):
    return tuple(tuple(replace(token, kind="text") if token.kind == "pad" else token for token in row) for row in rows)


def test_pixels_features_and_media_are_three_ways_to_say_one_thing():
    """The features of the tower, the tokens of the resampler and the encoded state give the logits of the pixels."""
    flamingo = make_flamingo("plain")
    ids, pixels = torch.tensor([[3, NEW_TAG, 4]]), torch.randn(1, 1, 3, 8, 8, dtype=torch.float64)
    expected = flamingo(ids, pixels=pixels).logits
    features = flamingo.vision(pixels[:, 0]).tokens[:, None]
    state = flamingo.encode_media(pixels)
    assert state.layout is None
    for given in (dict(features=features), dict(media=state), dict(media=state.media)):
        close(flamingo(ids, **given).logits, expected)
    close(flamingo(ids, media=flamingo.encode_media(features=features)).logits, expected)
    with pytest.raises(ValueError, match="pixels and features were given; wanted one of them"):
        flamingo.encode_media(pixels, features=features)


@language_models
def test_the_loss_is_the_mean_over_the_labels_that_count(name):
    """Shifted by one, without -100 and without media tags; none at all is 0, with gradients."""
    flamingo, batch = make_flamingo(name), plain_batch()
    labels = batch.input_ids.clone()
    labels[:, 2] = -100
    out = flamingo(**batch.arguments(), labels=labels, return_logits=True)
    each = [
        F.cross_entropy(out.logits[row, column - 1], labels[row, column])
        for row in range(labels.shape[0])
        for column in range(1, labels.shape[1])
        if labels[row, column] != -100 and batch.input_ids[row, column] != NEW_TAG
    ]
    torch.testing.assert_close(out.loss, torch.stack(each).mean())
    nothing = flamingo(**batch.arguments(), labels=torch.full_like(labels, -100)).loss
    nothing.backward()
    assert nothing == 0 and all(weight.grad is not None for weight in flamingo.trained_parameters().values())


def test_the_first_token_of_a_packed_document_is_no_label():
    """What ends one document says nothing about what begins the next."""
    flamingo, ids = make_flamingo("gpt2"), torch.tensor([[3, 4, 5, 6, 7]])
    document = torch.tensor([[0, 0, 1, 1, 1]])
    packed = flamingo(ids, document=document, labels=ids).loss
    apart = [flamingo(part, labels=part).loss * (part.shape[1] - 1) for part in (ids[:, :2], ids[:, 2:])]
    torch.testing.assert_close(packed, sum(apart) / 3)


@language_models
@pytest.mark.parametrize("keep", [1, 3])
def test_only_the_logits_that_are_kept_are_given(name, keep):
    """With or without a prompt, they are the last columns of all."""
    flamingo, batch = make_flamingo(name), plain_batch()
    whole = flamingo(**batch.arguments()).logits
    close(flamingo(**batch.arguments(), logits_to_keep=keep).logits, whole[:, -keep:], name)
    prompt = flamingo.prefill(**batch.columns(0, 2).arguments())
    close(flamingo(**batch.columns(2).arguments(), prompt=prompt, logits_to_keep=keep).logits, whole[:, -keep:], name)


def test_a_layout_of_ones_own_shares_items():
    """With `layout=` the pool need not be as large as the number of tags."""
    flamingo = make_flamingo("plain")
    ids, pixels = torch.tensor([[NEW_TAG, 3, NEW_TAG, 4]]), torch.randn(1, 1, 3, 8, 8, dtype=torch.float64)
    layout = MediaLayout.from_tokens(ids == NEW_TAG, item_ids=torch.tensor([[0, 0]]))
    close(flamingo(ids, pixels=pixels, layout=layout).logits, flamingo(ids, pixels=pixels.repeat(2, 1, 1, 1, 1)).logits)
    next_one = MediaLayout.from_tokens(ids == NEW_TAG, direction="next")
    assert flamingo(ids, pixels=pixels.repeat(2, 1, 1, 1, 1), layout=next_one).logits.shape == (1, 4, VOCAB + 2)


@language_models
@pytest.mark.parametrize("resampler", [None, "linear"])
def test_projectors_and_no_resampler_at_all(name, resampler):
    """A linear projector keeps one token a patch; without any, the features are the tokens. A chat may begin without
    an image in both.
    """
    module = nn.Linear(VISION_DIM, VISION_DIM) if resampler else None
    flamingo, batch = make_flamingo(name, resampler=module), plain_batch()
    whole = flamingo(**batch.arguments()).logits
    assert flamingo.encode_media(batch.arguments()["pixels"]).media.shape == (3, 8, VISION_DIM)
    assert not batch.is_media[:, :1].any()
    prompt = flamingo.prefill(**batch.columns(0, 1).arguments())
    close(flamingo(**batch.columns(1).arguments(), prompt=prompt).logits, whole[:, 1:], name)
    text = flamingo(torch.tensor([[3, 4]]), labels=torch.tensor([[3, 4]]))
    text.loss.backward()
    assert all(weight.grad is not None for weight in flamingo.trained_parameters().values())


def test_a_projection_brings_tokens_to_the_width_of_the_blocks():
    """As in the paper, where 1536 wide tokens meet blocks as wide as the language model."""
    flamingo = make_flamingo(
        "plain", projection=nn.Linear(VISION_DIM, DIM, bias=False), blocks={0: make_block(vision_dim=DIM)}
    )
    batch = plain_batch()
    assert flamingo.encode_media(batch.arguments()["pixels"]).media.shape[-1] == DIM
    loss = flamingo(batch.input_ids[:, :1], labels=batch.input_ids[:, :1]).loss
    (loss + flamingo(**batch.arguments(), labels=batch.input_ids).loss).backward()
    assert all(weight.grad is not None for weight in flamingo.trained_parameters().values())


def test_parts_that_train_are_not_frozen():
    """`freeze=False` trains everything, and everything has a gradient after text alone and after an image that nobody
    sees, of whatever content.
    """
    flamingo = make_flamingo("plain", freeze=False).train()
    assert flamingo.lm.training
    flamingo.vision.requires_grad_(True)
    ids = torch.tensor([[3, 4]])
    flamingo(ids, labels=ids).loss.backward()
    assert [name for name, weight in flamingo.named_parameters() if weight.grad is None] == []
    flamingo.zero_grad()
    layout = MediaLayout.from_tokens(torch.zeros_like(ids, dtype=torch.bool))
    bad = torch.full((1, 1, 3, 8, 8), float("nan"), dtype=torch.float64)
    flamingo(ids, labels=ids, pixels=bad, layout=layout).loss.backward()
    assert [name for name, weight in flamingo.named_parameters() if not weight.grad.isfinite().all()] == []


TINY_KEYS = """
blocks.0.attention.k_proj.weight 32x16
blocks.0.attention.media_norm.bias 16
blocks.0.attention.media_norm.weight 16
blocks.0.attention.norm.bias 32
blocks.0.attention.norm.weight 32
blocks.0.attention.o_proj.weight 32x32
blocks.0.attention.q_proj.weight 32x32
blocks.0.attention.v_proj.weight 32x16
blocks.0.attention_gate.gate 1
blocks.0.feed_forward.down_proj.weight 32x128
blocks.0.feed_forward.norm.bias 32
blocks.0.feed_forward.norm.weight 32
blocks.0.feed_forward.up_proj.weight 128x32
blocks.0.feed_forward_gate.gate 1
lm.embedding.weight 32x32
lm.head.weight 32x32
lm.layers.0.content_bias 2x1x16
lm.layers.0.distance_bias 2x1x16
lm.layers.0.distance_proj.weight 32x32
lm.layers.0.feed_forward.down_proj.weight 32x128
lm.layers.0.feed_forward.norm.weight 32
lm.layers.0.feed_forward.up_proj.weight 128x32
lm.layers.0.k_proj.weight 32x32
lm.layers.0.norm.weight 32
lm.layers.0.o_proj.weight 32x32
lm.layers.0.q_proj.weight 32x32
lm.layers.0.v_proj.weight 32x32
lm.norm.weight 32
resampler.frame_embeddings 8x16
resampler.latents 4x16
resampler.layers.0.feed_forward.down_proj.weight 16x64
resampler.layers.0.feed_forward.norm.bias 16
resampler.layers.0.feed_forward.norm.weight 16
resampler.layers.0.feed_forward.up_proj.weight 64x16
resampler.layers.0.features_norm.bias 16
resampler.layers.0.features_norm.weight 16
resampler.layers.0.k_proj.weight 16x16
resampler.layers.0.latents_norm.bias 16
resampler.layers.0.latents_norm.weight 16
resampler.layers.0.o_proj.weight 16x16
resampler.layers.0.q_proj.weight 16x16
resampler.layers.0.v_proj.weight 16x16
token_rows.input 2x32
token_rows.output 2x32
vision.encoder.bias 16
vision.encoder.weight 16x3x4x4
"""


def test_the_keys_of_the_tiny_model_do_not_change():
    """Files of trained models hold these names: changing one needs a new format version and a way to read the old."""
    state = build_tiny_flamingo(depth=1).state_dict()
    found = sorted(f"{key} {'x'.join(map(str, value.shape))}" for key, value in state.items())
    assert found == sorted(TINY_KEYS.split("\n")[1:-1])


@language_models
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
def test_copies_are_models_of_their_own(name, way):
    """A copy gives the same logits, is attached to its own language model, and can be detached."""
    flamingo, batch = make_flamingo(name), plain_batch()
    flamingo(**batch.arguments())  # whatever a call leaves behind is copied too
    if way == "deepcopy":
        other = copy.deepcopy(flamingo)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(flamingo))  # noqa: S301 - our own bytes
    else:
        torch.save(flamingo, file := io.BytesIO())
        other = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    expected = flamingo(**batch.arguments()).logits
    assert torch.equal(other(**batch.arguments()).logits, expected)
    with torch.no_grad():
        for weight in flamingo.parameters():
            weight.zero_()
    assert torch.equal(other(**batch.arguments()).logits, expected)
    assert other.attachment.blocks is other.blocks and other.attachment.lm is other.lm
    other.detach()
    assert torch.equal(raw(other.lm(batch.input_ids % VOCAB)), raw(bare(name)(batch.input_ids % VOCAB)))


def raw(out) -> Tensor:
    return out if isinstance(out, Tensor) else out.logits


def bare(name: str) -> nn.Module:
    return make_language_model(name).double()


def test_a_model_can_be_called_with_media_of_its_own_making():
    """`media=` takes a state with flags, as a resampler that keeps patches makes it."""
    flamingo, ids = make_flamingo("plain"), torch.tensor([[NEW_TAG, 3]])
    media = torch.randn(1, 5, VISION_DIM, dtype=torch.float64)
    valid = torch.tensor([[True, True, False, True, False]])
    flagged = flamingo(ids, media=MediaState(media=media, valid=valid)).logits
    close(flagged, flamingo(ids, media=media[:, valid[0]]).logits)


def test_the_resampler_may_be_anything_that_gives_tokens():
    """A resampler without frame embeddings, and a tag that is a known word, are as good as the defaults."""
    resampler = PerceiverResampler(vision_dim=16, dim=16, num_latents=2, depth=1, num_heads=2, head_dim=4, max_frames=0)
    flamingo = make_flamingo(
        "plain", resampler=resampler, media_token_id=KNOWN_TAG, num_new_tokens=0, end_token_id=None
    )
    assert flamingo.token_rows is None and isinstance(flamingo, Flamingo)
    assert flamingo(torch.tensor([[KNOWN_TAG, 3]]), pixels=torch.zeros(1, 1, 3, 8, 8)).logits.shape == (1, 2, VOCAB)
