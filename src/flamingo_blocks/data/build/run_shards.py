"""A step over all shards of a build: once each, whatever happens on the way."""

import hashlib
import json
import pickle
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from flamingo_blocks._version import __version__
from flamingo_blocks.data.build.build_folder import BuildFolder, file_sha256, write_whole
from flamingo_blocks.data.build.executor import Executor
from flamingo_blocks.data.build.local_executor import LocalExecutor
from flamingo_blocks.data.build.report import BuildProgress, BuildReport, report_of
from flamingo_blocks.data.build.shard_result import Quarantined, ShardFailure, ShardResult
from flamingo_blocks.data.build.step import Shard, Step

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
SUFFIX = re.compile(r"\.[A-Za-z0-9._-]{1,20}")
MANIFEST = "manifest.json"


def run_shards(
    step: Step,
    shards: Sequence[Shard],
    out: str | Path,
    *,
    executor: Executor | None = None,
    on_progress: Callable[[BuildProgress], None] | None = None,
    overwrite: bool = False,
    verify: Literal["size", "sha256"] = "size",
) -> BuildReport:
    r"""Do a step to every shard, and have each in its file exactly once.

    A file has its name only when it is whole and on the disk. When the build is killed, the same call does what is
    left: shards that are done are skipped, and the result is the same, byte for byte. A record that crashes or hangs
    what reads it is left out and told; a shard that cannot be read or written is told, and the others go on.

    Args:
        step: What to do.
        shards: What to do it to; their names are the names of the files. A shard that is done is known by its name, so
            where what it reads may change, the configuration has to tell of it.
        out: Folder of the output. `manifest.json` stands there when, and only when, all shards are done.
        executor: What runs it: `LocalExecutor()` by default.
        on_progress: Called a few times a second.
        overwrite: Whether to do all anew where `out` holds a build under another configuration, instead of refusing.
            What that build wrote is removed.
        verify: How the file of a shard that is done is looked at before it is skipped: its size, or all its bytes.

    Returns:
        What became of it. Shards that failed are named in `failed`; the same call tries them again.

    Raises:
        ValueError: If names of shards are not unique or cannot be names of files, if the configuration cannot be
            written as JSON, or if `out` holds a build under another one.

    Example:
        >>> import tempfile
        >>> from flamingo_blocks.data import Dropped
        >>> class Shout:
        ...     name, suffix, config = "shout", ".txt", {}
        ...     def read(self, shard):
        ...         return shard.source
        ...     def process(self, record):
        ...         return record.upper() if record else Dropped("empty")
        ...     def write(self, results, file):
        ...         file.write_text("\n".join(results))
        >>> with tempfile.TemporaryDirectory() as out:
        ...     report = run_shards(Shout(), [Shard("a", ["cat", "", "dog"])], out, executor=LocalExecutor(workers=0))
        ...     Path(out, "a.txt").read_text(), report.rows, report.reasons
        ('CAT\nDOG', 2, {'empty': 1})
    """
    _check_names(step, shards)
    config = _config_of(step)
    folder = BuildFolder(Path(out).absolute(), step.suffix, hashlib.sha256(_canonical(config)).hexdigest())
    folder.create()
    with folder.locked():
        _claim(folder, config, overwrite=overwrite)
        folder.clean()
        build = _Build(step, shards, folder, on_progress)
        build.skip_done(verify)
        try:
            build.run(LocalExecutor() if executor is None else executor)
        finally:
            folder.clean()
        report = build.report()
        if report.complete:
            write_whole(folder.root / MANIFEST, _manifest_of(config, folder, build.results, report))
    return report


class _Build:
    """A build under way: what is done, what is not, and who wants to know."""

    def __init__(
        self,
        step: Step,
        shards: Sequence[Shard],
        folder: BuildFolder,
        on_progress: Callable[[BuildProgress], None] | None,
    ) -> None:
        self.step, self.shards, self.folder, self.on_progress = step, shards, folder, on_progress
        self.results: dict[str, ShardResult] = {}
        self.failures: list[ShardFailure] = []
        self.skipped = self.records = 0
        self.started = time.monotonic()

    def skip_done(self, verify: str) -> None:
        """Find what an earlier run has done."""
        for shard in self.shards:
            found = self.folder.result(shard.name)
            if found is not None and (verify == "size" or file_sha256(self.folder.file(shard.name)) == found.sha256):
                self.results[shard.name] = found
        self.skipped = len(self.results)

    def run(self, executor: Executor) -> None:
        """Do the others."""
        left = [shard for shard in self.shards if shard.name not in self.results]
        if not left:
            return
        (self.folder.root / MANIFEST).unlink(missing_ok=True)
        for outcome in executor.run(self.step, left, self.folder, on_records=self._tell):
            if isinstance(outcome, ShardResult):
                self.results[outcome.shard] = outcome
            else:
                self.failures.append(outcome)
            self._tell(self.records)
        told = self.results.keys() | {failure.shard for failure in self.failures}
        self.failures += [ShardFailure(shard.name, "never tried") for shard in left if shard.name not in told]

    def report(self) -> BuildReport:
        seconds = time.monotonic() - self.started
        return report_of(self.results.values(), self.failures, skipped=self.skipped, seconds=seconds)

    def _tell(self, records: int) -> None:
        self.records = records
        if self.on_progress is not None:
            progress = BuildProgress(
                shards=len(self.shards), skipped=self.skipped, done=len(self.results) - self.skipped,
                failed=len(self.failures), records=records, seconds=time.monotonic() - self.started,
            )  # fmt: skip
            self.on_progress(progress)


