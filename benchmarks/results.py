"""What a run found, as one file: typed, checked when written and when read, and silent about whose machine it is."""

import re
from dataclasses import field
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

RESULTS = Path(__file__).parent / "results"
DEFAULT_DTYPES = {"cpu": "float32", "cuda": "bfloat16"}

# `strict`: a number in quotes is no number; `forbid`: a field that nobody reads is a mistake of who wrote it
CHECKED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
Status = Literal["ok", "wrong", "failed"]


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


@dataclass(frozen=True, config=CHECKED)
class Machine:
    """What the run ran on: model names and sizes, nothing that names an owner."""

    cpu: str
    cores: int
    ram_bytes: int
    gpu: str | None
    system: str

    @property
    def slug(self) -> str:
        """A name for files: the GPU or the CPU, and the cores."""
        return _slug(f"{self.gpu or self.cpu} {self.cores} cores")


@dataclass(frozen=True, config=CHECKED)
class Versions:
    """What was run; of a package that is not installed the version is `None`."""

    python: str
    torch: str
    flamingo_blocks: str
    packages: dict[str, str | None]
    commit: str | None
    dirty: bool | None  # the commit is not quite what ran


@dataclass(frozen=True, config=CHECKED)
class Limits:
    """What the machine can do at most, in the dtype of the run."""

    matmul_flops_per_s: float
    copy_bytes_per_s: float


@dataclass(frozen=True, config=CHECKED)
class ContenderResult:
    """One contender of one case; ratios are its time over ours, by rounds, so above 1 where we are faster."""

    name: str
    repeats: int
    median_s: float
    q1_s: float
    q3_s: float
    ratio: float
    ratio_q1: float
    ratio_q3: float
    saved_bytes: int  # for the backward pass, made by the call
    given_bytes: int  # for the backward pass, there before the call: parameters and inputs
    peak_bytes: int | None
    limit_fraction: float | None


@dataclass(frozen=True, config=CHECKED)
class BarResult:
    """One bar: `value` is in the terms of `kind`, `None` where it would be a division by nothing.

    `passed` is `None` where the other contender could not run.
    """

    what: str
    against: str
    kind: Literal["faster_by", "at_most"]
    metric: Literal["time", "saved_bytes", "peak_bytes"]
    ratio: float
    slack: float
    value: float | None
    passed: bool | None


@dataclass(frozen=True, config=CHECKED)
class OperatorShare:
    """One operator in a profile of ours: the share of the time that it took itself, and how often a call runs it."""

    name: str
    share: float
    calls: float


@dataclass(frozen=True, config=CHECKED)
class CaseResult:
    """One case; without numbers when its check failed (`wrong`) or when it did not get that far (`failed`)."""

    suite: str
    name: str
    sizes: dict[str, int]
    device: str
    dtype: str
    status: Status
    trouble: str | None = None
    flops: int | None = None
    bytes: int | None = None
    contenders: list[ContenderResult] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    bars: list[BarResult] = field(default_factory=list)
    profile: list[OperatorShare] = field(default_factory=list)  # of ours, where a bar of time was missed

    @model_validator(mode="after")
    def numbers_only_of_what_is_right(self) -> "CaseResult":
        """A case that was not checked has no numbers, and one that was has ours first."""
        if (self.status == "ok") != bool(self.contenders):
            raise ValueError(f"contenders: a case has numbers if and only if its status is 'ok', got {self.status!r}")
        return self


@dataclass(frozen=True, config=CHECKED)
class Run:
    """One run of the suite."""

    schema_version: Literal[1]
    date: str
    machine: Machine
    versions: Versions
    device: str
    dtype: str
    threads: int
    seed: int
    full: bool
    suites: list[str]  # empty: all
    load: float | None  # processes that wanted a core in the minute before the run; an idle machine has 0
    limits: Limits
    cases: list[CaseResult]


_SCHEMA = TypeAdapter(Run)


def path_of(run: Run, folder: Path) -> Path:
    """`<folder>/<version>/<suites or all>--<machine>--<device>-<threads>-threads.json`; an unusual dtype is added."""
    suites = "+".join(sorted(map(_slug, run.suites))) or "all"
    device = run.device if run.dtype == DEFAULT_DTYPES[run.device] else f"{run.device}-{run.dtype}"
    name = f"{suites}--{run.machine.slug}--{device}-{run.threads}-threads.json"
    return folder / run.versions.flamingo_blocks / name


def write(run: Run, folder: Path) -> Path:
    """Write the file of a run, after reading it back: what could not be read is not written.

    Args:
        run: What was found.
        folder: Where result files stand, `benchmarks/results` for those that are published.

    Returns:
        Where it is.
    """
    path = path_of(run, folder)
    text = _SCHEMA.dump_json(run, indent=1).decode() + "\n"
    parse(text, source=path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def parse(text: str, *, source: str) -> Run:
    """Read a run from the text of its file; a `ValueError` names each field that is missing, unknown or ill-typed."""
    try:
        return _SCHEMA.validate_json(text)
    except ValidationError as error:
        told = [f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors()]
        raise ValueError(f"{source} is no result file of this version: {'; '.join(told)}") from None


def read(path: Path) -> Run:
    """Read a result file; a `ValueError` says what is wrong with it."""
    if not path.is_file():
        raise ValueError(f"no result file {path}; known here: {[str(one) for one in sorted(RESULTS.rglob('*.json'))]}")
    return parse(path.read_text(), source=path.name)


def without_paths(message: str) -> str:
    """The first line of a message, each absolute path cut down to its last part."""
    first = (message.strip().splitlines() or [""])[0]
    return re.sub(r"(?<![\w.])(?:[A-Za-z]:)?(?:[\\/][\w.@+~-]+)+[\\/]([\w.@+~-]+)", r"\1", first)[:300]
