"""Several documents in one row: masks, positions, and models that cannot keep them apart."""

import pytest
import torch

from flamingo_blocks.demo.language_model import TinyDecoder
from flamingo_blocks.models.packing import packed_mask, packed_positions
from tests.flamingos import END_OF_CHUNK, NEW_TAG, close, make_flamingo
from tests.language_models import VOCAB, make_language_model

DOCUMENT = torch.tensor([[0, 0, 1, 1, 1]])
IDS = torch.tensor([[3, 4, 5, 6, 7]])


def test_the_mask_is_causal_within_each_document():
    """A token sees itself and those before it in its document; a pad is seen by itself alone."""
    seen = packed_mask(DOCUMENT, None, torch.float32)[0, 0] == 0
    assert seen.int().tolist() == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    valid = torch.tensor([[False, True, True, False, True]])
    seen = packed_mask(DOCUMENT, valid, torch.float32)[0, 0] == 0
    assert seen.int().tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 0, 1]]
    assert packed_mask(DOCUMENT, valid, torch.bfloat16).min() == torch.finfo(torch.bfloat16).min


def test_positions_start_again_in_each_document_and_pads_take_none():
    """The first real token of a document stands at 0, whatever is left of it."""
    assert packed_positions(DOCUMENT).tolist() == [[0, 1, 0, 1, 2]]
    valid = torch.tensor([[False, True, False, True, True]])
    positions = packed_positions(DOCUMENT, valid)
    assert positions[valid].tolist() == [0, 0, 1]
    assert positions.min() >= 0


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_left_pads_of_a_packed_row_take_no_position(name):
    """Models with learned positions read the first document of a left-padded row as if it had no pads."""
    flamingo = make_flamingo(name)
    ids = torch.tensor([[0, 0, 3, 4, 5, 6]])
    mask, document = torch.tensor([[0, 0, 1, 1, 1, 1]]), torch.tensor([[0, 0, 0, 0, 1, 1]])
    packed = flamingo(ids, attention_mask=mask, document=document).logits
    close(packed[:, 2:4], flamingo(ids[:, 2:4]).logits)
    close(packed[:, 4:], flamingo(ids[:, 4:]).logits)


def demo_model() -> TinyDecoder:
    return TinyDecoder(vocab_size=VOCAB, dim=32, num_heads=2)


UNFIT = {
    "the demo's short convolutions": (demo_model, "TinyDecoder.forward takes no attention_mask"),
    "no mask": (lambda: make_language_model("plain"), "PlainDecoder.forward takes no attention_mask"),
    "positions as biases": (lambda: make_language_model("bloom"), "BloomForCausalLM"),
    "a recurrent state": (lambda: make_language_model("mamba"), "MambaForCausalLM"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_models_that_cannot_keep_documents_apart_are_refused(case):
    """The error names the model and the way out, and the model runs on as before."""
    make, reason = UNFIT[case]
    flamingo = make_flamingo("plain", lm=make())
    before = flamingo(IDS).logits
    with pytest.raises(ValueError, match=f"document was given, but .*{reason}|{reason}.*") as caught:
        flamingo(IDS, document=DOCUMENT)
    assert reason in str(caught.value) and "give each document a row of its own" in str(caught.value)
    assert torch.equal(flamingo(IDS).logits, before)


def test_a_window_shorter_than_a_packed_document_is_refused_each_time():
    """A sliding window is replaced by the mask, so documents longer than it would see too far; long rows may be."""
    flamingo = make_flamingo("gemma3", lm=make_language_model("gemma3", sliding_window=5))
    longer = torch.cat([IDS, IDS], 1)
    short_documents = torch.cat([DOCUMENT, DOCUMENT + 2], 1)
    logits = flamingo(longer, document=short_documents).logits
    torch.testing.assert_close(logits[:, :5], flamingo(IDS, document=DOCUMENT).logits)
    with pytest.raises(
        ValueError, match="a packed document has 10 tokens, but Gemma3ForCausalLM has a sliding window of 5"
    ):
        flamingo(longer, document=torch.zeros_like(longer))
    mask = (torch.arange(10) >= 5)[None].long()  # pads are no part of a document, whatever number they carry
    padded = flamingo(longer, document=torch.zeros_like(longer), attention_mask=mask).logits
    close(padded[:, 5:], flamingo(IDS).logits, "gemma3")


def test_the_probe_of_a_model_in_training_is_not_fooled_by_dropout():
    """A language model that trains, dropout and all, is probed in eval mode and left in training mode."""
    flamingo = make_flamingo("gpt2", freeze=False).train()
    assert flamingo.lm.training
    flamingo(IDS, document=DOCUMENT)
    assert all(module.training for module in flamingo.lm.modules())


def test_a_small_vocabulary_can_be_probed():
    """The probe uses words that the model has."""
    from flamingo_blocks.models import PaperLanguageModel

    lm = PaperLanguageModel(vocab_size=4, dim=32, depth=2, num_heads=2)
    flamingo = make_flamingo("plain", lm=lm, media_token_id=4, end_token_id=5)
    assert flamingo(IDS % 4, document=DOCUMENT).logits.shape == (1, 5, 6)


def test_media_stay_in_their_document():
    """The first words of a document see no image of the one before it, though it stands left of them."""
    flamingo = make_flamingo("llama")
    ids = torch.tensor([[NEW_TAG, 3, END_OF_CHUNK, 4, 5]])
    document = torch.tensor([[0, 0, 0, 1, 1]])
    first, second = (torch.randn(1, 1, 3, 8, 8, dtype=torch.float64) for _ in range(2))
    one, other = (flamingo(ids, pixels=pixels, document=document).logits for pixels in (first, second))
    close(one[:, 3:], other[:, 3:])
    assert not torch.allclose(one[:, 1], other[:, 1])


def test_beside_a_layout_documents_part_the_text_and_the_layout_the_media():
    """A layout made with the documents gives what no layout gives; one made without shows an item to both of them."""
    flamingo = make_flamingo("llama")
    ids = torch.tensor([[NEW_TAG, 3, END_OF_CHUNK, 4, 5]])
    document = torch.tensor([[0, 0, 0, 1, 1]])
    first, second = (torch.randn(1, 1, 3, 8, 8, dtype=torch.float64) for _ in range(2))
    expected = flamingo(ids, pixels=first, document=document).logits
    parted, shared = flamingo.make_layout(ids, document=document), flamingo.make_layout(ids)
    close(flamingo(ids, pixels=first, document=document, layout=parted).logits, expected)
    one, other = (flamingo(ids, pixels=x, document=document, layout=shared).logits for x in (first, second))
    close(one[:, :3], expected[:, :3])
    assert not torch.allclose(one[:, 3:], other[:, 3:])
    alone = flamingo(ids[:, 3:], pixels=first, layout=shared.slice(3, 5)).logits
    close(one[:, 3:], alone, "llama")
