"""Pages of folders, of parquet, and of whatever a path is, a part at a time."""

import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import Dropped
from flamingo_blocks.data.html import decode_page
from flamingo_blocks.data.sources import (
    PAGE_REASONS,
    Page,
    list_page_shards,
    open_pages,
    read_html_folder,
    read_pages_parquet,
)
from tests.data.sources.archives import record


def reasons(found):
    return [one.reason if isinstance(one, Dropped) else one.url for one in found]


def write_pages(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())


def parquet(file, rows_per_group=1000, **columns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), file, row_group_size=rows_per_group, write_page_checksum=True)
    return file


def test_a_folder_of_pages_is_read_in_order(tmp_path):
    """Its address and the path of a file make that of a page; other files, and hidden ones, are none."""
    write_pages(tmp_path, "b/x.htm", "a b.html", "ä?#%.XHTML", "c.txt", ".h/a.html", ".x.html", "img.jpg")
    pages = list(read_html_folder(tmp_path, base_url="https://ex.com/s"))
    wanted = ["a%20b.html", "b/x.htm", "%C3%A4%3F%23%25.XHTML"]
    assert [page.url for page in pages] == [f"https://ex.com/s/{name}" for name in wanted]
    assert [page.content.decode() for page in pages] == ["a b.html", "b/x.htm", "ä?#%.XHTML"]
    assert next(read_html_folder(tmp_path)).url == "https://local.invalid/a%20b.html"


