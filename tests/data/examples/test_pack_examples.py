"""Short examples share rows, each a document of its own."""

from itertools import groupby

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import FlamingoExample, collate
from flamingo_blocks.data.examples import pack_examples
from flamingo_blocks.models import build_tiny_flamingo
from tests.strategies import seen_by

TAG = 99


@st.composite
def short_rows(draw):
    """Arguments of examples of 0 to 5 tokens; ids tell the example and the place, items tell the example."""
    labelled = draw(st.booleans())
    rows = []
    for number in range(draw(st.integers(0, 7))):
        width = draw(st.integers(0, 5))
        tags = sorted(draw(st.sets(st.integers(0, width - 1), max_size=2))) if width else []
        kind = draw(st.sampled_from(["pixels", "features"]))
        shape = (1, 3, 1, 1) if kind == "pixels" else (1, 2, 4)
        rows.append(
            {
                "input_ids": [10 * number + place for place in range(width)],
                "tags": tags,
                "labels": [10 * number + place for place in range(width)] if labelled else None,
                "document": [place // 2 for place in range(width)] if draw(st.booleans()) else None,
                "direction": draw(st.sampled_from([None, "next"])),
                "source": draw(st.sampled_from(["pairs", "pages"])),
                kind: [torch.full(shape, float(number))] * len(tags),
            }
        )
    return rows


@given(short_rows(), st.integers(5, 12))
def test_every_example_is_in_one_row_as_it_was(rows, length):
    """Tokens, tags, items and labels of each example stand together in one row of at most `length` tokens."""
    examples = [FlamingoExample(**row) for row in rows]
    packed = pack_examples(examples, length)
    left = dict(enumerate(rows))
    for row in packed:
        assert len(row.input_ids) <= length
        assert len(row.document) == len(row.input_ids)
        items = list(row.features or row.pixels or ())
        assert len(items) == len(row.tags)
        for number, places in groupby(range(len(row.input_ids)), key=lambda place, row=row: row.input_ids[place] // 10):
            own, first = left.pop(number), next(iter(places))
            assert list(row.input_ids[first : first + len(own["input_ids"])]) == own["input_ids"]
            tags = [tag - first for tag in row.tags if first <= tag < first + len(own["input_ids"])]
            assert tags == own["tags"]
            assert all(int(items.pop(0).flatten()[0]) == number for _ in tags)
            assert row.direction == own["direction"]
    assert not any(row["input_ids"] for row in left.values())


@given(short_rows(), st.integers(5, 12))
def test_documents_are_apart_and_their_first_tokens_have_no_label(rows, length):
    """A number of a document never crosses two examples, and no label asks to predict one document from another."""
    examples = [FlamingoExample(**row) for row in rows]
    for row in pack_examples(examples, length):
        runs = [
            list(run) for _, run in groupby(range(len(row.input_ids)), key=lambda place, row=row: row.document[place])
        ]
        assert [row.document[run[0]] for run in runs] == list(range(len(runs)))
        for run in runs:
            assert len({row.input_ids[place] // 10 for place in run}) == 1
            labels = [None if row.labels is None else row.labels[place] for place in run]
            if row.labels is not None:
                assert labels == [-100] + [row.input_ids[place] for place in run[1:]]


@given(short_rows(), st.integers(5, 12))
def test_an_example_goes_into_the_first_row_that_takes_it(rows, length):
    """First fit: no example of a later row had room in an earlier one when it came, and the order is kept."""
    examples = [FlamingoExample(**row) for row in rows if row["input_ids"]]
    packed = pack_examples(examples, length)
    again = pack_examples(examples, length)
    assert [row.input_ids for row in packed] == [row.input_ids for row in again]
    numbers = [list(dict.fromkeys(token // 10 for token in row.input_ids)) for row in packed]
    assert all(row == sorted(row) for row in numbers)
    assert [row[0] for row in numbers] == sorted(row[0] for row in numbers)
    for later, row in enumerate(numbers):
        for number in row:
            for earlier in range(later):
                before = [other for other in numbers[earlier] if other < number]
                used = sum(len(rows[other]["input_ids"]) for other in before)
                other_way = any(rows[other]["direction"] != rows[number]["direction"] for other in before)
                other_kind = any(_kind(rows[other]) != _kind(rows[number]) for other in before) and _kind(rows[number])
                assert used + len(rows[number]["input_ids"]) > length or other_way or other_kind


def _kind(row):
    return next((kind for kind in ("pixels", "features") if row.get(kind)), None)


def test_a_packed_token_sees_its_own_items_alone():
    """In a batch of packed rows each token sees what it saw in a row of its own."""
    examples = [FlamingoExample([9, 1, 2], [0], pixels=[torch.full((1, 3, 2, 2), float(k))]) for k in range(3)]
    examples.insert(1, FlamingoExample([5, 6]))
    batch = collate(pack_examples(examples, 8), pad_id=0)
    assert seen_by(batch.layout)[0] == [[0]] * 3 + [[]] * 2 + [[1]] * 3
    assert batch.document.tolist()[0] == [0, 0, 0, 1, 1, 2, 2, 2]


def test_a_model_gives_packed_documents_the_loss_they_have_alone():
    """The loss of packed rows is that of the examples in rows of their own."""
    flamingo = build_tiny_flamingo().eval()
    image = flamingo.media_token_id
    generator = torch.Generator().manual_seed(0)
    examples = []
    for width in (4, 3, 5):
        ids = [image, *torch.randint(3, 20, (width,), generator=generator).tolist()]
        pixels = torch.rand(1, 3, *_size(flamingo), generator=generator)
        examples.append(FlamingoExample(ids, [0], pixels=[pixels], labels=[-100, *ids[1:]]))
    with torch.no_grad():
        alone = flamingo(**collate(examples, pad_id=0).model_inputs())
        (row,) = pack_examples(examples, 16)
        packed = flamingo(**collate([row], pad_id=0).model_inputs())
    torch.testing.assert_close(packed.loss, alone.loss)


def _size(flamingo):
    return flamingo.vision.preprocess(torch.zeros(3, 8, 8)).shape[1:]


def test_long_examples_and_missing_labels_are_refused():
    """The error names the example."""
    with pytest.raises(ValueError, match="example 1 has 3 tokens, more than length, which is 2"):
        pack_examples([FlamingoExample([1]), FlamingoExample([1, 2, 3])], 2)
    with pytest.raises(ValueError, match="example 1 has no labels, example 0 has labels"):
        pack_examples([FlamingoExample([1], labels=[1]), FlamingoExample([1])], 2)


def test_a_row_names_its_data_set_where_it_has_one():
    """`source` stays where all examples of a row have the same one."""
    one, other = FlamingoExample([1], source="pairs"), FlamingoExample([2], source="pages")
    assert pack_examples([one, one], 4)[0].source == "pairs"
    assert pack_examples([one, other], 4)[0].source is None
