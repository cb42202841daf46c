"""How much `import flamingo_blocks` adds to `import torch`: timed in interpreters that have torch already."""

import atexit
import json
import os
import subprocess
import sys
from pathlib import Path

import flamingo_blocks
from benchmarks.case import OURS, Bar, Case, Contender

SOURCES = str(Path(flamingo_blocks.__file__).parents[1])
OPTIONAL = ("transformers", "timm", "open_clip", "xformers", "PIL", "sklearn", "matplotlib", "safetensors", "tqdm")
# What is imported before the clock starts, and what is timed.
PROGRAMS = {OURS: ("import torch", "import flamingo_blocks"), "torch": ("", "import torch"), "nothing": ("", "")}


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:  # noqa: ARG001 (as of every suite)
    """One case, on the CPU."""
    if device != "cpu":
        return []
    return [
        Case(
            suite="import",
            name="import/flamingo_blocks",
            sizes={},
            device=device,
            dtype=dtype,
            prepare=_prepare,
            check=_check,
            bar=(Bar("at most 0.1 s beyond `import torch`", "nothing", 1.0, "at_most", slack=0.1),),
        )
    ]


class _Interpreter:
    """A new interpreter for each call, started and brought to the line before the one that is timed by `fresh`."""

    def __init__(self, before: str, timed: str) -> None:
        # An answer behind the timed line; the byte code is written, as an installer does.
        self._code = f"import sys\n{before}\nprint(flush=True)\nsys.stdin.readline()\n{timed}\nprint(flush=True)"
        self._process: subprocess.Popen[str] | None = None  # that waits for the word to go on
        self._answered: subprocess.Popen[str] | None = None
        atexit.register(self.leave)

    def leave(self) -> None:
        """End the interpreter of the last call."""
        for process in filter(None, (self._process, self._answered)):
            process.communicate()
        self._process = self._answered = None

    def fresh(self, _: int) -> None:
        """An import has no inputs, but an interpreter can do it once."""
        self.leave()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": _environment()}
        self._process = subprocess.Popen([sys.executable, "-c", self._code], **pipes)  # type: ignore[call-overload]  # noqa: S603
        self._wait()

    def run(self) -> None:
        """Let it go on, and wait for its answer; called again, as a profile does, it starts another first."""
        if self._process is None:
            self.fresh(0)
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._wait()
        self._answered, self._process = self._process, None

    def _wait(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError(f"the interpreter that was to run {self._code!r} has ended")


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": SOURCES}


def _prepare() -> list[Contender]:
    found = []
    for name, lines in PROGRAMS.items():
        interpreter = _Interpreter(*lines)
        found.append(Contender(name=name, run=interpreter.run, fresh=interpreter.fresh, same_work=name == OURS))
    return found


def _modules(code: str) -> set[str]:
    code = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, check=True)  # noqa: S603
    return set(json.loads(done.stdout))


def _check(_: list[Contender]) -> None:
    """No optional package is loaded, beyond what torch loads itself."""
    added = _modules("import flamingo_blocks") - _modules("import torch")
    found = [name for name in OPTIONAL if name in added]
    if found:
        raise AssertionError(f"import flamingo_blocks loads {', '.join(found)}")
