"""Frames by PyAV: one pass forwards, with jumps where the file tells that they pay."""

import io
from contextlib import closing
from pathlib import Path
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.one_line import one_line
from flamingo_blocks.data.video._one_pass import OnePass, Overshot, usual_length_s
from flamingo_blocks.data.video._wanted import ClipLimits, Unusable, Wanted, errors_of
from flamingo_blocks.data.video.clip import Clip

# Files that hold frames. FFmpeg knows others, such as play lists, that make it open further files and addresses.
_RIM_PX = 256
_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,h264,hevc,m4v,mpegvideo,ivf"


def decode_by_pyav(
    source: bytes | Path, wanted: Wanted, limits: ClipLimits, *, seek: bool, threads: int
) -> Clip | Dropped:
    """As `decode_clip`."""
    av = require("av", used_by="decode_clip", extra="video")
    try:
        try:
            return _decode(av, source, wanted, limits, seek=seek, threads=threads)
        except Overshot:
            return _decode(av, source, wanted, limits, seek=False, threads=threads)
    except Unusable as why:
        return why.dropped
    except errors_of(av) as error:
        return Dropped("undecodable", one_line(error))


def _decode(
    av: Any, source: bytes | Path, wanted: Wanted, limits: ClipLimits, *,
    seek: bool, threads: int, counted_s: float | None = None,
) -> Clip:  # fmt: skip
    with _open(av, source) as container:
        stream = _video_stream(av, container, limits)
        duration_s = _told_duration(av, container, stream) if counted_s is None else counted_s
        limits.check_duration(duration_s)
        if duration_s is not None or not wanted.needs_duration:
            try:
                return _read(av, container, stream, wanted, limits, duration_s, seek=seek, threads=threads)
            except Unusable as why:
                if why.dropped.reason != "past_the_end" or not wanted.needs_duration or counted_s is not None:
                    raise
    with _open(av, source) as container:  # its length was not told, or is that of the sound
        counted_s = _counted_duration(container, _video_stream(av, container, limits), limits)
    return _decode(av, source, wanted, limits, seek=seek, threads=threads, counted_s=counted_s)


def _read(
    av: Any, container: Any, stream: Any, wanted: Wanted, limits: ClipLimits, duration_s: float | None, *,
    seek: bool, threads: int,
) -> Clip:  # fmt: skip
    stream.codec_context.thread_count = threads
    # The decoder looks at every frame, and counts the rim that it works with.
    stream.codec_context.options = {"max_pixels": str((limits.max_side_px + _RIM_PX) ** 2)}
    if seek and "matroska" in container.format.name:
        _read_index(av, container, stream)
    return OnePass(av, container, stream, wanted.times(duration_s), limits, seek=seek).clip(duration_s)


def _open(av: Any, source: bytes | Path) -> Any:
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "threads": "1"}
    file = io.BytesIO(source) if isinstance(source, bytes) else f"file:{source}"
    return closing(av.open(file, options=options, metadata_errors="ignore"))


def _video_stream(av: Any, container: Any, limits: ClipLimits) -> Any:
    kinds = [stream.type for stream in container.streams]
    if {*kinds} <= {"data", "unknown"}:  # what a track holds is told inside of the index
        raise Unusable("undecodable", "the file has no streams, or its index is not whole")
    pictures = av.stream.Disposition.attached_pic  # the cover of a record is no clip
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        raise Unusable("no_video", f"streams are {', '.join(kinds)}")
    stream = streams[0]
    if stream.codec_context is None:
        raise Unusable("undecodable", "no decoder for the codec of the stream")
    if not stream.time_base:
        raise Unusable("times_missing", "the stream has no clock")
    limits.check_side(stream.codec_context.width, stream.codec_context.height)
    return stream


def _told_duration(av: Any, container: Any, stream: Any) -> float | None:
    is_matroska = "matroska" in container.format.name
    if stream.duration and stream.duration > 0 and not is_matroska:
        return float(stream.duration * stream.time_base)
    if not container.duration or container.duration < 0:
        return None
    # Matroska tells when the last frame ends, whenever the first one begins.
    begin = (container.start_time or 0) if is_matroska else 0
    return max(float((container.duration - begin) / av.time_base), 0.0) or None


def _read_index(av: Any, container: Any, stream: Any) -> None:
    """Go to where the file stands already: FFmpeg reads the index of Matroska when it is asked to go somewhere."""
    try:
        container.seek(stream.start_time or 0, stream=stream)
    except av.error.FFmpegError as error:
        raise Overshot from error


def _counted_duration(container: Any, stream: Any, limits: ClipLimits) -> float:
    begins, ends = [], []
    usual, number = int(usual_length_s(stream) / stream.time_base), 0
    for number, packet in enumerate(container.demux(stream)):
        limits.check_packets(number)
        if packet.dts is None and not packet.size:
            break
        if packet.pts is not None:
            begins.append(packet.pts)
            ends.append(packet.pts + (packet.duration or usual))
    if not begins:
        raise Unusable("times_missing" if number else "no_frames", f"none of {number} packets has a time")
    return float((max(ends) - min(begins)) * stream.time_base)
