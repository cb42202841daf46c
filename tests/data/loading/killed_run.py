"""A run that writes down each step and the state after it, to be killed at any time; also a script of its own."""

import json
import sys
from pathlib import Path

from tests.data.loading.toy_sources import WHOLE, digest, mixture


def kept_lines(journal: Path) -> list[dict]:
    """The steps that were written down whole."""
    text = journal.read_text() if journal.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def run(journal: Path, *, steps: int, num_workers: int, on_step=lambda: None) -> None:
    """Go on from the last state of the journal up to a number of steps."""
    kept = kept_lines(journal)
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in kept))
    with mixture(WHOLE, num_workers=num_workers) as data, journal.open("a") as file:
        if kept:
            data.load_state_dict(kept[-1]["state"])
        for step in range(len(kept), steps):
            line = {"step": step, "digest": digest(next(data)), "state": data.state_dict()}
            file.write(json.dumps(line) + "\n")
            file.flush()
            on_step()


def run_reporting(journal: Path, *, steps: int, num_workers: int, connection) -> None:
    """The same, with a word to whoever is going to kill it after each step."""
    run(journal, steps=steps, num_workers=num_workers, on_step=lambda: connection.send("step"))


if __name__ == "__main__":
    run(Path(sys.argv[1]), steps=int(sys.argv[2]), num_workers=int(sys.argv[3]))
