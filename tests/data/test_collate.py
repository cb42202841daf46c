"""Ragged examples become one batch, as a loop over rows would make it."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from flamingo_blocks import MediaLayout
from flamingo_blocks.data import FlamingoBatch, FlamingoExample, collate
from tests.oracle import Token, seen_slots
from tests.strategies import seeds, seen_by, tensor

PAD = 0


@st.composite
def row_lists(draw):
    """Arguments of examples: 0 to 6 tokens with 0 to 3 items of pixels or features, made from one seed."""
    generator = torch.Generator().manual_seed(draw(seeds))
    kind, labelled, packed = draw(st.sampled_from(["pixels", "features"])), draw(st.booleans()), draw(st.booleans())
    most_frames, most_patches = draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 3]))
    rows = []
    for row in range(draw(st.integers(1, 4))):
        width = draw(st.integers(0, 6))
        tags = sorted(draw(st.sets(st.integers(0, width - 1), max_size=3))) if width else []
        items = []
        for _ in tags:
            frames, patches = draw(st.integers(1, most_frames)), draw(st.integers(1, most_patches))
            shape = (frames, 3, 2, 2) if kind == "pixels" else (frames, patches, 5)
            items.append(tensor(generator, *shape, dtype=torch.float32))
        cut = draw(st.integers(0, width))
        rows.append(
            {
                "input_ids": [10 * row + column + 1 for column in range(width)],
                "tags": tags,
                "labels": [-100 if column in tags else column for column in range(width)] if labelled else None,
                "document": [0] * cut + [1] * (width - cut) if packed else None,
                "source": draw(st.none() | st.just(f"set {row}")),
                "direction": draw(st.none() | st.sampled_from(["previous", "next"])),
                kind: items,
            }
        )
    return rows


def padded(values, *, width, side, fill):
    pads = [fill] * (width - len(values))
    return pads + list(values) if side == "left" else list(values) + pads


def tokens_of(row):
    """The row as the oracle reads it."""
    documents = row["document"] or [0] * len(row["input_ids"])
    return [
        Token("tag", 1, document) if place in row["tags"] else Token("text", 0, document)
        for place, document in enumerate(documents)
    ]


looks = st.sampled_from([("last", "previous"), ("all", "previous"), ("last", "next")])


@given(row_lists(), st.sampled_from(["left", "right"]), looks)
def test_a_batch_is_what_a_loop_over_rows_makes(rows, side, look):
    """Each row's tokens, labels and documents stand in its own columns, beside pads, and see the row's own items."""
    scope, direction = look
    if scope == "all":
        rows = [row | {"direction": None} for row in rows]
    examples = [FlamingoExample(**row) for row in rows]
    batch = collate(examples, pad_id=PAD, padding_side=side, scope=scope, direction=direction)
    pad = {"width": max(len(row["input_ids"]) for row in rows), "side": side}
    used = 0
    for index, row in enumerate(rows):
        assert batch.input_ids[index].tolist() == padded(row["input_ids"], fill=PAD, **pad)
        assert batch.attention_mask[index].tolist() == padded([True] * len(row["input_ids"]), fill=False, **pad)
        for name, fill in (("labels", -100), ("document", 0)):
            found = getattr(batch, name)
            assert (None if found is None else found[index].tolist()) == (
                None if row[name] is None else padded(row[name], fill=fill, **pad)
            )
        assert row["source"] is None or batch.source[index] == row["source"]
        slots = seen_slots(
            tuple(padded(tokens_of(row), fill=Token("pad"), **pad)),
            scope=scope,
            direction=row["direction"] or direction,
            grouped=False,
        )
        assert seen_by(batch.layout)[index] == [[used + slot for slot in token] for token in slots]
        used += len(row["tags"])
    assert batch.layout.num_items == used
    assert batch.layout.plan is not None


@given(row_lists())
def test_the_pool_holds_every_item_once_in_order(rows):
    """Item k of the pool is item k of the rows one after the other; what pads it is zero and named by the masks."""
    examples = [FlamingoExample(**row) for row in rows]
    batch = collate(examples, pad_id=PAD)
    pixels = [item for example in examples for item in example.pixels or ()]
    features = [item for example in examples for item in example.features or ()]
    for pool, items in ((batch.pixels, pixels), (batch.features, features)):
        assert (pool is None) == (not items)
        for index, item in enumerate(items):
            exists = torch.zeros(pool.shape[1:3], dtype=torch.bool)  # frames, and patches or channels
            exists[: item.shape[0], : item.shape[1]] = True
            assert torch.equal(pool[index][exists], item.flatten(0, 1))
            assert (pool[index][~exists] == 0).all()
            frames = (
                torch.ones(pool.shape[1], dtype=torch.bool) if batch.frame_valid is None else batch.frame_valid[index]
            )
            assert torch.equal(frames, exists.any(1))
            if pool is batch.features:
                patches = torch.ones_like(exists) if batch.patch_valid is None else batch.patch_valid[index]
                assert torch.equal(patches & frames[:, None], exists)


@given(row_lists())
def test_masks_are_there_only_when_something_is_padded(rows):
    """A pool of equal items needs no mask; `patch_valid` is about frames that exist."""
    examples = [FlamingoExample(**row) for row in rows]
    batch = collate(examples, pad_id=PAD)
    items = [item for example in examples for item in (*(example.pixels or ()), *(example.features or ()))]
    features = [item for example in examples for item in example.features or ()]
    assert (batch.frame_valid is None) == (len({len(item) for item in items}) < 2)
    assert (batch.patch_valid is None) == (len({item.shape[1] for item in features}) < 2)


def test_a_batch_without_media_has_an_empty_pool():
    """Text-only rows give a layout in which no token sees anything, and no pixels."""
    batch = collate([FlamingoExample([1, 2]), FlamingoExample([3])], pad_id=PAD)
    assert batch.pixels is None
    assert batch.features is None
    assert not batch.layout.sees_any().any()
    assert sorted(batch.model_inputs()) == ["attention_mask", "input_ids", "layout"]


def test_directions_and_groups_reach_the_layout():
    """Options of the layout pass through."""
    examples = [FlamingoExample([1, 9, 9, 2], tags=[1, 2], pixels=[torch.zeros(1, 3, 2, 2)] * 2)]
    ahead = collate(examples, pad_id=PAD, direction="next").layout
    assert ahead.direction == "next"
    assert ahead.last.tolist() == [[0, 0, 1, -1]]
    grouped = collate(examples, pad_id=PAD, group_consecutive=True).layout
    assert grouped.mask()[0, 3].tolist() == [True, True]


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4), seeds)
def test_items_of_any_size_are_padded_by_nan_where_asked(sizes, seed):
    """With `variable_size` each item keeps its place at the top left, NaN fills the rest, and no frame is lost."""
    generator = torch.Generator().manual_seed(seed)
    items = [tensor(generator, frames, 3, height, width) for frames, height, width in sizes]
    batch = collate([FlamingoExample([9], tags=[0], pixels=[item]) for item in items], pad_id=PAD, variable_size=True)
    assert batch.pixels.shape[2:] == (3, max(size[1] for size in sizes), max(size[2] for size in sizes))
    exists = torch.ones(batch.pixels.shape[:2]) if batch.frame_valid is None else batch.frame_valid
    for pool, there, item in zip(batch.pixels, exists, items, strict=True):
        frames, _, height, width = item.shape
        assert there.sum() == frames
        assert torch.equal(pool[:frames, :, :height, :width], item)
        assert pool[:frames, :, height:].isnan().all() and pool[:frames, :, :, width:].isnan().all()
        assert (pool[frames:] == 0).all()


PIXELS = torch.zeros(1, 3, 2, 2)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "examples is empty"),
        ([FlamingoExample([1]), FlamingoExample([9, 2], tags=[0])], "row 1 has 1 tags for 0 items"),
        ([FlamingoExample([9, 2], pixels=[PIXELS])], "row 0 has 0 tags for 1 items"),
        ([FlamingoExample([9], tags=[1], pixels=[PIXELS])], r"tags of row 0 are \[1\], wanted rising .* its 1 tokens"),
        ([FlamingoExample([9, 9], tags=[1, 0], pixels=[PIXELS] * 2)], r"tags of row 0 are \[1, 0\]"),
        ([FlamingoExample([9, 9], tags=[1, 1], pixels=[PIXELS] * 2)], r"tags of row 0 are \[1, 1\]"),
        ([FlamingoExample([1], labels=[1]), FlamingoExample([1])], "labels of row 1 has none for 1 tokens"),
        ([FlamingoExample([1, 2], document=[1])], "document of row 0 has 1 for 2 tokens"),
        (
            [FlamingoExample([9, 9], tags=[0, 1], pixels=[PIXELS, torch.zeros(2, 3, 2, 4)])],
            r"pixels of item 1 has shape \[2, 3, 2, 4\] .*only frames may differ",
        ),
        (
            [FlamingoExample([9, 9], tags=[0, 1], features=[torch.zeros(1, 4, 5), torch.zeros(2, 3, 6)])],
            r"features of item 1 has shape \[2, 3, 6\] .*only frames and patches may differ",
        ),
        (
            [FlamingoExample([9, 9], tags=[0, 1], pixels=[PIXELS, PIXELS.double()])],
            "pixels of item 1 .* torch.float64, item 0 has .* torch.float32",
        ),
        (
            [
                FlamingoExample([9], tags=[0], pixels=[PIXELS]),
                FlamingoExample([9], tags=[0], features=[torch.zeros(1, 4, 5)]),
            ],
            "examples have pixels and features",
        ),
    ],
)
def test_wrong_examples_are_refused(examples, message):
    """The error names the row or the item, what it has and what was wanted."""
    with pytest.raises(ValueError, match=message):
        collate(examples, pad_id=PAD)


def test_an_unknown_side_is_refused():
    """Padding has two sides."""
    with pytest.raises(ValueError, match="padding_side is 'middle'"):
        collate.__wrapped__([FlamingoExample([1])], pad_id=PAD, padding_side="middle")


def a_batch():
    items = [torch.zeros(1, 3, 2, 2), torch.zeros(2, 3, 2, 2)]
    row = FlamingoExample([9, 9, 3], [0, 1], pixels=items, labels=[-100, -100, 3], document=[0, 0, 0], source="here")
    return collate([row], pad_id=PAD)


def test_a_batch_moves_as_a_whole():
    """Every tensor, the layout and its plan move to the device; names of data sets and what the host reads stay."""
    moved = a_batch().to("meta")
    places = {name: value.device.type for name, value in vars(moved).items() if isinstance(value, torch.Tensor)}
    assert len(places) == 6
    assert places.pop("frame_valid") == "cpu"
    assert set(places.values()) == {"meta"}
    assert isinstance(moved.layout, MediaLayout)
    assert moved.layout.last.device.type == "meta"
    assert moved.layout.plan is not None
    assert moved.source == ("here",)


def test_the_model_gets_all_but_the_source():
    """The inputs are the fields by name, without what is not there."""
    inputs = a_batch().model_inputs()
    assert sorted(inputs) == [
        "attention_mask", "document", "frame_valid", "input_ids", "labels", "layout", "pixels",
    ]  # fmt: skip
    assert all(inputs[name] is not None for name in inputs)


def leaves(batch):
    """Every tensor of a batch by its name, those of its layout and its plan too."""
    named = {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    return named | {pytree.keystr(path): leaf for path, leaf in pytree.tree_flatten_with_path(batch.layout)[0]}


def test_a_batch_is_pinned_as_a_whole(monkeypatch):
    """`pin_memory` reaches every tensor, those of the layout and its plan too: a data loader calls it."""
    batch = a_batch()
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: (pinned.append(id(tensor)), tensor)[1])
    assert isinstance(batch.pin_memory(), FlamingoBatch)
    assert {id(leaf) for leaf in leaves(batch).values()} == set(pinned)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a driver")
def test_a_pinned_batch_is_in_page_locked_memory():
    """A data loader with `pin_memory=True` gets a batch in page-locked memory."""
    assert all(leaf.is_pinned() for leaf in leaves(a_batch().pin_memory()).values())


@pytest.mark.parametrize("directions", [("previous", "previous"), ("previous", "next")])
def test_a_batch_goes_from_a_worker_to_the_trainer(directions):
    """A worker collates; the batch arrives with its prepared layout, every tensor as it was."""
    rows = [
        FlamingoExample([9, 3, 4], [0], pixels=[torch.full((1, 3, 2, 2), 0.5)], labels=[-100, 3, 4], direction=word)
        for word in directions
    ]
    together = partial(collate, pad_id=PAD)
    loader = torch.utils.data.DataLoader(rows, batch_size=2, num_workers=1, collate_fn=together)
    (arrived,) = list(loader)
    here = together(rows)
    assert leaves(arrived).keys() == leaves(here).keys()
    assert all(torch.equal(leaf, leaves(here)[name]) for name, leaf in leaves(arrived).items())
    assert arrived.layout.direction == here.layout.direction
