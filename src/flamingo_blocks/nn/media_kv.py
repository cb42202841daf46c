"""Projected media: computed once per block, used by every decoding step."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils import _pytree as pytree


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
        return MediaKV(torch.cat([self.key, new.key]), torch.cat([self.value, new.value]), join_valid(self, new))

    def to(self, device: torch.device | str) -> "MediaKV":
        """The same keys and values on another device."""
        return MediaKV(
            self.key.to(device), self.value.to(device), None if self.valid is None else self.valid.to(device)
        )


def join_valid(old: MediaKV, new: MediaKV) -> Tensor | None:
    """Flags of both pools; a pool without flags counts in full."""
    if old.valid is None and new.valid is None:
        return None
    flags = (kv.key.new_ones(kv.key.shape[:2], dtype=torch.bool) if kv.valid is None else kv.valid for kv in (old, new))
    return torch.cat(list(flags))


pytree.register_dataclass(MediaKV)
