"""A file is there whole or not at all, and what a kill leaves can be told from it."""

import os
import signal

import pytest

from flamingo_blocks.data.atomic_file import atomic_file, remove_unfinished, written_together


def test_what_stood_there_stays_until_all_is_written(tmp_path):
    """An error on the way leaves the old file and nothing else."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_file(path) as file:
        file.writelines([b"new", "no bytes"])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("name", ("a.bin", ".unfinished-of-another-writer.tar", "x" * 220))
def test_what_a_kill_leaves_is_removed(tmp_path, name):
    """By whoever comes next, and it alone: a file within a file, and one of a long name."""
    (tmp_path / "kept.bin").write_bytes(b"kept")
    pid = os.fork()
    if pid == 0:
        with atomic_file(tmp_path / name) as file:
            file.write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.bin"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_what_a_kill_leaves_of_files_that_belong_together_is_removed(tmp_path):
    """With the folder that they were written to."""
    pid = os.fork()
    if pid == 0:
        with written_together(tmp_path) as beside:
            (beside / "a").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert [path.is_dir() for path in tmp_path.iterdir()] == [True]
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []
