"""Where a run happens: the machine, the versions, and how busy both are."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

import flamingo_blocks
from benchmarks.results import Machine, Versions

ROOT = Path(__file__).parents[1]
PACKAGES = ("open-flamingo", "flamingo-pytorch", "transformers", "xformers", "einops")


def describe_machine(device: str) -> Machine:
    """The machine of this process."""
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return Machine(
        cpu=_cpu_name(),
        cores=physical_cores(),
        ram_bytes=ram,
        gpu=torch.cuda.get_device_name() if device == "cuda" else None,
        system=f"{platform.system()} {platform.machine()}",
    )


def _cpu_facts(*keys: str) -> list[tuple[str, ...]]:
    """The values of some keys of `/proc/cpuinfo`, for each logical processor that has them all."""
    information = Path("/proc/cpuinfo")
    blocks = information.read_text().split("\n\n") if information.is_file() else []
    facts = [{k.strip(): v.strip() for k, _, v in (line.partition(":") for line in b.splitlines())} for b in blocks]
    return [tuple(fact[key] for key in keys) for fact in facts if all(key in fact for key in keys)]


def _cpu_name() -> str:
    names = _cpu_facts("model name")
    return names[0][0] if names else platform.processor() or platform.machine()


def physical_cores() -> int:
    """Cores, two threads of one core counted once; what one process may use at most."""
    cores = len(set(_cpu_facts("physical id", "core id"))) or os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return min(cores, usable)


def load() -> float | None:
    """Processes that wanted a core in the last minute, on average."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe_versions(packages: Sequence[str] = PACKAGES) -> Versions:
    """What runs in this process, and the commit of its sources."""
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--", "src", "benchmarks/*.py", "benchmarks/cases")
    return Versions(
        python=platform.python_version(),
        torch=torch.__version__,
        flamingo_blocks=flamingo_blocks.__version__,
        packages={package: _version(package) for package in packages},
        commit=commit,
        dirty=None if changed is None else bool(changed),
    )


def today() -> str:
    """The date of a run."""
    return datetime.now(UTC).date().isoformat()
