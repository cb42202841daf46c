"""What a caller may hand to `MediaLayout`, checked once, with errors that name row and both numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from flamingo_blocks.errors import MediaMaskError
from flamingo_blocks.ops._host_reads import on_host
from flamingo_blocks.types import Direction, LayoutDirection, Scope

if TYPE_CHECKING:
    from flamingo_blocks.ops.media_layout import MediaLayout


def check_is_media(is_media: Tensor, valid: Tensor | None, *, batch: int | None = None) -> None:
    """Tags must be a bool [batch text] and none of them on a pad."""
    if not isinstance(is_media, Tensor):
        raise TypeError(f"is_media is a {type(is_media).__name__}, wanted a bool tensor of shape [batch text]")
    if is_media.dtype != torch.bool or is_media.ndim != 2:
        raise MediaMaskError(
            f"is_media is {is_media.dtype} of shape {tuple(is_media.shape)}, wanted bool of shape [batch text]; "
            "make it with input_ids == media_token_id"
        )
    if batch is not None and is_media.shape[0] != batch:
        raise MediaMaskError(
            f"is_media has {is_media.shape[0]} rows, the layout has {batch}; append to every row at once"
        )
    if valid is None:
        return
    if valid.dtype != torch.bool or valid.shape != is_media.shape:
        raise MediaMaskError(
            f"valid is {valid.dtype} of shape {tuple(valid.shape)}, wanted bool of shape {tuple(is_media.shape)}; "
            "make it with attention_mask.bool()"
        )
    on_pad = is_media & ~valid
    if on_pad.any():
        row, column = on_pad.nonzero()[0].tolist()
        raise MediaMaskError(
            f"is_media marks row {row}, column {column}, which valid calls a pad; pad with another token than the tag"
        )


def check_scope(scope: Scope, direction: LayoutDirection, *, group_consecutive: bool) -> None:
    """Known words, and no combination without a meaning."""
    if scope not in get_args(Scope):
        raise ValueError(f'scope is {scope!r}, wanted "last", "all" or "grouped"')
    if direction != "previous" and scope == "all":
        raise MediaMaskError(f'direction="{direction}" with scope="all" has no meaning; use scope="last"')
    if direction != "previous" and (group_consecutive or scope == "grouped"):
        raise MediaMaskError(f'direction="{direction}" with group_consecutive=True has no meaning; drop one of them')


def one_direction(
    direction: Direction | Sequence[Direction], is_media: Bool[Tensor, "batch text"]
) -> tuple[LayoutDirection, Bool[Tensor, " batch"] | None]:
    """The direction of all rows, or `"mixed"` and the rows that look ahead."""
    each = (direction,) if isinstance(direction, str) else tuple(direction)
    for row, word in enumerate(each):
        if word not in get_args(Direction):
            which = "direction" if isinstance(direction, str) else f"direction of row {row}"
            raise ValueError(f'{which} is {word!r}, wanted "previous" or "next"')
    if isinstance(direction, str):
        return direction, None
    if len(each) != is_media.shape[0]:
        raise MediaMaskError(
            f"direction has {len(each)} words for {is_media.shape[0]} rows; give one a row, or one for all"
        )
    if len(set(each)) < 2:
        return (each or ("previous",))[0], None
    return "mixed", torch.tensor([word == "next" for word in each], device=is_media.device)


def check_documents(document: Tensor | None, is_media: Tensor) -> None:
    """Document numbers must stand beside every token."""
    if document is not None and (document.shape != is_media.shape or document.is_floating_point()):
        raise MediaMaskError(
            f"document is {document.dtype} of shape {tuple(document.shape)}, "
            f"wanted integers of shape {tuple(is_media.shape)}, one a token"
        )


def items_under_tags(
    is_media: Bool[Tensor, "batch text"], per_tag: Int[Tensor, "batch tags"] | None
) -> Int[Tensor, "batch text"]:
    """Number of items under each tag, 0 between tags."""
    if per_tag is None:
        return is_media.long()
    tags = is_media.sum(1)
    if per_tag.ndim != 2 or per_tag.shape[0] != is_media.shape[0] or per_tag.is_floating_point():
        raise MediaMaskError(
            f"per_tag is {per_tag.dtype} of shape {tuple(per_tag.shape)}, "
            f"wanted integers of shape [{is_media.shape[0]} tags]"
        )
    beyond = torch.arange(per_tag.shape[1], device=per_tag.device) >= tags[:, None]
    wrong = (tags > per_tag.shape[1]) | ((per_tag != 0) & beyond).any(1) | ((per_tag < 1) & ~beyond).any(1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise MediaMaskError(
            f"per_tag of row {row} is {per_tag[row].tolist()} for {int(tags[row])} tags; "
            "wanted 1 or more items for each tag and 0 beyond"
        )
    if per_tag.shape[1] == 0:
        return torch.zeros_like(is_media, dtype=torch.long)
    tag = (is_media.cumsum(1) - 1).clamp(min=0, max=per_tag.shape[1] - 1)
    return per_tag.long().gather(1, tag) * is_media


def count_items(
    is_media: Bool[Tensor, "batch text"],
    items_under: Int[Tensor, "batch text"],
    counts: Int[Tensor, " batch"] | None,
    item_ids: Int[Tensor, "batch media"] | None,
) -> tuple[Int[Tensor, " batch"], Int[Tensor, "batch media"] | None]:
    """Items of each row, after comparing what the tags need with what `counts` or `item_ids` bring."""
    needed = items_under.sum(1)
    if item_ids is not None:
        _check_kind(item_ids, is_media.shape[0])
        item_ids = item_ids.long()
        _check_ids(item_ids, is_media.shape[0])
        _check_number(is_media, needed, (item_ids >= 0).sum(1), "item_ids")
    if counts is not None:
        if counts.shape != needed.shape or counts.is_floating_point():
            raise MediaMaskError(
                f"counts is {counts.dtype} of shape {tuple(counts.shape)}, "
                f"wanted integers of shape {tuple(needed.shape)}, one a row"
            )
        _check_number(is_media, needed, counts, "counts")
    return needed, item_ids


def _check_number(is_media: Tensor, needed: Tensor, given: Tensor, name: str) -> None:
    wrong = needed != given
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise MediaMaskError(
            f"row {row} has {int(is_media[row].sum())} media tags for {int(needed[row])} items, "
            f"but {name} gives it {int(given[row])} items; every item needs a tag and every tag its items"
        )


def _check_kind(item_ids: object, batch: int) -> None:
    if not isinstance(item_ids, Tensor):
        raise TypeError(
            f"item_ids is a {type(item_ids).__name__}, wanted a tensor of ids [{batch} media]: torch.tensor(item_ids), "
            "with -1 to fill shorter rows"
        )
    if item_ids.dtype == torch.bool or item_ids.is_floating_point() or item_ids.is_complex():
        raise MediaMaskError(
            f"item_ids is {item_ids.dtype} of shape {tuple(item_ids.shape)}, wanted integers of shape [{batch} media]"
        )


def _check_ids(item_ids: Tensor, batch: int) -> None:
    if item_ids.ndim != 2 or item_ids.shape[0] != batch:
        raise MediaMaskError(f"item_ids has shape {tuple(item_ids.shape)}, wanted [{batch} media]")
    gap = (item_ids[:, :-1] < 0) & (item_ids[:, 1:] >= 0)
    wrong = gap.any(1) | (item_ids < -1).any(1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise MediaMaskError(
            f"item_ids of row {row} is {item_ids[row].tolist()}, wanted pool ids of 0 or more, then -1 as pads on the "
            "right of the row"
        )


_pool_sizes: "WeakKeyDictionary[MediaLayout, int]" = WeakKeyDictionary()  # every layer asks again


def check_pool(layout: "MediaLayout", items: int) -> None:
    """Refuse a pool that is smaller than the ids of a layout, in eager code, where that waits for no device.

    A prepared layout has the number on the host. Without a plan only a layout on the CPU is read: elsewhere each layer
    would wait for the device.
    """
    if torch.compiler.is_compiling() or layout.item_ids.numel() == 0:
        return
    if layout not in _pool_sizes:
        if layout.plan is not None:
            _pool_sizes[layout] = on_host(layout.plan.host_pool_size)[0]
        elif layout.item_ids.device.type == "cpu":
            _pool_sizes[layout] = on_host(layout.item_ids.max()) + 1
        else:
            return
    if (wanted := _pool_sizes[layout]) > items:
        raise MediaMaskError(
            f"the media pool holds {items} items, but the layout names item {wanted - 1}; "
            "pass every item of the batch once, in the order of layout.item_ids"
        )


def check_grid(item_ids: Int[Tensor, "batch media"], num_media: int) -> None:
    """Refuse padded media beside a layout that numbers the items without pads; in eager code on the CPU."""
    if torch.compiler.is_compiling() or item_ids.device.type != "cpu":
        return
    batch, media = item_ids.shape
    padded = torch.arange(batch)[:, None] * num_media + torch.arange(media)
    if on_host(((item_ids >= 0) & (item_ids != padded)).any()):
        raise MediaMaskError(
            f"media is padded to {num_media} items a row, but the layout numbers the items one after the other; "
            f"make it with MediaLayout.from_grid(..., num_media={num_media}), or give the pool as [items latents dim]"
        )
