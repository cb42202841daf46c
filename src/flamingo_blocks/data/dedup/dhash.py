"""A hash of 64 bits of what an image shows: that of a smaller or recompressed copy differs in few of them."""

import warnings
from array import array
from itertools import pairwise
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filters.image_gate import MAX_PIXELS, open_image

VERSION = "dhash-1"  # of all that a bit depends on: signatures of another version are not compared
COLUMNS, ROWS = 9, 8
DRAFT_PX = 128  # a JPEG is decoded at the least scale that is no smaller
ORIENTATION = 0x0112  # of the tags of a camera
MIN_STEP = 2.0  # of 255, below which noise decides a bit
MIN_STEPS = 16  # of 64
MIN_CHANGES = 10  # of 112 neighbours


def dhash(image: Any) -> int | Dropped:
    """Hash what an image shows: for each of 8 rows of 9 grey fields, where the next field is brighter.

    Smaller and recompressed copies differ in 3 bits at most, nearly always. Mirrored ones are found by no bit, and
    those that lost a margin seldom. All images go one way, so that hashes can be compared: a JPEG is decoded at the
    least scale of at least 128 pixels a side, what is transparent stands on white, the rotation that a camera noted is
    applied, and fields are averages that are not rounded.

    Args:
        image: The bytes of a file, or a picture of pillow, which is hashed as it is. Another decoder gives other bits:
            compare files with files.

    Returns:
        The hash, or why there is none: `image_unreadable`, `image_pixels` for more than 90 million, or `image_plain`,
        where there is too little to see. Walls, skies and gradients would all be copies of each other: at least 16 of
        64 steps between fields must be of 2 grey levels of 255 or more, and at least 10 of 112 neighbouring bits
        differ.

    Raises:
        MissingDependencyError: If `pillow` is missing.

    Example:
        >>> from PIL import Image
        >>> dhash(Image.new("RGB", (200, 100), "red"))
        Dropped(reason='image_plain', detail='0 of 64 steps in grey, 0 changes; wanted 16 and 10')
        >>> rings = Image.radial_gradient("L").crop((0, 0, 200, 200)).point(lambda grey: grey * 5 % 256)
        >>> small = dhash(rings.resize((90, 80)))
        >>> (dhash(rings) ^ small).bit_count()  # bits that differ
        0

    Source:
        Krawetz, "Kind of Like That" (2013), with the decoding and the bound for plain images our own.
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
            grey = _grey_fields(opened, scaled=of_file)
    except Exception as error:  # noqa: BLE001 - decoders raise what they like
        return Dropped("image_unreadable", f"{type(error).__name__}: {' '.join(str(error).split())}"[:200])
    return _hash(grey)


def _grey_fields(image: Any, *, scaled: bool) -> list[float]:
    """The mean grey of 8 rows of 9 fields."""
    pillow = require("PIL.Image", used_by="dhash", extra="data")
    turned = image.getexif().get(ORIENTATION, 1)
    # Where the size is no multiple of the scale, the last row and column of a draft stand for less than a pixel.
    draft = image.draft("L", (DRAFT_PX, DRAFT_PX)) if scaled else None
    box = None if draft is None else tuple(map(min, draft[1], (0, 0, *image.size)))
    size = (ROWS, COLUMNS) if turned in range(5, 9) else (COLUMNS, ROWS)
    fields = _grey(image).convert("F").resize(size, pillow.Resampling.BOX, box=box)
    turn = _TURNS.get(turned)
    if turn is not None:
        fields = fields.transpose(pillow.Transpose[turn])
    return list(array("f", fields.tobytes()))


# What undoes each orientation that a camera notes.
_TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE",
    8: "ROTATE_90",
}  # fmt: skip


def _grey(image: Any) -> Any:
    """The image in grey, what is transparent over white."""
    pillow = require("PIL.Image", used_by="dhash", extra="data")
    if image.mode.startswith("I"):  # 16 bits a pixel, which pillow would cut off at 255
        return image.convert("I").point(lambda value: value / 256).convert("L")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = pillow.alpha_composite(pillow.new("RGBA", image.size, "white"), image)
    return image.convert("L")


def _hash(grey: list[float]) -> int | Dropped:
    rows = [grey[start : start + COLUMNS] for start in range(0, ROWS * COLUMNS, COLUMNS)]
    steps = [[right - left for left, right in pairwise(row)] for row in rows]
    bits = [[step > 0 for step in row] for row in steps]
    seen = sum(abs(step) >= MIN_STEP for row in steps for step in row)
    changes = sum(one != other for row in bits for one, other in pairwise(row))
    changes += sum(one != other for pair in pairwise(bits) for one, other in zip(*pair, strict=True))
    if seen < MIN_STEPS or changes < MIN_CHANGES:
        told = f"{seen} of 64 steps in grey, {changes} changes; wanted {MIN_STEPS} and {MIN_CHANGES}"
        return Dropped("image_plain", told)
    return int("".join("01"[bit] for row in bits for bit in row), 2)
