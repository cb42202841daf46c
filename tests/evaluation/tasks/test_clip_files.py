"""Clips and images are found by their names, anywhere below the folder of a task."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.video import evaluation_frames, frame_times
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.read_rows import Row
from flamingo_blocks.evaluation.tasks.clip_files import ClipFiles, cut_of, cut_segment, number_of, whole_number_of
from flamingo_blocks.evaluation.tasks.files_by_stem import CLIP_SUFFIXES, FilesByStem


def test_a_file_is_found_in_any_folder_and_container(tmp_path):
    """The name without its suffix counts, in any case of the suffix; hidden files and folders do not."""
    for name in ("a/b/one.webm", "two.MP4", ".three.mp4", "c/.d/four.mp4", "one.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = FilesByStem(tmp_path, CLIP_SUFFIXES)
    assert files.find("one") == tmp_path / "a/b/one.webm"
    assert files.find("two") == tmp_path / "two.MP4"
    assert files.find(".three") is files.find("three") is files.find("four") is None


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
    """A linked folder is part of the task, and a link that leads back is passed over."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "one.mp4").touch()
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "videos").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "task")
    assert FilesByStem(tmp_path / "task", CLIP_SUFFIXES).find("one") == tmp_path / "task" / "videos" / "one.mp4"


def test_two_files_of_one_name_are_an_error_where_they_are_asked_for(tmp_path):
    """Nothing is chosen among them."""
    for name in ("one.mp4", "one.webm", "two.mp4"):
        (tmp_path / name).touch()
    clips = ClipFiles(tmp_path)
    assert clips.clip("two").data == tmp_path / "two.mp4"
    with pytest.raises(EvaluationError, match="'one' is the name of .*one.mp4 and of .*one.webm; leave one"):
        clips.clip("one")


@given(start=st.integers(0, 10**6), length=st.integers(1, 10**5), as_text=st.booleans())
def test_a_cut_is_told_in_full(start, length, as_text):
    """Beginning and end are the same in the metadata and, read back, in the name; both may stand as text."""
    start, end = start / 100, (start + length) / 100
    values = {"start": start, "end": end}
    cut = cut_of(Row({key: repr(value) for key, value in values.items()} if as_text else values, "x.csv, line 2"))
    segment = cut_segment("v.mp4", Path("v.mp4"), cut)
    assert segment.metadata == {"start_s": start, "end_s": end}
    name, _, told = segment.url.partition("#")
    assert (name, [float(value) for value in told.split("-")]) == ("v.mp4", [start, end])


def test_the_frames_of_a_cut_are_those_of_its_length():
    """With the keys of its metadata the moments of a cut are those of a clip of that length, later by its start."""
    cut = cut_segment("v.mp4", Path("v.mp4"), (41.0, 54.0)).metadata
    moments = frame_times(cut["end_s"] - cut["start_s"], **evaluation_frames())
    again = frame_times(60.0, fps=3.0, count=len(moments), start_s=cut["start_s"] + moments[0])
    assert again == pytest.approx([cut["start_s"] + moment for moment in moments])
    assert cut["start_s"] <= again[0] < again[-1] < cut["end_s"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "wanted a number"),
        ("", "wanted a number"),
        (True, "wanted a number"),
        ([], "wanted a number"),
        ("nan", "wanted a finite number"),
        (1.5, "wanted a whole number"),
    ],
)
def test_what_is_no_whole_number_is_refused(value, said):
    """Texts of numbers are taken, as a CSV has nothing else."""
    assert whole_number_of(Row({"n": "12"}, "x"), "n") == whole_number_of(Row({"n": 12.0}, "x"), "n") == 12
    assert number_of(Row({"n": " 1.5 "}, "x"), "n") == 1.5
    with pytest.raises(EvaluationError, match=f"x: n is .*{said}"):
        whole_number_of(Row({"n": value}, "x"), "n")
