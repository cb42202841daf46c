"""What is asked of every backend."""

from dataclasses import dataclass
from typing import Any

from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.video.frame_times import all_frame_times


@dataclass(frozen=True)
class Wanted:
    """Which frames, as in `frame_times`."""

    fps: float
    count: int
    start_s: float | None
    place: float

    @property
    def needs_duration(self) -> bool:
        """Whether the first moment depends on the length of the clip."""
        return self.start_s is None and self.place > 0

    def times(self, duration_s: float | None) -> tuple[float, ...]:
        """Every moment that is asked for; those behind the end as well, for headers err."""
        return all_frame_times(duration_s, fps=self.fps, count=self.count, start_s=self.start_s, place=self.place)


class Unusable(Exception):  # noqa: N818 - it is no error of the program: it becomes a `Dropped`
    """A clip that no frame is taken from."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.dropped = Dropped(reason, detail)


@dataclass(frozen=True)
class ClipLimits:
    """What is too much for one clip; each check raises `Unusable`."""

    max_duration_s: float
    max_side_px: int
    max_packets: int

    def check_duration(self, duration_s: float | None) -> None:
        """How long it is, as far as that is known."""
        if duration_s is not None and duration_s > self.max_duration_s:
            raise Unusable("clip_duration", f"{duration_s:.1f} seconds, more than {self.max_duration_s:g}")

    def check_side(self, width: int, height: int) -> None:
        """How large its frames are."""
        if max(width, height) > self.max_side_px:
            raise Unusable("clip_side", f"{width} x {height} pixels, wanted sides of {self.max_side_px} at most")

    def check_packets(self, number: int) -> None:
        """How many packets were read."""
        if number > self.max_packets:
            raise Unusable("too_many_packets", f"more than {self.max_packets}")


def errors_of(av: Any) -> tuple[type[Exception], ...]:
    """What PyAV raises on files that are damaged."""
    return (av.error.FFmpegError, OSError, LookupError, ValueError, RuntimeError, MemoryError)
