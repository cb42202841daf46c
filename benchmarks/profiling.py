"""Where the time of one call of ours goes, operator by operator: what stands behind the reason of a loss."""

import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as record

from benchmarks.case import Case

ROWS = 12
CALLS = 5


def profile(case: Case, *, threads: int) -> str:
    """Profile some calls of the first contender of a case, warm.

    Args:
        case: What to profile.
        threads: Threads of torch.

    Returns:
        The table of the operators that took most, their own time only.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    ours = case.prepare()[0]
    activities = [ProfilerActivity.CPU]
    if case.device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    for warm_up in range(2):
        ours.fresh(warm_up)
        ours.run()
    ours.fresh(2)
    with record(activities=activities) as recorded:
        for _ in range(CALLS):
            ours.run()
    by = "self_cuda_time_total" if case.device == "cuda" else "self_cpu_time_total"
    table = recorded.key_averages().table(sort_by=by, row_limit=ROWS, max_name_column_width=48)
    return f"{case.name}, {ours.name}, {CALLS} calls\n{table}"
