"""Labels made of a whole batch are those of its documents, one by one."""

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from flamingo_blocks.data import FlamingoExample, SpecialTokens, collate, document_labels
from flamingo_blocks.data.examples import pack_examples
from flamingo_blocks.training import IGNORED, make_labels
from tests.data.examples.pages import EOC, PAPER, TAG, WIDE, parts, specials, tokens_of

ENDING = replace(PAPER, end_of_chunk_text=".")  # a text may end its chunk, and go on
specials = specials | st.sampled_from([ENDING, replace(WIDE, end_of_chunk_text=".")])
masks = st.fixed_dictionaries(
    dict.fromkeys(("mask_tags", "mask_before_first_media", "mask_between_chunks"), st.booleans())
)
ALL = {"mask_tags": True, "mask_before_first_media": True, "mask_between_chunks": True}


def example_of(page, special, masked):
    """A row without media, and its tags."""
    tokenized = tokens_of(page, special)
    labels = document_labels(tokenized, special=special, **masked)
    return FlamingoExample(tokenized.ids, labels=labels), tokenized.tags


def marked(row_of_tags, shape, *, starts):
    is_media = torch.zeros(shape, dtype=torch.bool)
    for row, tags in enumerate(row_of_tags):
        is_media[row, [starts[row] + tag for tag in tags]] = True
    return is_media


@example(pages=[["a.b", "<image>", "c.d", "<clip>"], ["e"], []], special=ENDING, masked=ALL, side="left")
@given(st.lists(parts, min_size=1, max_size=3), specials, masks, st.sampled_from(["left", "right"]))
def test_labels_of_a_batch_are_those_of_its_documents(pages, special, masked, side):
    """Whatever the documents, the tokens of a tag, the masks and the side of the pads."""
    examples, tags = zip(*(example_of(page, special, masked) for page in pages), strict=True)
    batch = collate(examples, pad_id=EOC, padding_side=side)  # a pad must not pass for what its id says
    width = batch.input_ids.shape[1]
    starts = [width - len(one.input_ids) if side == "left" else 0 for one in examples]
    labels = make_labels(
        batch.input_ids,
        attention_mask=batch.attention_mask,
        special=special,
        is_media=marked(tags, batch.input_ids.shape, starts=starts),
        **masked,
    )
    assert torch.equal(labels, batch.labels)


@example(pages=[["a.b", "<image>", "c.d"], ["e.f"], ["<image>", "g"]], special=ENDING, masked=ALL, room=0)
@given(st.lists(parts, min_size=1, max_size=5), specials, masks, st.integers(0, 30))
def test_labels_of_packed_rows_are_those_of_their_documents(pages, special, masked, room):
    """Nothing that stands in one document masks a label of the next one."""
    made = [example_of(page, special, masked) for page in pages]
    examples = [one for one, _ in made if one.input_ids]
    if not examples:
        return
    rows = pack_examples(examples, max(len(one.input_ids) for one in examples) + room)
    batch = collate(rows, pad_id=0)
    is_media = torch.zeros_like(batch.attention_mask)
    by_ids = {one.input_ids: tags for one, tags in made}
    for row, packed in enumerate(rows):
        for number in sorted(set(packed.document)):
            places = [place for place, document in enumerate(packed.document) if document == number]
            is_media[row, [places[tag] for tag in by_ids[tuple(packed.input_ids[place] for place in places)]]] = True
    labels = make_labels(
        batch.input_ids,
        attention_mask=batch.attention_mask,
        document=batch.document,
        special=special,
        is_media=is_media,
        **masked,
    )
    assert torch.equal(labels, batch.labels)


def test_a_tag_of_one_token_is_found_by_its_id():
    """By default the tag is where its id stands; a pad of that id is none."""
    ids = torch.tensor([[7, TAG, 8, EOC, 9, TAG]])
    real = torch.tensor([[True] * 5 + [False]])
    labels = make_labels(ids, attention_mask=real, special=PAPER, mask_between_chunks=True)
    assert labels.tolist() == [[7, IGNORED, 8, EOC, IGNORED, IGNORED]]
    kept = make_labels(ids, attention_mask=real, special=PAPER, mask_tags=False)
    assert kept.tolist() == [[7, TAG, 8, EOC, 9, IGNORED]]


def test_a_begin_is_masked_where_it_begins_only():
    """A model whose begin and end are the same token predicts the end."""
    special = SpecialTokens(media=TAG, bos=3, eos=3)
    ids, document = torch.tensor([[3, 7, 3, 3, 8, 3]]), torch.tensor([[0, 0, 0, 1, 1, 1]])
    assert make_labels(ids, special=special, document=document).tolist() == [[IGNORED, 7, 3, IGNORED, 8, 3]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_between_chunks": True}, "special is None, but mask_between_chunks given"),
        ({"mask_before_first_media": True}, "special is None, but mask_before_first_media given"),
        ({"is_media": torch.ones(1, 2) > 0}, "special is None, but is_media given"),
        ({"special": SpecialTokens(media=(60, 61))}, r"special.media is \(60, 61\), a tag of several tokens"),
    ],
)
def test_a_mask_that_cannot_be_made_is_told(options, message):
    """The error says what to pass."""
    with pytest.raises(ValueError, match=message):
        make_labels(torch.ones(1, 2, dtype=torch.long), **options)
