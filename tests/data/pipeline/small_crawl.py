"""A few pages with pictures, some of them copies; and builds of them that are killed, in processes of their own."""

import json
import os
import random
import shutil
import signal
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flamingo_blocks.data.build import LocalExecutor
from flamingo_blocks.data.dedup import ExactDuplicates, ImageNearDuplicates, TextNearDuplicates
from flamingo_blocks.data.filters import DocumentImages, FilterChain
from flamingo_blocks.data.pipeline import DocumentsBuilt, PageStep, build_documents
from flamingo_blocks.data.sources import FolderFetcher, list_page_shards
from tests.data.build.killed_builds import Points, forked
from tests.data.build.steps import contents

LAST = 6  # points in which the summary is written and the work is taken away
WORDS = "river house garden winter letter captain village road window people morning stone bread".split()


def prose(seed: int, number: int = 40) -> str:
    """Words that no other seed has in this order."""
    return " ".join(random.Random(seed).choices(WORDS, k=number))  # noqa: S311 - no secret


def picture(seed: int) -> bytes:
    """Noise of large squares, which survives being scaled."""
    squares = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(squares).resize((96, 96), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def write_crawl(folder: Path) -> Path:
    """Ten pages: one without a picture, one whose picture is missing, copies of a text and of a picture."""
    folder.mkdir(parents=True)
    for number in range(8):
        (folder / f"{number}.png").write_bytes(picture(number))
        (folder / f"{number}.html").write_text(f"<h1>Page</h1><p>{prose(number)}<img src={number}.png><p>{number}")
    (folder / "1.html").write_text(f"<p>{prose(1)}")
    (folder / "2.html").write_text(f"<p>{prose(2)}<img src=gone.png><img src=2.png>")
    (folder / "copy-of-3.html").write_text((folder / "3.html").read_text())
    (folder / "picture-of-4.html").write_text(f"<p>{prose(90)}<img src=4.png><img src=again.png>")
    (folder / "again.png").write_bytes(picture(91))
    return folder


def build(pages: Path, out: Path, *, workers: int = 0, **options: Any) -> DocumentsBuilt:
    """Build documents of a crawl, with every kind of search for duplicates."""
    step = PageStep(fetcher=FolderFetcher(pages), after=FilterChain([DocumentImages()]))
    finders = [
        ExactDuplicates("url"), ExactDuplicates("text"), TextNearDuplicates(backend="numpy"),
        ExactDuplicates("image"), ImageNearDuplicates(),
    ]  # fmt: skip
    shards = list_page_shards(pages, pages_per_shard=4)
    executor = LocalExecutor(workers, timeout_s=2.0)
    return build_documents(shards, out, **({"step": step, "finders": finders, "executor": executor} | options))


def watch(points: Points) -> None:
    """Points at all that changes files, the removal of folders among it."""
    points.watch_files()
    remove = shutil.rmtree

    def watched(*args: Any, **options: Any) -> None:
        points.reach("before rmtree")
        remove(*args, **options)
        points.reach("after rmtree")

    shutil.rmtree = watched


def visible(out: Path) -> dict[str, bytes]:
    """What whoever uses a build finds: its shards and its summary, and nothing hidden."""
    return {name: data for name, data in contents(out).items() if not name.startswith("work/")}


def seeds(folder: Path, *numbers: str) -> None:
    """Kill a build once for each seed and at its last points, do it again, and print what came of it.

    The seeds draw from parts of the way of equal length, so no stage is passed over.
    """
    pages = write_crawl(folder / "pages")
    build(pages, folder / "calm")

    def count() -> None:
        points = Points(lambda: None, -1)
        watch(points)
        build(pages, folder / "counted")
        (folder / "points.json").write_text(json.dumps(points.passed))

    assert forked(count) == 0
    passed = json.loads((folder / "points.json").read_text())
    runs, share = [], len(passed) / len(numbers)
    drawn = [int(share * (part + random.Random(seed).random())) for part, seed in enumerate(numbers)]  # noqa: S311
    for at in sorted({*drawn, *range(len(passed) - LAST, len(passed))}):
        out = folder / f"killed {at}"

        def die(at: int = at, out: Path = out) -> None:
            watch(Points(lambda: os.kill(os.getpid(), signal.SIGKILL), at))
            build(pages, out)

        ended = forked(die)
        build(pages, out)
        same = visible(out) == visible(folder / "calm") and not (out / "work").exists()
        runs.append({"where": f"{passed[at]} ({at} of {len(passed)})", "ended": ended, "same": same})
    print(json.dumps(runs))  # noqa: T201 - to the test


if __name__ == "__main__":
    seeds(Path(sys.argv[1]), *sys.argv[2:])
