"""Which moments of a clip are shown to a model."""

import hashlib
from typing import TypedDict

TOLERANCE_S = 1e-6  # of a moment; the ticks of files are ten times as long at least
LATE_S = 0.5  # by which a file may end before its header says
USUAL_RATE = 25.0  # frames a second, where a file tells nothing


class FrameOptions(TypedDict):
    """The arguments of `frame_times` and `decode_clip` that say which frames.

    Attributes:
        fps: Frames a second that are taken, whatever the clip has.
        count: Most frames.
        place: Which part of the clip, 0 for its begin and 1 for its end.

    Example:
        >>> every_second: FrameOptions = {"fps": 1.0, "count": 4, "place": 0.5}
        >>> frame_times(22.0, **every_second)
        (9.5, 10.5, 11.5, 12.5)
    """

    fps: float
    count: int
    place: float


def frame_times(
    duration_s: float | None, *, fps: float = 1.0, count: int = 8, start_s: float | None = None, place: float = 0.0
) -> tuple[float, ...]:
    """The moments at which frames are taken: `start + i / fps`, as many as the clip has.

    A clip of 22 s gives 8 frames at 1 FPS for each start from 0 to 15 s; `place` says which of them. A clip that is
    shorter than 7 s starts at 0 and gives fewer frames: none is repeated to fill up.

    Args:
        duration_s: Length of the clip in seconds; `None` where it is not known, which counts as endless.
        fps: Frames a second that are taken, whatever the clip has.
        count: Most frames.
        start_s: The first moment, for a known piece of a longer clip.
        place: In place of `start_s`, where the first moment lies among all for which every frame exists: 0 is the
            earliest, 0.5 puts the frames in the middle of the clip, and a number drawn from [0, 1) starts anywhere.

    Returns:
        Moments in seconds from the first frame of the clip, rising.

    Raises:
        ValueError: If `fps` or `count` is not positive, `start_s` is negative, `place` lies outside of 0 to 1, or asks
            for what only a known duration tells.

    Example:
        >>> frame_times(22.0, fps=1.0, count=4, place=0.5)
        (9.5, 10.5, 11.5, 12.5)
        >>> frame_times(2.5, fps=1.0, count=8)
        (0.0, 1.0, 2.0)

    Source:
        Flamingo (arXiv 2204.14198), section B.1.2, gives rates and numbers of frames; starts and short clips are ours.
    """
    check_frames(fps=fps, count=count, start_s=start_s, place=place)
    if start_s is None and place > 0 and duration_s is None:
        raise ValueError(f"place is {place} and duration_s is None; give duration_s, start_s, or place=0")
    moments = all_frame_times(duration_s, fps=fps, count=count, start_s=start_s, place=place)
    return tuple(moment for moment in moments if duration_s is None or moment + TOLERANCE_S < duration_s)


def all_frame_times(
    duration_s: float | None, *, fps: float, count: int, start_s: float | None, place: float
) -> tuple[float, ...]:
    """The moments that are asked for, those behind the end of the clip as well."""
    if start_s is None:
        start_s = place * max((duration_s or 0.0) - (count - 1) / fps, 0.0)
    return tuple(start_s + index / fps for index in range(count))


def training_frames(*key: int | str) -> FrameOptions:
    """Frames for training as in the paper: 8 at 1 FPS, from a start that is drawn evenly from those of the clip.

    Args:
        key: What the draw depends on and nothing else: a seed, the epoch and the name of the sample, say. A run that
            is resumed, or has another number of workers, draws the same.

    Returns:
        Arguments of `decode_clip` and `frame_times`.

    Example:
        >>> training_frames(0, "clip-17") == training_frames(0, "clip-17")
        True
        >>> frame_times(22.0, **training_frames(0, "clip-17"))[:2]
        (13.441340247264312, 14.441340247264312)

    Source:
        Flamingo (arXiv 2204.14198), section B.1.2.
    """
    digest = hashlib.sha256(ascii(key).encode()).digest()
    return {"fps": 1.0, "count": 8, "place": (int.from_bytes(digest[:8], "big") >> 11) / 2**53}


def evaluation_frames() -> FrameOptions:
    """Frames for evaluation as in the paper: 30 at 3 FPS, from the middle of the clip.

    Returns:
        Arguments of `decode_clip` and `frame_times`.

    Example:
        >>> len(frame_times(22.0, **evaluation_frames()))
        30

    Source:
        Flamingo (arXiv 2204.14198), section B.1.2.
    """
    return {"fps": 3.0, "count": 30, "place": 0.5}


def check_frames(*, fps: float, count: int, start_s: float | None, place: float) -> None:
    """Raise `ValueError` unless these arguments ask for frames that a clip could have."""
    if not fps > 0:
        raise ValueError(f"fps is {fps}, wanted a positive number of frames a second")
    if count < 1:
        raise ValueError(f"count is {count}, wanted one frame at least")
    if start_s is not None and not start_s >= 0:
        raise ValueError(f"start_s is {start_s}, wanted seconds from the first frame, 0 or more")
    if not 0 <= place <= 1:
        raise ValueError(f"place is {place}, wanted a number from 0 (earliest start) to 1 (latest)")
    if start_s is not None and place:
        raise ValueError(f"start_s is {start_s} and place is {place}; give one of them")
