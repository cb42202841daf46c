"""Images of documents, each taken out for its reason; and files that were made to hurt."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flamingo_blocks.data import ClipSegment, Dropped, ImageSegment, InterleavedDocument, TextSegment
from flamingo_blocks.data.filters import (
    DeclaredSize,
    DocumentImages,
    ExplicitContent,
    ImageGate,
    UrlWords,
    document_text,
)


def file_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def png_of_zeros(width, height):
    """A whole PNG of one colour, which half a megabyte can hold of any size."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * width) * 500) for _ in range(height // 500)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


GOOD, SMALL, LONG = file_of(noise(80, 70)), file_of(noise(50, 70)), file_of(noise(300, 70))
FLAT = file_of(Image.new("RGB", (90, 90), "red"))
ITEMS = {"good": GOOD, "image_small": SMALL, "image_ratio": LONG, "image_single_colour": FLAT, "not_fetched": None,
         "image_unreadable": b"<html>404</html>"}  # fmt: skip


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return file_of(noise(200, 70), "JPEG", exif=exif)


def palette():
    image = noise(90, 90).quantize(16)
    return file_of(image, "PNG", transparency=bytes(range(0, 256, 16)))


def with_profile():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return file_of(noise(90, 90), "JPEG", icc_profile=profile)


def animated(kind):
    frames = [noise(90, 90), Image.new("RGB", (90, 90)), noise(90, 90)]
    return file_of(frames[0], kind, save_all=True, append_images=frames[1:])


