"""Projected media: computed once per block, used by every decoding step."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flamingo_blocks.ops._pytree import register_tensors


@dataclass(frozen=True, eq=False)
class MediaKV:
    """Keys and values of the media pool for one block, made by its `project_media`.

    Args:
        key: Keys, after the block's qk-norm if it has one.
        value: Values.
        valid: Latents that count; all when `None`.

    Example:
        >>> kv = MediaKV(torch.zeros(2, 4, 1, 8), torch.zeros(2, 4, 1, 8))
        >>> kv.append(kv).key.shape
        torch.Size([4, 4, 1, 8])
    """

    key: Float[Tensor, "items latents kv_heads head_dim"]
    value: Float[Tensor, "items latents kv_heads head_dim"]
    valid: Bool[Tensor, "items latents"] | None = None

    def append(self, new: "MediaKV") -> "MediaKV":
        """The pool with new items at its end."""
        return MediaKV(
            torch.cat([self.key, new.key]),
            torch.cat([self.value, new.value]),
            join_valid(self.key, self.valid, new.key, new.valid),
        )

    def to(self, device: torch.device | str) -> "MediaKV":
        """The same keys and values on another device."""
        return MediaKV(
            self.key.to(device), self.value.to(device), None if self.valid is None else self.valid.to(device)
        )


def join_valid(
    old: Float[Tensor, "items latents *rest"],
    old_valid: Bool[Tensor, "items latents"] | None,
    new: Float[Tensor, "more latents *rest"],
    new_valid: Bool[Tensor, "more latents"] | None,
) -> Bool[Tensor, "both latents"] | None:
    """Flags of two pools, one behind the other; a pool without flags counts in full."""
    if old_valid is None and new_valid is None:
        return None
    pools = ((old, old_valid), (new, new_valid))
    return torch.cat([x.new_ones(x.shape[:2], dtype=torch.bool) if valid is None else valid for x, valid in pools])


register_tensors(MediaKV)
