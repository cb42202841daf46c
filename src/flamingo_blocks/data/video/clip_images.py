"""The images of a clip in a document, whatever it holds."""

from pathlib import Path
from typing import Any

from flamingo_blocks.data.documents import ClipSegment
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.video.decode_clip import decode_clip


def clip_images(segment: ClipSegment, **options: Any) -> tuple[Any, ...] | Dropped:
    """The frames of a clip, each an image that a tower's `preprocess` takes.

    Args:
        segment: A clip of a document: the bytes of a file, a path to one, or frames, which are given as they are.
        options: Of `decode_clip`, such as `**training_frames(seed, key)`.

    Returns:
        Images in the order of time, or why there are none: a reason of `CLIP_REASONS`.

    Example:
        >>> clip_images(ClipSegment(data=["first.png", "second.png"]))
        ('first.png', 'second.png')
        >>> clip_images(ClipSegment(url="https://ex.com/cat.mp4")).reason
        'not_fetched'
    """
    if segment.data is None:
        return Dropped("not_fetched", segment.url or "")
    if not isinstance(segment.data, bytes | str | Path):
        return tuple(segment.data) or Dropped("no_frames", "the clip is empty")
    found = decode_clip(segment.data, **options)
    return found if isinstance(found, Dropped) else tuple(found.frames)
