"""Pictures of images and clips on the page, and reasons where there are none."""

import base64
import io
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from flamingo_blocks.data import ClipSegment, ImageSegment
from flamingo_blocks.data.show.preview_media import preview_media
from tests.data.filters.test_image_gate import claimed, file_of, noise

RED, BLUE = (220, 20, 20), (20, 20, 220)


def look(data, kind=ImageSegment, side_px=100):
    return preview_media(kind(data=data), side_px=side_px)


def pictures(preview):
    """The pictures, read as a browser reads them."""
    files = [base64.b64decode(one.partition(";base64,")[2]) for one in preview.pictures]
    return [Image.open(io.BytesIO(file)) for file in files]


def colours(preview):
    return [picture.resize((1, 1)).getpixel((0, 0)) for picture in pictures(preview)]


def halves(**options):
    """Red above blue."""
    image = Image.new("RGB", (400, 300), RED)
    image.paste(BLUE, (0, 150, 400, 300))
    return file_of(image, "JPEG", **options)


@pytest.mark.parametrize(
    ("size", "shown", "kind"),
    [((400, 200), (100, 50), "JPEG"), ((30, 300), (10, 100), "JPEG"), ((40, 30), (40, 30), "PNG")],
)
def test_a_large_image_is_made_small(size, shown, kind):
    """It keeps its shape; a small one keeps its pixels."""
    preview = look(file_of(noise(*size), "PNG"))
    (picture,) = pictures(preview)
    assert (picture.size, picture.format, preview.reason) == (shown, kind, "")
    assert preview.facts.startswith(f"{size[0]} x {size[1]} PNG, ")


def test_facts_are_those_of_the_file():
    """And not of the smaller picture that a JPEG can be read as."""
    assert look(file_of(noise(1600, 1200), "JPEG")).facts.startswith("1600 x 1200 JPEG, ")


def test_what_is_transparent_stands_on_white():
    """A black drawing is seen in the dark, too."""
    assert colours(look(file_of(Image.new("RGBA", (50, 50), (0, 0, 0, 0))))) == [(255, 255, 255)]


def test_a_photograph_stands_as_it_was_taken():
    """By the orientation that the file tells."""
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    (picture,) = pictures(look(halves(exif=exif.tobytes())))
    assert picture.getpixel((50, 5))[2] > 150
    assert picture.getpixel((50, 70))[0] > 150


@pytest.mark.parametrize("mode", ["CMYK", "P", "1", "LA", "I;16", "F"])
def test_every_mode_is_a_picture(mode):
    """Those of print and of science too."""
    image = Image.fromarray(np.full((90, 90), 40_000, np.uint16)) if mode == "I;16" else noise(90, 90).convert(mode)
    preview = look(file_of(image, "TIFF"))
    assert len(preview.pictures) == 1, preview.reason
    assert mode != "I;16" or colours(preview) == [(156, 156, 156)]


def test_a_moving_image_is_its_first_frame():
    """As the gate of images sees it."""
    file = io.BytesIO()
    Image.new("RGB", (80, 80), RED).save(file, "GIF", save_all=True, append_images=[Image.new("RGB", (80, 80), BLUE)])
    preview = look(file.getvalue())
    assert "first of 2 frames" in preview.facts
    assert colours(preview)[0][0] > 200


def test_pictures_of_callers_stay_as_they_are():
    """A picture of pillow and an array are shown, and not changed."""
    image = Image.open(io.BytesIO(halves()))
    assert look(image).facts == "400 x 300"
    assert image.size == (400, 300)
    array = np.full((60, 80, 3), RED, np.uint8)
    assert colours(look(array)) == [RED]
    assert (array == RED).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "image_unreadable"),
        (b"<html>404", "image_unreadable: UnidentifiedImageError: cannot identify image file"),
        (file_of(noise(200, 200))[:2000], "OSError"),
        (claimed(12_000, 12_000), "image_pixels: 12000 x 12000 pixels"),
        (claimed(60_000, 60_000), "image_pixels"),
        (torch.zeros(1, 3, 8, 8), "no_picture: Tensor of shape [1, 3, 8, 8]"),
        ("cat.jpg", "no_picture: str"),
        (np.zeros((4, 4, 3), np.complex64), "TypeError"),
        (None, "not fetched"),
    ],
)
def test_what_is_no_picture_is_a_reason(data, reason):
    """Broken, cut off, too large, of another kind, or not there."""
    preview = look(data)
    assert preview.reason.startswith(reason)
    assert not preview.pictures


def clip(frames=40, kind="mp4", **stream):
    """A clip whose frames go from blue to red."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        video = container.add_stream("mpeg4", rate=10, **stream)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        for number in range(frames):
            share = number / max(frames - 1, 1)
            colour = np.full((120, 160, 3), (255 * share, 60, 255 * (1 - share)), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(colour, format="rgb24")))
        container.mux(video.encode())
    return file.getvalue()


@pytest.mark.parametrize("kind", ["mp4", "matroska"])
def test_a_clip_is_some_of_its_frames(kind):
    """Spread over it, in order."""
    preview = look(clip(kind=kind), ClipSegment)
    reds = [colour[0] for colour in colours(preview)]
    assert reds == pytest.approx([0, 64, 128, 192], abs=12)
    assert preview.facts.startswith("160 x 120, 4.0 s, ")


def test_a_play_list_opens_no_other_file(tmp_path):
    """What a document holds decides on its own pictures, and shows nothing of the disk of who looks at it."""
    other = tmp_path / "other.ts"
    other.write_bytes(clip(kind="mpegts"))
    assert look(other.read_bytes(), ClipSegment).pictures
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{other}\n#EXT-X-ENDLIST\n"
    preview = look(text.encode(), ClipSegment)
    assert not preview.pictures
    assert preview.reason.startswith("undecodable")


def test_a_clip_of_one_frame():
    """Is that frame."""
    assert len(look(clip(1), ClipSegment).pictures) == 1


def test_a_clip_of_frames_is_some_of_them():
    """Files or pictures; fewer where it has fewer."""
    frames = [Image.new("RGB", (40, 40), (value, 0, 0)) for value in range(0, 240, 20)]
    preview = look(frames, ClipSegment)
    assert [colour[0] for colour in colours(preview)] == [0, 60, 120, 180]
    assert preview.facts == "12 frames"
    assert len(look([halves(), b"<html>"], ClipSegment).pictures) == 1
    assert len(look(np.zeros((2, 8, 8, 3), np.uint8), ClipSegment).pictures) == 2


def silent():
    """A file of sound, without a picture."""
    rate, samples = 8000, b"\x80" * 800
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate, 1, 8)
    rest = b"WAVE" + form + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(rest)) + rest


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "undecodable"), (b"<html>404", "undecodable"), ([], "no frames"), ([b"<html>"], "image_unread"),
     (silent(), "undecodable"), (7, "TypeError")],
)  # fmt: skip
def test_a_broken_clip_is_a_reason(data, reason):
    """And never an error."""
    assert look(data, ClipSegment).reason.startswith(reason)


@pytest.mark.parametrize(
    ("package", "kind", "user"), [("PIL.Image", ImageSegment, "show_documents"), ("av", ClipSegment, "decode_clip")]
)
def test_without_the_package_it_is_said_what_to_install(package, kind, user, monkeypatch):
    """In the place of the picture."""
    monkeypatch.setitem(sys.modules, package, None)
    assert look(b"...", kind).reason.startswith(f"{user} needs the package {package!r}")
