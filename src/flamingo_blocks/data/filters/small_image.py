"""A small copy of an image, from which all is told that needs no detail."""

import warnings
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filters.image_gate import MAX_PIXELS, in_eight_bits, open_image, over_white, unreadable

SMALL_WIDTH, SMALL_HEIGHT = 144, 128  # of any image, whatever its shape
DRAFT_PX = 128  # a JPEG is decoded at the least scale that is no smaller
ORIENTATION = 0x0112  # of the tags of a camera
# What undoes each orientation that a camera notes.
TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE",
    8: "ROTATE_90",
}  # fmt: skip


def small_image(image: Any) -> Any:
    """A copy of 144 x 128 pixels, for `SingleColour` and `dhash`: the file is decoded once for both.

    All images go one way, so that hashes of copies can be compared: the file of a JPEG is decoded at the least scale of
    at least 128 pixels a side, what is transparent stands on white, and the rotation that a camera noted is undone.

    Args:
        image: The bytes of a file, or a picture of pillow, which is left as it is.

    Returns:
        A picture in colours, or why there is none: `image_unreadable`, or `image_pixels` for more than 90 million.

    Raises:
        MissingDependencyError: If `pillow` is missing.

    Example:
        >>> from PIL import Image
        >>> small_image(Image.new("LA", (640, 480))).getpixel((0, 0))
        (255, 255, 255)
    """
    of_file = isinstance(image, bytes | bytearray | memoryview)
    opened = open_image(bytes(image)) if of_file else image
    if isinstance(opened, Dropped):
        return opened
    width, height = opened.size
    if width * height > MAX_PIXELS:
        return Dropped("image_pixels", f"{width} x {height} pixels, wanted {MAX_PIXELS} at most")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd files, which are decoded all the same
            return _small(opened, scaled=of_file)
    except Exception as error:  # noqa: BLE001 - decoders raise what they like
        return unreadable(error)


def _small(image: Any, *, scaled: bool) -> Any:
    pillow = require("PIL.Image", used_by="small_image", extra="data")
    orientation = image.getexif().get(ORIENTATION, 1)
    # Where the size is no multiple of the scale, the last row and column of a draft stand for less than a pixel.
    draft = image.draft("RGB", (DRAFT_PX, DRAFT_PX)) if scaled else None
    box = None if draft is None else tuple(map(min, draft[1], (0, 0, *image.size)))
    size = (SMALL_HEIGHT, SMALL_WIDTH) if orientation in range(5, 9) else (SMALL_WIDTH, SMALL_HEIGHT)
    image = in_eight_bits(image)
    clear = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    small = image.convert("RGBA" if clear else "RGB").resize(size, pillow.Resampling.BILINEAR, box=box)
    if clear:
        small = over_white(small)
    turn = TURNS.get(orientation)
    return small if turn is None else small.transpose(pillow.Transpose[turn])
