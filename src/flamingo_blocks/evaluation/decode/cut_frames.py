"""The frames of a clip that an evaluation shows, of a cut of it where the task names one."""

from pathlib import Path
from typing import Any

from flamingo_blocks.data import ClipSegment
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.video import clip_images, evaluation_frames, frame_times


def cut_frames(
    segment: ClipSegment, *, fps: float | None = None, count: int | None = None, place: float | None = None
) -> tuple[Any, ...] | Dropped:
    """The frames of a clip, or of the part of it from `metadata["start_s"]` to `metadata["end_s"]`.

    Args:
        segment: The clip: bytes of a file, a path, or frames, which are given as they are.
        fps: Frames a second; those of `evaluation_frames` by default, like the two that follow.
        count: Most frames.
        place: Where the first frame lies among those for which all others exist, as in `frame_times`.

    Returns:
        Images in the order of time, or why there are none.

    Raises:
        ValueError: If the cut has no length, or the options ask for what no clip has.

    Example:
        >>> cut_frames(ClipSegment(data=["first.png", "second.png"], metadata={"start_s": 3.0, "end_s": 9.0}))
        ('first.png', 'second.png')

    Source:
        Flamingo (arXiv 2204.14198), section B.1.2: 30 frames at 3 FPS. Which of a longer clip is ours: the middle.
    """
    options = evaluation_frames()
    options["fps"] = options["fps"] if fps is None else fps
    options["count"] = options["count"] if count is None else count
    options["place"] = options["place"] if place is None else place
    start, end = segment.metadata.get("start_s"), segment.metadata.get("end_s")
    if not isinstance(segment.data, bytes | str | Path) or (start is None and end is None):
        return clip_images(segment, **options)
    start = 0.0 if start is None else float(start)
    if end is None:
        return clip_images(segment, fps=options["fps"], count=options["count"], start_s=start)
    if not float(end) > start:
        raise ValueError(f"the cut of {segment.url!r} is from {start} to {end} s, wanted an end behind the start")
    moments = frame_times(float(end) - start, **options)
    return clip_images(segment, fps=options["fps"], count=len(moments), start_s=start + moments[0])