HOSTILE = {
    "cut off in the header": (GOOD[:20], "image_unreadable"),
    "cut off in the pixels": (GOOD[: len(GOOD) // 2], "image_unreadable"),
    "a JPEG that was cut off": (file_of(noise(200, 200), "JPEG")[:3000], "image_unreadable"),
    "a bomb": (png_of_zeros(12_000, 12_000), "image_pixels"),
    "nothing": (b"", "image_unreadable"),
    "a page": (b"<!doctype html><title>404</title>", "image_unreadable"),
    "a drawing": (b"<svg xmlns='http://www.w3.org/2000/svg' width='90' height='90'/>", "image_unreadable"),
    "no width": (GOOD.replace(struct.pack(">II", 80, 70), struct.pack(">II", 0, 70)), "image_unreadable"),
    "no height": (b"GIF89a" + struct.pack("<HH", 90, 0) + bytes(20), None),
    "noise": (bytes(range(256)) * 9, "image_unreadable"),
    "print": (file_of(noise(90, 90).convert("CMYK"), "JPEG"), ""),
    "sixteen bits": (file_of(Image.fromarray((np.arange(8100, dtype=np.uint16) * 8).reshape(90, 90))), ""),
    "a palette with transparency": (palette(), ""),
    "turned on its side": (rotated(), ""),
    "an animation": (animated("GIF"), ""),
    "a newer animation": (animated("WEBP"), ""),
    "a profile": (with_profile(), ""),
    "black and white": (file_of(noise(90, 90).convert("1")), ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_was_made_to_hurt_is_kept_or_has_a_reason(name):
    """By the gate and by a judge; no warning, and no more memory than a header takes."""
    file, reason = HOSTILE[name]
    seen = []
    judge = ExplicitContent(lambda images: [seen.append(image) or 0.0 for image in images], scope="item")
    document = InterleavedDocument.from_parts(["text", file])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = DocumentImages(min_images=0).filter_items(document)
        judged = judge.filter_items(document)
    if reason == "":
        assert (result.document, judged.document) == (document, document)
        assert [image.mode for image in seen] == ["RGB"]
    else:
        assert seen == []
        for removed in (result.removed, judged.removed):
            assert len(removed) == 1
            assert removed[0].reason == reason or (reason is None and removed[0].reason in DocumentImages.item_reasons)


def test_a_judge_sees_what_people_see():
    """Upright, on white, the first frame, of eight bits."""
    seen = []
    judge = ExplicitContent(lambda images: [seen.append(image) or 0.0 for image in images])
    clear = Image.new("RGBA", (9, 9), (255, 0, 0, 0))
    deep = Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16))
    judge(InterleavedDocument.from_parts([rotated(), file_of(clear), file_of(deep), animated("GIF"), noise(9, 8)]))
    assert [image.size for image in seen] == [(70, 200), (9, 9), (9, 9), (90, 90), (9, 8)]
    assert seen[1].getpixel((0, 0)) == (255, 255, 255)
    assert seen[2].getpixel((0, 0)) == (156, 156, 156)


PARTS = st.lists(st.one_of(st.sampled_from(list(ITEMS)), st.sampled_from(["one", "two", "clip"])), max_size=8)


def document_of(parts):
    def segment(part):
        if part in ITEMS:
            return ImageSegment(url=part, data=ITEMS[part])
        return ClipSegment(url="clip") if part == "clip" else part

    return InterleavedDocument.from_parts([segment(part) for part in parts])


@given(PARTS, st.integers(0, 3), st.one_of(st.none(), st.integers(3, 4)), st.sampled_from(["keep", "drop"]))
def test_what_is_wrong_goes_and_what_is_right_stays(parts, least, most, without_data):
    """In order, each for its reason; the text stays as filters see it; twice is once."""
    keep = DocumentImages(min_images=least, max_images=most, without_data=without_data)
    bad = {name for name in ITEMS if name != "good" and (name != "not_fetched" or without_data == "drop")}
    document = document_of(parts)
    result = keep.filter_items(document)
    assert [one.reason for one in result.removed] == [part for part in parts if part in bad]
    number = sum(part in ITEMS and part not in bad for part in parts)
    if isinstance(result.document, Dropped):
        assert result.document.reason in keep.reasons
        assert number < least or number > most
        assert (result.document.reason == "no_images") == (number == 0)
        return
    assert least <= number <= (9 if most is None else most)
    assert [item.url for item in result.document.media] == [
        part for part in parts if part == "clip" or (part in ITEMS and part not in bad)
    ]
    assert document_text(result.document) == document_text(document)
    assert keep.filter_items(result.document).document is result.document
    assert (result.document is document) == (not result.removed)


@given(PARTS, st.integers(0, 120), st.integers(0, 120), st.floats(1, 5), st.floats(1, 5))
def test_a_wider_gate_keeps_no_less(parts, one, other, ratio, another):
    """Filters are monotone in their limits."""
    document = document_of(parts)

    def left(side, most):
        gate = ImageGate(min_side_px=side, max_ratio=most)
        return DocumentImages(gate, min_images=0)(document).media

    narrow = left(max(one, other), min(ratio, another))
    wide = left(min(one, other), max(ratio, another))
    assert [item for item in wide if item in narrow] == list(narrow)


def test_texts_that_come_together_are_parted():
    """As they were by the image; no word grows out of two."""
    document = InterleavedDocument.from_parts(["Tom", SMALL, LONG, "", SMALL, "Mia", SMALL])
    assert DocumentImages(min_images=0)(document).segments == (TextSegment("Tom\n\nMia"),)
    assert DocumentImages(min_images=0)(document).merged().text == "Tom\n\nMia"


def test_pictures_are_kept_as_they_are():
    """Only files are looked at."""
    document = InterleavedDocument.from_parts([Image.new("RGB", (2, 2)), "Tom"])
    assert DocumentImages()(document) is document


def test_options_that_fit_nothing_are_told():
    """By name and value."""
    with pytest.raises(ValueError, match="min_images is 3 and max_images 2, wanted 0 <= min <= max"):
        DocumentImages(min_images=3, max_images=2)
    with pytest.raises(Exception, match="without_data"):
        DocumentImages(without_data="maybe")
    assert ImageGate(max_side_px=100).look(LONG).reason == "image_large"


@pytest.mark.parametrize(
    ("name", "removed"),
    [("logo.png", True), ("site-LOGO-2.png?x", True), ("my_avatars/tom.jpg", True), ("tom.jpg", False), ("", False)],
)
def test_words_in_addresses_are_found(name, removed):
    """In any case, and within others."""
    document = InterleavedDocument.from_parts(["a", ImageSegment(url=f"https://ex.com/{name}"), "b", GOOD])
    result = UrlWords().filter_items(document)
    assert [one.reason for one in result.removed] == ["url_word"] * removed
    assert len(result.document.media) == 2 - removed
    dropped = UrlWords((), document=("logo", "avatar")).filter_items(document)
    assert isinstance(dropped.document, Dropped) == removed
    assert UrlWords(())(document) is document


def test_an_empty_word_stands_everywhere():
    """So it is a slip."""
    with pytest.raises(ValueError, match="of which one is empty"):
        UrlWords(("logo", ""))


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({}, None), ({"declared_width": 64}, None), ({"declared_width": 63}, "declared_size"),
        ({"declared_height": 501}, "declared_size"), ({"declared_width": 192, "declared_height": 64}, None),
        ({"declared_width": 64, "declared_height": 193}, "declared_ratio"), ({"declared_width": "50%"}, None),
    ],
)  # fmt: skip
def test_declared_sizes_have_bounds(declared, reason):
    """Where there are any."""
    image = ImageSegment(url="https://ex.com/tom.jpg", metadata=declared)
    result = DeclaredSize(max_px=500).filter_items(InterleavedDocument.from_parts([image]))
    assert [one.reason for one in result.removed] == ([reason] if reason else [])


