"""What a benchmark is made of: a case, its contenders, and the bars that the case must clear."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

OURS = "flamingo_blocks"
PEERS = (
    "open_flamingo", "flamingo_pytorch", "idefics", "mllama", "trafilatura", "beautifulsoup", "grain", "torch_loader",
    "webdataset", "datasketch", "torchcodec",
)  # fmt: skip
SUITES = (
    "attention", "block", "resampler", "decode", "train", "checkpoints", "evaluate", "loss", "optimiser", "pages",
    "shards", "dedup", "video", "examples", "loading", "import",
)  # fmt: skip
HALF = frozenset({"float16", "bfloat16"})
LIMIT = "limit"  # in `Bar.against`: the limit of the machine, from `Case.flops` and `Case.bytes`


def is_peer(name: str) -> bool:
    """Whether a contender is another implementation (`idefics`, `idefics_sdpa`), and not a limit or a way of ours."""
    return any(name == peer or name.startswith(f"{peer}_") for peer in PEERS)


@dataclass(frozen=True)
class Contender:
    """One implementation of a case.

    Args:
        name: `flamingo_blocks` for ours, one of `PEERS` (or `idefics_sdpa` and the like), or what the contender stands
            for: `projections` (the limit of the arithmetic), `without_sharing`, `items1` (the same at another size).
        run: One timed call on the inputs of this set-up; gives the outputs that are compared. Holds nothing back.
        fresh: Called with a seed before every timed call; refills the inputs in place with new random values.
            The same seed gives every contender the same inputs.
        same_work: Whether it does the work that the case counts; not where it stands for another size, or for nothing.
        missing: Why this contender cannot run here, such as a package that is not installed. It is left out and named.
    """

    name: str
    run: Callable[[], Any]
    fresh: Callable[[int], None]
    missing: str | None = None
    same_work: bool = True

    @classmethod
    def left_out(cls, name: str, why: str) -> "Contender":
        """A contender that this machine cannot run: named in the tables, and nothing else."""

        def refuse(*_: object) -> None:
            raise RuntimeError(f"{name} was left out: {why}")

        return cls(name=name, run=refuse, fresh=refuse, missing=why)


@dataclass(frozen=True)
class Bar:
    """What a case must reach against another contender of the same case, for ours, the first of its contenders.

    `faster_by`: theirs >= ratio * ours. `at_most`: ours <= ratio * theirs. A size is held against another size by
    making the other size a contender, timed in turns with the first. `against="limit"` is the limit of the machine.

    Args:
        what: The bar in words, as the page shows it: "forward at least 6.5x open_flamingo's".
        slack: What ours may take beyond theirs whatever the ratio says, in seconds or bytes: `100e-6` for 100 us.
    """

    what: str
    against: str
    ratio: float
    kind: Literal["faster_by", "at_most"]
    metric: Literal["time", "saved_bytes", "peak_bytes"] = "time"
    slack: float = 0.0


@dataclass(frozen=True)
class Case:
    """One measurement of the suite, at one size, on one device, in one dtype.

    Args:
        suite: One of `SUITES`.
        name: Unique, and begins with the suite: `attention/forward+backward/dim512/items32`.
        sizes: Axis words to sizes: batch, text, items, latents, dim, vision_dim, heads, head_dim.
        device: `cpu` or `cuda`.
        dtype: `float32`, `bfloat16` or `float16`.
        prepare: Builds modules and inputs and gives the contenders, ours first; everything heavy happens here.
        check: Raises `AssertionError` unless all contenders that should agree do agree, in outputs and gradients. It
            gets those that can run here, so it may not count on any but ours; nothing is timed before it has passed.
        flops: Useful work of one call, a multiply and an add counted as two; `None` where there is no such number.
        bytes: What one call must at least read and write.
        bar: What must be reached.
        quick: Part of the run of a quarter of an hour on a CPU; the others need `--full`.
    """

    suite: str
    name: str
    sizes: Mapping[str, int]
    device: str
    dtype: str
    prepare: Callable[[], list[Contender]]
    check: Callable[[list[Contender]], None]
    flops: int | None = None
    bytes: int | None = None
    bar: tuple[Bar, ...] = ()
    quick: bool = True
