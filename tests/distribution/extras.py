"""Install and use each extra in an environment of its own: `python -m tests.distribution.extras`."""

import argparse
import importlib.metadata
import resource
import shutil
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.distribution.environments import ROOT, DistributionError, Environment, build, with_torch

USES = ROOT / "tests/distribution/uses"
WITH_TORCHVISION = {"timm", "open-clip"}  # and whatever else brings it would break transformers beside a CPU torch
OF_OTHERS = {"dev"}  # made of the others alone, and of tools with a session of their own: resolved, not installed


def main() -> None:
    """Install and use each extra, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder that is emptied and written to")
    parser.add_argument("--torch", type=Path, required=True, help="folder of the environment with torch, kept")
    parser.add_argument("names", nargs="*", help="extras; all by default")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    (wheel,) = build(("wheel",), ROOT, work / "dist")
    shared = with_torch(arguments.torch.resolve())
    with ThreadPoolExecutor(2) as pool:  # one waits for files while the other computes
        failed = list(pool.map(lambda extra: fails(extra, wheel, work / extra, shared), arguments.names or extras()))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{used.ru_utime + used.ru_stime:.0f} s of processor time")
    if any(failed):
        sys.exit(f"{sum(failed)} extras failed")


def fails(extra: str, wheel: Path, folder: Path, shared: Environment) -> bool:
    """Use an extra and say how that went."""
    began, told = time.monotonic(), "ok"
    try:
        use(extra, wheel, folder, shared)
    except DistributionError as error:
        told = str(error)
    print(f"{extra:14}{time.monotonic() - began:5.0f} s  {told}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return told != "ok"


def extras() -> list[str]:
    """The extras of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["optional-dependencies"])


def script(extra: str) -> Path:
    """What uses an extra."""
    return USES / f"with_{extra.replace('-', '_')}.py"


def use(extra: str, wheel: Path, folder: Path, shared: Environment) -> None:
    """Install an extra beside torch, look at what came, and use it."""
    folder.mkdir(parents=True)
    environment = Environment(folder / "environment", sees=shared)
    asked = f"{wheel}[{extra}]"
    if extra in OF_OTHERS:
        environment.pip("--dry-run", asked)
        return
    environment.pip(asked)
    came = {found.name.lower() for found in importlib.metadata.distributions(path=[str(environment.packages)])}
    if "torch" in came:
        raise DistributionError(f"the extra {extra} puts another torch in the place of the one that was there")
    if ("torchvision" in came) != (extra in WITH_TORCHVISION):
        raise DistributionError(f"the extra {extra} brings {'' if 'torchvision' in came else 'no '}torchvision")
    environment.run("python", str(script(extra)), cwd=folder)


if __name__ == "__main__":
    main()
