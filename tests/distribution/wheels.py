"""Build what is published, look into it, install it where nothing else is: `python -m tests.distribution.wheels`."""

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from tests.distribution.environments import ROOT, DistributionError, Environment, build, contents, with_torch

# What a clone has and a source distribution has not: nothing in it runs there.
LEFT_OUT = (".ci/",)
# Made by the build.
ADDED = {"PKG-INFO"}


def main() -> None:
    """Build, check and install both distributions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder that is emptied and written to")
    parser.add_argument("--torch", type=Path, required=True, help="folder of the environment with torch, kept")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    sdist, wheel = sorted(build(("sdist", "wheel"), ROOT, work / "dist"), key=lambda path: path.suffix)
    subprocess.run((sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel)), check=True)
    check_wheel(wheel, ROOT)
    unpacked = check_sdist(sdist, work)
    (again,) = build(("wheel",), unpacked, work / "from-sdist")
    if contents(again) != contents(wheel):
        raise DistributionError(
            "the wheel that is built from the source distribution is not the one that is built from the clone"
        )
    shared = with_torch(arguments.torch.resolve())
    for each in (wheel, again):
        use_alone(each, work, shared)
    print("wheel and source distribution hold what they should, and run without extras")


def check_wheel(wheel: Path, sources: Path) -> None:
    """Let it hold every file of the package, code or not, and nothing besides."""
    found = {name for name in contents(wheel) if ".dist-info/" not in name}
    package = sources / "src"
    wanted = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path)
    }
    if found != wanted:
        raise DistributionError(
            f"{wheel.name} lacks {sorted(wanted - found)}, and has {sorted(found - wanted)} besides"
        )
    if "flamingo_blocks/py.typed" not in found:
        raise DistributionError(f"{wheel.name} says nothing of its types: it lacks py.typed")


def check_sdist(sdist: Path, work: Path) -> Path:
    """Let it hold every file of the repository that it should; give where it is unpacked."""
    with tarfile.open(sdist) as opened:
        opened.extractall(work, filter="data")
    unpacked = work / sdist.name.removesuffix(".tar.gz")
    found = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    listed = subprocess.run(
        ("git", "ls-files", "--cached", "--others", "--exclude-standard"), cwd=ROOT, capture_output=True, text=True,
        check=True,
    ).stdout.splitlines()  # fmt: skip
    wanted = {name for name in listed if not name.startswith(LEFT_OUT) and (ROOT / name).is_file()}
    if found - ADDED != wanted:
        lacks, more = sorted(wanted - found), sorted(found - ADDED - wanted)
        raise DistributionError(f"{sdist.name} lacks {lacks[:20]}, and has {more[:20]} besides")
    return unpacked


def use_alone(wheel: Path, work: Path, shared: Environment) -> None:
    """Install it where torch is and nothing else, and use what needs no extra."""
    began = time.monotonic()
    environment = Environment(work / f"alone-{wheel.parent.name}", sees=shared)
    environment.pip(str(wheel))
    environment.run("python", str(ROOT / "tests/distribution/alone.py"), str(ROOT / "tests/api_surface.json"))
    environment.run("flamingo-blocks", "--help")
    found = json.loads(environment.run("flamingo-blocks", "doctor", "--json"))
    if not found["ok"]:
        raise DistributionError(f"flamingo-blocks doctor, of {wheel}: {found['checked']}")
    print(f"{wheel.parent.name}/{wheel.name}: installed and used in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    try:
        main()
    except DistributionError as error:
        sys.exit(str(error))
