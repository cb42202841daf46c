"""What `backend="auto"` tries first on each device, and the run that said so."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preference:
    """Backends in the order in which `auto` tries them; the first that does not refuse the call is taken.

    What a backend refuses does most of the choosing: by scope, by text length, by dtype, by gradient. The order decides
    between those that are left, and is one for all shapes: where a run is named, no backend was faster by more than a
    tenth in any case of it. Where none is named, the order is a guess: what copies and masks least comes first.

    Args:
        order: Names of backends.
        measured: The result file, in `benchmarks/results`, whose cases `attention/backends` gave the order, or
            `"unmeasured"`.
    """

    order: tuple[str, ...]
    measured: str


PREFERENCES = {
    "cpu": Preference(
        ("one_token", "runs", "sdpa"),
        measured="0.1.0/all--intel-r-xeon-r-processor-2-80ghz-2-cores--cpu-2-threads.json",
    ),
    "cuda": Preference(("one_token", "xformers", "varlen", "sdpa"), measured="unmeasured"),
}
ELSEWHERE = Preference(("one_token", "sdpa", "reference"), measured="unmeasured")