def test_no_link_leads_out_of_a_folder(tmp_path):
    """Each that would is counted; those in a circle end."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    write_pages(tmp_path, "in/real.html", "in/sub/page.html", "out/secret.html")
    (inside / "file.html").symlink_to(outside / "secret.html")
    (inside / "folder").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    (inside / "circle.html").symlink_to(inside / "circle.html")
    (inside / "dead.html").symlink_to(inside / "nothing.html")
    (inside / "same.html").symlink_to(inside / "real.html")
    (inside / "archive.warc").symlink_to(outside / "secret.html")
    os.mkfifo(inside / "pipe.html")
    for found in (list(open_pages(inside)), list(read_html_folder(inside))):
        pages = [one for one in found if isinstance(one, Page)]
        assert [page.url.rpartition("invalid/")[2] for page in pages] == ["real.html", "same.html", "sub/page.html"]
        assert not any(b"secret" in page.content for page in pages)
        dropped = [one for one in found if isinstance(one, Dropped)]
        told = {one.detail.partition(":")[0].partition(" ")[0].rpartition("/")[2]: one.reason for one in dropped}
        assert told.pop("archive.warc", "outside_folder") == "outside_folder"
        assert told.pop("circle.html") in ("outside_folder", "page_unreadable")  # versions of Python differ
        assert told == {
            "file.html": "outside_folder", "folder": "outside_folder", "dead.html": "page_unreadable",
            "pipe.html": "page_unreadable",
        }  # fmt: skip


def test_large_pages_are_dropped(tmp_path):
    """Before they are read."""
    write_pages(tmp_path, "long name of a page.html", "s.html")
    assert reasons(read_html_folder(tmp_path, max_bytes=6)) == ["page_bytes", "https://local.invalid/s.html"]


@pytest.mark.parametrize("url", ["", "ex.com", "file:///x", "https://", "https://ex.com/?a", "http://[bad"])
def test_a_folder_stands_for_an_address_of_the_web(tmp_path, url):
    """Or its pages would have none."""
    with pytest.raises(ValueError, match="base_url is .*, wanted an http"):
        read_html_folder(tmp_path, base_url=url)
    with pytest.raises(ValueError, match="wanted an existing folder"):
        read_html_folder(tmp_path / "nothing")


def test_rows_of_parquet_are_pages(tmp_path):
    """Text has an encoding, bytes have the header that stands beside them."""
    urls = ["https://ex.com/1", "https://ex.com/2", None, "https://ex.com/4", ""]
    text = parquet(tmp_path / "t.parquet", 2, url=urls, html=["é", None, "x", "y" * 99, "z"], lang=list("abcde"))
    found = list(read_pages_parquet(text, metadata_columns=("lang",), max_bytes=50))
    kept = Page("https://ex.com/1", "é".encode(), "utf-8", {"lang": "a"})
    assert found[0] == kept
    assert reasons(found) == [kept.url, "page_unreadable", "page_unreadable", "page_bytes", "page_unreadable"]
    raw = parquet(tmp_path / "b.parquet", u=["https://ex.com/1"], b=["é".encode("latin-1")], t=["latin-1"])
    names = {"url_column": "u", "html_column": "b"}
    [page] = read_pages_parquet(raw, content_type_column="t", **names)
    assert decode_page(page.content, content_type=page.content_type) == "é"
    assert next(read_pages_parquet(raw, **names)).content_type is None


def test_columns_that_do_not_fit_are_told(tmp_path):
    """By file, column, and what there is."""
    file = parquet(tmp_path / "x.parquet", URL=["https://ex.com/"], html=[3])
    with pytest.raises(ValueError, match=r"x.parquet has no column 'url', it has 'URL', 'html'"):
        list(read_pages_parquet(file))
    with pytest.raises(ValueError, match=r"column 'html' of .*x.parquet holds int64, wanted string or binary"):
        list_page_shards(tmp_path, url_column="URL")
    with pytest.raises(FileNotFoundError):
        list(read_pages_parquet(tmp_path / "y.parquet"))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.99])
def test_a_damaged_parquet_file_is_a_reason(tmp_path, part):
    """Cut off, or with noise in it."""
    columns = {"url": [f"https://ex.com/{k}" for k in range(500)], "html": [os.urandom(50).hex() for _ in range(500)]}
    data = parquet(tmp_path / "x.parquet", 50, **columns).read_bytes()
    (tmp_path / "x.parquet").write_bytes(data[: round(part * len(data))])
    assert reasons(open_pages(tmp_path)) == ["damaged_file"]
    place = 4 + round(part * (len(data) - 4) / 2)
    (tmp_path / "x.parquet").write_bytes(data[:place] + bytes(500) + data[place + 500 :])
    found = list(open_pages(tmp_path))
    assert "damaged_file" in reasons(found)
    assert {one.reason for one in found if isinstance(one, Dropped)} <= {"damaged_file"}


def test_text_that_is_no_text_costs_no_file(tmp_path):
    """Parquet lets any bytes pass as text."""
    import pyarrow as pa

    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"<p>\xff"], pa.binary()).buffers())
    [page] = read_pages_parquet(parquet(tmp_path / "x.parquet", url=["https://ex.com/"], html=bad))
    assert page.content == b"<p>\xff"


@given(
    saved=st.integers(0, 7), groups=st.lists(st.integers(1, 5), max_size=4), archived=st.integers(0, 3),
    size=st.integers(1, 6),
)  # fmt: skip
def test_shards_are_all_pages_once(tmp_path_factory, saved, groups, archived, size):
    """In the order of their names, whatever the parts, and after a journey to a worker."""
    folder = tmp_path_factory.mktemp("pages")
    write_pages(folder, *(f"s/{k}.html" for k in range(saved)), "image.png")
    wanted = [f"s/{k}.html" for k in range(saved)]
    for number, rows in enumerate(groups):
        urls = [f"https://ex.com/p{number}.{k}" for k in range(rows)]
        parquet(folder / f"p{number}.parquet", 2, url=urls, html=["<p>"] * rows)
        wanted += urls
    for k in range(archived):
        (folder / f"w{k}.warc").write_bytes(record(f"https://ex.com/w{k}", b"<p>"))
        wanted.append(f"https://ex.com/w{k}")
    if not wanted:
        with pytest.raises(ValueError, match="which holds no pages: no .html"):
            list_page_shards(folder)
        return
    shards = list_page_shards(folder, pages_per_shard=size)
    assert shards == list_page_shards(folder, pages_per_shard=size)
    assert [shard.name for shard in shards] == sorted({shard.name for shard in shards})
    sent = pickle.loads(pickle.dumps(shards))  # noqa: S301 - our own
    read, again = ([[page.url.removeprefix("https://local.invalid/") for page in shard.read()] for shard in some]
                   for some in (shards, sent))  # fmt: skip
    assert read == again
    assert [url for urls in read for url in urls] == wanted
    assert all(len(urls) <= max(size, 2) for urls in read)
    assert [page.url.removeprefix("https://local.invalid/") for page in open_pages(folder)] == wanted


def test_a_file_alone_is_a_path_as_well(tmp_path):
    """Of each kind; a name that is odd is made fit for a file, and who names a link means what it leads to."""
    write_pages(tmp_path, "sub/a.html")
    (tmp_path / "my cats (1).warc").write_bytes(record("https://ex.com/", b"<p>"))
    (tmp_path / "link.html").symlink_to(tmp_path / "sub" / "a.html")
    [shard] = list_page_shards(tmp_path / "my cats (1).warc")
    assert shard.name == "00000-my_cats__1_.warc"
    assert [page.url for page in open_pages(tmp_path / "sub/a.html", base_url="http://ex.com")] == [
        "http://ex.com/a.html"
    ]
    assert reasons(open_pages(tmp_path / "link.html")) == ["https://local.invalid/a.html"]


def test_what_is_no_source_of_pages_is_told(tmp_path):
    """By what there would have to be."""
    with pytest.raises(FileNotFoundError, match="where there is nothing"):
        list_page_shards(tmp_path / "nothing")
    with pytest.raises(ValueError, match="pages_per_shard is 0, wanted 1 or more"):
        list_page_shards(tmp_path, pages_per_shard=0)
    assert {"page_bytes", "damaged_file", "outside_folder"} < set(PAGE_REASONS)
