"""Where the time of one call of ours goes, operator by operator: what stands behind the reason of a loss."""

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as record

from benchmarks.case import OURS, Case, Contender
from benchmarks.report import operator_told
from benchmarks.results import OperatorShare
from benchmarks.timing import WARM_UPS

CALLS = 5
MOST_OPERATORS = 8


def operators(contender: Contender, *, device: str, seed: int = 0) -> list[OperatorShare]:
    """Profile some calls of a contender, warm.

    Args:
        contender: What to profile.
        device: Whose time is told: the host's operators on `cpu`, kernels on `cuda`.
        seed: Of the inputs.

    Returns:
        The operators that took most, their own time only, as shares of the time of all operators.
    """
    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    for warm_up in range(WARM_UPS):
        contender.fresh(seed + warm_up)
        contender.run()
    with record(activities=activities) as recorded:
        for _ in range(CALLS):
            contender.run()
    own = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    events = sorted(recorded.key_averages(), key=lambda event: -getattr(event, own))
    whole = sum(getattr(event, own) for event in events) or 1.0
    return [
        OperatorShare(name=event.key, share=getattr(event, own) / whole, calls=event.count / CALLS)
        for event in events[:MOST_OPERATORS]
    ]


def profile(case: Case, *, threads: int) -> str:
    """Profile ours of a case, in words.

    Args:
        case: What to profile.
        threads: Threads of torch.

    Returns:
        One line an operator: its share of the time, how often a call runs it, its name.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    ours = case.prepare()[0]
    return "\n".join(
        [f"{case.name}, {OURS}", *(f"  {operator_told(one)}" for one in operators(ours, device=case.device))]
    )
