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
from flamingo_blocks.data.filters.image_gate import MAX_PIXELS, open_image
from flamingo_blocks.errors import MissingDependencyError

LOSSLESS_PX = 96  # pictures up to this side are kept pixel by pixel
MAX_FRAME_PX = 4096
MAX_DECODED = 400  # frames of a clip, looked through for one
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
    pillow = require("PIL.Image", used_by="show_documents", extra="data")
    orient = require("PIL.ImageOps", used_by="show_documents", extra="data").exif_transpose
    if image.mode.startswith("I"):  # 16 bits a pixel, which pillow would cut off at 255
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    image = orient(image).convert("RGBA")
    image.thumbnail((side_px, side_px))
    small = pillow.alpha_composite(pillow.new("RGBA", image.size, "white"), image).convert("RGB")
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
    av = require("av", used_by="show_documents", extra="video")
    with av.open(io.BytesIO(file)) as container:
        if not container.streams.video:
            return MediaPreview(reason="no video stream")
        stream = container.streams.video[0]
        size = f"{stream.codec_context.width} x {stream.codec_context.height}"
        if max(stream.codec_context.width, stream.codec_context.height) > MAX_FRAME_PX:
            return MediaPreview(reason=f"frames of {size} pixels, shown up to {MAX_FRAME_PX}")
        length = float(stream.duration * stream.time_base) if stream.duration else 0.0
        facts = f"{size} {stream.codec_context.name}, {length:.1f} s, {_size(len(file))}"
        pictures = [_as_address(frame.to_image(), side_px) for frame in _frames(container, stream, num_frames)]
        return MediaPreview(tuple(pictures), facts, "" if pictures else "no frames")


def _frames(container: Any, stream: Any, num_frames: int) -> list[Any]:
    """Frames spread over a clip: each is the first that begins no earlier than its time."""
    start, length = stream.start_time or 0, stream.duration or 0
    frames: dict[Any, Any] = {}
    for place in _spread(length, num_frames) or [0]:
        container.seek(start + place, stream=stream)
        for number, frame in enumerate(container.decode(stream)):
            if number >= MAX_DECODED or frame.pts is None or frame.pts >= start + place:
                frames[frame.pts] = frame
                break
    return [frames[pts] for pts in sorted(frames, key=lambda pts: pts or 0)]


def _spread(length: int, count: int) -> Sequence[int]:
    """So many places spread over a length, from its begin."""
    return sorted({length * number // count for number in range(count)}) if length > 0 else []


def _size(num_bytes: int) -> str:
    return f"{num_bytes} B" if num_bytes < 1000 else f"{num_bytes / 1000:.0f} KB"


def _told(message: str) -> str:
    """An error in a line, without addresses of memory, which differ from run to run."""
    return " ".join(_ADDRESS.sub("", message).split())[:200]
