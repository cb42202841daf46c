"""Pages to shards of documents: everything is told, each thing is there once, and no kill changes a byte."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flamingo_blocks.cli import main
from flamingo_blocks.data.build import LocalExecutor, Quarantined, read_quarantine
from flamingo_blocks.data.dedup import ExactDuplicates
from flamingo_blocks.data.pipeline import BuildError, PageStep, build_documents
from flamingo_blocks.data.shards import DocumentShards
from flamingo_blocks.data.sources import FolderFetcher, Page, PageShard, list_page_shards
from tests.data.pipeline.small_crawl import build, picture, prose, visible, write_crawl

ROOT = Path(__file__).parents[3]
HANGS = "<p>words<svg><style>" + "<div>" * 150_000  # the guard takes it for text, the parser for tags


@pytest.fixture(scope="module")
def crawl(tmp_path_factory):
    return write_crawl(tmp_path_factory.mktemp("crawl") / "pages")


def test_every_page_is_a_document_or_a_reason_and_every_picture_is_told(crawl, tmp_path):
    """What is missing, what is a copy, and what is left."""
    built = build(crawl, tmp_path / "out")
    assert (built.pages, built.documents) == (10, 8)
    assert built.reasons == {"duplicate_text": 1, "no_images": 1}
    assert built.removed == {"duplicate_image": 1, "fetch_missing": 1}
    documents = DocumentShards(tmp_path / "out" / "shards")
    assert len(documents) == 8
    assert all(item.data is not None for document in documents for item in document.media)
    told = json.loads((tmp_path / "out" / "build.json").read_text())
    assert {name: told[name] for name in ("pages", "documents")} == {"pages": 10, "documents": 8}


def test_workers_change_no_byte(crawl, tmp_path):
    """Nor does it matter whether there are any."""
    build(crawl, tmp_path / "alone")
    build(crawl, tmp_path / "two", workers=2)
    assert visible(tmp_path / "alone") == visible(tmp_path / "two")


def test_what_was_built_has_no_duplicates(crawl, tmp_path):
    """Searching the output again finds nothing."""
    build(crawl, tmp_path / "out")
    documents = DocumentShards(tmp_path / "out" / "shards")
    keyed = [(documents.key(number), document) for number, document in enumerate(documents)]
    for by in ("url", "text", "image"):
        find = ExactDuplicates(by)
        assert find.merge([find.signatures(keyed)]).num_removed == 0


def keyed_pages(*pages):
    """Pages in memory, as one shard."""
    return [PageShard("0", (), InMemory(pages))]


class InMemory:
    """Pages that stand nowhere else; it travels to workers by pickle."""

    def __init__(self, pages):
        self.pages = pages

    def __call__(self):
        return iter(self.pages)


def test_nothing_goes_for_the_sake_of_what_goes_itself(tmp_path):
    """Of two pages at one address the older goes; a third one that has its text is then no copy of anything."""
    old, new = ({"date": date} for date in ("2020-01-01", "2024-01-01"))
    pages = [
        Page("https://ex.com/a", f"<p>{prose(1)}".encode(), metadata=old),
        Page("https://ex.com/a", f"<p>{prose(2)}".encode(), metadata=new),
        Page("https://ex.com/b", f"<p>{prose(1)}".encode()),
    ]
    built = build_documents(
        keyed_pages(*pages), tmp_path, step=PageStep(), executor=LocalExecutor(0),
        finders=[ExactDuplicates("url"), ExactDuplicates("text")],
    )  # fmt: skip
    assert built.reasons == {"duplicate_url": 1}
    assert {document.text for document in DocumentShards(tmp_path / "shards")} == {prose(1), prose(2)}


def test_a_document_that_loses_its_last_picture_as_a_copy_is_told(tmp_path):
    """It is dropped like any page without one, unless nothing is asked of pictures; what had none loses nothing."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "same.png").write_bytes(picture(1))
    for number in (1, 2):
        (pages / f"{number}.html").write_text(f"<p>{prose(number)}<img src=same.png>")
    (pages / "3.html").write_text(f"<p>{prose(3)}")
    options = {"step": PageStep(fetcher=FolderFetcher(pages)), "finders": [ExactDuplicates("image")]}
    assert build(pages, tmp_path / "one", **options).reasons == {"no_images": 1}
    free = build(pages, tmp_path / "none", min_images=0, **options)
    assert (free.documents, free.reasons, free.removed) == (3, {}, {"duplicate_image": 1})


