"""What is decoded is what arithmetic says, whatever the rate, the codec, the file and the way through it."""

from bisect import bisect_right
from math import floor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.video import Clip, decode_clip, frame_times
from flamingo_blocks.data.video.frame_times import all_frame_times
from tests.data.video.numbered import clip_file, numbers, remuxed

TICKS = {"mp4": 60_000, "matroska": 1000, "mpegts": 90_000}  # a second, in files of each kind


@st.composite
def clips(draw, *, most=90, containers=tuple(TICKS)):
    """How a clip is written: when its frames are shown, at an even rate or not, and how they are coded."""
    container = draw(st.sampled_from(containers))
    count = draw(st.integers(8 if container == "mpegts" else 1, most))  # FFmpeg knows no recording of fewer packets
    fps = draw(st.sampled_from([3.0, 7.0, 10.0, 24.0, 25.0, 29.97, 60.0]))
    offset = draw(st.sampled_from([0.0, 0.0, 4.2]))
    steps = draw(st.none() | st.lists(st.integers(1, 9), min_size=count, max_size=count))
    if steps is None:
        times = [offset + number / fps for number in range(count)]
    else:
        times = [offset + sum(steps[:number]) / fps for number in range(count)]
    codec = "libx264" if container == "mpegts" else draw(st.sampled_from(["mpeg4", "libx264"]))
    # FFmpeg's MPEG-4 loses frames that are put in order at an uneven rate.
    b_frames = 0 if codec == "mpeg4" and steps is not None else draw(st.integers(0, 2))
    return times, {
        "codec": codec, "container": container, "fps": fps, "times_s": times,
        "key_interval": draw(st.sampled_from([1, 4, 30, 250])), "b_frames": b_frames,
    }  # fmt: skip


@st.composite
def choices(draw):
    """Which frames are asked for."""
    options = {"fps": draw(st.floats(0.5, 20)), "count": draw(st.integers(1, 20))}
    return options | draw(st.sampled_from([{}, {"start_s": 0.7}, {"start_s": 3.0}, {"place": 0.5}, {"place": 0.93}]))


def same(one, other):
    if not isinstance(one, Clip):
        return one == other
    return (
        torch.equal(one.frames, other.frames)
        and (one.times_s, one.shown_s, one.truncated) == (other.times_s, other.shown_s, other.truncated)
    )  # fmt: skip


@given(clips(), choices())
def test_frames_are_those_shown_at_each_moment(clip, choice):
    """By the times in the file: the number on each frame is that of the last frame up to the moment."""
    times, options = clip
    found = decode_clip(clip_file(len(times), **options), **choice)
    ticks = [floor(round(time * 60_000) * TICKS[options["container"]] / 60_000 + 0.5) for time in times]
    begins = [(tick - ticks[0]) / TICKS[options["container"]] for tick in ticks]
    if not isinstance(found, Clip):
        assert found.reason == "past_the_end"
        assert choice.get("start_s", 0.0) > begins[-1]
        return
    assert numbers(found.frames) == [bisect_right(begins, time + 1e-6) - 1 for time in found.times_s]
    assert found.shown_s == pytest.approx([begins[number] for number in numbers(found.frames)])
    everything = {"start_s": None, "place": 0.0} | choice  # what a header says of the length may be less than there is
    wanted = all_frame_times(found.duration_s, **everything)
    assert found.times_s == wanted[: len(found)]
    assert not found.truncated
    assert all(time > begins[-1] for time in wanted[len(found) :])  # none is missing before the last frame


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@given(count=st.integers(1, 60), fps=st.sampled_from([5, 10, 25]), rate=st.floats(0.5, 30), number=st.integers(1, 40))
def test_a_short_clip_has_the_frames_that_exist(codec, count, fps, rate, number):
    """At an even rate the last frame is shown as long as the others, and none is repeated to fill up."""
    found = decode_clip(clip_file(count, codec=codec, fps=fps), fps=rate, count=number)
    assert found.duration_s == pytest.approx(count / fps)
    assert found.times_s == frame_times(found.duration_s, fps=rate, count=number)


@given(clips(most=150), choices())
def test_jumps_change_nothing(clip, choice):
    """Neither a frame nor a bit of one."""
    times, options = clip
    file = clip_file(len(times), **options)
    assert same(decode_clip(file, **choice), decode_clip(file, seek=False, **choice))


HARD = {
    "open groups": "open-gop=1:bframes=3:b-adapt=0",
    "no key frames but the first": "intra-refresh=1:bframes=0",
    "pyramids": "bframes=7:b-adapt=0:b-pyramid=normal:ref=5",
    "two slices": "slices=2:bframes=2",
}


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi"])
@pytest.mark.parametrize("kind", HARD)
def test_jumps_change_nothing_in_hard_streams(kind, container):
    """Where what follows a key frame needs frames before it, too."""
    options = {"x264-params": f"{HARD[kind]}:keyint=20:min-keyint=20:scenecut=0"}
    file = clip_file(200, codec="libx264", fps=10.0, container=container, key_interval=20, b_frames=3, options=options)
    for choice in ({"start_s": 11.9}, {"start_s": 12.0}, {"fps": 0.45}, {"fps": 9.0, "count": 40, "place": 0.9}):
        found = decode_clip(file, **choice)
        assert numbers(found.frames) == [floor(time * 10 + 1e-4) for time in found.times_s]
        assert same(found, decode_clip(file, seek=False, **choice))


