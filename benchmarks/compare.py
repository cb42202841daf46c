"""Two runs side by side: which of our cases became faster or slower, as far as the quartiles can tell."""

import statistics

from benchmarks.case import OURS
from benchmarks.limits import limit_s
from benchmarks.report import bytes_told, ours_of, seconds_told
from benchmarks.results import CaseResult, ContenderResult, Run


def _mark(new: ContenderResult, old: ContenderResult, scale: float, *, alike: bool) -> str:
    """`faster` and `slower` only where the quartiles of the two runs do not overlap; no verdict on other settings."""
    if not alike:
        return "?"
    if new.q3_s * scale < old.q1_s:
        return "faster"
    if new.q1_s * scale > old.q3_s:
        return "slower"
    return "="


def _scale(case: CaseResult, new: Run, old: Run) -> float:
    """What the new machine's seconds are worth on the old one, for the work of this case; 1 on the same machine."""
    if new.machine == old.machine:
        return 1.0
    new_least, old_least = (limit_s(run.limits, case.flops, case.bytes) for run in (new, old))
    if new_least and old_least:
        return old_least / new_least
    return new.limits.matmul_flops_per_s / old.limits.matmul_flops_per_s


def _other_settings(new: Run, old: Run) -> list[str]:
    """What was chosen otherwise: times of two such runs are no matter of the code."""
    pairs = {name: (getattr(old, name), getattr(new, name)) for name in ("device", "dtype", "threads")}
    return [f"WARNING: {name} was {then}, and is {now}" for name, (then, now) in pairs.items() if then != now]


def _warnings(new: Run, old: Run) -> list[str]:
    found = _other_settings(new, old)
    if new.machine != old.machine:
        found.append(
            f"WARNING: other machines, {old.machine.slug} then and {new.machine.slug} now: "
            "times are scaled by the measured limits of the two, which is a rough guide"
        )
    if new.versions.torch != old.versions.torch:
        found.append(f"WARNING: torch was {old.versions.torch}, and is {new.versions.torch}")
    return found


def _controls(new: Run, old: Run) -> str:
    """How much the others changed, whose code did not: the drift of the machine, scaled as our own times are."""
    known = {(case.name, one.name): one for case in old.cases for one in case.contenders}
    ratios = [
        one.median_s * _scale(case, new, old) / known[case.name, one.name].median_s
        for case in new.cases
        for one in case.contenders
        if one.name != OURS and (case.name, one.name) in known
    ]
    if not ratios:
        return ""
    return f"the machine: the other contenders, whose code is the same, take {statistics.median(ratios):.3f}x"


def compare(new: Run, old: Run) -> str:
    """Ratios new / old of the time of ours, case by case.

    Args:
        new: The run now.
        old: The run it is held against.

    Returns:
        The text: warnings, the drift of the machine, one line a case, and the cases that only one of the two has. No
        case is called faster or slower where device, dtype or threads differ.
    """
    before = {case.name: case for case in old.cases if case.status == "ok"}
    now = {case.name: case for case in new.cases if case.status == "ok"}
    lines = [
        *_warnings(new, old),
        *filter(None, [_controls(new, old)]),
        "new / old, time of ours; = where the quartiles overlap; memory saved where it moved",
    ]
    alike = not _other_settings(new, old)
    for name, case in now.items():
        if name not in before:
            continue
        scale = _scale(case, new, old)
        mine, theirs = ours_of(case), ours_of(before[name])
        ratio = mine.median_s * scale / theirs.median_s
        told = f"{seconds_told(theirs.median_s)} to {seconds_told(mine.median_s)}"
        saved = f", saved {bytes_told(theirs.saved_bytes)} to {bytes_told(mine.saved_bytes)}"
        moved = saved if mine.saved_bytes != theirs.saved_bytes else ""
        lines.append(f"  {ratio:6.3f}x  {_mark(mine, theirs, scale, alike=alike):6}  {name}  ({told}{moved})")
    lines += [f"  only now:  {name}" for name in now if name not in before]
    covered = {case.suite for case in new.cases}
    gone = [name for name, case in before.items() if name not in now and case.suite in covered]
    lines += [f"  only then: {name}" for name in gone]
    skipped = sum(case.suite not in covered for case in before.values())
    return "\n".join([*lines, *([f"  only then: {skipped} cases of suites that were not run now"] if skipped else [])])
