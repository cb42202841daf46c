"""A real small step, and ways for a record to misbehave in it."""

import ctypes
import json
import os
import signal
import threading
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
        if what.startswith("once "):
            mark = self.memory / f"{record['text']}.done"
            if mark.exists():
                return
            mark.touch()
            what = what.removeprefix("once ")
        ACTS[what]()


def fail() -> None:
    raise ValueError("this record is no good")


def allocate() -> None:
    held = [bytearray(os.urandom(1) * 2**20) for _ in range(2000)]
    threading.Event().wait(60)
    del held


ACTS = {
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "leave": lambda: os._exit(3),
    "exit": lambda: exit(4),  # noqa: PLR1722 - a parser of command lines may
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: ctypes.PyDLL(None).sleep(600),  # in C, with Python's lock held
    "loop": lambda: all(iter(int, 1)) or loop(),
    "fail": fail,
    "allocate": allocate,
}


def loop() -> None:
    while True:
        pass


def write_shards(folder: Path, shards: list[list[dict[str, Any]]]) -> list[Shard]:
    """Inputs of `Lines`."""
    folder.mkdir(exist_ok=True)
    made = []
    for number, records in enumerate(shards):
        path = folder / f"{number:03}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        made.append(Shard(f"{number:03}", source=path))
    return made


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a build, by its name; the lock is no content."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != "lock"
    }
