"""A hash of 64 bits of what an image shows: that of a smaller or recompressed copy differs in few of them."""

from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filters.small_image import small_image

VERSION = "dhash-1"  # of all that a bit depends on: signatures of another version are not compared
COLUMNS, ROWS = 9, 8
MIN_STEP = 2.0  # of 255, below which noise decides a bit
MIN_STEPS = 16  # of 64
MIN_CHANGES = 10  # of 112 neighbours


def dhash(image: Any) -> int | Dropped:
    """Hash what an image shows: for each of 8 rows of 9 grey fields, where the next field is brighter.

    Smaller and recompressed copies differ in 3 bits at most, nearly always. Mirrored ones are found by no bit, and
    those that lost a margin seldom. All images go one way, that of `small_image`, so that their hashes can be compared;
    fields are averages that are not rounded.

    Args:
        image: The bytes of a file, its `small_image`, or a picture of pillow, which is hashed as it is. A decoder of
            your own gives other bits: compare files with files.

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
    small = small_image(image)
    if isinstance(small, Dropped):
        return small
    pillow = require("PIL.Image", used_by="dhash", extra="data")
    fields = small.convert("L").convert("F").resize((COLUMNS, ROWS), pillow.Resampling.BOX)
    return _hash(array("f", fields.tobytes()))


def _hash(grey: Sequence[float]) -> int | Dropped:
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
