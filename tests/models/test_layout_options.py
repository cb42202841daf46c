"""Options of a Flamingo that say which items its text sees, and tokens that are read and never written."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks import Flamingo, MediaLayout
from flamingo_blocks.lm import attach_token_rows
from flamingo_blocks.models import FlamingoProcessor
from tests.flamingos import NEW_TAG, close, make_flamingo
from tests.language_models import VOCAB, make_language_model
from tests.strategies import heavy

END, TEXT, PAD = 2, 5, 2  # the pad has the id of the end, as in many tokenizers
WORDS = st.sampled_from([END, TEXT, NEW_TAG])


@st.composite
def rows_with_ends(draw):
    """Ids, and which of them are real: pads left or right."""
    rows = draw(st.lists(st.lists(WORDS, min_size=1, max_size=7), min_size=1, max_size=3))
    width, left = max(map(len, rows)), draw(st.booleans())
    pads = [[False] * (width - len(row)) for row in rows]
    ids = [[PAD] * len(p) + row if left else row + [PAD] * len(p) for row, p in zip(rows, pads, strict=True)]
    real = [p + [True] * len(row) if left else [True] * len(row) + p for row, p in zip(rows, pads, strict=True)]
    return torch.tensor(ids), torch.tensor(real)


@heavy()
@given(rows_with_ends(), st.integers(0, 7), st.sampled_from(["last", "grouped"]))
def test_behind_the_end_of_a_document_earlier_items_are_not_seen(rows, cut, scope):
    """Text behind an end sees what it would in a document of its own, at once and behind a prompt cut anywhere."""
    ids, real = rows
    flamingo = make_flamingo("plain", document_end_id=END, scope=scope)
    ends = ((ids == END) & real).long()
    expected = MediaLayout.from_tokens(ids == NEW_TAG, scope=scope, document=ends.cumsum(1) - ends, valid=real)
    actual = flamingo.make_layout(ids, attention_mask=real.long())
    assert torch.equal(actual.mask(), expected.mask())
    if not real.all() or not 0 < cut < ids.shape[1]:
        return
    items = [int((part == NEW_TAG).sum()) for part in (ids[:, :cut], ids[:, cut:])]
    prompt = flamingo.prefill(ids[:, :cut], media=torch.ones(items[0], 3, 16, dtype=torch.float64))
    behind = flamingo.make_layout(ids[:, cut:], prompt=prompt)
    assert torch.equal(behind.mask().sum(-1), expected.mask().sum(-1))
    assert torch.equal(behind.sees_any(), expected.sees_any())


def test_pads_of_a_prompt_end_no_document():
    """A prompt padded on the right by the id of the end is no document that ended: what follows sees its image."""
    flamingo = make_flamingo("plain", document_end_id=END)
    ids, real = torch.tensor([[NEW_TAG, TEXT, PAD], [NEW_TAG, TEXT, END]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    media = torch.ones(2, 3, 16, dtype=torch.float64)
    prompt = flamingo.prefill(ids, media=media, attention_mask=real)
    layout = flamingo.make_layout(torch.tensor([[TEXT], [TEXT]]), prompt=prompt)
    assert layout.sees_any()[:, -1].tolist() == [True, False]


def test_a_layout_of_ones_own_is_kept_in_a_prompt():
    """Text of a prompt that a layout shows an image to keeps it when a turn follows; the turn itself forgets."""
    flamingo = make_flamingo("plain", document_end_id=END)
    ids = torch.tensor([[NEW_TAG, END, TEXT]])
    shown = MediaLayout.from_tokens(ids == NEW_TAG)
    prompt = flamingo.prefill(ids, media=torch.ones(1, 3, 16, dtype=torch.float64), layout=shown)
    layout = flamingo.make_layout(torch.tensor([[TEXT]]), prompt=prompt)
    assert layout.sees_any().tolist() == [[True, True, True, False]]


def test_the_language_model_reads_on_behind_an_end():
    """The end of a document hides items, not text: logits behind it still depend on the text before it."""
    flamingo = make_flamingo("plain", document_end_id=END)
    first, second = (flamingo(torch.tensor([[word, END, TEXT]])).logits[:, -1] for word in (3, 4))
    assert not torch.equal(first, second)


def test_scope_all_has_no_end_of_documents():
    """With all items in sight nothing says where a document begins in the slots of a prompt: refused."""
    with pytest.raises(ValueError, match='document_end_id is 2, which scope "all" cannot have; pass document='):
        make_flamingo("plain", document_end_id=END, scope="all")
    with pytest.raises(ValueError, match="document_end_id is 99, but the table has"):
        make_flamingo("llama", document_end_id=99)


def test_scope_grouped_is_group_consecutive():
    """The word stands for the option, in a layout, behind it, and in a processor."""
    is_media = torch.tensor([[True, True, False, True]])
    grouped = MediaLayout.from_tokens(is_media, group_consecutive=True)
    assert torch.equal(MediaLayout.from_tokens(is_media, scope="grouped").mask(), grouped.mask())
    assert not grouped.single_item
    assert not MediaLayout.from_tokens(is_media, scope="grouped").single_item
    more = [MediaLayout.from_tokens(is_media[:, :1]).append(is_media[:, 1:], **options)
            for options in ({"scope": "grouped"}, {"group_consecutive": True})]  # fmt: skip
    assert torch.equal(more[0].mask(), more[1].mask())
    assert torch.equal(more[0].mask(), grouped.mask())
    with pytest.raises(ValueError, match="group_consecutive=True has no meaning"):
        MediaLayout.from_tokens(is_media, scope="grouped", direction="next")
    flamingo = make_flamingo("plain", scope="grouped")
    ids = torch.where(is_media, NEW_TAG, TEXT)
    assert torch.equal(flamingo.make_layout(ids).mask(), grouped.mask())
    assert FlamingoProcessor.__init__.__annotations__["scope"] == Flamingo.__init__.__annotations__["scope"]


def read_only_tokens(name: str) -> Flamingo:
    return make_flamingo(name, predict_new_tokens=False, freeze=False)


@pytest.mark.parametrize("name", ["plain", "llama", "gpt2"])
def test_tokens_that_are_only_read_leave_the_logits_alone(name):
    """Rows of the table without rows of the head: logits keep their number, and loss and gradients are whole."""
    flamingo = read_only_tokens(name)
    assert "token_rows.output" not in flamingo.state_dict()
    ids = torch.tensor([[3, NEW_TAG, 4, TEXT]])
    pixels = torch.ones(1, 1, 3, 8, 8, dtype=torch.float64)
    both = flamingo(ids, pixels=pixels, labels=ids, return_logits=True)
    assert both.logits.shape == (1, 4, VOCAB)
    loss = flamingo(ids, pixels=pixels, labels=ids).loss
    close(loss, both.loss, name)
    loss.backward()
    assert flamingo.token_rows.input.grad.abs().sum() > 0
    assert flamingo.prefill(ids, pixels=pixels).logits.shape == (1, 1, VOCAB)


def test_beams_over_tokens_that_are_only_read():
    """Generation, beams and assisted decoding included, runs over the model's own vocabulary."""
    flamingo = read_only_tokens("llama")
    ids, pixels = torch.tensor([[3, NEW_TAG, 4]]), torch.ones(1, 1, 3, 8, 8, dtype=torch.float64)
    greedy = flamingo.generate(ids, pixels=pixels, max_new_tokens=4, eos_token_id=None, pad_token_id=0)
    for options in ({"num_beams": 1}, {"prompt_lookup_num_tokens": 2}):
        again = flamingo.generate(ids, pixels=pixels, max_new_tokens=4, eos_token_id=None, pad_token_id=0, **options)
        assert torch.equal(again, greedy)
    sizes = []

    def note(_ids, scores):
        sizes.append((scores.shape[1], flamingo.lm.config.vocab_size))
        return scores

    beams = flamingo.generate(
        ids, pixels=pixels, max_new_tokens=4, num_beams=3, eos_token_id=None, pad_token_id=0, logits_processor=[note]
    )
    assert set(sizes) == {(VOCAB, VOCAB)}
    assert beams.shape == (1, 7)
    assert beams[:, 3:].max() < VOCAB


def test_tokens_that_are_only_read_come_off():
    """Detaching gives back the model as it was."""
    lm = make_language_model("llama")
    before = {name: len(module._forward_hooks) for name, module in lm.named_modules()}
    rows = attach_token_rows(lm, 2, predicted=False)
    assert (rows.num_predicted, list(rows.state_dict())) == (0, ["input"])
    rows.detach()
    assert {name: len(module._forward_hooks) for name, module in lm.named_modules()} == before


def test_the_options_are_saved(tmp_path):
    """A saved model has them when it is loaded."""
    flamingo = make_flamingo("llama", document_end_id=END, scope="grouped", predict_new_tokens=False)
    flamingo.save_pretrained(tmp_path)
    other = make_flamingo("llama")
    other.detach()
    loaded = Flamingo.from_pretrained(tmp_path, lm=other.lm, vision=other.vision)
    assert (loaded.document_end_id, loaded.scope, loaded.predict_new_tokens) == (END, "grouped", False)
    ids = torch.tensor([[3, NEW_TAG, NEW_TAG, END, 4]])
    pixels = torch.ones(2, 1, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(loaded(ids, pixels=pixels).logits, flamingo(ids, pixels=pixels).logits)
