"""Images by their address, from folders and archives."""

import gzip
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import Dropped
from flamingo_blocks.data.sources import FolderFetcher, WarcFetcher, open_images
from tests.data.sources.archives import PACKERS, record

BASE = "https://ex.com/cats/"
PNG = {"head": "Content-Type: image/png"}


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "in"
    (inside / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "in2").mkdir()
    (tmp_path / "in2" / "secret").write_bytes(b"secret")
    for name in ("tom.jpg", "sub/mia.jpg", "a b%20.jpg", "ä.jpg"):
        (inside / name).write_bytes(name.encode())
    return inside


@pytest.mark.parametrize(
    ("url", "name"),
    [("tom.jpg", "tom.jpg"), ("sub/mia.jpg?w=3&x=../..", "sub/mia.jpg"), ("sub/../tom.jpg#x", "tom.jpg"),
     ("a%20b%2520.jpg", "a b%20.jpg"), ("%C3%A4.jpg", "ä.jpg"), ("ä.jpg", "ä.jpg"), ("/tom.jpg", "tom.jpg")],
)  # fmt: skip
def test_addresses_below_a_base_are_files(folder, url, name):
    """Percents are undone once; queries and fragments are no part of a name."""
    fetcher = pickle.loads(pickle.dumps(FolderFetcher(folder, "https://ex.com/cats")))  # noqa: S301 - our own
    assert fetcher.fetch(BASE + url) == name.encode()
    assert fetcher.fetch((BASE + url).replace("https://ex.com", "HTTPS://EX.com")) == name.encode()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (BASE + "../secret", "outside_folder"),
        (BASE + "%2e%2e/secret", "outside_folder"),
        (BASE + "%2E%2E%2Fsecret", "outside_folder"),
        (BASE + "sub/../../in2/secret", "outside_folder"),
        (BASE + "..%00/tom.jpg", "outside_folder"),
        (BASE + "tom.jpg%00", "outside_folder"),
        (BASE + "link.jpg", "outside_folder"),
        (BASE + "links/secret", "outside_folder"),
        (BASE + "//etc/passwd", "fetch_missing"),
        (BASE + "%2Fetc/passwd", "fetch_missing"),
        (BASE + "%252e%252e/secret", "fetch_missing"),
        (BASE + "no.jpg", "fetch_missing"),
        (BASE + "tom.jpg/x", "fetch_missing"),
        (BASE + "x" * 5000, "fetch_failed"),
        (BASE, "fetch_failed"),
        (BASE + "sub", "fetch_failed"),
        (BASE + "pipe", "fetch_failed"),
        (BASE + "large", "fetch_bytes"),
        ("https://ex.com/cats2/tom.jpg", "fetch_url"),
        ("https://ex.com/tom.jpg", "fetch_url"),
        ("http://ex.com/cats/tom.jpg", "fetch_url"),
        ("https://ex.com:444/cats/tom.jpg", "fetch_url"),
        ("https://me@ex.com/cats/tom.jpg", "fetch_url"),
        ("file:///etc/passwd", "fetch_url"),
        ("http://[bad/tom.jpg", "fetch_url"),
        ("tom.jpg", "fetch_url"),
        ("", "fetch_url"),
    ],
)
def test_no_address_leads_out_of_a_folder(folder, url, reason):
    """Nor to what is no file of a size."""
    (folder / "link.jpg").symlink_to(folder.parent / "secret")
    (folder / "links").symlink_to(folder.parent / "in2")
    (folder / "large").write_bytes(b"x" * 101)
    os.mkfifo(folder / "pipe")
    fetcher = FolderFetcher(folder, BASE, max_bytes=100)
    found = fetcher.fetch(url)
    assert isinstance(found, Dropped)
    assert found.reason == reason, found
    assert reason in fetcher.reasons


PIECES = st.sampled_from(
    ["..", "/", "%2e", "%2F", "in2", "secret", "sub", "\\", "%00", "%5c", ".", "?", "#", "é", "tom.jpg"]
)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_whatever_is_asked_for_no_secret_is_told(tmp_path_factory, path):
    """Pieces of ways out, in any order."""
    root = tmp_path_factory.mktemp("root")
    (root / "in").mkdir()
    (root / "in2").mkdir()
    for name in ("secret", "in2/secret", "in/tom.jpg"):
        (root / name).write_bytes(name.encode())
    assert FolderFetcher(root / "in", BASE).fetch(BASE + path) == b"in/tom.jpg" or isinstance(
        FolderFetcher(root / "in", BASE).fetch(BASE + path), Dropped
    )


