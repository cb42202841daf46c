"""What `backend="auto"` tries first on each device, and the run that said so."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preference:
    """Backends in the order in which `auto` tries them; the first that does not refuse the call is taken.

    What a backend refuses does most of the choosing: by scope, by text length, by dtype, by gradient. The order decides
    between those that are left.

    Args:
        order: Names of backends.
        measured: The benchmark run behind the order, or that there is none yet.
    """

    order: tuple[str, ...]
    measured: str


PREFERENCES = {
    "cpu": Preference(
        ("one_token", "runs", "sdpa"),
        measured="no table of shapes yet; the cases `attention/backends` of the benchmarks set them side by side",
    ),
    "cuda": Preference(("one_token", "xformers", "varlen", "sdpa"), measured="unmeasured"),
}
ELSEWHERE = Preference(("one_token", "sdpa", "reference"), measured="unmeasured")
