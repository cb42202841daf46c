"""`flamingo-blocks data build`: shards of documents from pages of the web."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.cli._arguments import natural, positive
from flamingo_blocks.cli._data._records import told_in_one_line
from flamingo_blocks.cli._ending import closing
from flamingo_blocks.cli._progress import ProgressBars
from flamingo_blocks.cli._results import add_json, print_json
from flamingo_blocks.data.build import BuildProgress, Executor, LocalExecutor, RayExecutor
from flamingo_blocks.data.dedup import ExactDuplicates, ImageNearDuplicates, TextNearDuplicates
from flamingo_blocks.data.pipeline import DocumentsBuilt, Finder, PageStep, build_documents, page_step
from flamingo_blocks.data.sources import Fetcher, list_page_shards, open_images
from flamingo_blocks.errors import FlamingoBlocksError

COMMAND = "flamingo-blocks data build"


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "build",
        help="make shards of documents from pages of the web",
        description="Read pages, keep what the filters keep, put the bytes of images in their places, drop duplicates, "
        "and write tar shards. Nothing is fetched from the network. Stopped or killed anywhere, the same command "
        "goes on where it was. A page that crashes or hangs what reads it is left out and told.",
        epilog=closing(
            "flamingo-blocks data build crawl/ documents/ --preset m3w --language en",
            "flamingo-blocks data build pages.parquet documents/ --preset obelics --images none --workers 8",
        ),
    )
    parser.add_argument("pages", type=Path, metavar="PAGES", help="folder of .html, .warc.gz and .parquet, or a file")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--preset", choices=("m3w", "obelics", "none"), default="m3w", help="filters of that paper (default: m3w)"
    )
    parser.add_argument("--language", metavar="CODE", help="the one that is kept, such as en, or any (default: en)")
    parser.add_argument(
        "--min-confidence", type=float, metavar="SHARE", help="how sure the language must be (default: 0.8)"
    )
    parser.add_argument(
        "--min-words", type=natural, metavar="N", help="fewest words of a document, in place of the preset's"
    )
    parser.add_argument(
        "--images", default=None, metavar="PATH", help="folder or WARC of images, or none (default: PAGES)"
    )
    parser.add_argument(
        "--base-url", default="https://local.invalid/", metavar="URL", help="address that a folder stands for"
    )
    parser.add_argument("--keep-duplicates", action="store_true", help="do not look for duplicates")
    parser.add_argument(
        "--pages-per-shard", type=positive, default=1000, metavar="N", help="pages that are worked on as one piece"
    )
    parser.add_argument("--executor", choices=("local", "ray"), default="local", help="what runs it (default: local)")
    parser.add_argument("--workers", type=positive, metavar="N", help="processes at a time (default: as many as cores)")
    parser.add_argument("--timeout", type=positive, default=30, metavar="SECONDS", help="for a page (default: 30)")
    add_json(parser, "what became of the pages")
    parser.set_defaults(run=run, kept="shards that are done are kept, and the same command goes on from there")


def run(arguments: argparse.Namespace) -> int:
    """Build, and print what became of the pages."""
    for package in ("selectolax", "resiliparse", "PIL", "numpy"):  # better now than after an hour
        require(package, used_by=COMMAND, extra="data")
    refuse_options_of_filters(arguments)
    with told_in_one_line():
        pages = list_page_shards(
            arguments.pages, pages_per_shard=arguments.pages_per_shard, base_url=arguments.base_url
        )
        step = page_step(
            arguments.preset, fetcher=_images(arguments), min_words=arguments.min_words,
            language=None if arguments.language == "any" else arguments.language or "en",
            min_confidence=0.8 if arguments.min_confidence is None else arguments.min_confidence,
        )  # fmt: skip
        bars = _Bars()
        try:
            built = build_documents(
                pages, arguments.out, step=step, finders=[] if arguments.keep_duplicates else _finders(step),
                executor=_executor(arguments), on_progress=bars,
            )  # fmt: skip
        finally:
            bars.close()
    if arguments.json:
        print_json(_as_values(built))
    else:
        print(describe(built, arguments.out))
    return 0


def refuse_options_of_filters(arguments: argparse.Namespace) -> None:
    """Say that there is no filter to take an option, before an hour of work."""
    names = ("language", "min_confidence", "min_words")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name) is not None]
    if arguments.preset == "none" and given:
        raise FlamingoBlocksError(f"{' and '.join(given)} asks a filter of the preset, and --preset is none")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise FlamingoBlocksError(f"OUT is {arguments.out}, which is a file; name a folder")
    if arguments.pages.is_dir() and arguments.out.resolve().is_relative_to(arguments.pages.resolve()):
        raise FlamingoBlocksError(f"OUT is {arguments.out}, which is inside of PAGES; name a folder elsewhere")


def _images(arguments: argparse.Namespace) -> Fetcher | None:
    """Where the bytes of images are."""
    if arguments.images == "none":
        return None
    path = arguments.pages if arguments.images is None else Path(arguments.images)
    if path.suffix == ".parquet" and arguments.images is None:
        raise ValueError(f"{path.name} holds no images: tell --images PATH, or --images none to keep addresses alone")
    return open_images(path.parent if path.suffix in (".html", ".htm", ".xhtml") else path, base_url=arguments.base_url)


def _finders(step: PageStep) -> list[Finder]:
    """Cheap and sure ones first; images of which only the address is known are compared by nothing else."""
    finders: list[Finder] = [ExactDuplicates("url"), ExactDuplicates("text"), TextNearDuplicates()]
    return finders if step.fetcher is None else [*finders, ExactDuplicates("image"), ImageNearDuplicates()]


def _executor(arguments: argparse.Namespace) -> Executor:
    local = LocalExecutor(arguments.workers, timeout_s=arguments.timeout)
    return RayExecutor(local) if arguments.executor == "ray" else local


class _Bars:
    """A bar for each stage of a build, which counts shards."""

    def __init__(self) -> None:
        self._bars = ProgressBars()

    def __call__(self, stage: str, progress: BuildProgress) -> None:
        """Show how far a stage is."""
        self._bars(stage, progress.skipped + progress.done + progress.failed, progress.shards)

    def close(self) -> None:
        """Leave the last bar as it stands."""
        self._bars.close()


def describe(built: DocumentsBuilt, out: Path) -> str:
    """What became of the pages, as text.

    Args:
        built: What `build_documents` gave.
        out: Where it wrote to.

    Example:
        >>> built = DocumentsBuilt((), 3, 2, {"language": 1}, {"image_small": 4})
        >>> print(describe(built, Path("documents")))
        3 pages, 2 documents in documents/shards (0 shards)
        dropped pages
          language                        1
        images taken out of kept documents
          image_small                     4
    """
    shards = f"{len(built.shards)} shard{'' if len(built.shards) == 1 else 's'}"
    pages = f"{built.pages} page{'' if built.pages == 1 else 's'}"
    documents = f"{built.documents} document{'' if built.documents == 1 else 's'}"
    lines = [f"{pages}, {documents} in {out}/shards ({shards})"]
    for title, counts in (("dropped pages", built.reasons), ("images taken out of kept documents", built.removed)):
        if counts:
            lines += [title, *_table(counts)]
    if built.quarantined:
        lines.append(f"in quarantine ({out}/work/documents), since they crashed or hung what reads them")
        lines += [f"  record {one.number} of {one.shard}: {one.reason}" for one in built.quarantined]
    return "\n".join(lines)


def _table(counts: Mapping[str, int]) -> list[str]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [f"  {reason:<24} {count:>8}" for reason, count in ordered]


def _as_values(built: DocumentsBuilt) -> dict[str, Any]:
    return {
        "pages": built.pages, "documents": built.documents, "reasons": dict(built.reasons),
        "removed": dict(built.removed), "quarantined": [vars(one) for one in built.quarantined],
        "shards": [str(path) for path in built.shards],
    }  # fmt: skip
