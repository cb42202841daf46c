"""Whether the file of an image is worth keeping: its header first, a small copy of it last."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.one_line import one_line

SMALL_COPY_PX = 32
MAX_PIXELS = 90_000_000
# What holds pixels. Pillow knows others, such as PostScript, that it hands to programs outside of it.
FORMATS = tuple("AVIF BMP DIB GIF ICO JPEG JPEG2000 MPO PCX PNG PPM QOI SGI TGA TIFF WEBP".split())


@dataclass(frozen=True)
class ImageFacts:
    """What the header of an image file tells.

    Args:
        width: In pixels.
        height: In pixels.
        format: As pillow calls it: `"JPEG"`, `"PNG"`, `"WEBP"`.

    Example:
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (400, 300)).save(file, "PNG")
        >>> ImageGate().look(file.getvalue())
        ImageFacts(width=400, height=300, format='PNG')
    """

    width: int
    height: int
    format: str


class ImageGate:
    """Look at the file of an image without decoding it: format, size and shape stand in its header.

    Args:
        min_side_px: Least width and height.
        max_side_px: Largest ones; any by default.
        max_ratio: Longer side by shorter side, at most.
        max_pixels: Most pixels; a file of half a megabyte can hold more than memory does.
        formats: Formats that are taken, as pillow calls them; by default all that hold pixels.

    Example:
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (400, 100)).save(file, "PNG")
        >>> ImageGate().look(file.getvalue())
        Dropped(reason='image_ratio', detail='400 x 100 pixels, wanted sides of 3:1 at most')

    Source:
        Flamingo (arXiv 2204.14198), section A.3.1: images below 64 pixels, of an aspect ratio above 3.
    """

    reasons = ("image_unreadable", "image_format", "image_pixels", "image_small", "image_large", "image_ratio")

    def __init__(
        self,
        *,
        min_side_px: int = 64,
        max_side_px: int | None = None,
        max_ratio: float = 3.0,
        max_pixels: int = MAX_PIXELS,
        formats: Sequence[str] | None = None,
    ) -> None:
        self.min_side_px, self.max_side_px = min_side_px, max_side_px
        self.max_ratio, self.max_pixels = max_ratio, max_pixels
        self.formats = None if formats is None else tuple(formats)

    def look(self, file: bytes) -> ImageFacts | Dropped:
        """What the header tells, or why the image is not kept.

        Args:
            file: Its bytes; the header is read, and no pixel.
        """
        opened = open_image(file)
        if isinstance(opened, Dropped):
            return opened
        facts = ImageFacts(opened.width, opened.height, opened.format or "")
        if self.formats is not None and facts.format not in self.formats:
            return Dropped("image_format", f"{facts.format}, wanted one of {', '.join(self.formats)}")
        return self._judge_size(facts) or facts

    def _judge_size(self, facts: ImageFacts) -> Dropped | None:
        told = f"{facts.width} x {facts.height} pixels, wanted"
        if facts.width * facts.height > self.max_pixels:
            return Dropped("image_pixels", f"{told} {self.max_pixels} at most")
        short, long = sorted((facts.width, facts.height))
        if short < self.min_side_px:
            return Dropped("image_small", f"{told} sides of {self.min_side_px} or more")
        if self.max_side_px is not None and long > self.max_side_px:
            return Dropped("image_large", f"{told} sides of {self.max_side_px} at most")
        if long > self.max_ratio * short:
            return Dropped("image_ratio", f"{told} sides of {self.max_ratio:g}:1 at most")
        return None


class SingleColour:
    """Find images that show one colour and nothing else.

    The image is shrunk to 32 x 32 over white; what differs there in no channel is a single colour. One word on a white
    page has a deviation of about 4, a night photograph of 14, a flat image with noise of 0.2.

    Args:
        min_deviation: Least standard deviation of the channel that differs most, of 255.

    Example:
        >>> from PIL import Image
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (200, 100), "red").save(file, "PNG")
        >>> SingleColour().look(file.getvalue()).reason
        'image_single_colour'

    Source:
        Flamingo (arXiv 2204.14198), section A.3.1, drops images of a single colour, and gives no bound.
    """

    reasons = ("image_unreadable", "image_pixels", "image_single_colour")

    def __init__(self, *, min_deviation: float = 2.0) -> None:
        self.min_deviation = min_deviation

    def look(self, file: Any) -> Dropped | None:
        """Why the image is not kept; `None` where it is.

        Args:
            file: Its bytes, or its `small_image`. A JPEG is decoded at an eighth of its size where that is enough.
        """
        opened = open_image(file) if isinstance(file, bytes) else file
        if isinstance(opened, Dropped):
            return opened
        if opened.width * opened.height > MAX_PIXELS:
            return Dropped("image_pixels", f"{opened.width} x {opened.height} pixels, wanted {MAX_PIXELS} at most")
        pillow = require("PIL.Image", used_by="SingleColour", extra="data")
        statistics = require("PIL.ImageStat", used_by="SingleColour", extra="data")
        try:
            if isinstance(file, bytes):
                opened.draft("RGB", (SMALL_COPY_PX, SMALL_COPY_PX))
            small = with_alpha(opened).resize((SMALL_COPY_PX, SMALL_COPY_PX), pillow.Resampling.BOX)
        except Exception as error:  # noqa: BLE001 - decoders raise what they like
            return unreadable(error)
        seen = over_white(small)
        deviation = max(statistics.Stat(seen).stddev)
        if deviation < self.min_deviation:
            return Dropped("image_single_colour", f"deviation {deviation:.1f}, wanted {self.min_deviation} or more")
        return None


def open_image(file: bytes) -> Any:
    """The image of a file, not decoded yet, or why it cannot be opened.

    Args:
        file: Its bytes.

    Returns:
        An image of pillow, or a `Dropped`.

    Example:
        >>> open_image(b"<html>").reason
        'image_unreadable'
    """
    pillow = require("PIL.Image", used_by="open_image", extra="data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own limit of pixels, and of odd files
        try:
            return pillow.open(io.BytesIO(file), formats=_formats(pillow))
        except pillow.DecompressionBombError as error:
            return Dropped("image_pixels", str(error))
        except Exception as error:  # noqa: BLE001 - readers raise what they like
            return unreadable(error)


def _formats(pillow: Any) -> list[str]:
    """Those that this pillow has."""
    pillow.init()
    return [name for name in FORMATS if name in pillow.OPEN]


def with_alpha(image: Any) -> Any:
    """An image of pillow as RGBA of eight bits; those of sixteen keep their high byte.

    Args:
        image: In any mode.
    """
    return in_eight_bits(image).convert("RGBA")


def in_eight_bits(image: Any) -> Any:
    """An image of pillow whose pixels of sixteen bits, if it has such, keep their high byte.

    Args:
        image: In any mode.
    """
    if image.mode.startswith("I"):  # which pillow would cut off at 255
        return image.convert("I").point(lambda value: value / 256).convert("L")
    return image


def over_white(image: Any) -> Any:
    """What is seen of an image on a white page, as RGB.

    Args:
        image: Of pillow, as RGBA.
    """
    white = require("PIL.Image", used_by="over_white", extra="data").new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("RGB")


def unreadable(error: Exception) -> Dropped:
    """Why an image is not kept that a decoder gave up.

    Args:
        error: What it said.
    """
    return Dropped("image_unreadable", one_line(error))
