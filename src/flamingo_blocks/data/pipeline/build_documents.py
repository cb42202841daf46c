"""Pages in, shards of documents out: read, filtered, each thing once."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flamingo_blocks.data.atomic_file import remove_unfinished
from flamingo_blocks.data.build import BuildProgress, BuildReport, Executor, Quarantined, Shard, Step, run_shards
from flamingo_blocks.data.build.build_folder import file_sha256, write_whole
from flamingo_blocks.data.pipeline.apply_tables import Tables
from flamingo_blocks.data.pipeline.page_step import PageStep
from flamingo_blocks.data.pipeline.plain_values import plain_values
from flamingo_blocks.data.pipeline.signature_step import Finder, SignatureStep
from flamingo_blocks.data.pipeline.step_of_build import StepOfBuild
from flamingo_blocks.data.pipeline.unique_step import UniqueStep
from flamingo_blocks.data.sources import PageShard
from flamingo_blocks.errors import FlamingoBlocksError

SUMMARY = "build.json"
SHARDS, WORK, QUARANTINED = "shards", "work", "documents"
OnStage = Callable[[str, BuildProgress], None]


class BuildError(FlamingoBlocksError, RuntimeError):
    """Shards of a build could not be done; the message names them. The same call tries them again.

    Example:
        >>> from flamingo_blocks.data.build import LocalExecutor
        >>> def read():
        ...     raise OSError("the disk is away")
        >>> try:
        ...     build_documents([PageShard("0", (), read)], "out", step=PageStep(), executor=LocalExecutor(workers=0))
        ... except BuildError as error:
        ...     print(str(error).partition(". ")[0])
        stage 'documents': 1 of 1 shards failed, the first is 0: OSError: the disk is away
    """


@dataclass(frozen=True)
class DocumentsBuilt:
    """What became of the pages of a build.

    Args:
        shards: The files of documents, in order.
        pages: Pages read.
        documents: Documents written.
        reasons: Why pages are no documents, counted.
        removed: Why images were taken out of documents that are kept, counted.
        quarantined: Pages that could not be processed: they crashed what reads them, or hung it.

    Example:
        >>> built = DocumentsBuilt((Path("out/shards/00000.tar"),), 3, 1, {"no_images": 2}, {"image_small": 4})
        >>> built.pages == built.documents + sum(built.reasons.values())
        True
    """

    shards: tuple[Path, ...]
    pages: int
    documents: int
    reasons: Mapping[str, int]
    removed: Mapping[str, int]
    quarantined: tuple[Quarantined, ...] = ()


def build_documents(
    pages: Sequence[PageShard],
    out: str | Path,
    *,
    step: PageStep,
    finders: Sequence[Finder] = (),
    min_images: int = 1,
    executor: Executor | None = None,
    on_progress: OnStage | None = None,
    keep_work: bool = False,
) -> DocumentsBuilt:
    """Build shards of interleaved documents from pages.

    Each stage is a step of `run_shards`: pages to documents; for each finder the signatures of what the finders before
    it have left, merged into one table; and at last the documents without what those tables name. Killed anywhere, the
    same call goes on where it was, and gives the same bytes. A page that crashes or hangs what reads it is left out and
    told.

    Args:
        pages: What to read, as `list_page_shards` gives it. Pages are known again by the names and sizes of files.
        out: Folder: `shards/` gets the documents, one tar a shard of pages; `build.json` tells what became of all pages
            when, and only when, all is done; `work/` holds what is done in between, and pages in quarantine, which
            `read_quarantine(out / "work/documents", record)` reads.
        step: How pages become documents.
        finders: What duplicates are found by, in this order; none keeps them.
        min_images: 1 drops a document that loses all of its images as duplicates, 0 keeps it.
        executor: What runs the steps: `LocalExecutor()` by default, or `RayExecutor`.
        on_progress: Called a few times a second with the name of the stage and how far it is.
        keep_work: Whether `work/` stays when all is done.

    Returns:
        What became of it.

    Raises:
        BuildError: If shards failed: they could not be read or written.
        ValueError: If `out` holds a build of other pages or under other options, or `min_images` is not 0 or 1.

    Example:
        >>> from flamingo_blocks.data.build import LocalExecutor
        >>> from flamingo_blocks.data.dedup import ExactDuplicates
        >>> from flamingo_blocks.data.sources import list_page_shards
        >>> for name in ("a", "b"):
        ...     Path("pages").mkdir(exist_ok=True)
        ...     _ = Path("pages", f"{name}.html").write_text("<p>Tom sleeps.<img src=tom.jpg>")
        >>> built = build_documents(
        ...     list_page_shards("pages"), "out", step=PageStep(), finders=[ExactDuplicates("text")],
        ...     executor=LocalExecutor(workers=0),
        ... )
        >>> built.pages, built.documents, built.reasons
        (2, 1, {'duplicate_text': 1})
    """
    if min_images not in (0, 1):
        raise ValueError(f"min_images is {min_images}, wanted 0 or 1; filter the shards for more afterwards")
    asked = _asked(pages, step, finders, min_images)
    build = _Build(Path(out), _digest_of(asked), executor, on_progress)
    if (done := build.finished(asked, keep_work=keep_work)) is not None:
        return done
    build.claim(asked)
    documents = build.stage("documents", step, [Shard(part.name, part) for part in pages], build.work / QUARANTINED)
    written = [Shard(part.name, build.work / QUARANTINED / f"{part.name}.tar") for part in pages]
    tables: list[Path] = []
    for number, finder in enumerate(finders):
        folder = build.work / f"{number}-{_slug(finder.kind)}"
        build.stage(f"signatures: {finder.kind}", SignatureStep(finder, Tables(tables)), written, folder)
        tables.append(build.merge(finder, [folder / f"{part.name}.npz" for part in pages], folder))
    unique = UniqueStep(Tables(tables), min_images=min_images)
    last = build.stage("unique", unique, written, build.root / SHARDS)
    built = _built(build.root, [part.name for part in pages], documents, last)
    build.finish(asked, built, keep_work=keep_work)
    return built


class _Build:
    """The folder of a build, and what runs its stages."""

    def __init__(self, root: Path, digest: str, executor: Executor | None, on_progress: OnStage | None) -> None:
        self.root, self.work, self.digest = root, root / WORK, digest
        self.executor, self.on_progress = executor, on_progress

    def stage(self, name: str, step: Step, shards: Sequence[Shard], folder: Path) -> BuildReport:
        """Run a step over all shards, or say which of them failed."""
        tell = None if self.on_progress is None else _telling(self.on_progress, name)
        of_this = StepOfBuild(step, self.digest)
        report = run_shards(of_this, shards, folder, executor=self.executor, on_progress=tell)
        if not report.complete:
            first, why = next(iter(report.failed.items()))
            raise BuildError(
                f"stage {name!r}: {len(report.failed)} of {len(shards)} shards failed, the first is {first}: {why}. "
                "What is done is kept; the same call tries them again"
            )
        return report

    def merge(self, finder: Finder, partials: Sequence[Path], folder: Path) -> Path:
        """The table of a search; one that is there was made of the same signatures."""
        digest = hashlib.sha256("\n".join(file_sha256(file) for file in partials).encode()).hexdigest()
        table = folder / f"duplicates-{digest[:16]}.table"
        if not table.exists():
            finder.merge(partials).save(table)
        return table

    def finished(self, asked: Mapping[str, Any], *, keep_work: bool) -> DocumentsBuilt | None:
        """What became of this build, if it is done."""
        path = self.root / SUMMARY
        if not path.exists():
            return None
        told = json.loads(path.read_text())
        self._refuse_other(told["asked"], asked)
        sizes = {self.root / SHARDS / name: size for name, size in told["files"].items()}
        if any(not file.exists() or file.stat().st_size != size for file, size in sizes.items()):
            path.unlink()  # somebody took a file away: it is made again
            return None
        quarantined = tuple(Quarantined(**record) for record in told["quarantined"])
        counts = {name: told[name] for name in ("pages", "documents", "reasons", "removed")}
        built = DocumentsBuilt(shards=tuple(sizes), quarantined=quarantined, **counts)
        if not keep_work and self.work.exists():
            self._tidy(built)  # it was killed when nothing else was left to do
        return built

    def claim(self, asked: Mapping[str, Any]) -> None:
        """Say what is built here before anything is, or refuse what was begun here with other pages or options."""
        self.work.mkdir(parents=True, exist_ok=True)
        for folder in (self.root, self.work):
            remove_unfinished(folder)
        path = self.work / "asked.json"
        if path.exists():
            there = json.loads(path.read_text())
            if there == asked:
                return
            if any(self.root.glob("**/*.tar")):  # else the first try failed before a shard was done
                self._refuse_other(there, asked)
        write_whole(path, json.dumps(asked, indent=1).encode() + b"\n")

    def _refuse_other(self, there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
        if different := sorted(name for name in asked if there.get(name) != asked[name]):
            raise ValueError(
                f"out is {str(self.root)!r}, which holds a build with other {' and '.join(different)}; "
                "take another folder, or remove it"
            )

    def finish(self, asked: Mapping[str, Any], built: DocumentsBuilt, *, keep_work: bool) -> None:
        """Tell that all is done, and take away what was done in between."""
        told = {name: value for name, value in asdict(built).items() if name != "shards"}
        files = {file.name: file.stat().st_size for file in built.shards}
        write_whole(
            self.root / SUMMARY, json.dumps({**told, "files": files, "asked": asked}, indent=1).encode() + b"\n"
        )
        if not keep_work:
            self._tidy(built)

    def _tidy(self, built: DocumentsBuilt) -> None:
        """Take away what was done in between, but no page that is in quarantine."""
        if not built.quarantined:
            shutil.rmtree(self.work, ignore_errors=True)
            return
        for path in self.work.iterdir():
            if path.name != QUARANTINED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in (self.work / QUARANTINED).glob("*.tar"):
            path.unlink()


def _asked(pages: Sequence[PageShard], step: PageStep, finders: Sequence[Finder], min_images: int) -> dict[str, Any]:
    """All that decides the output, as JSON has it."""
    inputs = [
        [
            part.name,
            plain_values(part.open),
            [[file.name, file.stat().st_size] for file in part.files if file.is_file()],
        ]
        for part in pages
    ]
    whole = {
        "pages": hashlib.sha256(json.dumps(inputs).encode()).hexdigest(), "options": step.config,
        "finders": [[finder.kind, plain_values(finder)] for finder in finders], "min_images": min_images,
    }  # fmt: skip
    found: dict[str, Any] = json.loads(json.dumps(whole))
    return found


def _digest_of(asked: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _built(root: Path, names: Sequence[str], documents: BuildReport, last: BuildReport) -> DocumentsBuilt:
    reasons, removed = Counter(documents.reasons), Counter(documents.removed)
    reasons.update(last.reasons)
    removed.update(last.removed)
    return DocumentsBuilt(
        shards=tuple(root / SHARDS / f"{name}.tar" for name in names),
        pages=documents.rows_in, documents=last.rows,
        reasons=dict(sorted(reasons.items())), removed=dict(sorted(removed.items())),
        quarantined=(*documents.quarantined, *last.quarantined),
    )  # fmt: skip


def _telling(on_progress: OnStage, stage: str) -> Callable[[BuildProgress], None]:
    return lambda progress: on_progress(stage, progress)


def _slug(kind: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in kind)
