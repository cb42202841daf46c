"""Builds in processes of their own, to be killed: `python -m tests.data.build.killed_builds <what> <folder> ...`."""

import functools
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flamingo_blocks.data.build import LocalExecutor, Shard, run_shards
from tests.data.build.steps import Lines, contents, write_shards

RECORDS = [[{"text": f"{s}.{r}"} for r in range(5)] for s in range(3)]
WRITES = {"fsync": os, "replace": os, "unlink": Path}  # all by which files change, but the output


class Points:
    """The points that a process passes on its way; at one of them it may have to act."""

    def __init__(self, act: Callable[[], None], at: int) -> None:
        self.act, self.at, self.passed = act, at, []

    def reach(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) == self.at + 1:
            self.act()

    def watch_files(self) -> None:
        """Have a point before and after each operation on files."""
        for name, owner in WRITES.items():
            operation = getattr(owner, name)

            def watched(*args: Any, _name: str = name, _operation: Any = operation, **kwargs: Any) -> Any:
                self.reach(f"before {_name}")
                found = _operation(*args, **kwargs)
                self.reach(f"after {_name}")
                return found

            setattr(owner, name, functools.wraps(operation)(watched))


@dataclass(frozen=True)
class Watched(Lines):
    """`Lines`, whose worker passes points while it does one of the shards, and kills its builder at one of them."""

    shard: str = ""
    at: int = -1
    spares_itself: bool = False
    log: Path | None = None

    def read(self, shard: Shard) -> Any:
        if shard.name != self.shard:
            yield from super().read(shard)
            return
        points = Points(self.kill, self.at)
        points.watch_files()
        object.__setattr__(self, "_points", points)
        if self.log is not None:
            original = points.reach
            points.reach = lambda name: (original(name), self.log.write_text(json.dumps(points.passed)))
        for record in super().read(shard):
            points.reach("in the middle of reading")
            yield record

    def act(self, what: str | None, record: dict[str, Any]) -> None:
        super().act(what, record)
        if (points := getattr(self, "_points", None)) is not None:
            points.reach("in the middle of a record")

    def kill(self) -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        if not self.spares_itself:
            os.kill(os.getpid(), signal.SIGKILL)


def build(step: Lines, folder: Path, name: str, executor: LocalExecutor | None = None) -> Any:
    """One run, by workers that are forked, so that many fit in a test."""
    shards = write_shards(folder / "in", RECORDS)
    return run_shards(step, shards, folder / name, executor=executor or LocalExecutor(2, start_method="fork"))


def forked(function: Callable[[], None]) -> int:
    """Run in a process of its own, and say how that ended, when its workers are gone as well."""
    listening, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        function()
        os._exit(0)
    os.close(held)
    os.read(listening, 1)  # nothing, when the last who holds the other end is gone
    os.close(listening)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def points_of_worker(folder: Path) -> list[str]:
    """What a worker passes in one shard, nothing killed."""
    log = folder / "points.json"
    build(Watched(folder, shard="001", log=log), folder, "points of a worker")
    return json.loads(log.read_text())


def points_of_builder(folder: Path) -> list[str]:
    """What the builder itself passes."""
    log = folder / "points.json"

    def run() -> None:
        points = Points(lambda: None, -1)
        points.watch_files()
        build(Lines(folder), folder, "points of a builder")
        log.write_text(json.dumps(points.passed))

    assert forked(run) == 0
    return json.loads(log.read_text())


def killed_and_resumed(folder: Path, seed: int, worker_points: list[str], builder_points: list[str]) -> dict[str, Any]:
    """Kill a build at a point that the seed chooses, and resume it."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    in_worker = draw.random() < 0.75  # where most that can be cut in two is done
    points = worker_points if in_worker else builder_points
    at = draw.randrange(len(points))
    shard, spares = draw.choice(["000", "001", "002"]), draw.random() < 0.5

    def run() -> None:
        if in_worker:
            step: Lines = Watched(folder, shard=shard, at=at, spares_itself=spares)
        else:
            step = Lines(folder)
            Points(lambda: os.kill(os.getpid(), signal.SIGKILL), at).watch_files()
        build(step, folder, f"killed {seed}")

    ended = forked(run)
    out = folder / f"killed {seed}"
    before = contents(out)
    report = build(Lines(folder), folder, f"killed {seed}")
    return {
        "where": f"{'worker' if in_worker else 'builder'}, {points[at]} ({at} of {len(points)})",
        "ended": ended,
        "visible": {n: c.decode() for n, c in before.items() if n.endswith(".jsonl") and not n.startswith(".")},
        "manifests": sum(name.startswith("_build/shards/0") for name in before),
        "skipped": report.skipped,
        "done": report.done,
        "same": contents(out) == contents(folder / "calm"),
    }


def seeds(folder: Path, *numbers: str) -> None:
    """Kill and resume once for each seed, and print what came of it."""
    build(Lines(folder), folder, "calm")
    worker_points, builder_points = points_of_worker(folder), points_of_builder(folder)
    found = [killed_and_resumed(folder, int(seed), worker_points, builder_points) for seed in numbers]
    calm = {name: content.decode() for name, content in contents(folder / "calm").items()}
    print(json.dumps({"calm": calm, "points": worker_points, "runs": found}))  # noqa: T201 - to the test


def build_again(out: str) -> None:
    """Build where another build is at work."""
    run_shards(Lines(Path(out)), [Shard("000")], out, executor=LocalExecutor(0))


@dataclass(frozen=True)
class Telling(Lines):
    """`Lines`, whose worker opens a pipe with a name and hangs in native code; the pipe closes when it is gone."""

    def act(self, what: str | None, record: dict[str, Any]) -> None:
        if what is not None:
            os.write(os.open(self.memory / "pipe", os.O_WRONLY), b"here")
        super().act(what, record)


def hang(folder: Path, method: str) -> None:
    """Build what hangs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs tests in the background ignores it
    shards = write_shards(folder / "in", [[{"text": "a"}, {"text": "b", "do": "hang"}], [{"text": "c"}]])
    run_shards(Telling(folder), shards, folder / "out", executor=LocalExecutor(2, start_method=method))


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    {"seeds": seeds, "hang": hang}[what](Path(where), *rest)