def test_a_build_that_is_done_is_not_done_again(crawl, tmp_path):
    """The same is told, nothing is written; but what somebody took away is made again, the same bytes."""
    out = tmp_path / "out"
    first, before = build(crawl, out), visible(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert build(crawl, out) == first
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times
    first.shards[1].unlink()
    assert build(crawl, out) == first
    assert visible(out) == before


@pytest.mark.parametrize("is_done", (True, False))
def test_another_build_in_its_folder_is_refused(crawl, tmp_path, is_done):
    """Whether the first is done or under way: other pages, other options, other searches, by their names."""
    out = tmp_path / "out"
    build(crawl, out, keep_work=True)
    if not is_done:
        (out / "build.json").unlink()
    with pytest.raises(ValueError, match="holds a build with other options; take another folder"):
        build(crawl, out, step=PageStep(max_images=3))
    with pytest.raises(ValueError, match="other finders"):
        build(crawl, out, finders=[])
    more = write_crawl(tmp_path / "pages")
    (more / "new.html").write_text("<p>new")
    with pytest.raises(ValueError, match="other pages; take another folder"):
        build(more, out)


def test_a_first_try_that_failed_leaves_its_folder_free(crawl, tmp_path):
    """Nothing was done, so nothing is refused."""

    def gone():
        raise OSError("the disk is away")

    with pytest.raises(BuildError, match="the disk is away"):
        build_documents([PageShard("0", (), gone)], tmp_path / "out", step=PageStep(), executor=LocalExecutor(0))
    assert build(crawl, tmp_path / "out").documents


def test_the_same_pages_under_another_address_are_other_pages(crawl, tmp_path):
    """Though no file has changed: their documents would say another address."""
    shards = {url: list_page_shards(crawl, base_url=url) for url in ("https://a.example/", "https://b.example/")}
    first, second = shards.values()
    executor = LocalExecutor(0)
    build_documents(first, tmp_path, step=PageStep(), executor=executor)
    with pytest.raises(ValueError, match="other pages; take another folder"):
        build_documents(second, tmp_path, step=PageStep(), executor=executor)


def test_a_page_that_hangs_the_parser_is_left_out_and_kept(crawl, tmp_path, capsys):
    """By the command: it is told, it can be read, and the other documents are those of a calm run."""
    pages = write_crawl(tmp_path / "pages")
    (pages / "zz-hangs.html").write_text(HANGS)
    words = ["--preset", "none", "--pages-per-shard", "4", "--workers", "2", "--timeout", "2"]
    assert main(["data", "build", str(pages), str(tmp_path / "out"), *words]) == 0
    assert "zz" not in capsys.readouterr().out
    assert main(["data", "build", str(crawl), str(tmp_path / "calm"), *words]) == 0
    told = json.loads((tmp_path / "out" / "build.json").read_text())
    assert told["pages"] == 11
    assert told["reasons"]["timeout"] == 1
    texts = [[d.text for d in DocumentShards(tmp_path / name / "shards")] for name in ("out", "calm")]
    assert texts[0] == texts[1]
    (record,) = [Quarantined(**values) for values in told["quarantined"]]
    key, page = read_quarantine(tmp_path / "out" / "work" / "documents", record)
    assert key.endswith(f"-{record.number:06d}")
    assert page.content == HANGS.encode()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_build_killed_at_twenty_points_gives_the_same_bytes(tmp_path):
    """Between any two operations on files, in any stage: the same call finishes it, and leaves nothing behind."""
    command = [sys.executable, "-m", "tests.data.pipeline.small_crawl", str(tmp_path), *map(str, range(20))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    for run in json.loads(done.stdout):
        assert run["ended"] == -signal.SIGKILL, run
        assert run["same"], run


def test_images_of_a_page_have_a_common_bound(crawl, tmp_path):
    """One picture at many places is written as often: beyond the bound it is taken out and told."""
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "a.png").write_bytes(picture(1))
    (pages / "a.html").write_text("<p>words" + "<img src=a.png><p>more" * 10)
    step = PageStep(fetcher=FolderFetcher(pages), max_image_bytes=3 * len(picture(1)) + 10)
    built = build(pages, tmp_path / "out", step=step, finders=[])
    assert built.removed == {"page_image_bytes": 7}
    (document,) = DocumentShards(tmp_path / "out" / "shards")
    assert len(document.media) == 3


def test_a_build_whose_summary_is_lost_is_not_taken_up_by_another(crawl, tmp_path):
    """Its shards are of other pages: they are refused, and not counted as built."""
    out = tmp_path / "out"
    build(crawl, out)
    (out / "build.json").unlink()
    more = write_crawl(tmp_path / "pages")
    (more / "0.html").write_text("<p>another text altogether<img src=0.png>")
    with pytest.raises(ValueError, match=r"holds a build under another configuration: .*build is"):
        build(more, out)


def test_more_images_than_one_cannot_be_asked_of_what_is_left(crawl, tmp_path):
    """A document that goes for having too few could hold the copy that stays."""
    with pytest.raises(ValueError, match="min_images is 2, wanted 0 or 1"):
        build(crawl, tmp_path / "out", min_images=2)


@pytest.mark.parametrize(
    ("words", "says"),
    (
        (["--preset", "none", "--language", "fr"], "--language asks a filter of the preset, and --preset is none"),
        (["--preset", "none", "--min-words", "5"], "--min-words asks a filter"),
        (["--language", "english"], "wanted its code"),
    ),
)
def test_options_that_would_be_passed_over_are_refused(crawl, tmp_path, capsys, words, says):
    """By the command, before it begins."""
    assert main(["data", "build", str(crawl), str(tmp_path / "out"), *words]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_build_goes_elsewhere_than_into_its_pages(crawl, tmp_path, capsys):
    """Nor onto a file."""
    assert main(["data", "build", str(crawl), str(crawl / "out")]) == 1
    assert "inside of PAGES" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["data", "build", str(crawl), str(tmp_path / "file")]) == 1
    assert "which is a file; name a folder" in capsys.readouterr().err
