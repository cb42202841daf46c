"""Commands of a page, typed by a shell, and what the page says they print.

A block that is fenced as `console` has commands behind `$ `, which go on in the next line behind a backslash, and what
they print below them. `...` stands for anything: in a line for a part of it, alone in a line for any number of lines.
A block of another language with a `title="name"` is that file. Files are written and commands typed in the order of the
page, in one shell, so that a page may put a command into the background and end it later.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(?P<kind>\w+)(?P<head>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="(?P<name>[^"]+)"')
BAR = re.compile(r"[^\r\n]*\d%\|[^\r\n]*\]\r?")  # of tqdm
STATUS = "the shell is done with it:"
ASKS_STATUS = "echo $?"


@dataclass(frozen=True)
class File:
    """A file that a page shows."""

    name: str
    text: str
    line: int


@dataclass(frozen=True)
class Typed:
    """A command of a page, and what is to be seen below it."""

    command: str
    shows: tuple[str, ...]
    line: int


def read_page(text: str) -> list[File | Typed]:
    """Files and commands in the order of a page."""
    found: list[File | Typed] = []
    for block in BLOCK.finditer(text):
        above = text[: block.start("text")].count("\n")
        if block["kind"] == "console":
            found += commands_of(block["text"], above)
        elif title := TITLE.search(block["head"]):
            found.append(File(title["name"], block["text"], above))
    return found


def commands_of(text: str, above: int) -> list[Typed]:
    """Those of one block, which has so many lines above it."""
    found: list[Typed] = []
    for number, line in enumerate(text.splitlines(), start=above + 1):
        if line.startswith("$ "):
            found.append(Typed(line.removeprefix("$ "), (), number))
            continue
        if not found:
            raise ValueError(f"line {number} stands above any command: {line}")
        last = found.pop()
        if last.command.endswith("\\"):
            found.append(Typed(f"{last.command}\n{line}", (), last.line))
        else:
            found.append(Typed(last.command, (*last.shows, line), last.line))
    return found


def fits(shows: tuple[str, ...], printed: list[str]) -> bool:
    """Whether lines are those that a page shows, where `...` is anything; empty lines at the end do not count."""
    pattern = "".join(
        r"(?:.*\n)*?" if line.strip() == "..." else r"[^\n]*".join(map(re.escape, line.rstrip().split("..."))) + r"\n"
        for line in shows
    )
    text = "".join(f"{line.rstrip()}\n" for line in printed).strip("\n")
    return re.fullmatch(pattern, f"{text}\n" if text else "") is not None


class Shell:
    """A shell in a folder, with the commands of the package on its path.

    Args:
        folder: Where it types.
        programs: A new folder, for the commands.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        programs.mkdir()
        for name, module in (("python", ""), ("flamingo-blocks", "-m flamingo_blocks.cli ")):
            (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module}"$@"\n')
            (programs / name).chmod(0o755)
        environment = {
            **os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"),
            "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "120",
        }  # fmt: skip
        self._shell = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, bufsize=0, start_new_session=True,
        )  # fmt: skip
        assert self._shell.stdin is not None and self._shell.stdout is not None
        self._in, self._out = self._shell.stdin, self._shell.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._in.close()
        self._out.close()

    def _end(self) -> None:
        """The shell and all that it has put into the background."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()

    def type(self, command: str, *, limit_s: float = 1200) -> tuple[int, list[str]]:
        """Exit status and lines, standard error among them, without bars of progress."""
        watch = threading.Timer(limit_s, self._end)
        watch.start()
        try:
            return self._typed(command)
        finally:
            watch.cancel()

    def _typed(self, command: str) -> tuple[int, list[str]]:
        # The status is given back, so that the next command may ask for it.
        tell = f"(s=$?; printf '\\n%s\\n' \"{STATUS} $s\"; exit $s)"
        self._in.write(f"{{ {command}\n}} </dev/null\n{tell}\n".encode())
        said = b""
        while not (done := re.search(rf"^{STATUS} (\d+)$", text := said.decode(errors="replace"), re.MULTILINE)):
            part = self._out.read(1 << 16)
            assert part, f"the shell ended at {command}: {text}"
            said += part
        printed = []
        for line in text[: done.start()].split("\n"):
            told = BAR.sub("", line).replace("\r", "")
            if told.strip() or not line:
                printed.append(told)
        return int(done[1]), printed


def type_page(text: str, folder: Path, programs: Path) -> int:
    """Write the files and type the commands of a page, as it shows them.

    Args:
        text: Of the page.
        folder: Empty; the page's own files and all that its commands make go there.
        programs: A new folder outside of it.

    Returns:
        How many commands were typed.

    Raises:
        AssertionError: If a command ends with a status other than 0 and the next one does not ask for it, or prints
            something else than the page shows.
    """
    steps = read_page(text)
    following = [*(step.command if isinstance(step, Typed) else "" for step in steps[1:]), ""]
    with Shell(folder, programs) as shell:
        for step, after in zip(steps, following, strict=True):
            if isinstance(step, File):
                (folder / step.name).parent.mkdir(parents=True, exist_ok=True)
                (folder / step.name).write_text(step.text)
                continue
            status, printed = shell.type(step.command)
            said = "\n".join(printed)
            assert status == 0 or after == ASKS_STATUS, f"line {step.line}: {step.command}\nstatus {status}\n{said}"
            shown = "\n".join(step.shows)
            assert fits(step.shows, printed), f"line {step.line}: {step.command}\nshown:\n{shown}\nprinted:\n{said}"
    return sum(isinstance(step, Typed) for step in steps)
