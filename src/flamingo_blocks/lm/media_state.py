"""The media of a batch on their way to the blocks: one immutable object."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.nn.media_kv import MediaKV, join_valid
from flamingo_blocks.ops.media_layout import MediaLayout


@dataclass(frozen=True, eq=False)
class MediaState:
    """The media pool, which token sees which of its items, and the blocks' keys and values once projected.

    Hand it to `Attachment.media`. `Attachment.project` gives a copy that holds each block's `MediaKV`, so that decoding
    projects nothing again. A state never changes; each method gives a new one.

    Args:
        media: Media tokens of the pool.
        layout: Which items each text token sees; may come later, before the state is used.
        valid: Media tokens that count; all when `None`.
        projected: Keys and values by block, made by `Attachment.project`.
        blocks: The blocks that made them, needed by `append`.

    Example:
        >>> layout = MediaLayout.from_tokens(torch.tensor([[True, False]]))
        >>> MediaState(media=torch.zeros(1, 4, 8), layout=layout).num_items
        1
    """

    media: Float[Tensor, "items latents vision_dim"]
    layout: MediaLayout | None = None
    valid: Bool[Tensor, "items latents"] | None = None
    projected: Mapping[str, MediaKV] | None = None
    blocks: nn.ModuleDict | None = None

    @property
    def num_items(self) -> int:
        """Items in the pool."""
        return self.media.shape[0]

    def append(
        self,
        media: Float[Tensor, "items latents vision_dim"],
        layout: MediaLayout,
        *,
        valid: Bool[Tensor, "items latents"] | None = None,
    ) -> "MediaState":
        """Add new items at the end of the pool, as a chat turn does; only they are projected.

        Args:
            media: The new items.
            layout: The layout of the whole text, made by `MediaLayout.append`.
            valid: Tokens of the new items that count.

        Returns:
            The state of the whole conversation.

        Raises:
            ValueError: If the new items have other tokens or another width than the pool.
        """
        if media.shape[0] == 0:
            return self.with_layout(layout)
        new = {} if self.projected is None else {n: project(self._block(n), media, valid) for n in self.projected}
        if self.num_items == 0:  # a pool that was empty so far may not have known how many latents an item has
            return replace(
                self, media=media, layout=layout, valid=valid, projected=None if self.projected is None else new
            )
        if media.shape[1:] != self.media.shape[1:]:
            raise ShapeError(
                f"media has shape {tuple(media.shape)}, the pool {tuple(self.media.shape)}; "
                "wanted the same latents and width"
            )
        return replace(
            self,
            media=torch.cat([self.media, media]),
            layout=layout,
            valid=join_valid(self.media, self.valid, media, valid),
            projected=None if self.projected is None else {n: kv.append(new[n]) for n, kv in self.projected.items()},
        )

    def _block(self, name: str) -> nn.Module:
        assert self.blocks is not None
        return self.blocks[name]

    def with_layout(self, layout: MediaLayout) -> "MediaState":
        """The same media under another layout."""
        return replace(self, layout=layout)

    def repeat_rows(self, times: int) -> "MediaState":
        """Rows repeated for beams and samples; the pool and its projections stay as they are."""
        return self if self.layout is None or times == 1 else self.with_layout(self.layout.repeat_rows(times))

    def to(self, device: torch.device | str) -> "MediaState":
        """The same state on another device."""
        return replace(
            self,
            media=self.media.to(device),
            layout=None if self.layout is None else self.layout.to(device),
            valid=None if self.valid is None else self.valid.to(device),
            projected=None if self.projected is None else {n: kv.to(device) for n, kv in self.projected.items()},
        )


def project(block: nn.Module, media: Tensor, valid: Tensor | None) -> MediaKV:
    """Ask a block for its keys and values of some media."""
    project_media: Any = getattr(block, "project_media", None)
    if project_media is None:
        raise ValueError(f"{type(block).__name__} has no project_media, so its media cannot be projected once for all")
    weight = next(block.parameters(), media)  # a dispatched model has blocks on several devices
    kv: MediaKV = project_media(media.to(weight.device), valid=None if valid is None else valid.to(weight.device))
    return kv
