"""Frames by PyAV: one pass forwards, with jumps where the file tells that they pay."""

import io
from contextlib import closing
from pathlib import Path
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.video._one_pass import OnePass, Overshot
from flamingo_blocks.data.video._wanted import ClipLimits, Unusable, Wanted, told
from flamingo_blocks.data.video.clip import Clip

# Files that hold frames. FFmpeg knows others, such as play lists, that make it open further files and addresses.
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
    except (av.error.FFmpegError, OSError, ValueError, RuntimeError, MemoryError) as error:
        return Dropped("undecodable", told(error))


def _decode(
    av: Any, source: bytes | Path, wanted: Wanted, limits: ClipLimits, *,
    seek: bool, threads: int, counted_s: float | None = None,
) -> Clip:  # fmt: skip
    with _open(av, source) as container:
        stream = _video_stream(av, container, limits)
        duration_s = _told_duration(av, container, stream) if counted_s is None else counted_s
        limits.check_duration(duration_s)
        if duration_s is not None or not wanted.needs_duration:
            stream.codec_context.thread_count = threads
            stream.codec_context.options = {"max_pixels": str(limits.max_side_px**2)}
            if seek and "matroska" in container.format.name:
                _read_index(av, container, stream)
            one = OnePass(av, container, stream, wanted.times(duration_s), limits, seek=seek)
            return one.clip(duration_s)
        counted_s = _counted_duration(container, stream, limits)
    return _decode(av, source, wanted, limits, seek=seek, threads=threads, counted_s=counted_s)


def _open(av: Any, source: bytes | Path) -> Any:
    options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "threads": "1"}
    file = io.BytesIO(source) if isinstance(source, bytes) else f"file:{source}"
    return closing(av.open(file, options=options, metadata_errors="ignore"))


def _video_stream(av: Any, container: Any, limits: ClipLimits) -> Any:
    pictures = av.stream.Disposition.attached_pic  # the cover of a record is no clip
    streams = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not streams:
        raise Unusable("no_video", f"streams are {', '.join(one.type for one in container.streams) or 'none'}")
    stream = streams[0]
    if stream.codec_context is None:
        raise Unusable("undecodable", "no decoder for the codec of the stream")
    limits.check_side(stream.codec_context.width, stream.codec_context.height)
    return stream


def _told_duration(av: Any, container: Any, stream: Any) -> float | None:
    if stream.duration and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    if not container.duration or container.duration < 0:
        return None
    # Matroska tells when the last frame ends, whenever the first one begins.
    begin = container.start_time or 0 if "matroska" in container.format.name else 0
    return float((container.duration - begin) / av.time_base)


def _read_index(av: Any, container: Any, stream: Any) -> None:
    """Go to where the file stands already: FFmpeg reads the index of Matroska when it is asked to go somewhere."""
    try:
        container.seek(stream.start_time or 0, stream=stream)
    except av.error.FFmpegError as error:
        raise Overshot from error


def _counted_duration(container: Any, stream: Any, limits: ClipLimits) -> float:
    begins, ends = [], []
    for number, packet in enumerate(container.demux(stream)):
        limits.check_packets(number)
        if packet.pts is not None:
            begins.append(packet.pts)
            ends.append(packet.pts + (packet.duration or 0))
    if not begins:
        raise Unusable("times_missing", "no packet has a time")
    return float((max(ends) - min(begins)) * stream.time_base)
