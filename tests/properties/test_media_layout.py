"""Law 15, and every mask: what a layout says each token sees is what the oracle says."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from flamingo_blocks.nn.media_kv import MediaKV
from flamingo_blocks.ops import MediaLayout
from tests.oracle import Token
from tests.strategies import LayoutCase, batches, last_document, layout_cases, light, padded, ragged, seen_by


@light()
@given(layout_cases())
def test_mask_is_what_the_oracle_sees(case: LayoutCase):
    """A token may attend to a slot exactly where the plain loops say so, pads and empty rows included."""
    mask = case.layout().mask()
    assert mask.dtype == torch.bool
    slots = [[torch.tensor(token).nonzero().flatten().tolist() for token in row] for row in mask.tolist()]
    assert slots == case.seen_slots()


@light()
@given(layout_cases())
def test_layout_names_the_items_the_oracle_sees(case: LayoutCase):
    """Read through `item_ids`, the mask names the oracle's pool items, shared ones included."""
    assert seen_by(case.layout()) == case.seen_items()


@light()
@given(layout_cases())
def test_sees_any_is_true_where_something_is_seen(case: LayoutCase):
    """`sees_any` is True exactly for tokens with at least one visible slot."""
    assert case.layout().sees_any().tolist() == [[bool(token) for token in row] for row in case.seen_slots()]


@light()
@given(layout_cases())
def test_index_follows_the_contract(case: LayoutCase):
    """`first..last` is the visible range, `last == -1` where it is empty, and `first == last` for one item."""
    layout = case.layout()
    for row, tokens in enumerate(case.seen_slots()):
        for column, slots in enumerate(tokens):
            first, last = int(layout.first[row, column]), int(layout.last[row, column])
            assert last == (slots[-1] if slots else -1)
            assert not slots or first == slots[0]


@light()
@given(layout_cases(), st.integers(0, 4))
def test_extend_is_the_whole_text_at_once(case: LayoutCase, num_tokens: int):
    """`extend` gives new text what the row's last token saw: what the longer text gives when laid out at once."""
    assert seen_by(case.layout().extend(num_tokens)) == case.extended(num_tokens).seen_items()


@light()
@given(layout_cases(), st.data())
def test_slice_is_the_columns_of_the_whole(case: LayoutCase, data: st.DataObject):
    """`slice` is the whole layout's columns, and beyond the width those of `extend`."""
    start = data.draw(st.integers(0, case.width + 2))
    stop = data.draw(st.integers(start, case.width + 3))
    whole = case.extended(max(0, stop - case.width)).seen_items()
    assert seen_by(case.layout().slice(start, stop)) == [row[start:stop] for row in whole]


@light()
@given(layout_cases(), st.integers(1, 3))
def test_repeat_rows_repeats_rows_over_one_pool(case: LayoutCase, times: int):
    """Beams of a row stand side by side, see what it sees, and add nothing to the pool."""
    layout = case.layout()
    repeated = layout.repeat_rows(times)
    assert seen_by(repeated) == [row for row in case.seen_items() for _ in range(times)]
    assert repeated.num_items == layout.num_items


@st.composite
def conversations(draw: st.DrawFn) -> tuple[LayoutCase, LayoutCase, LayoutCase]:
    """A first turn, a second one with media of its own, and both in one text."""
    first = draw(layout_cases(directions=("previous",)))
    rows = draw(batches(max_rows=1, max_documents=1, max_items=2 if draw(st.booleans()) else 1))
    rows += tuple(draw(padded(row[: len(rows[0])], width=len(rows[0]))) for row in rows * (len(first.rows) - 1))
    turns = tuple(
        tuple(replace(token, document=last_document(old)) for token in new)
        for old, new in zip(first.rows, rows, strict=True)
    )
    second = replace(first, rows=turns, item_ids=None, spare_items=0, says_documents=False)
    both = tuple(old + new for old, new in zip(first.rows, turns, strict=True))
    ids = tuple(
        tuple(old + [first.num_items + item for item in new]) for old, new in zip(first.ids, second.ids, strict=True)
    )
    return first, second, replace(first, rows=both, item_ids=ids)


