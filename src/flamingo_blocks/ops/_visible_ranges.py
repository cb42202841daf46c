"""Which slots of its row's media a token sees: the rule behind every mask, on whole tensors."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from flamingo_blocks.types import Scope


class Carry(NamedTuple):
    """What the columns before the present ones left behind, when a layout is appended to."""

    num_slots: Int[Tensor, " batch"]
    first: Int[Tensor, " batch"]
    last: Int[Tensor, " batch"]
    ends_in_tag: Bool[Tensor, " batch"]


def visible_ranges(
    is_media: Bool[Tensor, "batch text"],
    items_under: Int[Tensor, "batch text"],
    *,
    document: Int[Tensor, "batch text"] | None,
    valid: Bool[Tensor, "batch text"] | None,
    scope: Scope,
    ahead: bool | Bool[Tensor, " batch"],
    group_consecutive: bool,
    carry: Carry | None = None,
) -> tuple[Int[Tensor, "batch text"], Int[Tensor, "batch text"]]:
    """First and last slot that each token sees; a token that sees none has first 0 and last -1.

    `items_under` holds the number of items under each tag, 0 between tags. Slots count the items of a row in order.
    `ahead` is True where tokens see the tag that follows: for all rows, or row by row.
    """
    text = is_media.shape[1]
    if text == 0:
        return torch.zeros_like(items_under), torch.full_like(items_under, -1)
    carry = carry or _nothing_before(is_media)
    stop = carry.num_slots[:, None] + items_under.cumsum(1)  # one past the last slot opened so far
    start = stop - items_under
    run_start = torch.zeros_like(stop) if document is None else run_start_columns(document.to(stop.device))
    if ahead is True:
        first, last, sees = _of_next_tag(is_media, start, stop, run_start)
    else:
        tag = _last_true(is_media)
        sees = tag >= run_start
        first = _first_slot(is_media, start, tag.clamp(min=0), run_start, carry, scope=scope, group=group_consecutive)
        carried = (run_start == 0) & (tag < 0)  # before the first new tag, still in the document of the last column
        first = torch.where(carried, carry.first[:, None], first)
        last = torch.where(carried, carry.last[:, None], stop - 1)
        sees = torch.where(carried, (carry.last >= 0)[:, None].expand_as(sees), sees)
    if isinstance(ahead, Tensor):
        next_first, next_last, next_sees = _of_next_tag(is_media, start, stop, run_start)
        first = torch.where(ahead[:, None], next_first, first)
        last = torch.where(ahead[:, None], next_last, last)
        sees = torch.where(ahead[:, None], next_sees, sees)
    first, last = first.masked_fill(~sees, 0), last.masked_fill(~sees, -1)
    return (first, last) if valid is None else _respect_pads(first, last, valid, carry)


def _of_next_tag(is_media: Tensor, start: Tensor, stop: Tensor, run_start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The slots under the next tag of the document, and whether there is one."""
    text = is_media.shape[1]
    tag = _next_tag(is_media)
    reach = tag.clamp(max=text - 1)
    sees = (tag < text) & (run_start.gather(1, reach) == run_start)
    return start.gather(1, reach), stop.gather(1, reach) - 1, sees


def _first_slot(
    is_media: Tensor, start: Tensor, tag: Tensor, run_start: Tensor, carry: Carry, *, scope: Scope, group: bool
) -> Tensor:
    """Where the visible range begins: the tag's own items, its group's, or its document's."""
    if scope == "all":
        document_start = start.gather(1, run_start)
        goes_on = (run_start == 0) & (carry.last >= 0)[:, None]
        return torch.where(goes_on, carry.first[:, None], document_start)
    if not group:
        return start.gather(1, tag)
    before = torch.cat([carry.ends_in_tag[:, None], is_media[:, :-1]], dim=1)
    same_run = run_start != torch.arange(is_media.shape[1], device=is_media.device)
    same_run[:, 0] = True  # what stands before column 0 is in the carry, which belongs to the same document
    opens_group = is_media & ~(before & same_run)
    group_start = _last_true(opens_group)
    return torch.where(group_start < 0, carry.first[:, None], start.gather(1, group_start.clamp(min=0)))


def _respect_pads(first: Tensor, last: Tensor, valid: Tensor, carry: Carry) -> tuple[Tensor, Tensor]:
    """A pad repeats the last real token before it: the carry's left of the new columns, nothing without carry."""
    last_real = _last_true(valid)  # -1 on the left
    source = last_real.clamp(min=0)
    first = torch.where(last_real < 0, carry.first[:, None], first.gather(1, source))
    last = torch.where(last_real < 0, carry.last[:, None], last.gather(1, source))
    return first, last


def _nothing_before(is_media: Tensor) -> Carry:
    zero = is_media.new_zeros(is_media.shape[0], dtype=torch.long)
    return Carry(num_slots=zero, first=zero, last=zero - 1, ends_in_tag=zero.bool())


def run_start_columns(document: Int[Tensor, "batch text"]) -> Int[Tensor, "batch text"]:
    """Column where the document of each token begins."""
    starts = torch.zeros_like(document, dtype=torch.bool)
    starts[:, 1:] = document[:, 1:] != document[:, :-1]
    return _last_true(starts).clamp(min=0)


def _last_true(marks: Tensor) -> Tensor:
    """Column of the last mark at or before each column, -1 where there is none."""
    columns = torch.arange(marks.shape[1], device=marks.device)
    return torch.where(marks, columns, -1).cummax(1).values


def _next_tag(is_media: Tensor) -> Tensor:
    """Column of the first tag at or after each column, the width where there is none."""
    text = is_media.shape[1]
    columns = torch.arange(text, device=is_media.device)
    return torch.where(is_media, columns, text).flip(1).cummin(1).values.flip(1)
