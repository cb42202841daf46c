"""What a Flamingo is trained and asked with: text rows, the pool of their media, and which token sees which item."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flamingo_blocks.ops.media_layout import MediaLayout


@dataclass(frozen=True, eq=False)
class FlamingoBatch:
    """A batch of interleaved text and media.

    `flamingo(**batch.model_inputs())` runs a model on it; `collate` makes it.

    Args:
        input_ids: Token ids.
        attention_mask: True for real tokens.
        layout: Which items each token sees, prepared for the kernels.
        labels: Token ids to be predicted, not shifted, -100 where no loss is taken.
        document: Which document of a packed row each token belongs to.
        pixels: The media pool; clips of fewer frames are padded.
        features: The media pool as patch features, in place of pixels.
        frame_valid: True for frames that exist; None when all do. Stays on the CPU.
        patch_valid: True for patches that exist, beside `features`; None when all do.
        source: Name of the data set of each row.

    Example:
        >>> is_media = torch.tensor([[True, False]])
        >>> batch = FlamingoBatch(
        ...     input_ids=torch.tensor([[9, 3]]),
        ...     attention_mask=torch.ones_like(is_media),
        ...     layout=MediaLayout.from_tokens(is_media),
        ...     pixels=torch.zeros(1, 1, 3, 8, 8),
        ... )
        >>> sorted(batch.to("cpu").model_inputs())
        ['attention_mask', 'input_ids', 'layout', 'pixels']
    """

    input_ids: Int[Tensor, "batch text"]
    attention_mask: Bool[Tensor, "batch text"]
    layout: MediaLayout
    labels: Int[Tensor, "batch text"] | None = None
    document: Int[Tensor, "batch text"] | None = None
    pixels: Float[Tensor, "items frames 3 height width"] | None = None
    features: Float[Tensor, "items frames patches vision_dim"] | None = None
    frame_valid: Bool[Tensor, "items frames"] | None = None
    patch_valid: Bool[Tensor, "items frames patches"] | None = None
    source: tuple[str | None, ...] | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "FlamingoBatch":
        """The same batch on another device.

        `frame_valid` stays where it is: the host chooses by it the frames that the tower runs on, and does not wait.

        Args:
            device: Where to.
            non_blocking: Do not wait for copies from pinned memory.
        """
        moved = self._each_tensor(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return replace(moved, frame_valid=self.frame_valid, layout=self.layout.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "FlamingoBatch":
        """The same batch in page-locked memory; a `DataLoader` with `pin_memory=True` calls it."""
        return replace(self._each_tensor(lambda tensor: tensor.pin_memory()), layout=self.layout.pin_memory())

    def model_inputs(self) -> dict[str, Any]:
        """Keyword arguments of the model's forward: all that is there, `source` apart."""
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "source"}
        return {name: value for name, value in named.items() if value is not None}

    def _each_tensor(self, change: Callable[[Tensor], Tensor]) -> "FlamingoBatch":
        named: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {name: change(value) for name, value in named.items() if isinstance(value, Tensor)}
        return replace(self, **(named | changed))