def append(layout: MediaLayout, turn: LayoutCase, *, num_items: int | None = None) -> MediaLayout:
    """Append a turn to a layout, with the options that the turn needs."""
    options = turn.options()
    for name in ("direction", "document", "item_ids"):
        options.pop(name, None)
    return layout.append(turn.is_media(), num_items=num_items, **options)


@light()
@given(conversations())
def test_append_is_the_whole_conversation_at_once(turns: tuple[LayoutCase, LayoutCase, LayoutCase]):
    """A chat turn appended is the whole conversation laid out at once; its items stand at the end of the pool."""
    first, second, both = turns
    appended = append(first.layout(), second, num_items=first.num_items)
    assert seen_by(appended) == both.seen_items()


@light()
@given(conversations(), st.integers(0, 3))
def test_append_after_decoding_is_the_whole_conversation(turns, num_tokens: int):
    """A turn appended after generated text continues what that text saw."""
    first, second, _ = turns
    whole = first.extended(num_tokens)
    rows = tuple(old + new for old, new in zip(whole.rows, second.rows, strict=True))
    ids = tuple(
        tuple(old + [first.num_items + item for item in new]) for old, new in zip(first.ids, second.ids, strict=True)
    )
    appended = append(first.layout().extend(num_tokens), second, num_items=first.num_items)
    assert seen_by(appended) == replace(first, rows=rows, item_ids=ids).seen_items()


@light()
@given(layout_cases(directions=("previous",), shared=False, packed=False), st.data())
def test_column_by_column_is_the_whole(case: LayoutCase, data: st.DataObject):
    """A text cut anywhere and put together again by `append` is the text in one piece."""
    cut = data.draw(st.integers(0, case.width))
    head, tail = (replace(case, rows=rows) for rows in split(case, cut))
    appended = append(head.layout(), tail)
    order = [item for row in range(len(case.rows)) for item in appended.item_ids[row].tolist() if item >= 0]
    names = {item: place for place, item in enumerate(order)}
    renamed = [[[names[item] for item in token] for token in row] for row in seen_by(appended)]
    assert renamed == case.seen_items()


def split(case: LayoutCase, cut: int):
    return tuple(row[:cut] for row in case.rows), tuple(row[cut:] for row in case.rows)


@light()
@given(layout_cases())
def test_prepare_changes_nothing_seen(case: LayoutCase):
    """A prepared layout sees the same, and keeps its plan through `to`; the other methods drop it."""
    prepared = case.layout().prepare("cpu")
    assert seen_by(prepared) == case.seen_items()
    assert prepared.plan is not None
    assert prepared.to("cpu").plan is not None
    for changed in (prepared.extend(1), prepared.slice(0, case.width), prepared.repeat_rows(1)):
        assert changed.plan is None


@light()
@given(layout_cases(), st.data())
def test_plan_is_small_integers_that_name_the_seen_items(case: LayoutCase, data: st.DataObject):
    """The plan holds int32 tensors only, and lists the items that the columns in use see, not those they skip."""
    start = data.draw(st.integers(0, case.width))
    stop = data.draw(st.integers(start, case.width))
    plan = case.layout().slice(start, stop).prepare("cpu").plan
    leaves = [leaf for leaf in pytree.tree_leaves(plan) if leaf is not None]
    assert all(leaf.dtype == torch.int32 for leaf in leaves)
    seen = {item for row in case.seen_items() for token in row[start:stop] for item in token}
    assert plan.seen.tolist() == sorted(seen)


@light()
@given(layout_cases(), st.booleans())
def test_layout_is_a_pytree(case: LayoutCase, prepared: bool):
    """Flattened and rebuilt, as export and FSDP do, a layout is the same layout."""
    layout = case.layout().prepare("cpu") if prepared else case.layout()
    leaves, spec = pytree.tree_flatten(layout)
    rebuilt = pytree.tree_unflatten(leaves, spec)
    assert all(leaf is None or isinstance(leaf, torch.Tensor) for leaf in leaves)
    named = {pytree.keystr(path): leaf for path, leaf in pytree.tree_flatten_with_path(layout)[0]}
    assert named[".item_ids"] is layout.item_ids
    assert isinstance(rebuilt, MediaLayout)
    assert seen_by(rebuilt) == case.seen_items()
    constants = ("direction", "single_item")
    assert [getattr(rebuilt, name) for name in constants] == [getattr(layout, name) for name in constants]
    assert (rebuilt.plan is None) == (layout.plan is None)
    assert rebuilt.prepare().plan.single_item == layout.prepare().plan.single_item


