"""Files that are cut, damaged, hostile or no clips: each gives the frames that are there, or a reason."""

import io
import random
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from flamingo_blocks.data import Dropped
from flamingo_blocks.data.video import CLIP_REASONS, Clip, decode_clip, encode_clip
from tests.data.video.numbered import clip_file, numbered, numbers, remuxed, sound_file, with_index_first

KINDS = ("mp4", "index first", "matroska", "mpegts", "avi", "mpeg4")


@cache
def files():
    """The same 60 frames, 6 seconds of them, in files of each kind."""
    made = {
        kind: clip_file(60, codec="libx264", fps=10.0, key_interval=10, b_frames=2, container=kind)
        for kind in ("mp4", "matroska", "mpegts", "avi")
    }
    return made | {"index first": with_index_first(made["mp4"]), "mpeg4": clip_file(60, fps=10.0)}


def is_told(found):
    assert isinstance(found, Clip) or (found.reason in CLIP_REASONS and found.detail), found
    return True


@given(kind=st.sampled_from(KINDS), part=st.floats(0, 1), seek=st.booleans())
def test_what_is_cut_gives_a_beginning(kind, part, seek):
    """Cut anywhere: the frames found are the first of the whole clip's, bit for bit, but for those of the last group
    that is put in order; or there is a reason.
    """
    whole = decode_clip(files()[kind], fps=5.0, count=30)
    file = files()[kind][: int(part * len(files()[kind]))]
    found = decode_clip(file, fps=5.0, count=30, seek=seek)
    assert is_told(found)
    if isinstance(found, Clip):
        sure = sum(time < found.shown_s[-1] - 0.3 for time in found.times_s)
        assert torch.equal(found.frames[:sure], whole.frames[:sure])
        assert found.shown_s[:sure] == whole.shown_s[:sure]
    elif kind in ("mp4", "mpeg4"):  # the index is at the end
        assert found.reason == "undecodable"


@cache
def in_order():
    """Forty pictures, 4 seconds of them, each stored by itself in the order of time, behind the index."""
    return with_index_first(clip_file(40, codec="libx264", fps=10.0, key_interval=1))


@given(st.floats(0, 1))
def test_half_a_picture_is_no_frame(part):
    """Where frames are stored in the order of time, what is cut has all that are whole, bit for bit, and says so."""
    import av

    file = in_order()
    place = file.index(b"mdat") + 4
    cut = place + int(part * (len(file) - place))
    with av.open(io.BytesIO(file)) as container:
        ends = [packet.pos + packet.size for packet in container.demux(video=0) if packet.size]
    whole = decode_clip(file, fps=10.0, count=40)
    found = decode_clip(file[:cut], fps=10.0, count=40)
    number = sum(end <= cut for end in ends)
    if number:
        assert len(found) == number
        assert torch.equal(found.frames, whole.frames[:number])
        assert found.truncated or number >= 35
    else:
        assert found.reason == "undecodable"


@given(st.floats(0, 1))
@example(0.05365492722223132)  # the bit that says whether there is a frame at all
def test_a_frame_that_was_patched_up_is_no_frame(part):
    """A decoder fills what is lost with what stood there before, and marks the frame."""
    file = files()["mpeg4"]
    place, end = file.index(b"mdat") + 100, file.index(b"moov") - 60
    place += int(part * (end - place))
    whole = decode_clip(file, fps=10.0, count=60)
    found = decode_clip(file[:place] + b"\xff" * 20 + file[place + 20 :], fps=10.0, count=60)
    assert found.truncated
    assert torch.equal(found.frames, whole.frames[: len(found)])


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("seek", [False, True])
def test_a_frame_may_be_as_the_one_before(b_frames, seek):
    """MPEG-4 has packets that say so and hold no picture, padded or not; no damage."""

    def same(number, packet):
        kind = 0b100 if b_frames else 0b010  # that no other frame needs, or few do; and of the same second
        if packet[4] >> 5 != kind or number % 7 != 2:
            return packet
        flag = bytes([packet[6] & 0b11111000 | 1])  # behind 16 bits of time and a mark: no picture; the rest fills up
        return packet[:6] + flag + b"\x7f" * (number % 2 * 12)

    source = clip_file(60, fps=10.0, b_frames=b_frames)
    whole, found = (
        decode_clip(file, fps=10.0, count=60, seek=seek) for file in (source, remuxed(source, "mp4", change=same))
    )
    assert not found.truncated
    assert len(found) == len(whole) == 60
    assert not decode_clip(source, fps=0.3, count=2, seek=seek).truncated
    if not b_frames:
        assert found.shown_s[2] == found.shown_s[1] == whole.shown_s[1]