def read_quarantine(out: str | Path, record: Quarantined) -> Any:
    """Read a record that could not be processed, to find out why.

    It was written by `pickle`, which runs what it reads: read the quarantine of your own builds alone.

    Args:
        out: Folder of the build.
        record: Which one, as a report names it.

    Returns:
        The record that `Step.read` gave.

    Raises:
        KeyError: If it could not be pickled when it was put there.

    Example:
        >>> import tempfile
        >>> from flamingo_blocks.data.build import Quarantined
        >>> crashed = Quarantined(shard="00017", number=3, reason="crash", detail="killed by SIGSEGV", record="<html>")
        >>> with tempfile.TemporaryDirectory() as out:
        ...     read_quarantine(out, crashed)
        Traceback (most recent call last):
        ...
        KeyError: "record 3 of shard '00017' is not in quarantine: it could not be pickled"
    """
    path = BuildFolder(Path(out), "", "").quarantine(record.shard)
    records: dict[int, bytes] = pickle.loads(path.read_bytes()) if path.exists() else {}  # noqa: S301 - as said above
    if record.number not in records:
        raise KeyError(
            f"record {record.number} of shard {record.shard!r} is not in quarantine: it could not be pickled"
        )
    return pickle.loads(records[record.number])  # noqa: S301


def _check_names(step: Step, shards: Sequence[Shard]) -> None:
    if not SUFFIX.fullmatch(step.suffix):
        raise ValueError(f"suffix of the step is {step.suffix!r}, wanted a point and letters, such as '.tar'")
    seen = set()
    for shard in shards:
        if not NAME.fullmatch(shard.name) or shard.name + step.suffix == MANIFEST or shard.name == "_build":
            raise ValueError(
                f"shard name is {shard.name!r}, wanted 1 to 200 of letters, digits, '.', '_' and '-', "
                f"with no '.' first, and another file than {MANIFEST!r}"
            )
        if shard.name in seen:
            raise ValueError(f"shard name {shard.name!r} stands twice; each becomes a file, so each needs its own")
        seen.add(shard.name)


def _config_of(step: Step) -> dict[str, Any]:
    """What decides the output, as JSON has it: tuples are lists there, and a number is no name."""
    whole = {"step": step.name, "suffix": step.suffix, "config": dict(step.config)}
    try:
        config: dict[str, Any] = json.loads(json.dumps(whole, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"config of step {step.name!r} cannot be written as JSON: {error}") from error
    return config


def _canonical(config: Mapping[str, Any]) -> bytes:
    return json.dumps(config, sort_keys=True, indent=1).encode() + b"\n"


def _claim(folder: BuildFolder, config: dict[str, Any], *, overwrite: bool) -> None:
    """Say under which configuration the folder is built, or refuse one that differs."""
    path = folder.records / "config.json"
    content = _canonical(config)
    if path.exists() and (there := path.read_bytes()) != content:
        if folder.has_results() and not overwrite:
            differing = "; ".join(_differences(_flat(json.loads(there)), _flat(config)))
            raise ValueError(
                f"{folder.root} holds a build under another configuration: {differing}. "
                "Take another folder, or overwrite=True to do all anew"
            )
        folder.forget()
        (folder.root / MANIFEST).unlink(missing_ok=True)
    write_whole(path, content)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """A configuration as one level of dotted names."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    return {key: leaf for part in value for key, leaf in _flat(value[part], f"{name}.{part}" if name else part).items()}


def _differences(there: dict[str, Any], here: dict[str, Any]) -> Iterator[str]:
    for name in sorted(there.keys() | here.keys()):
        old, new = (repr(side[name]) if name in side else "nothing" for side in (there, here))
        if old != new:
            yield f"{name} is {old} there and {new} here"


def _manifest_of(
    config: Mapping[str, Any], folder: BuildFolder, results: Mapping[str, ShardResult], report: BuildReport
) -> bytes:
    """The build as a whole: its configuration, its files, its sums."""
    files = [
        {"file": result.file, "rows": result.rows, "bytes": result.bytes, "sha256": result.sha256}
        for _, result in sorted(results.items())
    ]
    whole = {
        **config, "config_sha256": folder.config, "flamingo_blocks": __version__, "rows_in": report.rows_in,
        "rows": report.rows, "reasons": report.reasons, "removed": report.removed,
        "quarantined": [asdict(record) for record in report.quarantined], "files": files,
    }  # fmt: skip
    return json.dumps(whole, indent=1).encode() + b"\n"
