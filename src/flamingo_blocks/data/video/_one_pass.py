"""One pass over the frames of a stream, which keeps those that are shown at given moments."""

from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from flamingo_blocks.data.one_line import one_line
from flamingo_blocks.data.video._wanted import ClipLimits, Unusable, errors_of
from flamingo_blocks.data.video.clip import Clip
from flamingo_blocks.data.video.frame_times import LATE_S, TOLERANCE_S, USUAL_RATE

LEAST_JUMP_S = 0.5  # a jump costs the decoder some frames
MOST_FPS = 1000  # that is believed
SAME_BYTES = 12  # most of a packet of MPEG-4 that says "as before": its start code, time and flags
PADDING = b"\x00\x7f"


class Overshot(Exception):  # noqa: N818 - no error: the pass is made again without jumps
    """A jump led behind the frame that was wanted."""


class OnePass:
    """Read frames in the order of time and keep what is shown at each moment, until all are found.

    Args:
        av: The package.
        container: An open file.
        stream: Its stream of frames.
        times: Moments in seconds from the first frame, rising.
        limits: What is too much.
        seek: Whether to jump.
    """

    def __init__(
        self, av: Any, container: Any, stream: Any, times: tuple[float, ...], limits: ClipLimits, *, seek: bool
    ) -> None:
        self.container, self.stream, self.times, self.limits = container, stream, times, limits
        self.errors: tuple[type[Exception], ...] = (Damage, *errors_of(av))
        self.reformatter = av.video.reformatter.VideoReformatter()
        self.in_steps = container.format.name == "avi"
        self.seek = seek and not self.in_steps
        self.tick_s = stream.time_base
        self.numerator, self.denominator = int(self.tick_s.numerator), int(self.tick_s.denominator)
        self.first: Any = None
        self.origin: int | None = None  # the time of the first frame, in ticks
        self.before: Any = None  # the frame that is shown until the next
        self.before_s = 0.0
        self.last: int | None = None  # its time in ticks
        self.waits = True  # for a key frame: what comes before it needs frames that are not there
        self.has_jumped = False
        self.asked: int | None = None  # the moment that a jump was thought of for
        self.packets = 0
        self.inside = 0  # packets of MPEG-4 whose frames are still to come
        self.frames: list[Tensor] = []
        self.shown_s: list[float] = []
        self.damage: str | None = None
        self.unread: str | None = None  # what was said of packets before the first frame

    def clip(self, duration_s: float | None) -> Clip:
        """The frames that are there.

        Args:
            duration_s: Length of the clip, as it was told.

        Raises:
            Unusable: If there are none.
            Overshot: If a jump led too far.
        """
        try:
            self._read()
        except self.errors as error:
            self.damage = one_line(error)
        if self.waits and self.has_jumped:
            raise Overshot
        if self.before is not None:
            self._take_until(self.before_s + self._length(self.before))
        if self.origin is None:
            self.damage = self.damage or self.unread
        if not self.is_done and self.damage is None and self._ends_early():
            self.damage = "the file ends before its header says"
        if not self.frames:
            reason = "undecodable" if self.damage else "no_frames" if self.origin is None else "past_the_end"
            found = f"{self.packets} packets gave none" if self.origin is None else f"ends before {self.times[0]:.3f} s"
            raise Unusable(reason, self.damage or found)
        count = len(self.frames)
        return Clip(
            torch.stack(self.frames).permute(0, 3, 1, 2), self.times[:count], tuple(self.shown_s), duration_s,
            truncated=self.damage is not None,
        )  # fmt: skip

    @property
    def is_done(self) -> bool:
        """Whether every moment has its frame."""
        return len(self.frames) == len(self.times)

    def _read(self) -> None:
        """Look at every frame from where the file stands, and from there again after a jump."""
        jumped = True
        while jumped:
            jumped = False
            for packet in self.container.demux(self.stream):
                for frame in self._frames_of(packet):
                    self._look_at(frame)
                    if self.is_done:
                        return
                if packet.dts is None and not packet.size:  # the end; PyAV errs behind it where streams came up late
                    return
                if jumped := self._jump(packet):
                    break

    def _frames_of(self, packet: Any) -> list[Any]:
        self.packets += 1
        self.limits.check_packets(self.packets)
        if packet.is_corrupt:  # frames that wait for their turn are left: those before them may be lost
            raise Damage("a packet is not whole")
        try:
            frames = list(packet.decode())
        except self.errors as error:
            if self.origin is None and packet.size:  # a recording may begin between two key frames
                self.unread = self.unread or one_line(error)
                return []
            raise
        if self.stream.codec_context.name == "mpeg4":
            self._check_none_lost(packet, len(frames))
        return frames

    def _check_none_lost(self, packet: Any, number: int) -> None:
        """MPEG-4 marks a frame that is as the one before by one bit, and its packet holds nothing more.

        A packet that does was damaged just there; the decoder passes over it and says nothing.
        """
        reordered = int(self.stream.codec_context.has_b_frames)  # how many wait for those that are shown before them
        counts = len(bytes(packet).rstrip(PADDING)) > SAME_BYTES and not packet.is_discard
        self.inside = reordered if self.waits else max(self.inside + counts - number, 0)
        if self.inside > reordered:
            raise Damage("a frame is lost")

    def _look_at(self, frame: Any) -> None:
        if self.waits and not frame.key_frame:
            return
        self.waits = False
        ticks = self._ticks(frame)
        if frame.is_corrupt:
            raise Damage("a frame is damaged")
        if self.origin is None:
            self.limits.check_side(frame.width, frame.height)
            self.origin, self.first = ticks, frame
        if (frame.width, frame.height) != (self.first.width, self.first.height):
            raise Damage(f"frames of {self.first.width} x {self.first.height} and {frame.width} x {frame.height}")
        time_s = self._seconds(ticks - self.origin)
        self.limits.check_duration(time_s)
        if self.before is not None and time_s < self.before_s:
            raise Unusable("times_backwards", f"{time_s:.3f} s after {self.before_s:.3f} s")
        self._take_until(time_s)
        self.before, self.before_s, self.last = frame, time_s, ticks

    def _ticks(self, frame: Any) -> int:
        """Since when a frame is shown. Files of AVI have no such times, only when frames are decoded, at even steps."""
        if not self.in_steps:
            if frame.pts is None:
                raise Unusable("times_missing", "a frame has no time")
            return int(frame.pts)
        if frame.dts is not None:
            return int(frame.dts)
        return (self.last or 0) + max(int(self._length(frame) / self.tick_s), 1)

    def _take_until(self, end_s: float) -> None:
        """Give the frame before this time to each moment up to it."""
        while not self.is_done and self.times[len(self.frames)] + TOLERANCE_S < end_s:
            if self.before is None:
                raise Overshot
            is_same = bool(self.shown_s) and self.shown_s[-1] == self.before_s
            self.frames.append(self.frames[-1] if is_same else self._pixels(self.before))
            self.shown_s.append(self.before_s)

    def _jump(self, packet: Any) -> bool:
        """Go to the last key frame before the next moment, where that passes over enough: asked once a moment."""
        if not self.seek or self.asked == len(self.frames) or self.origin is None or packet.dts is None:
            return False
        self.asked = len(self.frames)
        entries = self.stream.index_entries
        if not len(entries):
            return False
        delay = max(self.origin - entries[0].timestamp, 0)  # frames may be stored before they are shown
        target = self.origin + int(self.times[len(self.frames)] / self.tick_s) - delay
        if self._seconds(target - packet.dts) < LEAST_JUMP_S:
            return False
        found = entries.search_timestamp(target)
        if found < 0 or self._seconds(entries[found].timestamp - packet.dts) < LEAST_JUMP_S:
            return False
        self.container.seek(entries[found].timestamp + delay, stream=self.stream)
        self.before, self.waits, self.has_jumped = None, True, True
        return True

    def _seconds(self, ticks: int) -> float:
        return ticks * self.numerator / self.denominator

    def _length(self, frame: Any) -> float:
        """How long the last frame is shown: what the file says, or as long as frames are on average."""
        if frame.duration:
            return self._seconds(frame.duration)
        return usual_length_s(self.stream)

    def _ends_early(self) -> bool:
        if "matroska" in self.container.format.name:  # which tells the length of all its streams
            return False
        told_s = self._seconds(self.stream.duration or 0)
        return self.times[len(self.frames)] + LATE_S < told_s

    def _pixels(self, frame: Any) -> UInt8[Tensor, "height width 3"]:
        """Colours of a frame, upright."""
        rgb = self.reformatter.reformat(frame, format="rgb24", threads=1)
        plane = rgb.planes[0]
        rows = torch.frombuffer(plane, dtype=torch.uint8).view(rgb.height, plane.line_size)
        pixels = rows[:, : 3 * rgb.width].view(rgb.height, rgb.width, 3)
        quarters = self.first.rotation // 90 % 4
        return torch.rot90(pixels, quarters) if quarters else pixels


def usual_length_s(stream: Any) -> float:
    """How long a frame is shown on average, as far as FFmpeg guesses."""
    rate = stream.guessed_rate
    return float(1 / rate) if rate and rate <= MOST_FPS else 1 / USUAL_RATE


class Damage(Exception):  # noqa: N818 - it becomes `Clip.truncated`
    """What a decoder passes over in silence."""
