"""Files of images, looked at without decoding more than is asked."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from flamingo_blocks.data import Dropped
from flamingo_blocks.data.filters import ImageFacts, ImageGate, SingleColour, small_image
from flamingo_blocks.data.filters.image_gate import open_image


def file_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width, height, mode="RGB"):
    values = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    return Image.fromarray(values.squeeze(), mode if len(mode) > 1 else "L")


def claimed(width, height):
    """A PNG whose header says this size; it holds no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = b"IEND"
    chunks = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, end))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_header_tells_size_and_format(kind):
    """Of each common format."""
    assert ImageGate().look(file_of(noise(100, 80), kind)) == ImageFacts(100, 80, kind)


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [(64, 64, None), (63, 64, "image_small"), (64, 63, "image_small"), (192, 64, None), (193, 64, "image_ratio"),
     (64, 193, "image_ratio"), (60_000, 60_000, "image_pixels"), (12_000, 12_000, "image_pixels"), (9000, 9000, None)],
)  # fmt: skip
def test_sizes_have_bounds(width, height, reason):
    """The paper's; nothing is decoded, so a bomb costs nothing and warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ImageGate().look(claimed(width, height))
    assert getattr(found, "reason", None) == reason


def test_bounds_and_formats_are_arguments():
    """Those of OBELICS, for one."""
    gate = ImageGate(min_side_px=150, max_ratio=2, formats=("JPEG", "PNG", "WEBP"))
    assert gate.look(file_of(noise(200, 160), "GIF")).reason == "image_format"
    assert gate.look(file_of(noise(200, 149))).reason == "image_small"
    assert gate.look(file_of(noise(401, 200))).reason == "image_ratio"
    assert gate.look(file_of(noise(400, 200))) == ImageFacts(400, 200, "PNG")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_first_bytes_are_enough(kind):
    """The rest of a large file is not read."""
    assert ImageGate().look(file_of(noise(600, 600), kind)[:4096]) == ImageFacts(600, 600, kind)


@pytest.mark.parametrize(
    "file", [b"", b"<html>404</html>", b"\xff\xd8\xff", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_what_is_no_image_is_a_reason(file):
    """A page with the name of an image, among others."""
    assert ImageGate().look(file).reason == "image_unreadable"
    assert SingleColour().look(file).reason == small_image(file).reason == "image_unreadable"


def test_a_file_that_was_cut_off_is_unreadable_where_it_is_decoded():
    """Its header is whole."""
    file = file_of(noise(200, 200))[:2000]
    assert isinstance(ImageGate().look(file), ImageFacts)
    assert SingleColour().look(file).reason == "image_unreadable"


def gradient():
    row = np.linspace(100, 140, 200, dtype=np.uint8)
    return Image.fromarray(np.broadcast_to(row, (150, 200)))


def one_word():
    from PIL import ImageDraw

    image = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(image).text((100, 90), "HELLO WORLD", fill="black")
    return image


def on_nothing():
    """Black on a transparent ground, as drawings are."""
    image = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (30, 30, 60, 60))
    return image


def night():
    values = np.random.default_rng(1).exponential(4, (200, 200, 3)).clip(0, 255)
    values[60:90, 40:80] += 120
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


FLAT = {
    "flat": Image.new("RGB", (100, 100), (12, 200, 40)),
    "flat with noise": Image.fromarray(np.random.default_rng(0).integers(120, 124, (99, 99, 3)).astype(np.uint8)),
    "transparent": Image.new("RGBA", (100, 100), (255, 0, 0, 0)),
    "flat of 16 bits": Image.fromarray(np.full((80, 80), 40_000, dtype=np.uint16)),
    "flat palette": Image.new("P", (90, 90), 3),
    "black and white": Image.new("1", (90, 90), 1),
}
SEEN = {
    "noise": noise(200, 200),
    "gradient": gradient(),
    "a word on white": one_word(),
    "night": night(),
    "16 bits": Image.fromarray((np.arange(6400, dtype=np.uint16) * 10).reshape(80, 80)),
    "bright, of 16 bits": Image.fromarray((30_000 + np.arange(6400, dtype=np.uint16) * 3).reshape(80, 80)),
    "print": noise(100, 100).convert("CMYK"),
    "a palette": noise(100, 100).quantize(16),
}


@pytest.mark.parametrize("name", FLAT)
def test_a_single_colour_is_found(name):
    """Whatever the mode, noise and transparency."""
    assert SingleColour().look(file_of(FLAT[name])).reason == "image_single_colour"


@pytest.mark.parametrize("name", SEEN)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_shows_something_is_kept(name, kind):
    """Dark and plain images too."""
    image = SEEN[name]
    if kind == "PNG" and image.mode == "CMYK":
        kind = "TIFF"
    if kind == "JPEG" and image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    elif kind == "JPEG" and image.mode == "P":
        image = image.convert("RGB")
    assert SingleColour().look(file_of(image, kind)) is None


@pytest.mark.parametrize("name", [*FLAT, *SEEN])
def test_a_small_copy_is_judged_as_the_file_is(name):
    """So one decoding serves for all."""
    image = {**FLAT, **SEEN}[name]
    small = small_image(file_of(image, "TIFF" if image.mode == "CMYK" else "PNG"))
    assert (small.size, small.mode) == ((144, 128), "RGB")
    assert getattr(SingleColour().look(small), "reason", None) == ("image_single_colour" if name in FLAT else None)


def test_what_is_transparent_stands_on_white():
    """Black on nothing is seen, as on a page."""
    assert SingleColour().look(file_of(on_nothing())) is None


def test_a_bomb_is_not_decoded():
    """Its size is looked at first."""
    assert SingleColour().look(claimed(12_000, 12_000)).reason == "image_pixels"
    assert small_image(claimed(12_000, 12_000)).reason == "image_pixels"


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 200\n%%EndComments\n"


@pytest.mark.parametrize("file", (EPS, b"\xd7\xcd\xc6\x9a" + bytes(40)), ids=("eps", "wmf"))
def test_what_pillow_hands_to_other_programs_is_no_image(file):
    """PostScript and its like, whatever they are called: nobody's program is started for a page of the web."""
    for found in (open_image(file), ImageGate().look(file)):
        assert isinstance(found, Dropped)
        assert found.reason == "image_unreadable"
