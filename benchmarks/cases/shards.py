"""Samples of a tar file by number, beside a reader of streams; and finding them, beside Python's own reader of tar."""

import importlib
import importlib.util
import json
import shutil
import tarfile
import tempfile
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.case import OURS, Bar, Case, Contender
from flamingo_blocks.data.records import read_sample
from flamingo_blocks.data.shards import DocumentShards, Sample, ShardReader, index_shard, write_shard

IMAGE_BYTES = 30_000  # on average, as of pages of the web at 320 pixels
CHECK_SEED = 1


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """One shard of pairs that the system has in memory, on one core of a CPU."""
    if device != "cpu" or dtype != "float32":
        return []
    number = 8 if tiny else 1000
    return [
        Case(
            suite="shards", name="shards/read", sizes={"samples": number}, device=device, dtype=dtype,
            prepare=lambda: _readers(number), check=_check_reads,
            bar=(Bar("samples in random order at least 3x webdataset's in order", "webdataset", 3.0, "faster_by"),),
        ),
        Case(
            suite="shards", name="shards/documents", sizes={"samples": number}, device=device, dtype=dtype,
            prepare=lambda: _documents(number), check=_check_documents,
        ),
        Case(
            suite="shards", name="shards/index", sizes={"samples": number}, device=device, dtype=dtype,
            prepare=lambda: _indexers(number), check=_check_indexes,
            bar=(Bar("finding the samples of a shard at least 5x tarfile", "tarfile", 5.0, "faster_by"),),
        ),
    ]  # fmt: skip


@dataclass
class _Shard:
    """A shard of pairs in a folder that is gone when nobody reads from it any more, and an order that is drawn anew."""

    number: int
    order: list[int] = field(default_factory=list)
    folder: str = field(default_factory=tempfile.mkdtemp)

    def __post_init__(self) -> None:
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        draw = Random(0)  # noqa: S311 - no secret
        write_shard(self.path, (self._sample(k, draw) for k in range(self.number)))

    @property
    def path(self) -> Path:
        return Path(self.folder) / "00000.tar"

    def fresh(self, seed: int) -> None:
        self.order = Random(seed).sample(range(self.number), self.number)  # noqa: S311 - no secret

    @staticmethod
    def _sample(k: int, draw: Random) -> Sample:
        image = b"\xff\xd8\xff" + draw.randbytes(draw.randrange(IMAGE_BYTES // 2, 3 * IMAGE_BYTES // 2))
        about = {"url": f"https://ex.com/{k}.jpg", "width": 320, "height": 240, "key": f"{k:09}"}
        text = f"The picture of number {k}".encode()
        return Sample(f"{k:09}", {"jpg": image, "txt": text, "json": json.dumps(about).encode()})


def _readers(number: int) -> list[Contender]:
    shard = _Shard(number)
    reader = ShardReader(shard.path)
    ours = Contender(OURS, lambda: [reader[k] for k in shard.order], shard.fresh)
    if importlib.util.find_spec("webdataset") is None:
        return [ours, Contender.left_out("webdataset", "webdataset not installed")]
    return [ours, Contender("webdataset", _streamed(shard), shard.fresh)]


def _streamed(shard: _Shard) -> Callable[[], list[Any]]:
    webdataset = importlib.import_module("webdataset")

    def run() -> list[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that it leaves open
            return list(webdataset.WebDataset(str(shard.path), shardshuffle=False))

    return run


def _check_reads(contenders: list[Contender]) -> None:
    """Both give the same samples; ours in the order that was asked for."""
    found = []
    for contender in contenders:
        contender.fresh(CHECK_SEED)
        samples = contender.run()
        plain = [(s.key, dict(s.members)) if isinstance(s, Sample) else _plain(s) for s in samples]
        found.append(sorted(plain, key=lambda sample: sample[0]))
        if contender.name == OURS and len(plain) > 1 and plain == found[0]:
            raise AssertionError("the samples came in the order of the file, and not in the one that was asked for")
    if any(other != found[0] for other in found):
        raise AssertionError(f"{' and '.join(one.name for one in contenders)} gave other samples")


def _plain(sample: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    return sample["__key__"], {name: value for name, value in sample.items() if not name.startswith("__")}


def _documents(number: int) -> list[Contender]:
    """Documents in random order, beside the bytes of their samples alone."""
    shard = _Shard(number)
    documents, reader = DocumentShards([shard.path]), ShardReader(shard.path)
    return [
        Contender(OURS, lambda: [documents[k] for k in shard.order], shard.fresh),
        Contender("samples", lambda: [reader[k] for k in shard.order], shard.fresh, same_work=False),
    ]


def _check_documents(contenders: list[Contender]) -> None:
    """The documents are those of the samples."""
    documents, samples = (one.run() for one in contenders if one.fresh(CHECK_SEED) is None)
    if documents != [read_sample(sample.key, sample.members) for sample in samples]:
        raise AssertionError("a document is not that of its sample")


def _indexers(number: int) -> list[Contender]:
    shard = _Shard(number)
    return [
        Contender(OURS, lambda: index_shard(shard.path), shard.fresh),
        Contender("tarfile", lambda: _by_tarfile(shard.path), shard.fresh),
    ]


def _by_tarfile(path: Path) -> dict[str, list[tuple[str, int, int]]]:
    """Members by key, as anyone would write it."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isreg():
                key, _, suffix = member.name.partition(".")
                found.setdefault(key, []).append((suffix, member.offset_data, member.size))
    return found


def _check_indexes(contenders: list[Contender]) -> None:
    """Both find the same members at the same places."""
    index, theirs = (one.run() for one in contenders)
    ours = {key: [tuple(member) for member in index.members(k)] for k, key in enumerate(index.keys)}
    if ours != theirs:
        raise AssertionError("tarfile finds other members, or at other places")
