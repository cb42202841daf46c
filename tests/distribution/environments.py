"""Environments that hold what a user would have, made quickly: torch stands in one of them, which the others see."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
# A user's shell has none of these; and nothing that is run reaches for a network.
_UNSET = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET")
_SET = {
    "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "MPLBACKEND": "Agg",
    "PYTHONWARNINGS": "default",
}  # fmt: skip


class DistributionError(Exception):
    """What is distributed is not as it should be."""


class Environment:
    """A virtual environment of its own, which this interpreter's pip fills.

    Args:
        folder: Where it stands; what stood there is removed.
        sees: Another environment, whose packages it has too.
    """

    def __init__(self, folder: Path, *, sees: "Environment | None" = None) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        self._call(sys.executable, "-m", "venv", "--without-pip", str(folder))
        if sees is not None:
            (self.packages / "torch-of-another.pth").write_text(f"{sees.packages}\n")

    @classmethod
    def opened(cls, folder: Path) -> "Environment":
        """One that was made before."""
        self = cls.__new__(cls)
        self.folder = folder
        return self

    @property
    def packages(self) -> Path:
        """Where its packages are."""
        found = [*self.folder.glob("lib/python3*/site-packages"), *self.folder.glob("Lib/site-packages")]
        return found[0].resolve()

    def command(self, name: str) -> str:
        """A program of it."""
        return str(next(place / name for place in (self.folder / "bin", self.folder / "Scripts") if place.is_dir()))

    def pip(self, *words: str) -> str:
        """Install into it, under the pins of continuous integration; gives what was printed."""
        asked = (sys.executable, "-m", "pip", "--python", self.command("python"), "install", "--no-compile", "--quiet")
        return self._call(*asked, "--constraint", str(CONSTRAINTS), *words)

    def run(self, *words: str, cwd: Path | None = None) -> str:
        """Run one of its programs; gives what was printed, and fails as it fails."""
        return self._call(self.command(words[0]), *words[1:], cwd=cwd)

    def _call(self, *words: str, cwd: Path | None = None) -> str:
        environment = {name: value for name, value in os.environ.items() if name not in _UNSET}
        environment |= _SET
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "HF_HOME"):
            if "pip" not in words:  # its own cache is the one thing that is shared
                environment[name] = str(self.folder.parent / name.lower())
        done = subprocess.run(
            words, cwd=cwd or self.folder.parent, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DistributionError(f"{' '.join(words)}\nended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout


def with_torch(folder: Path) -> Environment:
    """The environment that holds torch alone, as it was left, where the pins are still the same."""
    pin = next(line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("torch=="))
    mark = folder / "made-for"
    if mark.is_file() and mark.read_text() == f"{pin} {sys.version}":
        return Environment.opened(folder)
    made = Environment(folder)
    made.pip("torch")
    mark.write_text(f"{pin} {sys.version}")
    return made


def build(kinds: Iterable[str], sources: Path, out: Path) -> list[Path]:
    """Build a `wheel`, an `sdist` or both, with the backend that is installed here."""
    out.mkdir(parents=True, exist_ok=True)
    before = set(out.iterdir())
    subprocess.run(
        (sys.executable, "-m", "build", "--no-isolation", *(f"--{kind}" for kind in kinds), "--outdir", str(out),
         str(sources)), check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return sorted(set(out.iterdir()) - before)


def contents(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}
