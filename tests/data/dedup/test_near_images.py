"""Hashes of what images show: copies are near, others are not, plain ones have none; all near pairs are found."""

import io
import warnings
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps

from flamingo_blocks.data import Dropped, ImageSegment, InterleavedDocument
from flamingo_blocks.data.dedup import ImageNearDuplicates, dhash, hamming
from flamingo_blocks.data.dedup.hamming import near_pairs
from flamingo_blocks.data.filters import small_image
from tests.data.dedup.pictures import COPIES, cropped, digits, file_of, photographs, scaled


def apart(one, other):
    """Bits in which two hashes differ; 64 where one has none."""
    return 64 if isinstance(one, Dropped) or isinstance(other, Dropped) else (one ^ other).bit_count()


@pytest.fixture(scope="module")
def seen():
    """Photographs that have a hash, and it."""
    hashes = {name: dhash(file_of(image, quality=90)) for name, image in photographs().items()}
    return {name: found for name, found in hashes.items() if isinstance(found, int)}


@pytest.mark.parametrize(
    ("copy", "least", "most"),
    [("quality 50", 1, 1), ("as PNG", 0.95, 1), ("half the size", 0.95, 1), ("a third of the size", 0.95, 1),
     ("cropped", 0, 0.7), ("mirrored", 0, 0)],
)  # fmt: skip
def test_copies_of_photographs_are_found(seen, copy, least, most):
    """Smaller, recompressed and converted ones; mirrored ones need a model, as do most that lost a margin."""
    found = [apart(seen[name], dhash(COPIES[copy](photographs()[name]))) <= 3 for name in seen]
    assert least <= np.mean(found) <= most


def test_different_photographs_are_apart(seen):
    """Parts of one photograph included; plain sky is no photograph."""
    assert len(seen) >= len(photographs()) - 3
    assert min(apart(*pair) for pair in combinations(seen.values(), 2)) > 3


def test_digits_are_apart_but_for_a_few():
    """Handwritten ones, of which some do look alike."""
    hashes = [dhash(file_of(digit)) for digit in digits(60)]
    assert all(isinstance(found, int) for found in hashes)
    assert sum(apart(*pair) <= 3 for pair in combinations(hashes, 2)) <= 0.01 * 60 * 59 / 2


def gradient(first, last, *, down=False, noise=0.0):
    grey = np.broadcast_to(np.linspace(first, last, 300), (300, 300))
    grey = (grey.T if down else grey) + np.random.default_rng(0).normal(0, noise, (300, 300)) * (noise > 0)
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def vignette(x, y):
    rows, columns = np.mgrid[0:300, 0:300] / 300
    return Image.fromarray((230 - 150 * ((columns - x) ** 2 + (rows - y) ** 2)).clip(0, 255).astype(np.uint8))


def word(text):
    image = Image.new("L", (300, 200), 255)
    ImageDraw.Draw(image).text((60, 90), text, fill=0)
    return image


