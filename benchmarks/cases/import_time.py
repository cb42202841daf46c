"""How much `import flamingo_blocks` adds to `import torch`, each in a new interpreter."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import flamingo_blocks
from benchmarks.case import OURS, Bar, Case, Contender

SOURCES = str(Path(flamingo_blocks.__file__).parents[1])
OPTIONAL = ("transformers", "timm", "open_clip", "xformers", "PIL", "sklearn", "matplotlib", "safetensors", "tqdm")
PROGRAMS = {OURS: "import torch; import flamingo_blocks", "torch": "import torch"}


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
            bar=(Bar("as fast as `import torch`, or nearly", "torch", 1.0, "at_most", slack=0.1),),
        )
    ]


def _prepare() -> list[Contender]:
    return [Contender(name=name, run=partial(_run, code), fresh=_nothing) for name, code in PROGRAMS.items()]


def _nothing(seed: int) -> None:
    """An import has no inputs."""


def _run(code: str) -> str:
    """Run a program in an interpreter of its own, and give what it prints."""
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    return done.stdout


def _check(_: list[Contender]) -> None:
    """No optional package is loaded, beyond what torch loads itself."""
    tell = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    loaded = {name: set(json.loads(_run(f"{code}; {tell}"))) for name, code in PROGRAMS.items()}
    found = [name for name in OPTIONAL if name in loaded[OURS] - loaded["torch"]]
    if found:
        raise AssertionError(f"import flamingo_blocks loads {', '.join(found)}")
