"""Who may build in a folder: one at a time, and under the configuration of what is done there."""

import pytest

from flamingo_blocks.data.build import LocalExecutor, run_shards
from tests.data.build.steps import Lines, write_shards

HERE = LocalExecutor(0, retries=0)
TEXTS = [[{"text": "a"}, {"text": ""}]]


def test_a_second_build_of_the_same_process_is_refused(tmp_path):
    """By another thread, say; the lock of the system would let it in."""
    shards, out = write_shards(tmp_path / "in", TEXTS), tmp_path / "out"
    refused = []

    def build_too(_):
        with pytest.raises(RuntimeError, match="another build is at work in"):
            run_shards(Lines(tmp_path), shards, out, executor=HERE)
        refused.append(True)

    assert run_shards(Lines(tmp_path), shards, out, executor=HERE, on_progress=build_too).complete
    assert refused
    assert run_shards(Lines(tmp_path), shards, out, executor=HERE).skipped == 1


def test_a_configuration_under_which_nothing_was_done_claims_no_folder(tmp_path):
    """Whoever corrects what failed goes on in the same folder."""
    shards, out = write_shards(tmp_path / "in", TEXTS), tmp_path / "out"
    lines = shards[0].source.read_text()
    shards[0].source.unlink()
    assert not run_shards(Lines(tmp_path, config={"min": 1}), shards, out, executor=HERE).complete
    shards[0].source.write_text(lines)
    assert run_shards(Lines(tmp_path, config={"min": 2}), shards, out, executor=HERE).complete
