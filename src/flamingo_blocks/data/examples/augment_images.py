"""The paper's augmentation of images: mirrored at random, and changed in colour."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flamingo_blocks.data.examples.keyed_draws import KeyedDraws

_LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue look, by ITU-R BT.601
# Brightness and the two axes of colour of the NTSC's YIQ, from red, green and blue
_YIQ = (_LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


@dataclass(frozen=True)
class ImageChange:
    """One draw of an augmentation: the same change for every image that it is called with.

    Args:
        flipped: Whether left and right change places.
        brightness: Factor on all colours.
        contrast: Factor on their distance from middle grey.
        saturation: Factor on their distance from the grey of the same luma.
        hue: Turn around the axis of greys, 1 being the whole circle.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).reshape(3, 1, 1)
        >>> ImageChange(saturation=0.0)(red).flatten()
        tensor([0.2990, 0.2990, 0.2990])
    """

    flipped: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def __call__(
        self, rgb: Float[Tensor, "*frames 3 height width"] | UInt8[Tensor, "*frames 3 height width"]
    ) -> Float[Tensor, "*frames 3 height width"] | UInt8[Tensor, "*frames 3 height width"]:
        """Change an image, or the frames of a clip alike.

        Args:
            rgb: Bytes, or floats from 0 to 1, before they are normalised and padded.
        """
        if self.flipped:
            rgb = rgb.flip(-1)
        if (self.brightness, self.contrast, self.saturation, self.hue) == (1.0, 1.0, 1.0, 0.0):
            return rgb
        colours = rgb.float() / 255 if rgb.dtype == torch.uint8 else rgb
        # Each step is linear, so all of them are one matrix and one offset for every pixel.
        matrix = (self.contrast * self.brightness * self._saturate() @ self._turn()).to(colours)
        changed: Tensor = (
            (matrix @ colours.flatten(-2)).add_(0.5 - 0.5 * self.contrast).clamp_(0.0, 1.0).view(colours.shape)
        )
        return changed.mul_(255).round_().to(torch.uint8) if rgb.dtype == torch.uint8 else changed

    def _saturate(self) -> Tensor:
        grey = torch.tensor([_LUMA] * 3, dtype=torch.float64)
        return self.saturation * torch.eye(3, dtype=torch.float64) + (1 - self.saturation) * grey

    def _turn(self) -> Tensor:
        angle = 2 * math.pi * self.hue
        cosine, sine = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]], dtype=torch.float64)
        to_yiq = torch.tensor(_YIQ, dtype=torch.float64)
        from_yiq: Tensor = torch.linalg.inv(to_yiq)
        return from_yiq @ turn @ to_yiq


@dataclass(frozen=True, kw_only=True)
class AugmentImages:
    """Mirror images at random and change their colours; nothing is cropped.

    Args:
        flip: Chance that left and right change places.
        brightness: Largest change of the factor on all colours: 0.2 draws it from 0.8 to 1.2.
        contrast: Likewise, of the distance from middle grey.
        saturation: Likewise, of the distance from grey.
        hue: Largest turn of the colours either way, 1 being the whole circle.

    Raises:
        ValueError: If a value lies outside of 0 to 1.

    Example:
        >>> change = AugmentImages().draw(KeyedDraws((0, 0, "page 17")), 0)
        >>> change(torch.zeros(3, 4, 6)).shape
        torch.Size([3, 4, 6])

    Source:
        Flamingo (arXiv 2204.14198), section B.1.2: left-right flips and colour augmentation, without numbers. These
        are ours: weak enough that a caption that names a colour stays true.
    """

    flip: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.02

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is {value}, wanted a number from 0 to 1")

    def draw(self, draws: KeyedDraws, item: int) -> ImageChange:
        """The change of one image or clip.

        Args:
            draws: Those of the sample.
            item: Number of the item in it; each has a change of its own, and all frames of a clip have one.
        """

        def around(middle: float, reach: float, name: str) -> float:
            return middle + reach * (2 * draws.uniform(name, item) - 1) if reach else middle

        return ImageChange(
            flipped=draws.happens(self.flip, "flip", item),
            brightness=around(1.0, self.brightness, "brightness"),
            contrast=around(1.0, self.contrast, "contrast"),
            saturation=around(1.0, self.saturation, "saturation"),
            hue=around(0.0, self.hue, "hue"),
        )
