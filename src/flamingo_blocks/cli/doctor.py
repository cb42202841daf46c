"""`flamingo-blocks doctor`: what this machine has, which attention runs on it, and whether the laws hold."""

import argparse
import platform
from collections.abc import Iterator
from typing import Any

import torch

from flamingo_blocks._version import __version__
from flamingo_blocks.cli._ending import closing
from flamingo_blocks.cli._installed import installed_extras
from flamingo_blocks.cli._progress import ProgressBars
from flamingo_blocks.cli._results import add_json, print_json
from flamingo_blocks.testing import MachineReport, check_machine


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="say what this machine can run, and try it",
        description="Print versions, devices, attention backends with the reason for each that is refused, and the "
        "packages of each extra; then try in a few seconds that the laws of media attention hold here.",
        epilog=closing(
            "flamingo-blocks doctor", "flamingo-blocks doctor --json > machine.json", statuses=[(1, "a law fails")]
        ),
    )
    add_json(parser, "all of it")
    parser.set_defaults(run=run, kept="nothing was to be written")


def run(arguments: argparse.Namespace) -> int:
    """Look, try, and print."""
    reports, kinds = [], list(_kinds())
    with ProgressBars() as bars:
        for number, (device, dtype) in enumerate(kinds):
            bars("trying the laws", number, len(kinds))
            reports.append(check_machine(device, dtype=dtype))
        bars("trying the laws", len(kinds), len(kinds))
    found = {
        "versions": _versions(),
        "devices": _devices(),
        "checked": [
            {"device": each.device, "dtype": each.dtype, "backends": dict(each.backends), "laws": dict(each.laws)}
            for each in reports
        ],
        "extras": installed_extras(),
        "ok": all(each.ok for each in reports),
    }
    if arguments.json:
        print_json(found)
    else:
        print("\n".join(_told(found, reports)))
    return 0 if found["ok"] else 1


def _kinds() -> Iterator[tuple[str, torch.dtype]]:
    yield "cpu", torch.float32
    if torch.cuda.is_available():
        yield from (("cuda", torch.float32), ("cuda", torch.bfloat16))
    if torch.backends.mps.is_available():
        yield "mps", torch.float32


def _versions() -> dict[str, str]:
    return {
        "flamingo_blocks": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _devices() -> list[str]:
    found = [f"cpu: {torch.get_num_threads()} threads"]
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        found.append(f"cuda:{number}: {facts.name}, {facts.total_memory / 2**30:.0f} GiB, {facts.major}.{facts.minor}")
    return [*found, "mps: the GPU of this Mac"] if torch.backends.mps.is_available() else found


def _told(found: dict[str, Any], reports: list[MachineReport]) -> Iterator[str]:
    yield from (f"{name:18}{said}" for name, said in found["versions"].items())
    yield from ("", "devices", *(f"  {device}" for device in found["devices"]))
    for report in reports:
        yield from ("", f"attention backends on {report.device} in {report.dtype}")
        yield from (f"  {name:14}{said}" for name, said in report.backends.items())
        held = sum(said == "ok" for said in report.laws.values())
        yield from ("", f"laws on {report.device} in {report.dtype}: {held} of {len(report.laws)} hold")
        yield from (f"  {law}: {said}" for law, said in report.laws.items() if said != "ok")
    yield from ("", "extras")
    for extra, packages in found["extras"].items():
        missing = [name for name, there in packages.items() if there is None]
        there = ", ".join(f"{name} {number}" for name, number in packages.items() if number is not None)
        told = there if not missing else f"pip install '.[{extra}]' brings {', '.join(missing)}"
        yield f"  {extra:14}{told}"
