"""Frames in, the file of a clip out."""

import io
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from flamingo_blocks._optional import require
from flamingo_blocks.errors import ShapeError

TICKS_PER_S = 60_000  # even for the usual rates, and few enough for MPEG-4


def encode_clip(
    frames: Iterable[UInt8[Tensor, "3 height width"]],
    *,
    fps: float = 30.0,
    times_s: Sequence[float] | None = None,
    codec: str = "mpeg4",
    container: str = "mp4",
    key_interval: int = 12,
    b_frames: int = 0,
    options: Mapping[str, str] | None = None,
) -> bytes:
    """Write frames as a file, for tests, examples and small sets of one's own.

    It is lossy as every such codec. A height and width of even numbers are what codecs take.

    Args:
        frames: Pixels, 0 to 255, all of one size. An iterator is read one at a time.
        fps: Frames a second.
        times_s: In place of `fps`, when each frame is shown first, rising; a clip may begin at any time.
        codec: As FFmpeg calls it. `"mpeg4"` is quick, `"libx264"` is what most clips are in.
        container: As FFmpeg calls it: `"mp4"`, `"matroska"`, `"mpegts"`.
        key_interval: Frames from one that is decoded by itself to the next, at most.
        b_frames: Most frames in a row that are decoded after a later one.
        options: Of the codec.

    Returns:
        The bytes of the file.

    Raises:
        TypeError: If a frame is no tensor.
        ValueError: If there are no frames, not as many as times, or one is no `[3 height width]` of whole numbers.
        MissingDependencyError: If PyAV is not installed.

    Example:
        >>> file = encode_clip(torch.zeros(30, 3, 64, 64, dtype=torch.uint8), fps=10)
        >>> from flamingo_blocks.data.video import decode_clip
        >>> decode_clip(file).times_s
        (0.0, 1.0, 2.0)
    """
    av = require("av", used_by="encode_clip", extra="video")
    file = io.BytesIO()
    number = 0
    with av.open(file, "w", format=container) as output:
        stream = None
        for number, frame in enumerate(frames, start=1):
            _check(frame, number - 1)
            if stream is None:
                stream = output.add_stream(
                    codec, rate=Fraction(fps).limit_denominator(1001), options=dict(options or {})
                )
                stream.height, stream.width, stream.pix_fmt = *frame.shape[1:], "yuv420p"
                stream.gop_size, stream.max_b_frames = key_interval, b_frames
                stream.codec_context.time_base = Fraction(1, TICKS_PER_S)
            picture = _picture(av, frame)
            if times_s is not None and number > len(times_s):
                raise ValueError(f"times_s has {len(times_s)} times for more frames; give each frame one")
            time_s = (number - 1) / fps if times_s is None else times_s[number - 1]
            picture.pts, picture.time_base = round(time_s * TICKS_PER_S), Fraction(1, TICKS_PER_S)
            output.mux(stream.encode(picture))
        if stream is None:
            raise ValueError("frames is empty, wanted one frame at least")
        output.mux(stream.encode(None))
    if times_s is not None and number < len(times_s):
        raise ValueError(f"times_s has {len(times_s)} times for {number} frames; give each frame one")
    return file.getvalue()


def _check(frame: Any, number: int) -> None:
    if not isinstance(frame, Tensor):
        raise TypeError(f"frame {number} is a {type(frame).__name__}, wanted a tensor; torch.as_tensor(...) makes one")
    if frame.ndim != 3 or frame.shape[0] != 3:
        hint = "; frame.permute(2, 0, 1) puts colours first" if frame.ndim == 3 and frame.shape[2] == 3 else ""
        raise ShapeError(f"frame {number} has shape {list(frame.shape)}, wanted [3, height, width]{hint}")
    if frame.dtype != torch.uint8:
        hint = "; (frame * 255).round().to(torch.uint8) makes them" if frame.is_floating_point() else ""
        raise ShapeError(f"frame {number} is of {frame.dtype}, wanted torch.uint8, 0 to 255{hint}")


def _picture(av: Any, frame: UInt8[Tensor, "3 height width"]) -> Any:
    _, height, width = frame.shape
    picture = av.VideoFrame(width, height, "rgb24")
    plane = picture.planes[0]
    rows = torch.frombuffer(plane, dtype=torch.uint8).view(height, plane.line_size)
    rows[:, : 3 * width].view(height, width, 3).copy_(frame.permute(1, 2, 0))
    return picture
