"""One attempt at one shard, from its records to a file that is in its place."""

import pickle
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from flamingo_blocks.data.build.beat import Beat, Phase
from flamingo_blocks.data.build.build_folder import BuildFolder, file_sha256, put_in_place, write_whole
from flamingo_blocks.data.build.shard_result import Quarantined, ShardResult
from flamingo_blocks.data.build.step import Kept, Shard, Step
from flamingo_blocks.data.dropped import Dropped

LONGEST_DETAIL = 500  # characters of an exception's text, which may hold a whole page
LONGEST_REPR = 200
MAX_QUARANTINE_BYTES = 256 << 20  # of one shard; records beyond are known by their numbers alone


class TooManyQuarantinedError(Exception):
    """More records of a shard fail than can be the records' fault; trying again would change nothing."""


class Attempt:
    """One attempt at a shard, which streams: at most one record and its result are held beside what `write` holds.

    Args:
        step: What to do.
        shard: With what.
        folder: Where to.
        name: Name of this attempt, which no other has.
        skip: Records that are known to kill a worker, with their reasons.
        max_quarantined: Records that may be in quarantine before the shard fails.
        beat: Where to say which record is worked on.
    """

    def __init__(
        self,
        step: Step,
        shard: Shard,
        folder: BuildFolder,
        *,
        name: str,
        skip: Mapping[int, Dropped],
        max_quarantined: int,
        beat: Beat,
    ) -> None:
        self.step, self.shard, self.folder, self.beat = step, shard, folder, beat
        self.skip, self.max_quarantined = skip, max_quarantined
        self.unfinished = folder.unfinished(shard.name, name)
        self.rows_in = self.rows = 0
        self.reasons: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()
        self.quarantined: list[Quarantined] = []
        self.records: dict[int, bytes] = {}
        self.read_all = False

    def run(self) -> ShardResult:
        """Do the shard; whatever is raised leaves no file behind."""
        try:
            self.step.write(self._results(), self.unfinished)
            if not self.read_all:
                raise RuntimeError(f"{self.step.name}.write did not take all results")
            return self._commit()
        finally:
            self.unfinished.unlink(missing_ok=True)

    def _results(self) -> Iterator[Any]:
        self.beat.at(Phase.READING, 0)
        for number, record in enumerate(self.step.read(self.shard)):
            self.rows_in += 1
            result = self._result(number, record)
            if isinstance(result, Dropped):
                self.reasons[result.reason] += 1
            else:
                kept = result if isinstance(result, Kept) else Kept(result)
                self.removed.update(part.reason for part in kept.removed)
                self.rows += 1
                self.beat.at(Phase.WRITING, number)
                yield kept.value
            self.beat.at(Phase.READING, number + 1)
        self.beat.at(Phase.WRITING, self.rows_in)
        self.read_all = True

    def _result(self, number: int, record: Any) -> Any:
        if (known := self.skip.get(number)) is not None:
            return self._quarantine(number, record, known)
        self.beat.at(Phase.PROCESSING, number)
        try:
            return self.step.process(record)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - nothing that a record raises may end its shard
            text = f"{type(error).__name__}: {error}"
        self.beat.at(Phase.READING, number)
        return self._quarantine(number, record, Dropped("error", text[:LONGEST_DETAIL]))

    def _quarantine(self, number: int, record: Any, why: Dropped) -> Dropped:
        text = repr(record)[:LONGEST_REPR]
        self.quarantined.append(Quarantined(self.shard.name, number, why.reason, why.detail, text))
        if len(self.quarantined) > self.max_quarantined:
            last = f"the last is record {number}, {why.reason}: {why.detail}"
            raise TooManyQuarantinedError(f"more than {self.max_quarantined} records cannot be processed; {last}")
        with suppress(Exception):  # what cannot be pickled is known by its number alone
            content = pickle.dumps(record)
            if sum(map(len, self.records.values())) + len(content) <= MAX_QUARANTINE_BYTES:
                self.records[number] = content
        return why

    def _commit(self) -> ShardResult:
        """Put output, quarantine and manifest in their places; the shard is done when the last of them is."""
        name = self.shard.name
        file = self.folder.file(name)
        size, sha256 = self.unfinished.stat().st_size, file_sha256(self.unfinished)
        put_in_place(self.unfinished, file)
        if self.records:
            write_whole(self.folder.quarantine(name), pickle.dumps(self.records))
        else:
            self.folder.quarantine(name).unlink(missing_ok=True)
        result = ShardResult(
            shard=name, file=file.name, config=self.folder.config, rows_in=self.rows_in, rows=self.rows,
            bytes=size, sha256=sha256, reasons=dict(sorted(self.reasons.items())),
            removed=dict(sorted(self.removed.items())), quarantined=tuple(self.quarantined),
        )  # fmt: skip
        write_whole(self.folder.manifest(name), result.to_json().encode())
        return result