@light()
@given(layout_cases(), st.booleans())
def test_whatever_a_tree_is_mapped_to_it_is_rebuilt(case: LayoutCase, prepared: bool):
    """Torch maps the tensors of a checkpointed call to nothing to see their devices; the annotations do not object."""
    layout = case.layout().prepare("cpu") if prepared else case.layout()
    kv = MediaKV(torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4))
    for tree in (layout, kv):
        rebuilt = pytree.tree_map(lambda _: None, tree)
        assert type(rebuilt) is type(tree)
        assert vars(rebuilt).keys() == vars(tree).keys()
        assert pytree.tree_leaves(rebuilt) == []


@light()
@given(layout_cases(shared=False), st.integers(0, 2))
def test_from_grid_is_a_flattened_padded_pool(case: LayoutCase, spare: int):
    """Item m of row b has the pool id `b * num_media + m`, and tokens see what they see in a packed pool."""
    num_media = max(case.counts, default=0) + spare
    layout = MediaLayout.from_grid(case.is_media(), num_media=num_media, **case.options())
    slots = case.seen_slots()
    assert seen_by(layout) == [
        [[row * num_media + slot for slot in token] for token in tokens] for row, tokens in enumerate(slots)
    ]


@light()
@given(layout_cases())
def test_explain_draws_the_mask(case: LayoutCase):
    """The picture has one line a token and one mark an item: `#` where the token sees it, `.` where not."""
    lines = iter(case.layout().explain().splitlines())
    for ids, tokens in zip(case.ids, case.seen_slots(), strict=True):
        title = next(lines).split()
        assert title[2:] == (["items", *map(str, ids)] if ids else ["no", "items"])
        for column, slots in enumerate(tokens):
            word, *marks = next(lines).split()
            assert word == str(column)
            assert marks == ["#" if slot in slots else "." for slot in range(len(ids))]
    assert not list(lines)


@light()
@given(layout_cases(directions=("previous",), shared=False), st.integers(1, 3), st.data())
def test_wrong_counts_name_the_row_and_both_numbers(case: LayoutCase, off_by: int, data: st.DataObject):
    """More tags than items, or items without a tag, are an error that names the row and both numbers."""
    row = data.draw(st.integers(0, len(case.rows) - 1))
    wrong = case.counts[row] + data.draw(st.sampled_from([off_by, -off_by]))
    options = case.options() | {"counts": torch.tensor([*case.counts[:row], wrong, *case.counts[row + 1 :]])}
    with pytest.raises(ValueError, match=rf"row {row} .*\b{case.counts[row]} items.* {wrong} items"):
        MediaLayout.from_tokens(case.is_media(), **options)


@light()
@given(layout_cases(directions=("previous",), shared=False), st.data())
def test_wrong_number_of_names_is_told(case: LayoutCase, data: st.DataObject):
    """`item_ids` with more or fewer ids than the row's tags need are an error with both numbers."""
    row = data.draw(st.integers(0, len(case.rows) - 1))
    ids = [list(names) for names in case.ids]
    ids[row] = data.draw(st.sampled_from([[*ids[row], 0], ids[row][1:] if ids[row] else [0]]))
    with pytest.raises(ValueError, match=rf"row {row} .*\b{case.counts[row]} items.* {len(ids[row])} items"):
        MediaLayout.from_tokens(case.is_media(), **case.options() | {"item_ids": ragged(ids, fill=-1)})


def rows(*texts: str) -> tuple[tuple[Token, ...], ...]:
    """Rows written as strings: `t` text, `M` a tag with one item, `.` a pad."""
    kinds = {"t": Token("text"), "M": Token("tag", 1), ".": Token("pad")}
    return tuple(tuple(kinds[letter] for letter in text) for text in texts)
