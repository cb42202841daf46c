"""What is wrong with a record on disk, and where."""

from typing import Any

from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.errors import FlamingoBlocksError


class RecordError(FlamingoBlocksError, ValueError):
    """A record on disk cannot be read: the message names file, record and field.

    Readers raise it, or hand it to a callback and go on; the caller decides. As a `Dropped` it is counted
    by its reason.

    Args:
        problem: What was found and what was wanted.
        reason: A short name out of `reasons`.
        file: The file, where there is one.
        record: Key of a sample, or number of a row or line, counted from 0.
        field: Column, member or entry, such as `"images[2]"`.

    Example:
        >>> print(RecordError("is -1, wanted 0 to 3", reason="index", file="a.jsonl", record=7, field="matched"))
        a.jsonl, record 7, field matched: is -1, wanted 0 to 3
    """

    reasons = (
        "json", "json_depth", "json_size", "too_large", "field", "lists", "slot", "index", "base64", "text", "members",
        "version", "file", "truncated_shard", "bad_header", "data_after_end", "link", "device", "type", "sparse",
        "name", "member_size", "duplicate_member", "duplicate_key",
    )  # fmt: skip

    def __init__(
        self,
        problem: str,
        *,
        reason: str,
        file: str | None = None,
        record: str | int | None = None,
        field: str | None = None,
    ) -> None:
        assert reason in self.reasons, reason
        super().__init__(problem)
        self.problem, self.reason = problem, reason
        self.file, self.record, self.field = file, record, field

    def __str__(self) -> str:
        places = [
            self.file,
            None if self.record is None else f"record {self.record}",
            None if self.field is None else f"field {self.field}",
        ]
        place = ", ".join(place for place in places if place is not None)
        return f"{place}: {self.problem}" if place else self.problem

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.problem, self.reason, self.file, self.record, self.field)

    def at(
        self, *, file: str | None = None, record: str | int | None = None, field: str | None = None
    ) -> "RecordError":
        """The same error, with what was not known of its place where it was found.

        Args:
            file: The file, unless it is named already.
            record: The record, unless it is named already.
            field: What holds the field that is named.
        """
        inner = ".".join(part for part in (field, self.field) if part) or None
        return RecordError(
            self.problem,
            reason=self.reason,
            file=self.file if self.file is not None else file,
            record=self.record if self.record is not None else record,
            field=inner,
        )

    def dropped(self) -> Dropped:
        """The error as a reason that can be counted."""
        return Dropped(self.reason, str(self))


def _again(problem: str, reason: str, file: str | None, record: str | int | None, field: str | None) -> RecordError:
    return RecordError(problem, reason=reason, file=file, record=record, field=field)
