"""Frames by torchcodec, which reads the index of a clip first and jumps as it likes."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import torch

from flamingo_blocks._optional import require
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.one_line import one_line
from flamingo_blocks.data.video._wanted import ClipLimits, Unusable, Wanted
from flamingo_blocks.data.video.clip import Clip
from flamingo_blocks.data.video.frame_times import LATE_S, TOLERANCE_S, USUAL_RATE
from flamingo_blocks.errors import MissingDependencyError

# FFmpeg also opens play lists, which name further files and addresses, and torchcodec cannot be told not to.
_FILES = re.compile(
    # A box begins with its size, which is no text; a packet of a transport stream has 188 bytes.
    rb"(?![\x09-\x7e]{3})....(?:ftyp|styp|moov|moof|mdat|free|skip|wide|pnot|sidx|uuid)|\x1aE\xdf\xa3|FLV\x01|OggS\x00"
    rb"|\x47.{187}\x47|\x00\x00\x01\xba",
    re.DOTALL,
)
_HEAD = 189
_ONE_FRAME = b"YUV4MPEG2 W16 H16 F25:1 C420jpeg\nFRAME\n" + bytes(16 * 16 * 3 // 2)


def decode_by_torchcodec(
    source: bytes | Path, wanted: Wanted, limits: ClipLimits, *, seek: bool, threads: int
) -> Clip | Dropped:
    """As `decode_clip`; `seek` is torchcodec's own affair."""
    del seek
    video_decoder = load_torchcodec()
    try:
        if _FILES.match(_head(source)) is None:
            return Dropped("undecodable", "no file that torchcodec is asked to read; backend='pyav' reads others")
        decoder = video_decoder(source, dimension_order="NCHW", num_ffmpeg_threads=threads, seek_mode="exact")
        return _read(decoder, wanted, limits)
    except Unusable as why:
        return why.dropped
    except (RuntimeError, ValueError, IndexError, OSError, TypeError) as error:
        return Dropped("no_video" if "best video stream is unknown" in str(error) else "undecodable", one_line(error))


@cache
def load_torchcodec() -> Any:
    """The decoder of torchcodec, which has decoded a frame: its import succeeds where its libraries are missing.

    Raises:
        MissingDependencyError: If it is not installed, or cannot decode here.
    """
    try:
        decoder = require("torchcodec.decoders", used_by="decode_clip", extra="video").VideoDecoder
        decoder(_ONE_FRAME, num_ffmpeg_threads=1)[0]
    except MissingDependencyError as error:
        raise MissingDependencyError(
            "decode_clip with backend='torchcodec' needs the package 'torchcodec', which is not installed; "
            "pip install torchcodec==0.13.0 beside a CPU-only torch, or take backend='pyav'"
        ) from error
    except (RuntimeError, OSError, ImportError, ValueError) as error:
        raise MissingDependencyError(
            f"torchcodec is installed and does not decode ({one_line(error)}); it needs FFmpeg's shared libraries, and "
            "on CPU-only torch take 0.13 or the CPU wheel; or take backend='pyav'"
        ) from error
    return decoder


def _head(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source[:_HEAD]
    with source.open("rb") as file:
        return file.read(_HEAD)


def _read(decoder: Any, wanted: Wanted, limits: ClipLimits) -> Clip:
    facts = decoder.metadata
    limits.check_side(facts.width, facts.height)
    if not facts.num_frames_from_content:
        raise Unusable("no_frames")
    limits.check_packets(facts.num_frames_from_content)
    begin_s, end_s = facts.begin_stream_seconds_from_content, facts.end_stream_seconds_from_content
    duration_s = float(facts.duration_seconds_from_header or end_s - begin_s)
    limits.check_duration(max(duration_s, end_s - begin_s))
    times = wanted.times(duration_s)
    moments = [begin_s + time + TOLERANCE_S for time in times]
    inside = [moment for moment in moments if moment < end_s]
    frames, damage = _played_at(decoder, inside)
    if damage is None:
        frames += _last(decoder, moments[len(inside) :], begin_s + duration_s)
        if len(frames) < len(times) and times[len(frames)] + LATE_S < (facts.duration_seconds_from_header or 0):
            damage = "the file ends before its header says"
    if not frames:
        reason = "past_the_end" if damage is None else "undecodable"
        raise Unusable(reason, damage or f"the clip ends before {times[0]:.3f} s")
    shown_s = tuple(float(frame.pts_seconds) - begin_s for frame in frames)
    pixels = torch.stack([frame.data.permute(1, 2, 0) for frame in frames]).permute(0, 3, 1, 2)
    return Clip(pixels, times[: len(frames)], shown_s, duration_s, truncated=damage is not None)


def _played_at(decoder: Any, moments: list[float]) -> tuple[list[Any], str | None]:
    """The frames at these moments; where one is damaged, those before it, and what was said of it."""
    if not moments:
        return [], None
    try:
        return list(decoder.get_frames_played_at(moments)), None
    except RuntimeError:
        frames: list[Any] = []
        for moment in moments:
            try:
                frames.append(decoder.get_frame_played_at(moment))
            except RuntimeError as error:
                return frames, one_line(error)
        return frames, None


def _last(decoder: Any, moments: list[float], told_end_s: float) -> list[Any]:
    """The last frame for each moment that it is shown at, whose length older FFmpegs do not tell of all files."""
    if not moments:
        return []
    last = decoder.get_frame_at(decoder.metadata.num_frames_from_content - 1)
    end_s = last.pts_seconds + (last.duration_seconds or 1 / USUAL_RATE)
    if told_end_s - end_s < LATE_S:
        end_s = max(end_s, told_end_s)
    return [last for moment in moments if moment < end_s]