def test_a_folder_fetcher_wants_a_folder(tmp_path):
    """And an address of the web."""
    with pytest.raises(ValueError, match="wanted an existing folder"):
        FolderFetcher(tmp_path / "nothing")
    with pytest.raises(ValueError, match="base_url is 'cats', wanted an http"):
        FolderFetcher(tmp_path, "cats")


@pytest.mark.parametrize("ending", PACKERS)
def test_images_of_archives_are_found_by_address(tmp_path, ending):
    """In any of them and after a journey to a worker; pages and errors are no images."""
    pack = PACKERS[ending]
    one, two = tmp_path / f"1{ending}", tmp_path / f"2{ending}"
    one.write_bytes(
        pack(record("https://ex.com/page", b"<p>"))
        + pack(record("https://ex.com/a.png", b"", status="404 Not Found", **PNG))
        + pack(record("https://ex.com/b.png", b"b" * 50, **PNG))
        + pack(record("https://ex.com/huge.png", b"h" * 500, **PNG))
        + pack(record("https://ex.com/no.png", b"n", head="Content-Type: image/png\r\nX-Robots-Tag: noai"))
        + pack(record("https://ex.com/request", b"r", kind="request", **PNG))
    )
    packed = gzip.compress(b"a" * 90)
    two.write_bytes(
        pack(record("https://ex.com/a.png", packed, head="Content-Type: image/png\r\nContent-Encoding: gzip"))
        + pack(record("https://ex.com/b.png", b"another", **PNG))
        + pack(record("https://ex.com/c.png", b"c", **PNG))[:-50]
    )
    fetcher = pickle.loads(pickle.dumps(WarcFetcher([one, two], max_bytes=100)))  # noqa: S301 - our own
    assert len(fetcher) == 2
    assert fetcher.fetch("https://ex.com/a.png") == b"a" * 90
    assert fetcher.fetch("https://ex.com/b.png") == b"b" * 50
    for name in ("page", "huge.png", "no.png", "c.png", "request"):
        assert fetcher.fetch(f"https://ex.com/{name}").reason == "fetch_missing"
    assert fetcher.dropped == {"fetch_status": 1, "fetch_bytes": 1, "fetch_robots": 1, "damaged_file": 1}
    assert len(WarcFetcher(one, robots=(), max_bytes=100)) == 2


def test_an_archive_that_changed_is_told(tmp_path):
    """It is not read as what it was."""
    file = tmp_path / "a.warc"
    file.write_bytes(record("https://ex.com/a.png", b"a", **PNG))
    fetcher = WarcFetcher([file])
    for data in (record("https://ex.com/b.png", b"a", **PNG), b"noise", b""):
        file.write_bytes(data)
        assert fetcher.fetch("https://ex.com/a.png").reason == "fetch_failed"
    file.unlink()
    assert fetcher.fetch("https://ex.com/a.png").reason == "fetch_failed"


@pytest.mark.parametrize("ending", [".warc.gz", ".warc.zst"])
def test_an_archive_that_is_compressed_as_a_whole_has_no_places(tmp_path, ending):
    """It is told when the index is made."""
    file = tmp_path / f"a{ending}"
    file.write_bytes(PACKERS[ending](b"".join(record(f"https://ex.com/{k}.png", b"a", **PNG) for k in range(3))))
    with pytest.raises(ValueError, match="is compressed as a whole; wanted each record compressed by itself"):
        WarcFetcher([file])


def test_images_of_a_folder_are_its_files_and_those_of_its_archives(tmp_path):
    """In this order; an archive that a link leads to is none of the folder."""
    inside, outside = tmp_path / "in", tmp_path / "out.warc"
    inside.mkdir()
    outside.write_bytes(record("https://ex.com/secret.png", b"secret", **PNG))
    (inside / "tom.png").write_bytes(b"tom")
    assert isinstance(open_images(inside), FolderFetcher)
    (inside / "link.warc").symlink_to(outside)
    (inside / "a.warc").write_bytes(record("https://ex.com/a.png", b"a", **PNG))
    fetcher = open_images(inside, base_url="https://ex.com/")
    assert (fetcher.fetch("https://ex.com/tom.png"), fetcher.fetch("https://ex.com/a.png")) == (b"tom", b"a")
    assert fetcher.fetch("https://ex.com/secret.png").reason == "fetch_missing"
    assert open_images(outside).fetch("https://ex.com/secret.png") == b"secret"
    with pytest.raises(ValueError, match="path is 'tom.png', wanted a folder or one of .warc"):
        open_images(inside / "tom.png")
    with pytest.raises(FileNotFoundError, match="where there is nothing"):
        open_images(tmp_path / "nothing")
