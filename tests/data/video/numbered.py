"""Frames that carry their own number as 12 black and white blocks, which compression leaves readable; and odd files."""

import io
import struct
import tempfile
from pathlib import Path

import torch

BLOCK = 16
HEIGHT, WIDTH = 2 * BLOCK, 6 * BLOCK


def numbered(number):
    """A frame of 96 x 32 pixels that shows a number below 4096."""
    bits = torch.tensor([number >> bit & 1 for bit in range(12)], dtype=torch.uint8).view(2, 6)
    return (bits * 255).repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1).expand(3, -1, -1)


def numbers(frames):
    """The number of each frame of `[frames 3 height width]`."""
    middles = frames[:, :, BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK].float().mean(1).flatten(1) > 128
    return (middles * 2 ** torch.arange(12)).sum(1).tolist()


def clip_file(count, **options):
    """The file of a clip of numbered frames; quick, and of one slice."""
    from flamingo_blocks.data.video import encode_clip

    if options.get("codec") == "libx264":
        options["options"] = {"preset": "ultrafast", "threads": "1", **options.get("options", {})}
    return encode_clip((numbered(number) for number in range(count)), **options)


def remuxed(file, container, change=None, **options):
    """The same packets in another file, or what is made of each by its number and bytes."""
    import av

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip")
        with av.open(io.BytesIO(file)) as source, av.open(path, "w", format=container, options=options) as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for number, packet in enumerate(source.demux(video=0)):
                if packet.dts is not None:
                    target.mux(_packet_of(stream, packet, change and change(number, bytes(packet))))
        return path.read_bytes()


def _packet_of(stream, packet, data):
    import av

    if data is not None and data != bytes(packet):
        old, packet = packet, av.Packet(data)
        packet.pts, packet.dts, packet.duration, packet.time_base = old.pts, old.dts, old.duration, old.time_base
    packet.stream = stream
    return packet


def with_index_first(file):
    """An MP4 whose index stands before its frames, so that a cut leaves it whole."""
    return remuxed(file, "mp4", movflags="faststart")


def sound_file(seconds=1):
    """Silence."""
    import av

    output = io.BytesIO()
    with av.open(output, "w", format="mp4") as target:
        stream = target.add_stream("aac", rate=44100, layout="mono")
        for _ in range(44 * seconds):
            frame = av.AudioFrame("fltp", "mono", 1024)
            frame.planes[0].update(bytes(4096))
            frame.sample_rate = 44100
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return output.getvalue()


def turned(file, degrees):
    """An MP4 that asks to be shown turned by this much, counterclockwise, as phones write them."""
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    one = 1 << 16
    matrix = (cosine * one, -sine * one, 0, sine * one, cosine * one, 0, 0, 0, 1 << 30)
    place = file.index(b"tkhd") + 4 + 40  # behind version, times, duration, layer and volume
    return file[:place] + struct.pack(">9i", *matrix) + file[place + 36 :]
