"""From an image to the pixels that an encoder was trained on, in plain torch."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from flamingo_blocks._optional import require
from flamingo_blocks.errors import ShapeError
from flamingo_blocks.vision._processor_config import arguments_of

Fit = Literal["pad", "crop", "stretch"]
Interpolation = Literal["bicubic", "bilinear"]
Channels = tuple[float, float, float]
# The colours of OpenAI's CLIP, which open_clip's models and IDEFICS have as well
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# The colours of the photographs of ImageNet, which DeiT, DINOv2, DINOv3 and most models of timm have
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImagePreprocess:
    """Resize an image to one size and normalise its channels.

    The towers carry one as `tower.preprocess`, with their model's values. Make your own for another encoder, or to
    change how images of another shape are made to fit.

    Args:
        size: Height and width in pixels.
        mean: Channel means on the scale 0 to 1. The defaults leave pixels between 0 and 1.
        std: Channel standard deviations on the scale 0 to 1.
        fit: `"pad"` keeps the whole image and its aspect ratio and fills the rest with the mean, as the paper does;
            `"crop"` covers the frame and keeps its centre (CLIP); `"stretch"` ignores the aspect ratio (ViT, SigLIP).
        interpolation: Resampling filter, always with antialiasing.
        shortest_edge_px: With `"crop"`, the length that the shorter side gets before the crop; the size of the frame
            when None.
        before_crop: Height and width that the image covers (`"crop"`) or is stretched to (`"stretch"`) before the
            middle is cut out; the size of the frame when None. Many models of timm drop the rim of every image so.
        halves: Where the middle is when an odd number of pixels is cut: half of it is rounded `"down"`, as Hugging
            Face's processors do, or to `"even"`, as torchvision, and with it timm and open_clip, does.

    Raises:
        ValueError: If `fit` or `interpolation` is another word; when called with anything that is no image, with
            floating values outside 0 to 1, or with an image without pixels.

    Example:
        >>> preprocess = ImagePreprocess(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> preprocess(torch.zeros(3, 20, 10, dtype=torch.uint8)).shape
        torch.Size([3, 32, 32])

    Source:
        Mean padding: Flamingo (arXiv 2204.14198), appendix B.1.2.
    """

    size: tuple[int, int]
    mean: Channels = (0.0, 0.0, 0.0)
    std: Channels = (1.0, 1.0, 1.0)
    fit: Fit = "pad"
    interpolation: Interpolation = "bicubic"
    shortest_edge_px: int | None = None
    before_crop: tuple[int, int] | None = None
    halves: Literal["down", "even"] = "down"

    def __post_init__(self) -> None:
        for name, words in (("fit", get_args(Fit)), ("interpolation", get_args(Interpolation))):
            if (word := getattr(self, name)) not in words:
                raise ValueError(f"{name} is {word!r}, wanted one of {', '.join(map(repr, words))}")

    def __call__(
        self, image: Any, *, augment: Callable[[Tensor], Tensor] | None = None
    ) -> Float[Tensor, "3 height width"]:
        """Turn one image into pixels.

        Args:
            image: A PIL image, a path or the bytes of an image file, an array `[height width channels]` or
                `[height width]`, or a tensor `[channels height width]`; integers are 0 to 255, floats 0 to 1.
            augment: Changes the image for training: floats `[3 height width]` from 0 to 1, after the resize, which
                makes it cheap, and before the padding, which stays the mean.
        """
        rgb = read_rgb(image)
        if self.fit == "crop":
            rgb = _middle(rgb)
        if rgb.device.type != "cpu":  # where torch resizes floats only
            rgb = _as_float(rgb)
        height, width = self._resized(rgb.shape[1], rgb.shape[2])
        # Bytes are resized as bytes: an order of magnitude faster than as floats, and rounded as PIL rounds.
        resized = F.interpolate(rgb[None], (height, width), mode=self.interpolation, antialias=True)[0]
        resized = _as_float(resized) if resized.dtype == torch.uint8 else resized.clamp(0.0, 1.0)
        if augment is not None:
            resized = augment(resized)
        mean, std = (resized.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        normalised = (resized - mean).div_(std)
        # The mean is 0 once normalised. Negative padding crops.
        top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        if self.fit != "pad":
            top, left = (-self._half(side - kept) for side, kept in zip((height, width), self.size, strict=True))
        return F.pad(normalised, (left, self.size[1] - width - left, top, self.size[0] - height - top))

    def _half(self, pixels: int) -> int:
        return pixels // 2 if self.halves == "down" else round(pixels / 2)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after the resize, before padding or cropping."""
        if self.fit == "stretch":
            return self.before_crop or self.size
        goal = self.size if self.fit == "pad" else self.before_crop or self.size
        if self.fit == "crop" and self.shortest_edge_px is not None:
            goal = (max(self.size[0], self.shortest_edge_px), max(self.size[1], self.shortest_edge_px))
        wider_than_goal = width * goal[0] >= height * goal[1]
        if wider_than_goal == (self.fit == "crop"):  # the height decides: cover a wide image, contain a tall one
            return goal[0], max(1, goal[0] * width // height)
        return max(1, goal[1] * height // width), goal[1]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ImagePreprocess":
        """Read the values of a Hugging Face `preprocessor_config.json`.

        Args:
            config: The file's content, or `image_processor.to_dict()`.

        Raises:
            ValueError: If the frame's size depends on the image or cannot be told, or a setting asks for something
                that is not done here, such as another filter or no rescaling; the message names the key.

        Example:
            >>> config = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
            >>> ImagePreprocess.from_config(config | {"do_center_crop": True}).fit
            'crop'
        """
        return cls(**arguments_of(config))


def to_rgb(image: Any) -> Float[Tensor, "3 height width"]:
    """Read any kind of image as float32 RGB between 0 and 1.

    Args:
        image: As in `ImagePreprocess.__call__`.

    Raises:
        ValueError: If it is no image, has no pixels, or holds floats outside 0 to 1.

    Example:
        >>> to_rgb(torch.full((1, 2, 2), 255, dtype=torch.uint8)).max()
        tensor(1.)
    """
    return _as_float(read_rgb(image))


def read_rgb(image: Any) -> UInt8[Tensor, "3 height width"] | Float[Tensor, "3 height width"]:
    """Bytes as they are, floats as float32."""
    if isinstance(image, str | Path | bytes):
        image = _open(image)
    if hasattr(image, "convert"):  # PIL, told apart without importing it
        channels_first = _from_pil(image.convert("RGB"))
    elif isinstance(image, Tensor):
        channels_first = image if image.ndim == 3 else image[None]
    elif hasattr(image, "__array__"):
        array = torch.as_tensor(image.copy())  # the copy is writable and contiguous, as torch wants
        channels_first = array.permute(2, 0, 1) if array.ndim == 3 else array[None]
    else:
        raise ValueError(f"image is a {type(image).__name__}; pass a PIL image, a path, an array or a tensor")
    _check_image(channels_first)
    colours = channels_first.expand(3, -1, -1) if channels_first.shape[0] == 1 else channels_first[:3]
    return colours if colours.dtype == torch.uint8 else colours.float()


def _as_float(image: Tensor) -> Tensor:
    return image.float().div_(255) if image.dtype == torch.uint8 else image


def _middle(image: Tensor, *, most: int = 64) -> Tensor:
    """Cut the far ends of a strip, which a crop would drop anyway after making them huge."""
    limit = most * min(image.shape[1:])
    top, left = (max(side - limit, 0) // 2 for side in image.shape[1:])
    return image[:, top : top + limit, left : left + limit]


def _check_image(image: Tensor) -> None:
    if image.ndim != 3 or image.shape[0] not in {1, 3, 4} or 0 in image.shape:
        raise ShapeError(
            f"image has channels, height and width {list(image.shape)}, wanted 1, 3 or 4 channels and at least one "
            "pixel; arrays are [height width channels], tensors [channels height width]"
        )
    if image.dtype == torch.uint8:
        return
    if not image.is_floating_point():
        raise ShapeError(f"image has dtype {image.dtype}, wanted uint8 (0 to 255) or floats (0 to 1)")
    if image.device.type != "meta" and not (image.min() >= 0.0 and image.max() <= 1.0):
        raise ValueError(
            f"image holds floats from {float(image.min()):.3g} to {float(image.max()):.3g}, wanted 0 to 1; "
            "pass it before any normalisation, or as uint8"
        )


def _open(source: str | Path | bytes) -> Any:
    """Decode an image file, turned the way its camera was held."""
    image = require("PIL.Image", used_by="ImagePreprocess", extra="vision")
    operations = require("PIL.ImageOps", used_by="ImagePreprocess", extra="vision")
    with image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as opened:
        return operations.exif_transpose(opened).convert("RGB")


def _from_pil(image: Any) -> UInt8[Tensor, "3 height width"]:
    width, height = image.size
    flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return flat.view(height, width, 3).permute(2, 0, 1)
