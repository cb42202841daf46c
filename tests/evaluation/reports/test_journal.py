"""What was appended outlives a kill, and a torn line costs that line alone."""

import errno
import os
import signal

import pytest

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.reports import Journal, read_journals


def answered(id_, answer="yes"):
    return Prediction(task="t", id=str(id_), shots=0, seed=0, answer=answer, prompt="é\u2028", log_probs=(-0.1, -1e-9))


def test_it_survives_a_cut_at_every_byte(tmp_path):
    """All whole lines are there, the torn one is not; what is appended afterwards is there too."""
    with Journal(tmp_path / "whole") as journal:
        journal.append([answered(1), answered(2)])
        journal.append([answered(3)])
    content = journal.path.read_bytes()
    for size in range(len(content) + 1):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / journal.path.name).write_bytes(content[:size])
        whole = content[:size].count(b"\n")
        assert [each.id for each in read_journals(folder)] == ["1", "2", "3"][:whole]
        with Journal(folder) as again:
            again.append([answered(9)])
        assert [each.id for each in read_journals(folder)] == [*["1", "2", "3"][:whole], "9"]


def test_a_broken_line_in_the_middle_is_told(tmp_path):
    """Only the last line can have been torn by a kill."""
    with Journal(tmp_path) as journal:
        journal.append([answered(1), answered(2)])
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:40] + content[41:])
    with pytest.raises(EvaluationError, match=r"journal-00000.jsonl, line 1: "):
        read_journals(tmp_path)


def test_journals_of_all_processes_are_merged(tmp_path):
    """In the order of the keys; what two answered alike is there once."""
    for process, ids in ((0, (10, 2)), (1, (1, 2))):
        with Journal(tmp_path, process=process, fsync=True) as journal:
            journal.append([answered(each) for each in ids])
    assert [each.id for each in read_journals(tmp_path)] == ["1", "2", "10"]


def test_two_answers_to_one_query_are_refused(tmp_path):
    """They are of two evaluations."""
    for process, answer in enumerate(("yes", "no")):
        with Journal(tmp_path, process=process) as journal:
            journal.append([answered(7, answer)])
    with pytest.raises(
        EvaluationError, match=r"00001.jsonl, line 1: the key .*'7'\) has another .*00000.jsonl, line 1"
    ):
        read_journals(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_what_was_appended_outlives_sigkill(tmp_path):
    """Without closing the file."""
    pid = os.fork()
    if pid == 0:
        journal = Journal(tmp_path)
        journal.append([answered(1)])
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert read_journals(tmp_path) == [answered(1)]


def test_a_full_disk_adds_nothing(tmp_path):
    """Half a batch is taken back, so that the next one does not stand behind half a line."""
    with Journal(tmp_path) as journal:
        journal.append([answered(1)])
        file, journal._file = journal._file, FullDisk(journal._file)
        with pytest.raises(OSError, match="No space"):
            journal.append([answered(2)])
        journal._file = file
        journal.append([answered(3)])
    assert [each.id for each in read_journals(tmp_path)] == ["1", "3"]


class FullDisk:
    """Takes twenty bytes, then none."""

    def __init__(self, file):
        self._file, self._left, self.truncate = file, 20, file.truncate

    def write(self, data):
        if not self._left:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._left = 0
        return self._file.write(bytes(data[:20]))


def test_a_batch_with_one_wrong_prediction_adds_nothing(tmp_path):
    """The error names it, and the journal stays as it was."""
    with Journal(tmp_path) as journal, pytest.raises(EvaluationError, match=r"'8'\): shots is -1"):
        journal.append([answered(7), Prediction(task="t", id="8", shots=-1, seed=0)])
    assert read_journals(tmp_path) == []


def test_a_process_has_a_number(tmp_path):
    """From 0."""
    with pytest.raises(ValueError, match="process is -1, wanted 0 or more"):
        Journal(tmp_path, process=-1)
