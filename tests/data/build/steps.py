"""A real small step, and ways for a record to misbehave in it."""

import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flamingo_blocks.data import Dropped
from flamingo_blocks.data.build import Kept, Shard


@dataclass(frozen=True)
class Lines:
    """Lines of JSON in, their texts in capitals out; a record may ask for trouble.

    A record is `{"text": ..., "do": ...}`. What it does once only, it remembers by a file in `memory`.
    """

    memory: Path
    name: str = "lines"
    suffix: str = ".jsonl"
    config: dict[str, Any] = field(default_factory=dict)

    def read(self, shard: Shard) -> Iterator[dict[str, Any]]:
        for line in Path(shard.source).read_text().splitlines():
            record = json.loads(line)
            self.act(record.get("read"), record)
            yield record

    def process(self, record: dict[str, Any]) -> Any:
        self.act(record.get("do"), record)
        removed = tuple(Dropped(reason) for reason in record.get("removed", ()))
        if record["text"] == "":
            return Dropped("empty")
        return Kept(record, removed) if removed else record

    def write(self, results: Iterable[dict[str, Any]], file: Path) -> None:
        with file.open("w") as out:
            for record in results:
                self.act(record.get("write"), record)
                out.write(json.dumps({"text": record["text"].upper()}) + "\n")

    def act(self, what: str | None, record: dict[str, Any]) -> None:
        if what is None:
            return
        times, _, act = what.partition(" ")
        if times not in TIMES:
            act = what
        else:
            done = self.memory / f"{record['text']}.done"
            before = done.stat().st_size if done.exists() else 0
            if before == TIMES[times]:
                return
            done.write_bytes(b"x" * (before + 1))
        ACTS[act]()


def fail() -> None:
    raise ValueError("this record is no good")


def allocate() -> None:
    held = [bytearray(os.urandom(1) * 2**20) for _ in range(1500)]
    loop()
    del held


def start_program() -> None:
    """Start one that holds the pipe."""
    with open("pipe", "w") as pipe:  # noqa: PTH123 - beside the test, which a worker is as well
        subprocess.Popen(["sleep", "600"], stdout=pipe)


def loop() -> None:
    while True:
        pass


ACTS = {
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "leave": lambda: os._exit(3),
    "exit": lambda: exit(4),  # noqa: PLR1722 - a parser of command lines may
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: ctypes.PyDLL(None).sleep(600),  # in C, with Python's lock held
    "loop": loop,
    "fail": fail,
    "allocate": allocate,
    "start and hang": lambda: (start_program(), loop()),
    "start and leave": lambda: (start_program(), os._exit(3)),
}
TIMES = {"once": 1, "twice": 2}
QUARANTINED = {
    "abort": ("crash", "killed by SIGABRT"),
    "segfault": ("crash", "killed by SIGSEGV"),
    "leave": ("crash", "exit code 3"),
    "kill": ("crash", "killed by SIGKILL"),
    "exit": ("error", "SystemExit: 4"),
    "fail": ("error", "ValueError: this record is no good"),
    "hang": ("timeout", "silent for 1 s"),
    "loop": ("timeout", "silent for 1 s"),
}


def write_shards(folder: Path, shards: list[list[dict[str, Any]]]) -> list[Shard]:
    """Inputs of `Lines`."""
    folder.mkdir(exist_ok=True)
    made = []
    for number, records in enumerate(shards):
        path = folder / f"{number:03}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        made.append(Shard(f"{number:03}", source=path))
    return made


def expected(records: list[dict[str, Any]]) -> tuple[bytes, list[tuple[int, str, str]]]:
    """The file of a shard and its quarantine, by the plainest code that gives them."""
    quarantined = [(number, *QUARANTINED[r["do"]]) for number, r in enumerate(records) if r.get("do") in QUARANTINED]
    lost = {number for number, *_ in quarantined}
    kept = [record["text"] for number, record in enumerate(records) if number not in lost and record["text"]]
    return "".join(json.dumps({"text": text.upper()}) + "\n" for text in kept).encode(), quarantined


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a build, by its name; the lock is no content."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "lock"
    }
