"""The same steps on Ray: the same bytes, also when its processes are killed."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from flamingo_blocks.data.build import LocalExecutor, RayExecutor, Shard, run_shards
from tests.data.build.steps import Lines, contents, expected, write_shards

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def ray():
    """A cluster of this machine alone."""
    ray = pytest.importorskip("ray", reason="`nox -s ray` installs it")
    paths = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    yield ray
    ray.shutdown()


TROUBLE = [
    [{"text": "a"}, {"text": "b", "do": "segfault"}, {"text": "c"}],
    [{"text": "d", "do": "hang"}, {"text": ""}, {"text": "e"}],
    [{"text": "f"}, {"text": "g", "do": "once kill"}, {"text": "h", "do": "fail"}],
    [],
    [{"text": "i", "removed": ["image_size"]}],
]


def test_a_build_on_ray_is_that_of_one_machine(ray, tmp_path):
    """Records that crash, hang and raise, and a worker killed once: every file is the same as by `LocalExecutor`."""
    shards = write_shards(tmp_path / "in", TROUBLE)
    local = LocalExecutor(2, timeout_s=1.0)
    for name, executor in {"ray": RayExecutor(local, max_in_flight=3), "local": local}.items():
        memory = tmp_path / name
        memory.mkdir()
        report = run_shards(Lines(memory), shards, tmp_path / f"out {name}", executor=executor)
        assert report.complete
        assert report.reasons == {"crash": 1, "empty": 1, "error": 1, "timeout": 1}
        for number, records in enumerate(TROUBLE):
            assert (tmp_path / f"out {name}" / f"{number:03}.jsonl").read_bytes() == expected(records)[0]
    assert contents(tmp_path / "out ray") == contents(tmp_path / "out local")


@dataclass(frozen=True)
class KillsItsTask(Lines):
    """`Lines`, whose worker kills the process of Ray that watches it: once, or always."""

    always: bool = False

    def act(self, what, record):
        if record["text"] == "b" and (self.always or not (self.memory / "killed").exists()):
            (self.memory / "killed").touch()
            import multiprocessing

            os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
            signal.pause()  # until it dies as well
        super().act(what, record)


def test_a_task_that_is_killed_is_tried_again(ray, tmp_path):
    """By `kill -9` in the middle: the same bytes, and no record is lost."""
    records = [[{"text": "a"}, {"text": "b"}], [{"text": "c"}]]
    shards = write_shards(tmp_path / "in", records)
    report = run_shards(KillsItsTask(tmp_path), shards, tmp_path / "out", executor=RayExecutor())
    assert (tmp_path / "killed").exists()
    assert report.complete and not report.quarantined
    for number, each in enumerate(records):
        assert (tmp_path / "out" / f"{number:03}.jsonl").read_bytes() == expected(each)[0]


def test_retries_have_an_end(ray, tmp_path):
    """A shard that kills its task again and again fails, and the others go on; the next run does it."""
    shards = write_shards(tmp_path / "in", [[{"text": "a"}, {"text": "b"}], [{"text": "c"}]])
    executor = RayExecutor(max_retries=1)
    report = run_shards(KillsItsTask(tmp_path, always=True), shards, tmp_path / "out", executor=executor)
    assert list(report.failed) == ["000"]
    assert report.rows == 1
    assert not [name for name in contents(tmp_path / "out") if "unfinished" in name]
    report = run_shards(Lines(tmp_path), shards, tmp_path / "out", executor=executor)
    assert (report.complete, report.done, report.skipped) == (True, 1, 1)


def test_a_shard_that_cannot_be_read_is_told(ray, tmp_path):
    """The others go on."""
    shards = [Shard("missing", tmp_path / "nothing"), *write_shards(tmp_path / "in", [[{"text": "a"}]])]
    report = run_shards(Lines(tmp_path), shards, tmp_path / "out", executor=RayExecutor())
    assert "FileNotFoundError" in report.failed["missing"]
    assert report.rows == 1


@pytest.mark.parametrize("options", [{"num_cpus": 0.0}, {"max_retries": -1}, {"max_in_flight": 0}], ids=str)
def test_numbers_out_of_range_are_told(ray, options):
    """Retries without a bound among them."""
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} is {value}, wanted"):
        RayExecutor(**options)
