"""Which media items each text token sees: one index per token, the one source of every mask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils import _pytree as pytree

from flamingo_blocks.errors import MediaMaskError
from flamingo_blocks.ops._explain_layout import explain_layout
from flamingo_blocks.ops._item_ids import append_ids, ids_in_order
from flamingo_blocks.ops._layout_checks import (
    check_documents,
    check_is_media,
    check_scope,
    count_items,
    items_under_tags,
    one_direction,
)
from flamingo_blocks.ops._pytree import register_tensors
from flamingo_blocks.ops._visible_ranges import Carry, visible_ranges
from flamingo_blocks.ops.attention_plan import AttentionPlan, make_plan
from flamingo_blocks.types import Direction, LayoutDirection, Scope


@dataclass(frozen=True, eq=False)
class MediaLayout:
    """Which media items each text token sees.

    All images and clips of a batch stand in one *pool*, encoded once each; a layout says which of them every text token
    may attend to. Make it with `from_tokens` (or `from_grid` for padded media) and hand it to `media_attention`,
    `GatedCrossAttentionBlock` or `Flamingo`. A layout never changes; each method gives a new one.

        text      <image> a  cat <EOC> <image> a  dog
        item         0    0   0    0      1    1   1     scope "last" (the paper)
        items        0    0   0    0     0,1  0,1 0,1    scope "all"

    Args:
        item_ids: Pool ids of each row's items, in order; -1 pads rows with fewer items.
        first: First slot of its row's `item_ids` that a token sees.
        last: Last slot that it sees; -1 when it sees none.
        direction: `"previous"` (a token sees the latest tag before it), `"next"`, or `"mixed"` where rows differ.
        plan: Integers for the attention kernels, made by `prepare`; never needed for correctness.
        single_item: True where no token is known to see several items, so that backends need not read values to know.
        ahead: True for the rows of direction `"next"`, where rows differ.

    Example:
        >>> layout = MediaLayout.from_tokens(torch.tensor([[False, True, False, True]]))
        >>> layout.last
        tensor([[-1,  0,  0,  1]])
        >>> layout.mask().int()
        tensor([[[0, 0],
                 [1, 0],
                 [1, 0],
                 [0, 1]]], dtype=torch.int32)

    Source:
        Flamingo (arXiv 2204.14198), section 2.3 and appendix A.1.3: the function phi, with -1 for "none".
    """

    item_ids: Int[Tensor, "batch media"]
    first: Int[Tensor, "batch text"]
    last: Int[Tensor, "batch text"]
    direction: LayoutDirection = "previous"
    plan: AttentionPlan | None = None
    single_item: bool = False
    ahead: Bool[Tensor, " batch"] | None = None

    @classmethod
    def from_tokens(
        cls,
        is_media: Bool[Tensor, "batch text"],
        *,
        counts: Int[Tensor, " batch"] | None = None,
        item_ids: Int[Tensor, "batch media"] | None = None,
        scope: Scope = "last",
        direction: Direction | Sequence[Direction] = "previous",
        document: Int[Tensor, "batch text"] | None = None,
        valid: Bool[Tensor, "batch text"] | None = None,
        per_tag: Int[Tensor, "batch tags"] | None = None,
        group_consecutive: bool = False,
    ) -> "MediaLayout":
        """Read the layout off the media tags in the text.

        Args:
            is_media: True at the first token of each media tag. That token sees its own item, as do the tokens after it
                up to the next tag (`"previous"`), or the tokens before it back to the last tag (`"next"`).
            counts: Items of each row; the number of its tags when omitted. Checked against the tags.
            item_ids: Pool ids of each row's items in order, -1 pads on the right. Say it when rows share items; by
                default the pool holds row 0's items, then row 1's, and so on.
            scope: `"last"`: a token sees the item of the latest tag. `"all"`: all items of its document so far.
                `"grouped"`: as `"last"` with `group_consecutive`.
            direction: `"next"` is the paper's augmentation, which shows a text the item that follows it. One word for
                all rows, or one for each.
            document: Which document each token of a packed row belongs to; a token never sees another document's items.
            valid: True for real tokens. Pads on the left see nothing; pads on the right repeat the last real token.
            per_tag: Items under each tag (tiles of one image), 0 beyond the row's tags; the tag sees all of them.
            group_consecutive: Tags of one token that stand side by side form a group: the k-th tag sees the group's
                first k items, the text after the group sees all of them (Mllama, torchtune).

        Returns:
            The layout, on the device of `is_media`.

        Raises:
            TypeError: If `is_media` or `item_ids` is no tensor.
            ValueError: If tags and items of a row differ in number, `item_ids` are no integers, a tag stands on a pad,
                shapes differ, or `direction="next"` is asked with `scope="all"` or with `group_consecutive`.

        Example:
            >>> is_media = torch.tensor([[True, False, True, False]])
            >>> MediaLayout.from_tokens(is_media, direction="next").last
            tensor([[ 0,  1,  1, -1]])
            >>> MediaLayout.from_tokens(is_media.repeat(2, 1), direction=["previous", "next"]).last
            tensor([[ 0,  0,  1,  1],
                    [ 0,  1,  1, -1]])

        Source:
            Flamingo (arXiv 2204.14198), sections 2.3, 2.4 and A.1.3; grouping as in Llama 3.2 Vision.
        """
        check_is_media(is_media, valid)
        way, ahead = one_direction(direction, is_media)
        check_scope(scope, way, group_consecutive=group_consecutive)
        group_consecutive = group_consecutive or scope == "grouped"
        check_documents(document, is_media)
        items_under = items_under_tags(is_media, per_tag)
        counts, item_ids = count_items(is_media, items_under, counts, item_ids)
        first, last = visible_ranges(
            is_media,
            items_under,
            document=document,
            valid=valid,
            scope=scope,
            ahead=way == "next" if ahead is None else ahead,
            group_consecutive=group_consecutive,
        )
        return cls(
            item_ids=ids_in_order(counts) if item_ids is None else item_ids,
            first=first,
            last=last,
            direction=way,
            single_item=_one_item_a_tag(scope, per_tag, group_consecutive=group_consecutive),
            ahead=ahead,
        )

    @classmethod
    def from_grid(
        cls,
        is_media: Bool[Tensor, "batch text"],
        *,
        num_media: int,
        counts: Int[Tensor, " batch"] | None = None,
        scope: Scope = "last",
        direction: Direction | Sequence[Direction] = "previous",
        document: Int[Tensor, "batch text"] | None = None,
        valid: Bool[Tensor, "batch text"] | None = None,
        per_tag: Int[Tensor, "batch tags"] | None = None,
        group_consecutive: bool = False,
    ) -> "MediaLayout":
        """As `from_tokens`, for a pool that is a padded `[batch num_media ...]` tensor, flattened.

        Args:
            is_media: True at the first token of each media tag.
            num_media: Items per row in the padded tensor; the row's own items come first.
            counts: Items of each row that are real, as in `from_tokens`.
            scope: As in `from_tokens`.
            direction: As in `from_tokens`.
            document: As in `from_tokens`.
            valid: As in `from_tokens`.
            per_tag: As in `from_tokens`.
            group_consecutive: As in `from_tokens`.

        Returns:
            The layout; the item of row `b` and slot `m` has the pool id `b * num_media + m`.

        Raises:
            TypeError: If `is_media` is no tensor.
            ValueError: As `from_tokens`, and if a row has more items than `num_media`.

        Example:
            >>> MediaLayout.from_grid(torch.tensor([[True], [True]]), num_media=3).item_ids
            tensor([[ 0, -1, -1],
                    [ 3, -1, -1]])
        """
        check_is_media(is_media, valid)
        counts, _ = count_items(is_media, items_under_tags(is_media, per_tag), counts, None)
        if counts.numel() and int(counts.max()) > num_media:
            row = int(counts.argmax())
            raise MediaMaskError(
                f"num_media is {num_media}, but row {row} has {int(counts[row])} items; "
                f"pad the media to at least {int(counts[row])} items a row"
            )
        slots = torch.arange(num_media, device=is_media.device)
        rows = torch.arange(is_media.shape[0], device=is_media.device)[:, None]
        item_ids = (rows * num_media + slots).masked_fill(slots >= counts[:, None], -1)
        return cls.from_tokens(
            is_media, item_ids=item_ids, scope=scope, direction=direction, document=document, valid=valid,
            per_tag=per_tag, group_consecutive=group_consecutive,
        )  # fmt: skip

    def mask(self) -> Bool[Tensor, "batch text media"]:
        """Dense mask over a row's own slots, True = may attend.

        Returns:
            One flag for each token and slot; slot m of row b is the item `item_ids[b, m]`.

        Example:
            >>> MediaLayout.from_tokens(torch.tensor([[True, False]])).mask().tolist()
            [[[True], [True]]]
        """
        slots = torch.arange(self.item_ids.shape[1], device=self.last.device)
        return (self.first[..., None] <= slots) & (slots <= self.last[..., None])

    def sees_any(self) -> Bool[Tensor, "batch text"]:
        """Tokens that see at least one item; the others get no update from cross-attention."""
        return self.last >= 0

    def prepare(self, device: torch.device | str | None = None) -> "MediaLayout":
        """Compute the integers that the attention kernels need; call it once per batch, best in the collator.

        Args:
            device: Where the result is to live; the layout's own device by default.

        Returns:
            The same layout with its `plan`, on `device`.
        """
        device = self.last.device if device is None else torch.device(device)
        with torch.inference_mode(mode=False):  # a plan made in evaluation serves training too
            home = self.to("cpu")
            plan = make_plan(home.item_ids, home.first, home.last)
            return replace(home, plan=plan, single_item=plan.single_item).to(device)

    def slice(self, start: int, stop: int) -> "MediaLayout":
        """Columns `start` to `stop` of the text; columns beyond the width are those of `extend`.

        Raises:
            ValueError: If not `0 <= start <= stop`.
        """
        if not 0 <= start <= stop:
            raise ValueError(f"start and stop are {start} and {stop}, wanted 0 <= start <= stop")
        whole = self.extend(stop - self.num_text) if stop > self.num_text else self
        return replace(whole, first=whole.first[:, start:stop], last=whole.last[:, start:stop], plan=None)

    def extend(self, num_tokens: int) -> "MediaLayout":
        """Add text without media, as decoding does: new tokens see what the row's last token saw.

        In rows of direction `"next"` they see nothing, as text after the last tag does.

        Args:
            num_tokens: Columns to add.

        Raises:
            ValueError: If `num_tokens` is negative.
        """
        if num_tokens < 0:
            raise ValueError(f"num_tokens is {num_tokens}, wanted 0 or more; use slice to drop columns")
        carry = self._carry()
        first, last = carry.first[:, None], carry.last[:, None]
        if self.direction != "previous":
            blind = torch.ones_like(last, dtype=torch.bool) if self.ahead is None else self.ahead[:, None]
            first, last = first.masked_fill(blind, 0), last.masked_fill(blind, -1)
        return replace(
            self,
            first=torch.cat([self.first, first.expand(-1, num_tokens)], dim=1),
            last=torch.cat([self.last, last.expand(-1, num_tokens)], dim=1),
            plan=None,
        )

    def append(
        self,
        is_media: Bool[Tensor, "batch text"],
        *,
        counts: Int[Tensor, " batch"] | None = None,
        scope: Scope = "last",
        group_consecutive: bool = False,
        valid: Bool[Tensor, "batch text"] | None = None,
        per_tag: Int[Tensor, "batch tags"] | None = None,
        num_items: int | None = None,
    ) -> "MediaLayout":
        """Add text with media of its own, as a chat turn does; the new items stand at the end of the pool.

        Args:
            is_media: Tags of the new columns, which continue the document of each row's last token.
            counts: New items of each row, as in `from_tokens`.
            scope: The scope that the layout was made with.
            group_consecutive: As the layout was made; on a slice of one column, that column is taken for a tag.
            valid: Real tokens among the new columns.
            per_tag: Items under each new tag.
            num_items: Size of the pool so far, when it holds items that no row names.

        Returns:
            The layout of the whole text. New ids start at `num_items`, row by row.

        Raises:
            TypeError: If `is_media` is no tensor.
            ValueError: If a row of the layout has direction `"next"`, `num_items` is smaller than the ids in use, or
                as `from_tokens`.

        Example:
            >>> layout = MediaLayout.from_tokens(torch.tensor([[True, False]]))
            >>> layout.append(torch.tensor([[False, True]])).last
            tensor([[0, 0, 0, 1]])
        """
        if self.direction != "previous":
            raise MediaMaskError(
                f'append to a layout of direction "{self.direction}" is undefined; make it with direction="previous"'
            )
        check_is_media(is_media, valid, batch=self.last.shape[0])
        check_scope(scope, self.direction, group_consecutive=group_consecutive)
        group_consecutive = group_consecutive or scope == "grouped"
        items_under = items_under_tags(is_media, per_tag)
        counts, _ = count_items(is_media, items_under, counts, None)
        used = self.num_items
        if num_items is not None and num_items < used:
            raise MediaMaskError(f"num_items is {num_items}, but the layout names {used} items; pass the pool's size")
        first, last = visible_ranges(
            is_media, items_under, document=None, valid=valid, scope=scope, ahead=False,
            group_consecutive=group_consecutive, carry=self._carry(),
        )  # fmt: skip
        new_ids = ids_in_order(counts, start=used if num_items is None else num_items)
        return replace(
            self,
            item_ids=append_ids(self.item_ids, new_ids),
            first=torch.cat([self.first, first], dim=1),
            last=torch.cat([self.last, last], dim=1),
            plan=None,
            single_item=self.single_item and _one_item_a_tag(scope, per_tag, group_consecutive=group_consecutive),
        )

    def repeat_rows(self, times: int) -> "MediaLayout":
        """Repeat each row `times` times in place, for beams and samples; the pool stays as it is.

        Raises:
            ValueError: If `times` is less than 1.
        """
        if times < 1:
            raise ValueError(f"times is {times}, wanted 1 or more")
        item_ids, first, last = (x.repeat_interleave(times, 0) for x in (self.item_ids, self.first, self.last))
        ahead = None if self.ahead is None else self.ahead.repeat_interleave(times)
        return replace(self, item_ids=item_ids, first=first, last=last, plan=None, ahead=ahead)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "MediaLayout":
        """The same layout on another device, its plan included; `non_blocking` as in `torch.Tensor.to`."""
        item_ids, first, last = (
            x.to(device, non_blocking=non_blocking) for x in (self.item_ids, self.first, self.last)
        )
        plan = None if self.plan is None else self.plan.to(device, non_blocking=non_blocking)
        ahead = None if self.ahead is None else self.ahead.to(device, non_blocking=non_blocking)
        return replace(self, item_ids=item_ids, first=first, last=last, plan=plan, ahead=ahead)

    def pin_memory(self) -> "MediaLayout":
        """The same layout in page-locked memory, its plan included, from where copies to a device do not wait."""
        pinned: MediaLayout = pytree.tree_map(lambda tensor: tensor.pin_memory(), self)
        return pinned

    def explain(self, tokens: list[list[str]] | None = None) -> str:
        """Draw which token sees which item.

        Args:
            tokens: The words of each row, to print beside the picture; columns are numbered by default.

        Returns:
            One line a token, one column an item: `#` where the token sees the item.

        Example:
            >>> layout = MediaLayout.from_tokens(torch.tensor([[False, True, False, True]]))
            >>> print(layout.explain([["Hi", "<image>", "cat", "<image>"]]))
            row 0  items 0 1
              Hi         . .
              <image>    # .
              cat        # .
              <image>    . #
        """
        return explain_layout(self.item_ids, self.mask(), tokens)

    @property
    def num_text(self) -> int:
        """Columns of text."""
        return self.last.shape[1]

    @property
    def num_items(self) -> int:
        """Items that the pool must hold at least: one more than the largest id. Reads a value from the device."""
        return int(self.item_ids.max()) + 1 if self.item_ids.numel() else 0

    def _carry(self) -> Carry:
        """What new columns continue: slots in use, and what the last column saw."""
        num_slots = (self.item_ids >= 0).sum(1)
        if self.num_text == 0:
            return Carry(num_slots, torch.zeros_like(num_slots), torch.full_like(num_slots, -1), num_slots < 0)
        before = self.last[:, -2] if self.num_text > 1 else torch.full_like(num_slots, -1)
        last = self.last[:, -1]
        return Carry(num_slots, self.first[:, -1], last, ends_in_tag=(last >= 0) & (last != before))


def _one_item_a_tag(scope: Scope, per_tag: Tensor | None, *, group_consecutive: bool) -> bool:
    """Whether a tag shows its tokens one item at most, whatever the text."""
    return scope == "last" and per_tag is None and not group_consecutive


def check_layout(layout: object) -> None:
    """Refuse what is no layout, with the way to make one.

    Raises:
        TypeError: If it is anything else, such as a mask.
    """
    if not isinstance(layout, MediaLayout):
        raise TypeError(
            f"layout is a {type(layout).__name__}, wanted a MediaLayout; make it with "
            "MediaLayout.from_tokens(input_ids == media_token_id)"
        )


register_tensors(AttentionPlan)
register_tensors(MediaLayout, constants=("direction", "single_item"))
