"""The file of a clip in, the frames that a model is shown out."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.video._pyav import decode_by_pyav
from flamingo_blocks.data.video._torchcodec import decode_by_torchcodec
from flamingo_blocks.data.video._wanted import ClipLimits, Wanted
from flamingo_blocks.data.video.clip import Clip
from flamingo_blocks.data.video.frame_times import check_frames

VideoBackend = Literal["pyav", "torchcodec"]
CLIP_REASONS = (
    "clip_bytes", "clip_duration", "clip_side", "no_frames", "no_video", "not_fetched", "past_the_end",
    "times_backwards", "times_missing", "too_many_packets", "undecodable",
)  # fmt: skip
_BACKENDS: dict[str, Callable[..., Clip | Dropped]] = {
    "pyav": decode_by_pyav,
    "torchcodec": decode_by_torchcodec,
}


def decode_clip(
    clip: bytes | str | Path,
    *,
    fps: float = 1.0,
    count: int = 8,
    start_s: float | None = None,
    place: float = 0.0,
    backend: VideoBackend = "pyav",
    seek: bool = True,
    threads: int = 1,
    max_bytes: int = 512 * 1024**2,
    max_duration_s: float = 600.0,
    max_side_px: int = 4096,
    max_packets: int = 200_000,
) -> Clip | Dropped:
    """Decode the frames of a clip that `frame_times` names.

    The file is read once, forwards, and no further than the last frame. What is shown at a moment is the frame whose
    own time is the largest up to it, whatever the rate of the file, steady or not.

    Args:
        clip: The bytes of the file, or where it is.
        fps: As in `frame_times`, like the three that follow.
        count: Most frames.
        start_s: The first moment.
        place: Where the first moment lies among those that the length of the clip allows.
        backend: What decodes. All give the same frames.
        seek: Whether parts without a wanted frame may be passed over where the file tells its key frames. It changes
            the time that is taken and nothing else.
        threads: Of the decoder. One by default: the workers of a loader decode a clip each.
        max_bytes: Largest file.
        max_duration_s: Longest clip.
        max_side_px: Largest width and height.
        max_packets: Most packets that are read.

    Returns:
        The frames that exist, or why there are none: a reason of `CLIP_REASONS`.

    Raises:
        ValueError: If the arguments ask for frames that no clip could have.
        MissingDependencyError: If the package of the backend is not installed.

    Example:
        >>> decode_clip(b"no clip").reason
        'undecodable'

    Source:
        Flamingo (arXiv 2204.14198), section B.1.2, for the numbers of frames; the rest is ours.
    """
    check_frames(fps=fps, count=count, start_s=start_s, place=place)
    if backend not in _BACKENDS:
        raise ValueError(f"backend is {backend!r}, wanted one of {', '.join(map(repr, _BACKENDS))}")
    if isinstance(clip, str):
        clip = Path(clip)
    try:
        size = len(clip) if isinstance(clip, bytes) else clip.stat().st_size
    except OSError as error:
        return Dropped("undecodable", f"{type(error).__name__}: {error}")
    if size > max_bytes:
        return Dropped("clip_bytes", f"{size} bytes, more than {max_bytes}")
    wanted = Wanted(fps=fps, count=count, start_s=start_s, place=place)
    limits = ClipLimits(max_duration_s=max_duration_s, max_side_px=max_side_px, max_packets=max_packets)
    return _BACKENDS[backend](clip, wanted, limits, seek=seek, threads=threads)
