"""What an attention backend is: a name, a reason to refuse, and the computation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flamingo_blocks.ops.media_layout import MediaLayout


@dataclass(frozen=True)
class Request:
    """What a backend is asked to run; enough to refuse without computing."""

    device: torch.device
    dtype: torch.dtype
    head_dim: int
    num_heads: int
    num_kv_heads: int
    requires_grad: bool
    layout: MediaLayout | None
    has_valid: bool = False


@runtime_checkable
class Attend(Protocol):
    """Attention of each text token to the items it sees; tokens that see nothing get exact zeros."""

    def __call__(
        self,
        query: Float[Tensor, "batch text heads head_dim"],
        key: Float[Tensor, "items latents kv_heads head_dim"],
        value: Float[Tensor, "items latents kv_heads head_dim"],
        layout: MediaLayout,
        valid: Bool[Tensor, "items latents"] | None,
        scale: float,
    ) -> Float[Tensor, "batch text heads head_dim"]:
        """Compute; arguments as in `media_attention`, checked there."""


@dataclass(frozen=True)
class Backend:
    """One way to compute media attention.

    Args:
        name: What users pass as `backend=`.
        refuse: Gives the reason why a request cannot run, or `None`.
        attend: The computation; called only with requests that were not refused.
    """

    name: str
    refuse: Callable[[Request], str | None]
    attend: Attend
