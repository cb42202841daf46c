"""How far a build is, and what became of it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flamingo_blocks.data.build.shard_result import Quarantined, ShardFailure, ShardResult


@dataclass(frozen=True)
class BuildProgress:
    """How far a build is, for a bar.

    Args:
        shards: Shards of the build.
        skipped: Those that an earlier run has done.
        done: Those that this run has done.
        failed: Those that it has given up.
        records: Records that this run has read; those of an attempt that was killed are taken back.
        seconds: Since it began.

    Example:
        >>> BuildProgress(shards=10, skipped=2, done=2, failed=0, records=2000, seconds=30.0).seconds_left
        90.0
    """

    shards: int
    skipped: int
    done: int
    failed: int
    records: int
    seconds: float

    @property
    def seconds_left(self) -> float | None:
        """By the pace of the shards so far, or None before the first is done."""
        worked = self.done + self.failed
        return self.seconds / worked * (self.shards - self.skipped - worked) if worked else None


@dataclass(frozen=True)
class BuildReport:
    """What became of a build: the sum of its shards, whichever run did them.

    Args:
        done: Shards done by this run.
        skipped: Shards done by an earlier one.
        failed: What was seen last of each shard that was given up, by its name.
        rows_in: Records read.
        rows: Results written.
        reasons: Records dropped, by reason, those in quarantine included.
        removed: Parts taken out of records that were kept, by reason.
        quarantined: Records that could not be processed.
        seconds: Time that this run took.

    Example:
        >>> report = BuildReport(
        ...     done=2, skipped=0, failed={}, rows_in=9, rows=8, reasons={"too_large": 1}, removed={}, quarantined=(),
        ...     seconds=1.5,
        ... )
        >>> report.complete, report.rows_in == report.rows + sum(report.reasons.values())
        (True, True)
    """

    done: int
    skipped: int
    failed: Mapping[str, str]
    rows_in: int
    rows: int
    reasons: Mapping[str, int]
    removed: Mapping[str, int]
    quarantined: tuple[Quarantined, ...]
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every shard is done; a program that builds exits with an error otherwise."""
        return not self.failed


def summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts by reason, added up, in the order of the reasons."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def report_of(
    results: Iterable[ShardResult], failures: Iterable[ShardFailure], *, skipped: int, seconds: float
) -> BuildReport:
    """Add up the shards of a build."""
    results = sorted(results, key=lambda result: result.shard)
    return BuildReport(
        done=len(results) - skipped,
        skipped=skipped,
        failed={failure.shard: failure.detail for failure in sorted(failures, key=lambda failure: failure.shard)},
        rows_in=sum(result.rows_in for result in results),
        rows=sum(result.rows for result in results),
        reasons=summed(result.reasons for result in results),
        removed=summed(result.removed for result in results),
        quarantined=tuple(record for result in results for record in result.quarantined),
        seconds=seconds,
    )
