"""Which moments of a clip are shown: arithmetic, and a draw that depends on its key alone."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.video import evaluation_frames, frame_times, training_frames

durations = st.floats(0.01, 600, allow_nan=False)
rates = st.floats(0.1, 60, allow_nan=False)
counts = st.integers(1, 64)
places = st.floats(0, 1, exclude_max=True)


@given(durations, rates, counts, st.floats(0, 20))
def test_moments_are_the_start_and_steps_of_a_rate(duration, fps, count, start):
    """As many as lie inside of the clip, in order, from the start that was asked for."""
    times = frame_times(duration, fps=fps, count=count, start_s=start)
    everything = [start + index / fps for index in range(count)]
    assert list(times) == everything[: len(times)]
    assert all(time < duration for time in times)
    assert all(time > duration - 1e-5 for time in everything[len(times) :])


@given(durations, rates, counts, places)
def test_a_place_is_where_every_frame_exists(duration, fps, count, place):
    """A clip long enough for all frames has all of them, wherever they start; a shorter one starts at 0."""
    times = frame_times(duration, fps=fps, count=count, place=place)
    span = (count - 1) / fps
    if duration > span:
        assert times[0] == place * (duration - span)
        assert len(times) == count or (1 - place) * (duration - span) < 1e-5
    else:
        assert times[0] == 0


@given(durations, st.integers(0, 9), st.text(max_size=5))
def test_training_takes_eight_frames_a_second_apart(duration, seed, key):
    """From any start between 0 and 7 s before the end."""
    options = training_frames(seed, key)
    assert 0 <= options["place"] < 1
    times = frame_times(duration, **options)
    assert 0 <= times[0] <= max(duration - 7, 0)
    assert all(abs(later - first - 1) < 1e-9 for first, later in pairwise(times))
    assert len(times) == (8 if duration > 7.001 else len(frame_times(duration)))


def test_a_draw_depends_on_its_key_alone():
    """The same for the same key, in every process and version; another for another; evenly over all starts."""
    assert training_frames(3, "é", 5)["place"] == pytest.approx(0.028635599, abs=1e-8)
    assert training_frames(1, "1") != training_frames("1", 1)
    draws = sorted(training_frames(0, key)["place"] for key in range(1000))
    assert all(abs(draw - rank / 1000) < 0.05 for rank, draw in enumerate(draws))


def test_evaluation_takes_the_middle():
    """30 frames at 3 FPS; as much of the clip lies before them as behind the last."""
    times = frame_times(22.0, **evaluation_frames())
    assert len(times) == 30
    assert times[0] == pytest.approx(22 - times[-1])
    assert times[1] - times[0] == pytest.approx(1 / 3)
    assert frame_times(2.0, **evaluation_frames()) == tuple(index / 3 for index in range(6))


def test_an_unknown_duration_is_endless():
    """All moments are given where the start is known, and none can be where it is not."""
    assert frame_times(None, start_s=3.0) == tuple(3.0 + index for index in range(8))
    assert frame_times(None) == tuple(map(float, range(8)))
    with pytest.raises(ValueError, match="place is 0.5 and duration_s is None; give duration_s, start_s, or place=0"):
        frame_times(None, place=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0}, "fps is 0, wanted a positive number"),
        ({"fps": float("nan")}, "fps is nan, wanted a positive number"),
        ({"count": 0}, "count is 0, wanted one frame at least"),
        ({"start_s": -1.0}, "start_s is -1.0, wanted seconds from the first frame"),
        ({"place": 1.5}, "place is 1.5, wanted a number from 0"),
        ({"start_s": 1.0, "place": 0.5}, "start_s is 1.0 and place is 0.5; give one of them"),
    ],
)
def test_frames_that_no_clip_has_are_an_error(options, message):
    """It names the argument and what it was."""
    with pytest.raises(ValueError, match=message):
        frame_times(10.0, **options)
