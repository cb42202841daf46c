"""The tower under test, and the pictures that it is shown."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from flamingo_blocks.vision import PatchTokens, VisionTower


class Wrong(Exception):  # noqa: N818 - it never leaves the checks
    """A tower does not do what it must."""


class TowerSubject:
    """A tower with pictures, and ways to run it that leave it as it was.

    Args:
        tower: Any tower.
        pictures: Images, the first one square; drawn when None.
        bound: Largest difference that counts as rounding.
    """

    def __init__(self, tower: VisionTower, pictures: Sequence[Any] | None, bound: float | None) -> None:
        self.tower: Any = tower
        self.pictures = _draw() if pictures is None else list(pictures)
        self.weight = next((tensor for tensor in self.state if tensor.is_floating_point()), torch.zeros(()))
        halved = self.weight.dtype in {torch.float16, torch.bfloat16}
        self.bound = (3e-2 if halved else 1e-4) if bound is None else bound

    @property
    def is_variable(self) -> bool:
        """Whether frames may differ in size."""
        return bool(getattr(self.tower.preprocess, "variable_size", False))

    @property
    def state(self) -> list[Tensor]:
        """Parameters and buffers of the tower."""
        return [*self.tower.parameters(), *self.tower.buffers()] if isinstance(self.tower, nn.Module) else []

    @property
    def weights(self) -> list[Tensor]:
        """Parameters of the tower."""
        return list(self.tower.parameters()) if isinstance(self.tower, nn.Module) else []

    def frames(self) -> list[Float[Tensor, "3 _ _"]]:
        """The pictures as the tower prepares them, on its device."""
        return [self.tower.preprocess(picture).to(self.weight.device) for picture in self.pictures]

    def batch(self, frames: Sequence[Tensor] | None = None) -> Float[Tensor, "n 3 height width"]:
        """Frames as one batch, padded by NaN where they may differ in size."""
        chosen = self.frames() if frames is None else list(frames)
        height, width = (max(frame.shape[axis] for frame in chosen) for axis in (1, 2))
        pads = [(0, width - frame.shape[2], 0, height - frame.shape[1]) for frame in chosen]
        return torch.stack([F.pad(frame, pad, value=torch.nan) for frame, pad in zip(chosen, pads, strict=True)])

    @torch.no_grad()
    def run(self, pixels: Tensor) -> PatchTokens:
        """Encode in eval mode; the modes of all modules are put back."""
        modes = [(module, module.training) for module in self.tower.modules()] if self.weights else []
        for module, _ in modes:
            module.training = False
        try:
            found = self.tower(pixels)
        finally:
            for module, mode in modes:
                module.training = mode
        if not isinstance(found, PatchTokens):
            raise Wrong(f"the tower gives a {type(found).__name__}, wanted PatchTokens(tokens=..., valid=...)")
        return found

    def tokens(self, pixels: Tensor | None = None) -> Float[Tensor, "n patches vision_dim"]:
        """Tokens alone, zeros where a patch does not exist."""
        found = self.run(self.batch() if pixels is None else pixels)
        return found.tokens if found.valid is None else found.tokens.masked_fill(~found.valid[..., None], 0.0)

    def same(self, found: Tensor, wanted: Tensor, what: Callable[[str], str]) -> None:
        """Refuse what differs by more than rounding."""
        error = apart(found, wanted)
        if not error <= self.bound:
            raise Wrong(what(f"{error:.1e} of their size"))


def apart(found: Tensor, wanted: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    if found.shape != wanted.shape:
        return float("inf")
    wanted = wanted.cpu().double()
    largest = wanted.abs().max().clamp_min(1e-12)
    return float(((found.cpu().double() - wanted).abs() / largest).max())


def _draw() -> list[Tensor]:
    """Square, wide and tall, each with slopes and grain."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(96, 96), (64, 112), (120, 80)]
    return [torch.randint(256, (3, *size), generator=generator).to(torch.uint8) for size in sizes]
