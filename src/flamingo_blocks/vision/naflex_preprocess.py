"""From an image to pixels of a size of its own: the aspect ratio kept, as many patches as allowed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.vision.image_preprocess import Channels, ImagePreprocess, Interpolation, read_rgb


@dataclass(frozen=True)
class NaFlexPreprocess:
    """Resize an image to about as many patches as allowed, its aspect ratio kept, and normalise its channels.

    `NaFlexTower` carries one. Each image gets a size of its own; `FlamingoProcessor` and `collate` batch frames of
    different sizes by padding them with NaN on the right and below, which the tower takes for no image.

    Args:
        patch_size: Side of a patch in pixels. Height and width become multiples of it.
        max_num_patches: Most patches that an image may have; small images are enlarged until they have about as many.
        mean: Channel means on the scale 0 to 1.
        std: Channel standard deviations on the scale 0 to 1.
        interpolation: Resampling filter, always with antialiasing.

    Raises:
        ValueError: When called with anything that is no image, as `ImagePreprocess` is.

    Example:
        >>> import torch
        >>> preprocess = NaFlexPreprocess(patch_size=16, max_num_patches=64)
        >>> preprocess(torch.zeros(3, 50, 200, dtype=torch.uint8)).shape  # 4 x 16 patches
        torch.Size([3, 64, 256])

    Source:
        NaFlex: SigLIP 2 (arXiv 2502.14786), section 2.4.2; sizes are those of `Siglip2ImageProcessor`.
    """

    patch_size: int = 16
    max_num_patches: int = 256
    mean: Channels = (0.5, 0.5, 0.5)
    std: Channels = (0.5, 0.5, 0.5)
    interpolation: Interpolation = "bilinear"
    variable_size: ClassVar[bool] = True  # tells the processor that frames of one batch may differ in size

    def __call__(
        self, image: Any, *, augment: Callable[[Tensor], Tensor] | None = None
    ) -> Float[Tensor, "3 height width"]:
        """Turn one image into pixels.

        Args:
            image: As `ImagePreprocess` takes it.
            augment: As there.
        """
        rgb = read_rgb(image)
        size = self.size_of(rgb.shape[1], rgb.shape[2])
        return ImagePreprocess(size, self.mean, self.std, "stretch", self.interpolation)(rgb, augment=augment)

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of that height and width gets.

        Args:
            height: In pixels.
            width: In pixels.

        Example:
            >>> NaFlexPreprocess(patch_size=16, max_num_patches=256).size_of(480, 640)
            (224, 288)
        """

        def patches(scale: float, side: int) -> int:
            return max(1, math.ceil(side * scale / self.patch_size))

        # Halving to the same bounds as transformers: another way to the scale would round some images otherwise.
        least, most, precision = 1e-6, 100.0, 1e-5
        while most - least >= precision:
            scale = (least + most) / 2
            if patches(scale, height) * patches(scale, width) <= self.max_num_patches:
                least = scale
            else:
                most = scale
        return patches(least, height) * self.patch_size, patches(least, width) * self.patch_size
