"""Small pictures of images and clips, as text that a page can hold."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.documents import ClipSegment, MediaSegment
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filters.image_gate import MAX_PIXELS, in_eight_bits, open_image, over_white, with_alpha
from flamingo_blocks.data.video import Clip, decode_clip
from flamingo_blocks.errors import MissingDependencyError

LOSSLESS_PX = 96  # pictures up to this side are kept pixel by pixel
_ADDRESS = re.compile(r"<(?:\w+\.)*\w+ object at 0x[0-9a-fA-F]+>")


@dataclass(frozen=True)
class MediaPreview:
    """Small pictures of an image or clip, or why there are none.

    Args:
        pictures: `data:` addresses, one for an image, some for a clip.
        facts: Size and format, in words.
        reason: Why there is no picture.
    """

    pictures: tuple[str, ...] = ()
    facts: str = ""
    reason: str = ""


def preview_media(item: MediaSegment, *, side_px: int, num_frames: int = 4) -> MediaPreview:
    """Small pictures of an image or clip.

    Args:
        item: Its `data` are the bytes of a file, a picture of pillow, an array of 8-bit colours, or for a clip a
            sequence of these.
        side_px: Longest side of a picture.
        num_frames: Pictures of a clip, spread over it.

    Returns:
        The pictures; a file that is broken, not there yet or too large is a reason and never an error.

    Example:
        >>> from flamingo_blocks.data.documents import ImageSegment
        >>> preview_media(ImageSegment(data=b"<html>404"), side_px=64).reason
        'image_unreadable: UnidentifiedImageError: cannot identify image file'
        >>> preview_media(ImageSegment(url="https://ex.com/cat.jpg"), side_px=64).reason
        'not fetched'
    """
    data = item.data
    if data is None:
        return MediaPreview(reason="not fetched")
    try:
        if isinstance(item, ClipSegment):
            return _clip(data, side_px, num_frames)
        return _image(data, side_px)
    except MissingDependencyError as error:
        return MediaPreview(reason=str(error))
    except Exception as error:  # noqa: BLE001 - decoders raise what they like
        return MediaPreview(reason=_told(f"{type(error).__name__}: {error}"))


def _image(data: Any, side_px: int) -> MediaPreview:
    opened, told = _opened(data)
    if isinstance(opened, Dropped):
        return MediaPreview(reason=_told(f"{opened.reason}: {opened.detail}"))
    if opened.width * opened.height > MAX_PIXELS:
        return MediaPreview(reason=f"image_pixels: {opened.width} x {opened.height} pixels")
    frames = getattr(opened, "n_frames", 1)
    facts = f"{opened.width} x {opened.height} {told}" + (f", first of {frames} frames" if frames > 1 else "")
    if opened is not data:
        opened.draft("RGB", (side_px, side_px))  # a JPEG need not be decoded in full; a caller's picture stays as it is
    return MediaPreview((_as_address(opened, side_px),), facts.strip())


def _opened(data: Any) -> tuple[Any, str]:
    """A picture of pillow, or why there is none, and what it was read from."""
    pillow = require("PIL.Image", used_by="show_documents", extra="data")
    if isinstance(data, bytes | bytearray | memoryview):
        opened = open_image(bytes(data))
        return opened, "" if isinstance(opened, Dropped) else f"{opened.format}, {_size(len(data))}"
    if isinstance(data, pillow.Image):
        return data, ""
    if hasattr(data, "__array_interface__"):
        return pillow.fromarray(data), "array"
    shape = "" if not hasattr(data, "shape") else f" of shape {list(data.shape)}"
    return Dropped("no_picture", f"{type(data).__name__}{shape}"), ""


def _as_address(image: Any, side_px: int) -> str:
    orient = require("PIL.ImageOps", used_by="show_documents", extra="data").exif_transpose
    image = with_alpha(orient(in_eight_bits(image)))
    image.thumbnail((side_px, side_px))
    small = over_white(image)
    file, kind = io.BytesIO(), "PNG" if max(small.size) <= LOSSLESS_PX else "JPEG"
    small.save(file, kind, quality=80)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _clip(data: Any, side_px: int, num_frames: int) -> MediaPreview:
    if isinstance(data, bytes | bytearray | memoryview):
        return _clip_file(bytes(data), side_px, num_frames)
    count = len(data)
    chosen = [_image(data[place], side_px) for place in _spread(count, num_frames)]
    pictures = tuple(picture for preview in chosen for picture in preview.pictures)
    reasons = [preview.reason for preview in chosen if preview.reason]
    return MediaPreview(pictures, f"{count} frames", "" if pictures else next(iter(reasons), "no frames"))


def _clip_file(file: bytes, side_px: int, num_frames: int) -> MediaPreview:
    """Frames spread over a file; its reader opens no other file that a play list may name."""
    found = decode_clip(file, count=1, start_s=0.0)
    if isinstance(found, Clip) and found.duration_s:
        found = decode_clip(file, fps=num_frames / found.duration_s, count=num_frames, start_s=0.0)
    if isinstance(found, Dropped):
        return MediaPreview(reason=_told(f"{found.reason}: {found.detail}"))
    pillow = require("PIL.Image", used_by="show_documents", extra="data")
    height, width = found.frames.shape[2:]
    length = f", {found.duration_s:.1f} s" if found.duration_s else ""
    # A clip of few frames shows one of them at several of these moments.
    frames = dict(zip(found.shown_s, found.frames.permute(0, 2, 3, 1), strict=True)).values()
    pictures = tuple(_as_address(pillow.fromarray(frame.numpy()), side_px) for frame in frames)
    cut = ", damaged" * found.truncated
    return MediaPreview(pictures, f"{width} x {height}{length}, {_size(len(file))}{cut}")


def _spread(length: int, count: int) -> Sequence[int]:
    """So many places spread over a length, from its begin."""
    return sorted({length * number // count for number in range(count)}) if length > 0 else []


def _size(num_bytes: int) -> str:
    return f"{num_bytes} B" if num_bytes < 1000 else f"{num_bytes / 1000:.0f} KB"


def _told(message: str) -> str:
    """An error in a line, without addresses of memory, which differ from run to run."""
    return " ".join(_ADDRESS.sub("", message).split())[:200]