@pytest.mark.parametrize("shift", [2, 3, 10])
def test_an_index_that_errs_changes_nothing(shift):
    """What it calls a key frame needs others, and its decoder would show grey in their place."""
    file = bytearray(clip_file(200, fps=10.0, key_interval=30))
    place = file.index(b"stss") + 8
    for entry in range(1, int.from_bytes(file[place : place + 4], "big")):
        number = slice(place + 4 + 4 * entry, place + 8 + 4 * entry)
        file[number] = (int.from_bytes(file[number], "big") + shift).to_bytes(4, "big")
    for choice in ({"start_s": 9.2, "fps": 0.4}, {"start_s": 9.4}, {"fps": 0.35, "count": 6}):
        found = decode_clip(bytes(file), **choice)
        assert numbers(found.frames) == [floor(time * 10 + 1e-4) for time in found.times_s]
        assert same(found, decode_clip(bytes(file), seek=False, **choice))


def test_a_file_that_does_not_jump_is_read_all_the_same(monkeypatch):
    """It goes back to its beginning wherever it is asked to go: once for each moment at most."""
    from flamingo_blocks.data.video import _pyav
    from flamingo_blocks.data.video._one_pass import OnePass

    class GoesBack:
        def __init__(self, container):
            self.container, self.format, self.demux = container, container.format, container.demux

        def seek(self, _, *, stream):
            self.container.seek(stream.start_time, stream=stream)

    class Watched(OnePass):
        def __init__(self, av, container, *rest, **options):
            super().__init__(av, GoesBack(container), *rest, **options)

    file = clip_file(100, codec="libx264", fps=10.0, key_interval=25, b_frames=2)
    expected = decode_clip(file, start_s=6.0, fps=2.0)
    monkeypatch.setattr(_pyav, "OnePass", Watched)
    assert same(decode_clip(file, start_s=6.0, fps=2.0, max_packets=400), expected)


@given(clips(containers=("mp4",)), choices(), st.floats(0.1, 50))
def test_when_a_file_begins_does_not_matter(clip, choice, later):
    """Moments count from the first frame; a file whose times begin anywhere gives the same."""
    times, options = clip
    del options["times_s"]
    ticks = [round(time * 60_000) / 60_000 for time in times]
    shift = round(later * 60_000) / 60_000
    first, second = (
        clip_file(len(times), times_s=[time + extra for time in ticks], **options) for extra in (0.0, shift)
    )
    one, other = decode_clip(first, **choice), decode_clip(second, **choice)
    assert type(one) is type(other)
    if isinstance(one, Clip):
        assert torch.equal(one.frames, other.frames)
        assert one.shown_s == pytest.approx(other.shown_s)


def test_frames_do_not_depend_on_how_they_are_read(tmp_path):
    """From memory or from a file, by one thread or two, again and again."""
    file = clip_file(100, codec="libx264", fps=10.0, b_frames=2)
    path = tmp_path / "clip.mp4"
    path.write_bytes(file)
    first = decode_clip(file, place=0.3)
    assert same(first, decode_clip(path, place=0.3))
    assert same(first, decode_clip(file, place=0.3, threads=2))
    assert same(first, decode_clip(file, place=0.3))


def test_a_moment_is_not_missed_by_its_last_digit():
    """0.1 + 0.7 is a little less than 0.8, where a frame begins."""
    assert numbers(decode_clip(clip_file(20, fps=10.0), start_s=0.1, fps=1 / 0.7, count=2).frames) == [1, 8]


def test_an_unknown_length_is_counted():
    """A recording that was written as it came does not tell its length; its middle is found all the same."""
    file = clip_file(201, codec="libx264", fps=10.0)
    live = remuxed(file, "matroska", live="1")
    found = decode_clip(live, place=0.5)
    assert found.duration_s == pytest.approx(20.1, abs=0.01)
    assert numbers(found.frames) == numbers(decode_clip(file, place=0.5).frames)
    assert decode_clip(live).duration_s is None  # and is not counted where it does not matter
    assert decode_clip(live, place=0.5, max_duration_s=20.0).reason == "clip_duration"


def test_a_jump_passes_over_what_is_not_wanted(monkeypatch):
    """Late frames of a long clip are found without decoding those before; near frames without any jump."""
    from flamingo_blocks.data.video import _pyav
    from flamingo_blocks.data.video._one_pass import OnePass

    passes = []

    class Watched(OnePass):
        def clip(self, duration_s):
            passes.append(self)
            return super().clip(duration_s)

    monkeypatch.setattr(_pyav, "OnePass", Watched)
    file = clip_file(600, codec="libx264", fps=10.0, key_interval=50, b_frames=2)
    assert numbers(decode_clip(file, start_s=50.0).frames)[0] == 500
    assert passes[-1].packets < 90
    assert numbers(decode_clip(file, seek=False, start_s=50.0).frames)[0] == 500
    assert passes[-1].packets > 570
    assert len(decode_clip(file, start_s=1.0, fps=5.0, count=15)) == 15
    assert not passes[-1].has_jumped
    assert passes[-1].packets < 45  # read no further than the last frame
    assert len(passes) == 3
