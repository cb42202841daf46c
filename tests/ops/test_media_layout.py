"""The media layout in examples: one picture for each rule, and what each slip of a caller is told."""

import jaxtyping
import pytest
import torch

from flamingo_blocks.ops import MediaLayout
from tests.oracle import Token
from tests.strategies import LayoutCase, ragged, seen_by


def row(text: str, *, documents: str | None = None) -> tuple[Token, ...]:
    """A row written as a string: `t` text, `M` a tag, a digit a tag with that many items, `.` a pad."""
    numbers = [int(number) for number in documents or "0" * len(text)]
    kinds = {"t": ("text", 0), "M": ("tag", 1), ".": ("pad", 0)}
    kinds |= {str(items): ("tag", items) for items in range(2, 10)}
    return tuple(Token(*kinds[letter], number) for letter, number in zip(text, numbers, strict=True))


def case(*texts: str, **options) -> LayoutCase:
    return LayoutCase(tuple(row(text) for text in texts), **options)


PICTURES = {
    "last": (case("tMtMt"), [[], [0], [0], [1], [1]]),
    "all": (case("tMtMt", scope="all"), [[], [0], [0], [0, 1], [0, 1]]),
    "next": (case("tMttMt", direction="next"), [[0], [0], [1], [1], [1], []]),
    "consecutive tags": (case("tMMt"), [[], [0], [1], [1]]),
    "grouped tags": (case("MMtMt", grouped=True), [[0], [0, 1], [0, 1], [2], [2]]),
    "groups are for scope last": (
        case("MMtMt", scope="all", grouped=True),
        [[0], [0, 1], [0, 1], [0, 1, 2], [0, 1, 2]],
    ),
    "tiles": (case("t2t3"), [[], [0, 1], [0, 1], [2, 3, 4]]),
    "tiles next": (case("t2t3t", direction="next"), [[0, 1], [0, 1], [2, 3, 4], [2, 3, 4], []]),
    "grouped tiles": (case("22t", grouped=True), [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3]]),
    "tag last": (case("ttM"), [[], [], [0]]),
    "tag last, next": (case("ttM", direction="next"), [[0], [0], [0]]),
    "left pads": (case("..tMt"), [[], [], [], [0], [0]]),
    "left pads, next": (case("..tMt", direction="next"), [[], [], [0], [0], []]),
    "right pads": (case("tMt.."), [[], [0], [0], [0], [0]]),
    "right pads after a tag, next": (case("tM..", direction="next"), [[0], [0], [0], [0]]),
    "only pads": (case("..."), [[], [], []]),
    "text only": (case("ttt"), [[], [], []]),
    "packed": (
        LayoutCase((row("tMtttMt", documents="0001122"),), says_documents=True),
        [[], [0], [0], [], [], [1], [1]],
    ),
    "packed, all": (
        LayoutCase((row("MtMMtM", documents="000111"),), scope="all", says_documents=True),
        [[0], [0], [0, 1], [2], [2], [2, 3]],
    ),
    "packed, next": (
        LayoutCase((row("tMttM", documents="00011"),), direction="next", says_documents=True),
        [[0], [0], [], [1], [1]],
    ),
    "packed, groups end with a document": (
        LayoutCase((row("MMMt", documents="0011"),), grouped=True, says_documents=True),
        [[0], [0, 1], [2], [2]],
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture(name: str):
    """Each rule of the layout, drawn by hand; the oracle of the properties is held to the same pictures."""
    drawn, expected = PICTURES[name]
    assert seen_by(drawn.layout()) == [expected]
    assert drawn.seen_items() == [expected]


def test_rows_number_their_items_through_the_batch():
    """By default the pool holds row 0's items, then row 1's; rows without media have none."""
    layout = case("MtM", "ttt", "tMt").layout()
    assert layout.item_ids.tolist() == [[0, 1], [-1, -1], [2, -1]]
    assert seen_by(layout) == [[[0], [0], [1]], [[], [], []], [[], [2], [2]]]


def test_batch_without_any_media_has_an_empty_pool():
    """A text-only batch is a layout like any other, with no slot and an empty pool."""
    layout = MediaLayout.from_tokens(torch.zeros(2, 3, dtype=torch.bool))
    assert layout.num_items == 0
    assert layout.mask().shape == (2, 3, 0)
    assert not layout.sees_any().any()
    assert not layout.prepare("cpu").extend(2).sees_any().any()


@pytest.mark.parametrize(("batch", "text"), [(0, 3), (2, 0), (0, 0)])
def test_empty_batch_and_empty_text(batch: int, text: int):
    """No row or no column is no special case for any method."""
    layout = MediaLayout.from_tokens(torch.zeros(batch, text, dtype=torch.bool))
    for other in (layout, layout.prepare("cpu"), layout.slice(0, text), layout.repeat_rows(2)):
        assert other.mask().shape == (other.last.shape[0], text, 0)
    assert layout.extend(2).last.shape == (batch, text + 2)
    tags = torch.ones(batch, 1, dtype=torch.bool)
    assert layout.append(tags).sees_any().sum() == batch


def test_explain_draws_the_picture_with_words():
    """`explain` prints words beside the marks, for people to read."""
    layout = MediaLayout.from_tokens(torch.tensor([[False, True, False], [False, False, False]]))
    assert layout.explain([["Hi", "<image>", "cat"], ["no", "image", "here"]]).splitlines() == [
        "row 0  items 0",
        "  Hi         .",
        "  <image>    #",
        "  cat        #",
        "row 1  no items",
        "  no",
        "  image",
        "  here",
    ]


def test_pads_in_front_of_a_turn_repeat_the_turn_before():
    """In the whole text they stand in the middle, where a pad repeats the last real token before it."""
    layout = case("tM").layout().append(torch.tensor([[False, False]]), valid=torch.tensor([[False, True]]))
    assert seen_by(layout) == [[[], [0], [0], [0]]]


def test_a_turn_goes_on_with_the_group_that_the_last_one_ended_with():
    """Tags side by side across two turns are one group, as in the whole text at once."""
    layout = case("tM", grouped=True).layout().append(torch.tensor([[True, False]]), group_consecutive=True)
    assert seen_by(layout) == [[[], [0], [0, 1], [0, 1]]]


def test_append_starts_new_ids_behind_an_existing_pool():
    """`num_items` says how large the pool is when no row names its last items."""
    layout = MediaLayout.from_tokens(torch.tensor([[True]]), item_ids=torch.tensor([[1]]))
    assert layout.append(torch.tensor([[True]])).item_ids.tolist() == [[1, 2]]
    assert layout.append(torch.tensor([[True]]), num_items=5).item_ids.tolist() == [[1, 5]]


def test_an_emitted_tag_changes_nothing_while_decoding():
    """`extend` knows no tags: an image token that the model emits is text like any other, for every row."""
    layout = case("tMt", "Mtt").layout()
    assert seen_by(layout.extend(3)) == [[[], [0], [0], [0], [0], [0]], [[1]] * 6]


def test_layouts_are_compared_by_identity_and_hashable():
    """Equality of tensors has no single answer, so two layouts are never equal by value."""
    first, second = case("tM").layout(), case("tM").layout()
    assert first == first  # noqa: PLR0124 -- that is the point
    assert first != second
    assert len({first, second}) == 2


def test_layout_cannot_be_changed():
    """A layout is frozen."""
    with pytest.raises(AttributeError):
        case("tM").layout().last = torch.zeros(1, 2)


TAGS = torch.tensor([[True, False, True], [False, False, True]])
SLIPS = {
    "more tags than items": (
        dict(counts=torch.tensor([1, 1])),
        r"row 0 has 2 media tags for 2 items, but counts gives it 1 items",
    ),
    "items without a tag": (dict(counts=torch.tensor([2, 3])), r"row 1 has 1 media tags .* counts gives it 3 items"),
    "more tags than ids": (dict(item_ids=torch.tensor([[0], [1]])), r"row 0 has 2 .* item_ids gives it 1 items"),
    "ids with a gap": (
        dict(item_ids=torch.tensor([[0, 1], [-1, 2]])),
        r"item_ids of row 1 is \[-1, 2\], wanted .* pads on the right",
    ),
    "an id that is none": (dict(item_ids=torch.tensor([[0, 1], [-2, -1]])), r"item_ids of row 1 is \[-2, -1\], wanted"),
    "too few tiles": (dict(per_tag=torch.tensor([[1], [1]])), r"per_tag of row 0 is \[1\] for 2 tags"),
    "tiles beyond the tags": (dict(per_tag=torch.tensor([[1, 1], [1, 1]])), r"per_tag of row 1 is \[1, 1\] for 1 tags"),
    "a tag without tiles": (dict(per_tag=torch.tensor([[1, 0], [1, 0]])), r"per_tag of row 0 is \[1, 0\] for 2 tags"),
    "a tag on a pad": (dict(valid=torch.tensor([[True] * 3, [True, True, False]])), "row 1, column 2.* pad"),
    "next with all": (dict(direction="next", scope="all"), 'direction="next" with scope="all"'),
    "next with groups": (dict(direction="next", group_consecutive=True), 'direction="next" with group_consecutive'),
}


@pytest.mark.parametrize("name", SLIPS)
def test_slip_is_told(name: str):
    """A slip of the caller is a `ValueError` that names the argument, the row and what was given."""
    options, message = SLIPS[name]
    with pytest.raises(ValueError, match=message):
        MediaLayout.from_tokens(TAGS, **options)


WRONG_TYPES = {
    "tags as integers": (TAGS.long(), {}, "is_media is torch.int64 .* wanted bool"),
    "tags of one row": (TAGS[0], {}, r"is_media is torch.bool of shape \(3,\)"),
    "valid as integers": (TAGS, dict(valid=torch.ones(2, 3)), r"valid is torch.float32 .* attention_mask.bool\(\)"),
    "valid of another width": (TAGS, dict(valid=torch.ones(2, 4, dtype=torch.bool)), r"valid .* wanted .*\(2, 3\)"),
    "documents of another width": (TAGS, dict(document=torch.zeros(2, 2, dtype=torch.long)), r"document .*\(2, 2\)"),
    "documents as floats": (TAGS, dict(document=torch.zeros(2, 3)), "document is torch.float32"),
    "counts of another batch": (TAGS, dict(counts=torch.tensor([3])), r"counts .* of shape \(1,\), wanted .*\(2,\)"),
    "ids of another batch": (TAGS, dict(item_ids=torch.tensor([[0, 1]])), r"item_ids .*\(1, 2\), wanted \[2 media\]"),
    "an unknown scope": (TAGS, dict(scope="every"), 'scope is \'every\', wanted "last", "all" or "grouped"'),
    "an unknown direction": (TAGS, dict(direction="back"), "direction is 'back', wanted"),
    "an unknown direction of a row": (TAGS, dict(direction=["back"]), "direction of row 0 is 'back', wanted"),
    "directions for other rows": (TAGS, dict(direction=["next"] * 3), "direction has 3 words for 2 rows"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_wrong_shape_or_dtype_is_told(name: str, without_shape_checks):
    """Shapes, dtypes and words that do not fit are told in the library's own words, without any type checker."""
    is_media, options, message = WRONG_TYPES[name]
    with pytest.raises(ValueError, match=message):
        MediaLayout.from_tokens(is_media, **options)


def test_annotations_tell_wrong_shapes_too():
    """With the shape hook on, as in these tests, the annotation itself refuses the call."""
    if not hasattr(MediaLayout.from_tokens, "__wrapped__"):
        pytest.skip("the shape hook is off")
    with pytest.raises(jaxtyping.TypeCheckError, match="is_media"):
        MediaLayout.from_tokens(TAGS.long())


def test_grid_too_small_for_a_row_is_told():
    """`from_grid` names the row with more items than the padded tensor has."""
    with pytest.raises(ValueError, match="num_media is 1, but row 0 has 2 items"):
        MediaLayout.from_grid(TAGS, num_media=1)


@pytest.mark.parametrize(("direction", "word"), [("next", "next"), (("previous", "next"), "mixed")])
def test_append_to_next_is_told(direction, word):
    """A layout with a row of `next` cannot be appended to: what its last text sees is not known yet."""
    layout = MediaLayout.from_tokens(TAGS, direction=direction)
    with pytest.raises(ValueError, match=f'append .* direction "{word}"'):
        layout.append(TAGS)


def test_rows_that_agree_have_one_direction():
    """One word a row is one word for all where they agree, and then nothing is kept for each row."""
    for word in ("previous", "next"):
        layout = MediaLayout.from_tokens(TAGS, direction=[word, word])
        assert layout.direction == word
        assert layout.ahead is None
    mixed = MediaLayout.from_tokens(TAGS, direction=["next", "previous"])
    assert mixed.direction == "mixed"
    assert mixed.repeat_rows(2).ahead.tolist() == [True, True, False, False]


def test_new_text_sees_nothing_in_the_rows_that_look_ahead_alone():
    """`extend` and `slice` beyond the width copy what a row's last token saw, but for rows of `next`."""
    layout = MediaLayout.from_tokens(TAGS, direction=["previous", "next"])
    assert seen_by(layout.extend(2).slice(3, 5)) == [[[1], [1]], [[], []]]
    assert seen_by(layout.repeat_rows(2).slice(3, 4)) == [[[1]], [[1]], [[]], [[]]]
    assert seen_by(layout.extend(1).to("cpu").extend(1).slice(4, 5)) == [[[1]], [[]]]


def test_append_of_another_batch_is_told():
    """A turn has to bring a row for every row."""
    with pytest.raises(ValueError, match="is_media has 1 rows, the layout has 2"):
        MediaLayout.from_tokens(TAGS).append(TAGS[:1])


def test_append_behind_a_smaller_pool_is_told():
    """`num_items` below the ids in use would number new items like old ones."""
    with pytest.raises(ValueError, match="num_items is 2, but the layout names 3 items"):
        MediaLayout.from_tokens(TAGS).append(TAGS, num_items=2)


def test_append_with_wrong_counts_is_told():
    """A turn with more tags than items names the row and both numbers."""
    with pytest.raises(ValueError, match="row 1 has 1 media tags for 1 items, but counts gives it 0"):
        MediaLayout.from_tokens(TAGS).append(TAGS, counts=torch.tensor([2, 0]))


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1)])
def test_slice_out_of_order_is_told(start: int, stop: int):
    """Columns count from 0 and forwards."""
    with pytest.raises(ValueError, match=f"start and stop are {start} and {stop}"):
        MediaLayout.from_tokens(TAGS).slice(start, stop)


def test_extend_by_less_than_nothing_is_told():
    """`extend` only adds."""
    with pytest.raises(ValueError, match="num_tokens is -1"):
        MediaLayout.from_tokens(TAGS).extend(-1)


def test_repeat_rows_zero_times_is_told():
    """A layout keeps its rows."""
    with pytest.raises(ValueError, match="times is 0"):
        MediaLayout.from_tokens(TAGS).repeat_rows(0)


def test_item_ids_may_come_in_any_integer_dtype():
    """Ids from numpy or a compact collator are as good as int64."""
    layout = MediaLayout.from_tokens(TAGS, item_ids=ragged([[1, 0], [1]], fill=-1).to(torch.int32))
    assert seen_by(layout) == [[[1], [1], [0]], [[], [], [1]]]