@given(
    kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32), number=st.integers(1, 50), place=st.sampled_from([0, 0.5])
)
def test_damaged_bytes_are_no_crash(kind, seed, number, place):
    """Any bytes, in the header or in the frames."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    file = bytearray(files()[kind])
    for _ in range(number):
        file[draw.randrange(len(file))] = draw.randrange(256)
    assert is_told(decode_clip(bytes(file), fps=5.0, count=30, place=place))


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\0\0\0\x20ftypisom", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI ", b"G"])
)
def test_noise_is_no_clip(noise, head):
    """Nor is noise that begins like one."""
    assert is_told(decode_clip(head + noise))


def test_frames_before_the_damage_are_kept():
    """Where the file ends early, and where its middle is lost; and it is said."""
    file = files()["index first"]
    cut = decode_clip(file[: len(file) * 3 // 4], fps=2.0, count=12)
    assert 4 <= len(cut) < 12
    assert cut.truncated
    assert numbers(cut.frames) == [5 * number for number in range(len(cut))]
    middle = file.index(b"mdat") + (len(file) - file.index(b"mdat")) // 2
    lost = decode_clip(file[:middle] + b"\xff" * 400 + file[middle + 400 :], fps=2.0, count=12)
    assert lost.truncated
    assert numbers(lost.frames) == [5 * number for number in range(len(lost))]
    assert 3 <= len(lost) < 10


def test_frames_behind_the_damage_are_not_there():
    """A clip of which no wanted frame is left is dropped, whether the file jumps or not."""
    file = files()["index first"][: len(files()["index first"]) * 3 // 4]
    for seek in (True, False):
        assert decode_clip(file, start_s=5.5, seek=seek).reason == "undecodable"


def pieces(file):
    """The packets of a recording, the first three of which tell its streams."""
    return [file[place : place + 188] for place in range(0, len(file), 188)]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("interval", [20, 150])
def test_a_recording_may_begin_anywhere(codec, interval):
    """Between two key frames, near or far: its first frame is the first that needs no other."""
    options = {"x264-params": "scenecut=0"} if codec == "libx264" else {}
    file = clip_file(interval + 40, codec=codec, fps=10.0, key_interval=interval, container="mpegts", options=options)
    parts = pieces(file)
    found = decode_clip(b"".join(parts[:3] + parts[12:]), fps=10.0, count=30)
    assert numbers(found.frames) == list(range(interval, interval + 30))


@given(st.floats(0, 1))
def test_a_recording_with_a_gap_ends_there(part):
    """A piece that was lost on the way takes what follows with it: frames after it would be made of the wrong ones."""
    parts = pieces(files()["mpegts"])
    lost = 40 + int(part * (len(parts) - 41))  # behind the first frames
    whole = decode_clip(files()["mpegts"], fps=10.0, count=60)
    found = decode_clip(b"".join(parts[:lost] + parts[lost + 1 :]), fps=10.0, count=60)
    sure = max(len(found) - 3, 0)  # the last are those that are put in order
    assert torch.equal(found.frames[:sure], whole.frames[:sure])


@pytest.mark.parametrize("packets", [30, 60])
def test_streams_that_come_up_late_are_no_crash(monkeypatch, packets):
    """PyAV loses count of them: behind the last frame that is no damage, and before it what was decoded is kept."""
    from flamingo_blocks.data.video import _pyav
    from flamingo_blocks.data.video._one_pass import OnePass

    class LosesCount:
        def __init__(self, container):
            self.container, self.format = container, container.format

        def demux(self, stream):
            for number, packet in enumerate(self.container.demux(stream)):
                if number == packets and packet.size:
                    break
                yield packet
            raise IndexError("list index out of range")

    class Watched(OnePass):
        def __init__(self, av, container, *rest, **options):
            super().__init__(av, LosesCount(container), *rest, **options)

    monkeypatch.setattr(_pyav, "OnePass", Watched)
    found = decode_clip(files()["mpeg4"], fps=10.0, count=70, seek=False)
    assert numbers(found.frames) == list(range(packets))
    assert found.truncated == (packets < 60)


def odd(name):
    if name == "no packets":
        import av

        output = io.BytesIO()
        with av.open(output, "w", format="mp4", options={"movflags": "empty_moov"}) as target:
            stream = target.add_stream("mpeg4", rate=25, width=64, height=64, pix_fmt="yuv420p")
            stream.codec_context.open()
            target.start_encoding()
        return output.getvalue()
    if name == "times that go backwards":  # what is decoded later is said to be shown when it is decoded
        file = bytearray(clip_file(60, codec="libx264", fps=10.0, b_frames=2))
        place = file.index(b"ctts") + 8
        for entry in range(int.from_bytes(file[place : place + 4], "big")):
            file[place + 8 + 8 * entry : place + 12 + 8 * entry] = bytes(4)
        return bytes(file)
    return {
        "nothing": lambda: b"",
        "a page": lambda: b"<html><body>no clip</body></html>",
        "sound": sound_file,
        "frames without times": lambda: remuxed(clip_file(20, codec="libx264"), "h264"),
        "a wide frame": lambda: encode_clip(torch.zeros(2, 3, 16, 4112, dtype=torch.uint8)),
        "a tall frame": lambda: encode_clip(torch.zeros(2, 3, 4112, 16, dtype=torch.uint8)),
        "a long clip": lambda: clip_file(2, times_s=[0.0, 700.0]),
    }[name]()


ODD = {
    "nothing": "undecodable",
    "a page": "undecodable",
    "sound": "no_video",
    "no packets": "no_frames",
    "frames without times": "times_missing",
    "times that go backwards": "times_backwards",
    "a wide frame": "clip_side",
    "a tall frame": "clip_side",
    "a long clip": "clip_duration",
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("place", [0.0, 0.5])
def test_what_is_no_clip_is_dropped(name, place):
    """Each for its reason, and with a word for people."""
    found = decode_clip(odd(name), place=place)
    assert isinstance(found, Dropped), found
    assert found.reason == ODD[name]
    assert found.detail


def test_limits_are_limits():
    """Of bytes, seconds, pixels and packets: what is at the limit passes, and what is above it does not."""
    file = clip_file(40, fps=10.0)
    for name, most in (("bytes", len(file)), ("duration_s", 4.0), ("side_px", 96), ("packets", 40)):
        reason = {"packets": "too_many_packets"}.get(name, f"clip_{name.split('_')[0]}")
        assert isinstance(decode_clip(file, fps=5.0, count=20, **{f"max_{name}": most}), Clip)
        assert decode_clip(file, fps=10.0, count=99, **{f"max_{name}": most - 1}).reason == reason
    assert decode_clip(file, start_s=4.0).reason == "past_the_end"
    large = encode_clip(torch.zeros(1, 3, 512, 512, dtype=torch.uint8))  # the decoder itself refuses so many pixels
    assert decode_clip(large, max_side_px=64).reason == "clip_side"


def test_a_length_that_was_not_told_has_a_limit():
    """A file that says nothing of its length is dropped where a frame behind the limit is met."""
    live = remuxed(clip_file(2, codec="libx264", times_s=[0.0, 700.0]), "matroska", live="1")
    assert decode_clip(live).reason == "clip_duration"


def test_sound_that_goes_on_is_no_clip():
    """Where the length that the file tells is that of its sound, frames are found all the same."""
    import av

    output = io.BytesIO()
    with (
        av.open(io.BytesIO(clip_file(50, codec="libx264", fps=10.0))) as frames,
        av.open(io.BytesIO(sound_file(seconds=30))) as sound,
        av.open(output, "w", format="matroska") as target,
    ):
        streams = [frames.streams.video[0], sound.streams.audio[0]]
        copies = [target.add_stream_from_template(stream) for stream in streams]
        for source, stream, copy in zip((frames, sound), streams, copies, strict=True):
            for packet in source.demux(stream):
                if packet.dts is not None:
                    packet.stream = copy
                    target.mux(packet)
    found = decode_clip(output.getvalue(), place=0.9, count=2)
    assert found.duration_s == pytest.approx(5.0, abs=0.01)
    assert numbers(found.frames) == [36, 46]


def test_a_cover_is_no_clip():
    """The picture of a record is a stream of one frame."""
    import av

    output = io.BytesIO()
    with av.open(output, "w", format="mp4") as target:
        stream = target.add_stream("mjpeg", rate=25, width=96, height=32, pix_fmt="yuvj420p")
        stream.disposition = av.stream.Disposition.attached_pic
        with av.open(io.BytesIO(clip_file(1))) as source:
            target.mux(stream.encode(next(source.decode(video=0)).reformat(format="yuvj420p")))
        target.mux(stream.encode(None))
    assert decode_clip(output.getvalue()).reason == "no_video"


@pytest.mark.parametrize("kind", ["play list", "script"])
@pytest.mark.parametrize("from_disk", [True, False])
def test_a_file_opens_no_other_file(tmp_path, kind, from_disk):
    """Play lists name files and addresses, which FFmpeg would open for whoever wrote them."""
    other = tmp_path / "clip.ts"
    other.write_bytes(clip_file(40, codec="libx264", container="mpegts"))
    assert isinstance(decode_clip(other), Clip)
    text = {
        "play list": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n",
        "script": f"ffconcat version 1.0\nfile {other.name}\n",
    }[kind]
    path = tmp_path / "list"
    path.write_text(text)
    found = decode_clip(path if from_disk else text.encode())
    assert isinstance(found, Dropped)
    assert found.reason == "undecodable"


def test_a_path_is_a_file():
    """What is not there is dropped; what looks like an address is a file too."""
    for path in ("nowhere.mp4", "concat:one|two", "http://ex.com/clip.mp4", "/"):
        assert decode_clip(Path(path)).reason == "undecodable"


def test_sizes_that_change_end_the_clip():
    """Frames of another size cannot stand beside the first; those before them are kept."""
    small, large = clip_file(30, codec="libx264", fps=10.0, container="h264"), []
    large = encode_clip(
        [numbered(0).repeat(1, 2, 2)] * 30, codec="libx264", fps=10.0, container="h264", options={"preset": "ultrafast"}
    )
    import av

    output = io.BytesIO()
    with av.open(output, "w", format="mpegts") as target:
        stream = None
        for offset, part in ((0, small), (30, large)):
            with av.open(io.BytesIO(part)) as source:
                stream = stream or target.add_stream_from_template(source.streams.video[0])
                for number, packet in enumerate(p for p in source.demux(video=0) if p.size):
                    packet.pts = packet.dts = (offset + number) * 9000
                    packet.time_base, packet.stream = stream.time_base or 1, stream
                    target.mux(packet)
    found = decode_clip(output.getvalue(), fps=10.0, count=60)
    assert found.truncated
    assert found.frames.shape[2:] == (32, 96)
    assert numbers(found.frames) == list(range(30))
