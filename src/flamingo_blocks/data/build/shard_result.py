"""What a build knows of a shard when it is done."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Quarantined:
    """A record that could not be processed.

    Args:
        shard: Name of its shard.
        number: Its place among the records of the shard, from 0.
        reason: `"crash"` for a worker that died of it twice, `"timeout"` for one that was silent for too long twice,
            `"memory"` for one that grew too large twice, `"error"` for an exception.
        detail: What was seen, for people.
        record: The begin of its `repr`, for people; `read_quarantine` gives the record itself.

    Example:
        >>> left_out = Quarantined(shard="00017", number=3, reason="timeout", detail="silent for 60 s", record="{}")
        >>> f"record {left_out.number} of {left_out.shard}: {left_out.reason}"
        'record 3 of 00017: timeout'
    """

    shard: str
    number: int
    reason: str
    detail: str
    record: str


@dataclass(frozen=True)
class ShardResult:
    """A shard that is done, as its manifest has it; a disturbed run writes the same as a calm one.

    Every record is in `rows` or in one of `reasons`.

    Args:
        shard: Its name.
        file: Name of its file.
        config: Hash of the configuration that it was made under.
        rows_in: Records read.
        rows: Results written.
        bytes: Size of the file.
        sha256: Hash of the file.
        reasons: Records dropped, by reason, those in quarantine included.
        removed: Parts taken out of records that were kept, by reason.
        quarantined: Records that could not be processed.

    Example:
        >>> result = ShardResult(
        ...     shard="a", file="a.tar", config="9f3b", rows_in=3, rows=2, bytes=10240, sha256="5d41",
        ...     reasons={"too_large": 1}, removed={}, quarantined=(),
        ... )
        >>> ShardResult.from_json(result.to_json()) == result
        True
    """

    shard: str
    file: str
    config: str
    rows_in: int
    rows: int
    bytes: int
    sha256: str
    reasons: Mapping[str, int]
    removed: Mapping[str, int]
    quarantined: tuple[Quarantined, ...]

    def to_json(self) -> str:
        """The manifest."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "ShardResult":
        """Read a manifest.

        Raises:
            ValueError: If it is none.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            quarantined = tuple(Quarantined(**each) for each in found.pop("quarantined"))
            return cls(**found, quarantined=quarantined)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{text[:100]!r} is no manifest of a shard") from error


@dataclass(frozen=True)
class ShardFailure:
    """A shard that could not be done; the next run tries it again.

    Args:
        shard: Its name.
        detail: What was seen last, for people.

    Example:
        >>> failures = [ShardFailure("00017", detail="OSError: No space left on device")]
        >>> {failure.shard: failure.detail for failure in failures}
        {'00017': 'OSError: No space left on device'}
    """

    shard: str
    detail: str