PLAIN = {
    "flat": Image.new("RGB", (300, 300), (12, 90, 200)),
    "nothing": Image.new("RGBA", (100, 100), (0, 0, 0, 0)),
    "noise": gradient(128, 128, noise=8),
    **{f"gradient {a} {b} {down} {noise}": gradient(a, b, down=down, noise=noise)
       for a, b in ((100, 140), (220, 30), (120, 126)) for down in (False, True) for noise in (0, 3)},
    **{f"light around {place}": vignette(*place) for place in ((0.5, 0.5), (0.45, 0.55), (0.3, 0.6), (0.5, 1))},
    **{f"word {text}": word(text) for text in ("HELLO", "WORLD", "SALE NOW", "a", "click here")},
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_plain_images_have_no_hash(name, kind):
    """They would all be copies of each other."""
    image = PLAIN[name].convert("RGB") if kind == "JPEG" else PLAIN[name]
    assert dhash(file_of(image, kind)).reason == "image_plain"


def test_each_mode_has_the_hash_of_what_is_seen():
    """Grey, colours, palette, print, 16 bits a pixel, and what is transparent, over white."""
    grey = photographs()["china"].convert("L")
    expected = dhash(grey)
    for mode in ("RGB", "RGBA", "CMYK", "P", "LA", "F", "YCbCr"):
        assert apart(dhash(grey.convert(mode)), expected) <= 1, mode
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert apart(dhash(file_of(deep, "PNG")), expected) <= 1
    shape = Image.new("RGBA", grey.size, (0, 0, 0, 0))
    shape.paste((0, 0, 0, 255), mask=ImageOps.invert(grey))
    assert apart(dhash(file_of(shape, "PNG")), expected) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_rotation_that_a_camera_noted_is_applied(orientation):
    """So a file that says how it lies and one that lies so are copies."""
    lying = photographs()["hopper"].resize((640, 480))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = file_of(lying, quality=95, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    assert apart(dhash(file), dhash(file_of(upright, quality=95))) <= 1


@pytest.mark.parametrize("size", [(641, 427), (1023, 511), (129, 128), (130, 700), (60, 50), (9, 8), (3, 3)])
def test_sizes_that_are_no_multiple_of_a_block_are_no_others(size):
    """The last block of a scaled JPEG stands for less than the others."""
    image = photographs()["flower"].resize(size, Image.Resampling.LANCZOS)
    assert apart(dhash(file_of(image, quality=95)), dhash(image)) <= 4 + 60 * (max(size) < 9)


@pytest.mark.parametrize(("size", "most"), [((641, 427), 2), ((1023, 511), 2), ((1025, 1025), 6)])
def test_the_last_block_of_a_scaled_jpeg_is_cut(size, most):
    """Else all would be shrunk by what it stands for too much: at the right edge colours are those of the picture."""
    image = photographs()["china"].resize(size, Image.Resampling.LANCZOS)
    file, picture = (np.asarray(small_image(one))[:, -16:].astype(float) for one in (file_of(image, quality=95), image))
    assert np.abs(file - picture).mean() < most


def test_a_picture_is_left_as_it_was():
    """What the caller opened is not scaled."""
    opened = Image.open(io.BytesIO(file_of(photographs()["china"])))
    assert isinstance(dhash(opened), int)
    assert opened.size == photographs()["china"].size


@pytest.mark.parametrize(
    ("file", "reason"), [(b"", "image_unreadable"), (b"<html>", "image_unreadable"), (None, "image_unreadable")]
)
def test_what_is_no_image_is_a_reason(file, reason):
    """As is a file that was cut off."""
    file = file_of(photographs()["china"])[:9000] if file is None else file
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dhash(file).reason == reason


def test_a_bomb_is_not_decoded():
    """Its size is looked at first."""
    image = Image.new("1", (12_000, 8_000))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dhash(file_of(image, "PNG")).reason == "image_pixels"
    assert dhash(image).reason == "image_pixels"


def test_hashes_do_not_change_between_versions():
    """Those of saved files would be compared with others: a change needs another version. A bit or two may hang on
    rounding.
    """
    rings = Image.radial_gradient("L").crop((0, 0, 200, 200)).point(lambda grey: grey * 5 % 256)
    assert apart(dhash(rings), 0x49B659AAB595A95C) <= 2
    assert ImageNearDuplicates().kind == "near image dhash-1"


def naive_pairs(hashes, bits):
    return {(a, b) for a, b in combinations(range(len(hashes)), 2) if (hashes[a] ^ hashes[b]).bit_count() <= bits}


@given(
    st.sets(st.integers(0, 2**64 - 1), max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.sets(st.integers(0, 63), max_size=5)), max_size=20),
    st.integers(0, 3), st.sampled_from([1, 8, 512]), st.sampled_from([1, 16, 1 << 22]),
)  # fmt: skip
def test_all_near_pairs_are_found(hashes, changes, bits, large, block):
    """Every pair within so many bits and no other, however they are divided."""
    hashes = sorted(hashes)
    for place, flipped in changes if hashes else []:
        hashes.append(hashes[place % len(hashes)] ^ sum(1 << bit for bit in flipped))
    hashes = sorted(set(hashes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "LARGE", large)
        patch.setattr(hamming, "BLOCK", block)
        found = {
            tuple(sorted(pair))
            for some in near_pairs(np.array(hashes, np.uint64), bits)
            for pair in zip(*(places.tolist() for places in some), strict=True)
        }
    assert found == naive_pairs(hashes, bits)


@pytest.mark.parametrize("large", [1, 512])
def test_pairs_are_found_wherever_their_bits_are(large, monkeypatch):
    """Three bits in any three places."""
    monkeypatch.setattr(hamming, "LARGE", large)
    random = np.random.default_rng(0)
    base = int(random.integers(2**63))
    flips = {tuple(sorted(random.choice(64, 3, replace=False).tolist())) for _ in range(400)}
    hashes = np.array([base, *(base ^ sum(1 << bit for bit in bits) for bits in flips)], np.uint64)
    pairs = {pair for some in near_pairs(hashes, 3) for pair in zip(*map(np.ndarray.tolist, some), strict=True)}
    assert {other for one, other in pairs if one == 0} == set(range(1, len(hashes)))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=9))
def test_bits_are_counted_with_an_old_numpy_too(values):
    """Before its version 2 it has no such function."""

    class Old:
        array, uint8 = np.array, np.uint8

    array = np.array(values, np.uint64).reshape(-1, 1)
    expected = [value.bit_count() for value in values]
    assert hamming._num_bits(Old, array).ravel().tolist() == expected
    assert hamming._num_bits(np, array).ravel().tolist() == expected


def test_copies_are_taken_out_of_documents():
    """The first of the least document stays, whatever the shard; texts stay where they are."""
    china = photographs()["china"]
    files = [
        file_of(china, quality=90),
        file_of(scaled(china, 0.5)),
        file_of(photographs()["flower"]),
        file_of(cropped(china)),
    ]
    pages = {
        "b": InterleavedDocument.from_parts(["one", files[0], "two", files[2], "three", files[1]]),
        "a": InterleavedDocument.from_parts(
            ["x", ImageSegment(url="https://ex.com/1.jpg"), files[1], b"none", "y", files[3]]
        ),
    }
    finder = ImageNearDuplicates()
    duplicates = finder.merge([finder.signatures([page]) for page in pages.items()])
    left = duplicates.filter("b", pages["b"])
    assert left == InterleavedDocument.from_parts(["one\n\ntwo", files[2], "three"])
    assert duplicates.filter("b", left) is left
    assert duplicates.filter("a", pages["a"]) is pages["a"]


def test_images_of_one_hash_are_copies():
    """Another file of the same picture, and the same file."""
    picture = photographs()["flower"]
    pages = [InterleavedDocument.from_parts([file_of(picture, kind)]) for kind in ("PNG", "PNG", "BMP")]
    finder = ImageNearDuplicates(max_bits=0)
    duplicates = finder.merge([finder.signatures([(str(number), page)]) for number, page in enumerate(pages)])
    assert [len(duplicates.filter(str(number), page).media) for number, page in enumerate(pages)] == [1, 0, 0]


def test_more_bits_are_refused():
    """Beyond three, some pairs would not be found."""
    with pytest.raises(ValueError, match="max_bits is 4, wanted 0 to 3"):
        ImageNearDuplicates(max_bits=4)
