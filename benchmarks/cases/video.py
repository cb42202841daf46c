"""Frames of clips, beside a seek for each frame and torchcodec."""

import importlib.util
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import OURS, Bar, Case, Contender
from flamingo_blocks._optional import require
from flamingo_blocks.data.video import Clip, decode_clip, encode_clip, evaluation_frames, frame_times
from flamingo_blocks.errors import FlamingoBlocksError

CLIPS = 2  # made once, and taken in turns: a clip takes seconds to write
FPS = 30
BLOCK = 20
CHECK_SEED = 1


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """A clip of 22 s in 640 x 360, with a key frame every 250: its first 8 seconds, and 10 s of its middle."""
    if device != "cpu" or dtype != "float32" or importlib.util.find_spec("av") is None:
        return []
    size = _Size(seconds=2, height=40, width=80) if tiny else _Size(seconds=22, height=360, width=640)
    seeks = Bar("at least 3.5x a seek for each frame", "seek_per_frame", 3.5, "faster_by")
    other = Bar("at most 1.5x torchcodec", "torchcodec", 1.5, "at_most")
    return [
        Case(
            suite="video", name=f"video/{name}", sizes={"frames": options["count"]}, device=device, dtype=dtype,
            prepare=lambda options=options: _contenders(size, options), check=_check, bar=bar,
        )
        for name, options, bar in (
            ("8-at-1-fps", {"fps": 1.0, "count": 8, "place": 0.0}, (seeks, other)),
            ("30-at-3-fps", evaluation_frames(), (other,)),
        )
    ]  # fmt: skip


@dataclass
class _Size:
    seconds: int
    height: int
    width: int


@dataclass
class _Clips:
    """Some clips, and the one at hand."""

    files: list[bytes]
    now: bytes = field(default=b"")

    def fresh(self, seed: int) -> None:
        self.now = self.files[seed % len(self.files)]


def _contenders(size: _Size, options: Any) -> list[Contender]:
    clips = _Clips([_write(size, seed) for seed in range(CLIPS)])
    times = frame_times(size.seconds, **options)
    found = [
        Contender(OURS, lambda: decode_clip(clips.now, **options), clips.fresh),
        Contender("seek_per_frame", lambda: _seek_each(clips.now, times), clips.fresh),
    ]
    if (why := _missing_torchcodec(clips.files[0])) is not None:
        return [*found, Contender.left_out("torchcodec", why)]
    return [*found, Contender("torchcodec", _torchcodec(clips, times), clips.fresh)]


def _write(size: _Size, seed: int) -> bytes:
    """A picture that moves, as films do."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (3, size.height // BLOCK, size.width // BLOCK), dtype=torch.uint8, generator=draw)
    scene = coarse.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)
    frames = (scene.roll((number, 2 * number), (1, 2)) for number in range(size.seconds * FPS))
    return encode_clip(frames, fps=FPS, codec="libx264", key_interval=250, b_frames=2, options={"preset": "veryfast"})


def _seek_each(file: bytes, times: tuple[float, ...]) -> Tensor:
    """Go to the key frame before each moment and decode from there, as short programs do."""
    av = require("av", used_by="the suite of video", extra="video")
    frames = []
    with av.open(io.BytesIO(file)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for time in times:
            container.seek(int(time / stream.time_base), stream=stream)
            frame = _shown(container.decode(stream), time)
            frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")))
    return torch.stack(frames).permute(0, 3, 1, 2)


def _shown(frames: Iterator[Any], time: float) -> Any:
    before = None
    for frame in frames:
        if before is not None and frame.time > time + 1e-6:
            break
        before = frame
    return before


def _missing_torchcodec(file: bytes) -> str | None:
    try:
        decode_clip(file, backend="torchcodec", count=1)
    except FlamingoBlocksError as error:
        return str(error)
    return None


def _torchcodec(clips: _Clips, times: tuple[float, ...]) -> Callable[[], Tensor]:
    decoder = require("torchcodec.decoders", used_by="the suite of video", extra="video").VideoDecoder
    moments = [time + 1e-6 for time in times]

    def run() -> Tensor:
        frames: Tensor = decoder(clips.now, num_ffmpeg_threads=1).get_frames_played_at(moments).data
        return frames

    return run


def _check(contenders: list[Contender]) -> None:
    """Each gives the same frames, bit for bit."""
    for contender in contenders:
        contender.fresh(CHECK_SEED)
    ours, *others = (contender.run() for contender in contenders)
    expected = ours.frames if isinstance(ours, Clip) else None
    if expected is None:
        raise AssertionError(f"the clip was dropped: {ours}")
    for contender, frames in zip(contenders[1:], others, strict=True):
        if not torch.equal(expected, frames):
            raise AssertionError(f"the frames of ours and {contender.name} differ")
