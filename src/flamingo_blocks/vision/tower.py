"""What a vision encoder must offer: pixels in, patch tokens out."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flamingo_blocks.errors import ShapeError


@dataclass(frozen=True, eq=False)
class PatchTokens:
    """The patch features of a batch of frames, without class, register or other prefix tokens.

    Args:
        tokens: One feature per patch, row by row of the grid.
        valid: True where a patch shows the image; None when all do. Encoders of variable resolution need it.

    Example:
        >>> import torch
        >>> PatchTokens(tokens=torch.zeros(2, 49, 32)).tokens.shape
        torch.Size([2, 49, 32])
    """

    tokens: Float[Tensor, "n patches vision_dim"]
    valid: Bool[Tensor, "n patches"] | None = None


@runtime_checkable
class VisionTower(Protocol):
    """The border between any vision encoder and the rest of the library.

    Write a module with these members to bring an encoder of your own, or wrap one by `TimmTower`, `OpenClipTower`,
    `TransformersTower`, `NaFlexTower` or `CallableTower`. `testing.check_tower` finds out whether it is right. A
    `preprocess` with an attribute `variable_size = True` may give every image a size of its own; smaller frames of a
    batch are then padded by NaN on the right and below.

    Example:
        >>> import torch
        >>> class MeanColour(torch.nn.Module):  # one patch, three features
        ...     dim, grid = 3, (1, 1)
        ...     preprocess = staticmethod(torch.as_tensor)
        ...
        ...     def forward(self, pixels):
        ...         return PatchTokens(tokens=pixels.mean((2, 3))[:, None])
        >>> isinstance(MeanColour(), VisionTower)
        True
    """

    @property
    def dim(self) -> int:
        """Width of a patch token (`vision_dim`)."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches of a frame that `preprocess` made."""

    @property
    def preprocess(self) -> Callable[[Any], Tensor]:
        """Turns one image (PIL, array, tensor) into the pixels `[3 height width]` that the encoder was trained on."""

    def forward(self, pixels: Float[Tensor, "n 3 height width"]) -> PatchTokens:
        """Encode frames, each on its own."""

    def __call__(self, pixels: Float[Tensor, "n 3 height width"]) -> PatchTokens:
        """Call `forward`, as every `nn.Module` does."""


class FreezableTower(nn.Module):
    """What all towers do alike: a frozen one has no gradients and stays in eval mode."""

    @property
    def frozen(self) -> bool:
        """Whether none of its weights trains; `requires_grad_` freezes a tower, and ends that."""
        return not any(weight.requires_grad for weight in self.parameters())

    def train(self, mode: bool = True) -> "FreezableTower":  # noqa: FBT001, FBT002 - the signature of nn.Module
        """Set training mode; a frozen tower stays in eval mode."""
        return super().train(mode and not self.frozen)

    def _start(self, encoder: object, *, frozen: bool) -> None:
        """Freeze the encoder in place if it is to be; a trained one keeps the modes that it has."""
        if frozen and isinstance(encoder, nn.Module):
            encoder.requires_grad_(requires_grad=False)
            encoder.eval()
        self.training = not frozen


def floating_state(module: object) -> Tensor | None:
    """Give the first floating-point parameter or buffer of a module: it tells the dtype and device to compute in."""
    if not isinstance(module, nn.Module):
        return None
    state = (*module.parameters(), *module.buffers())
    return next((tensor for tensor in state if tensor.is_floating_point()), None)


def cast_like_weights(pixels: Tensor, module: object) -> Tensor:
    """Give pixels the dtype of the encoder's weights, so that a bfloat16 tower takes float32 pixels."""
    weight = floating_state(module)
    return pixels if weight is None else pixels.to(weight.dtype)


def check_pixels(pixels: Tensor) -> None:
    """Refuse anything but a batch of floating-point RGB frames."""
    if pixels.ndim != 4 or pixels.shape[1] != 3 or not pixels.is_floating_point():
        raise ShapeError(
            f"pixels has shape {list(pixels.shape)} and dtype {pixels.dtype}, wanted floating [n 3 height width]; "
            f"{pixels_fix(pixels) or 'make each image by tower.preprocess and stack them'}"
        )


def pixels_fix(pixels: Tensor) -> str | None:
    """What to do about bytes, or about channels that stand last; nothing where pixels are wrong in another way."""
    if pixels.ndim >= 4 and pixels.shape[-1] == 3 != pixels.shape[-3]:
        return "the channels are last: pixels.movedim(-1, -3), or make each image by tower.preprocess"
    if not pixels.is_floating_point():
        return "make each image by tower.preprocess, or divide by 255 where the encoder takes values from 0 to 1"
    return None


def frame_size(image_size: Any) -> tuple[int, int]:
    """Height and width of frames, given as one number or two.

    Raises:
        ValueError: If they are something else, or less than 1.

    Example:
        >>> frame_size(224)
        (224, 224)
    """
    pair = (image_size, image_size) if isinstance(image_size, Integral) else image_size
    if isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(n, Integral) and int(n) > 0 for n in pair):
        return int(pair[0]), int(pair[1])
    raise ValueError(f"image_size is {image_size!r}, wanted a number of pixels, 1 or more, or height and width")


def check_frame_size(pixels: Tensor, size: tuple[int, int]) -> None:
    """Refuse anything but RGB frames of a tower's size."""
    check_pixels(pixels)
    if tuple(pixels.shape[2:]) != size:
        raise ShapeError(
            f"pixels has frames of {list(pixels.shape[2:])}, wanted {list(size)}; "
            "make them by tower.preprocess, or make the tower with image_size="
        )


def probe_features(
    tower: nn.Module, size: tuple[int, int], features: Callable[[Tensor], Any], *, fix: str = "image_size= or layer="
) -> Any:
    """Features of one black frame, in eval mode so that no running statistics move; modes stay as they were."""
    weight = floating_state(tower)
    pixels = torch.zeros(1, 3, *size, device=None if weight is None else weight.device)
    modes = [(module, module.training) for module in tower.modules()]
    nn.Module.train(tower, mode=False)
    try:
        with torch.no_grad():
            return features(cast_like_weights(pixels, tower))
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{type(tower).__name__} does not get through a black frame of {size[0]} x {size[1]} pixels: {error}; "
            f"change {fix}"
        ) from error
    finally:
        for module, mode in modes:
            module.training = mode