@given(st.lists(st.floats(0, 1), max_size=5), st.floats(0, 1), st.sampled_from(["item", "document"]))
def test_explicit_images_go_alone_or_with_their_document(scores, threshold, scope):
    """By the score of each; the judge sees all images of a document at once."""
    asked = []

    def judge(images):
        asked.append(len(images))
        return [scores[image.width - 1] for image in images]

    pictures = [Image.new("RGB", (k + 1, 1)) for k in range(len(scores))]
    document = InterleavedDocument.from_parts(["text", *pictures])
    result = ExplicitContent(judge, threshold=threshold, scope=scope).filter_items(document)
    explicit = [score > threshold for score in scores]
    assert asked == [len(scores)] * bool(scores)
    if scope == "document":
        assert isinstance(result.document, Dropped) == any(explicit)
        assert result.removed == ()
    else:
        assert [item.data.width - 1 for item in result.document.media] == [k for k, e in enumerate(explicit) if not e]
        assert [one.reason for one in result.removed] == ["explicit_image"] * sum(explicit)


def test_a_judge_that_gives_other_numbers_of_scores_is_told():
    """And what is no number is let through by nobody."""
    document = InterleavedDocument.from_parts([noise(9, 9), noise(9, 9)])
    for scores in ([], [0.1], [0.1] * 3):
        with pytest.raises(ValueError, match=f"judge gave {len(scores)} scores for 2 images, wanted one each"):
            ExplicitContent(lambda _, scores=scores: scores)(document)
    assert ExplicitContent(lambda images: [float("nan")] * 2)(document).reason == "explicit_image"


def test_what_a_judge_cannot_see_goes():
    """Its neighbours keep their own scores."""
    parts = ["text", b"noise", noise(9, 9), ImageSegment(url="https://ex.com/x"), noise(8, 8), np.zeros((9, 9, 3))]
    judge = ExplicitContent(lambda images: [0.9 if image.width == 8 else 0.0 for image in images], scope="item")
    result = judge.filter_items(InterleavedDocument.from_parts(parts))
    assert [item.data.width for item in result.document.media] == [9]
    assert [one.reason for one in result.removed] == [
        "image_unreadable", "not_fetched", "explicit_image", "image_unreadable",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "number"), [("A badword.", 1), ("BADWORD bad-thing", 2), ("badwords mybadword bad thing", 0), ("", 0)]
)
def test_words_are_whole_ones(text, number):
    """In any case."""
    document = InterleavedDocument.from_parts([text])
    for allowed in range(3):
        keep = ExplicitContent(None, words=("badword", "Bad-Thing"), max_words=allowed)
        assert isinstance(keep(document), Dropped) == (number > allowed)


def test_nothing_to_judge_by_is_a_slip():
    """Silence would look like a clean corpus."""
    with pytest.raises(ValueError, match="judge is None and words are none, so nothing would be looked at"):
        ExplicitContent(None)
