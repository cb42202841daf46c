"""Archives of the web: pages with their places, and whatever is wrong with a file."""

import gzip
import zlib

import pytest

from flamingo_blocks.data import Dropped
from flamingo_blocks.data.sources import Page, read_warc
from tests.data.sources.archives import PACKERS, record

HTML = b"<p>Tom</p>"


def written(folder, data, name="cats.warc"):
    file = folder / name
    file.write_bytes(data)
    return file


def reasons(found):
    return [one.reason if isinstance(one, Dropped) else one.url for one in found]


@pytest.mark.parametrize("ending", PACKERS)
def test_pages_are_read_with_their_places(tmp_path, ending):
    """Each place is that of the bytes, which read alone give the same page."""
    kinds = [
        record("https://ex.com/1", HTML),
        record("https://ex.com/i", b"...", head="Content-Type: image/png"),
        record("https://ex.com/1", b"", kind="metadata"),
        record("https://ex.com/2", HTML * 99, head="content-type: application/xhtml+xml"),
        record("https://ex.com/3", "Кот".encode("koi8-r"), head="Content-Type: Text/HTML; charset=koi8-r"),
    ]
    file = written(tmp_path, b"".join(map(PACKERS[ending], kinds)), f"cats{ending}")
    pages = list(read_warc(file))
    assert [page.url[-1] for page in pages] == ["1", "2", "3"]
    assert [page.content for page in pages] == [HTML, HTML * 99, "Кот".encode("koi8-r")]
    assert pages[2].content_type == "Text/HTML; charset=koi8-r"
    for page in pages:
        start, size = page.metadata["warc_record_offset"], page.metadata["warc_record_length"]
        assert page.metadata["warc_filename"] == file.name
        alone = written(tmp_path, file.read_bytes()[start : start + size], f"alone{ending}")
        assert [(one.url, one.content) for one in read_warc(alone)] == [(page.url, page.content)]


WHOLE = [record(f"https://ex.com/{k}", HTML * (k + 1)) for k in range(3)]


@pytest.mark.parametrize("ending", PACKERS)
def test_a_file_that_was_cut_off_gives_what_is_whole(tmp_path, ending):
    """At any byte; and then the reason, unless all that is missing are line ends."""
    packed = [PACKERS[ending](one) for one in WHOLE]
    data = b"".join(packed)
    ends = [sum(map(len, packed[:k])) for k in range(4)]
    for cut in range(len(data) + 1):
        found = list(read_warc(written(tmp_path, data[:cut], f"cut{ending}")))
        pages = [one for one in found if isinstance(one, Page)]
        assert [page.content for page in pages] == [HTML * (k + 1) for k in range(len(pages))]
        # Behind an answer stand two line ends, and the checksum of what is compressed.
        assert sum(end <= cut for end in ends[1:]) <= len(pages) <= sum(end - 40 <= cut for end in ends[1:]), cut
        told = [one.reason for one in found[len(pages) :]]
        only_line_ends_are_missing = any(0 <= end - cut <= 4 for end in ends) and ending == ".warc"
        if cut in ends or only_line_ends_are_missing:
            assert told == [], cut
        else:
            assert told == ["damaged_file"], cut


def test_noise_in_the_middle_is_told(tmp_path):
    """What stood before it was read."""
    packed = [gzip.compress(one) for one in WHOLE]
    broken = bytearray(packed[1])
    broken[60] ^= 255
    for data in (packed[0] + b"noise" * 9 + packed[1], packed[0] + bytes(broken) + packed[2]):
        assert reasons(read_warc(written(tmp_path, data))) == ["https://ex.com/0", "damaged_file"]
    for data in (b"<html>no archive</html>" * 9, b"WARC/1.0\r\nWARC-Type: response\r\n\r\n" * 2):
        assert reasons(read_warc(written(tmp_path, data))) == ["damaged_file"]
    assert list(read_warc(written(tmp_path, b""))) == []


BOMB = b"<p>" + b"a" * 2_000_000
DEFLATE = zlib.compressobj(wbits=-15)
UNPACKED = {
    "gzip": ("Content-Encoding: gzip", gzip.compress(HTML)),
    "gzip in two members": ("Content-Encoding: gzip", gzip.compress(HTML[:4]) + gzip.compress(HTML[4:])),
    "deflate": ("Content-Encoding: deflate", zlib.compress(HTML)),
    "bare deflate": ("Content-Encoding: deflate", DEFLATE.compress(HTML) + DEFLATE.flush()),
    "unpacked already": ("Content-Encoding: gzip", HTML),
    "chunks": ("Transfer-Encoding: chunked", b"4\r\n<p>T\r\n6\r\nom</p>\r\n0\r\n\r\n"),
    "chunks that were joined already": ("Transfer-Encoding: chunked", HTML),
    "both": ("Transfer-Encoding: chunked\r\nContent-Encoding: gzip", b""),
    "nothing": ("Content-Encoding: identity", HTML),
}
_packed = gzip.compress(HTML)
UNPACKED["both"] = (UNPACKED["both"][0], f"{len(_packed):x}\r\n".encode() + _packed + b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("name", UNPACKED)
def test_a_page_is_unwrapped(tmp_path, name):
    """As a browser would, whatever it came in."""
    head, body = UNPACKED[name]
    data = record("https://ex.com/", body, head=f"Content-Type: text/html\r\n{head}") + record("https://ex.com/2", HTML)
    assert [page.content for page in read_warc(written(tmp_path, data))] == [HTML, HTML]


@pytest.mark.parametrize("encoding", ["br", "zstd"])
def test_newer_wrappings_are_undone(tmp_path, encoding):
    """Those that FastWARC itself can undo."""
    import io

    from fastwarc import stream_io

    file = io.BytesIO()
    writer = {"br": stream_io.BrotliWriter, "zstd": stream_io.ZstdWriter}[encoding](file)
    writer.write(HTML)
    writer.close()
    data = record("https://ex.com/", file.getvalue(), head=f"Content-Type: text/html\r\nContent-Encoding: {encoding}")
    assert [page.content for page in read_warc(written(tmp_path, data))] == [HTML]


DROPPED = {
    "page_bytes": [
        record("https://ex.com/", BOMB),
        record("https://ex.com/", gzip.compress(BOMB), head="Content-Type: text/html\r\nContent-Encoding: gzip"),
        record("https://ex.com/", zlib.compress(BOMB), head="Content-Type: text/html\r\nContent-Encoding: deflate"),
        record("https://ex.com/", gzip.compress(gzip.compress(BOMB)),
               head="Content-Type: text/html\r\nContent-Encoding: gzip, gzip"),
    ],
    "page_unreadable": [
        record("https://ex.com/", gzip.compress(HTML)[:-9], head="Content-Type: text/html\r\nContent-Encoding: gzip"),
        record("https://ex.com/", HTML, head="Content-Type: text/html\r\nContent-Encoding: compress"),
        record("https://ex.com/", b"5\r\nab", head="Content-Type: text/html\r\nTransfer-Encoding: chunked"),
        record("https://ex.com/", b"\x1f\x8bnoise" * 9, head="Content-Type: text/html\r\nContent-Encoding: gzip"),
    ],
    "page_status": [record("https://ex.com/", HTML, status="404 Not Found")],
    "page_robots": [
        record("https://ex.com/", HTML, head=f"Content-Type: text/html\r\nX-Robots-Tag: {tag}")
        for tag in ("noai", "max-image: 5, NoImageAI", "goo: noindex", "a\r\nX-Robots-Tag: noimageindex", "none")
    ],
}  # fmt: skip


@pytest.mark.parametrize("reason", DROPPED)
@pytest.mark.parametrize("ending", PACKERS)
def test_a_page_that_is_not_kept_has_a_reason(tmp_path, reason, ending):
    """And the next page is read all the same."""
    for one in DROPPED[reason]:
        data = PACKERS[ending](one) + PACKERS[ending](WHOLE[1])
        found = list(read_warc(written(tmp_path, data), max_bytes=1_000_000))
        assert reasons(found) == [reason, "https://ex.com/1"], found
        assert "https://ex.com/ at 0 in cats.warc" in found[0].detail


def test_directives_to_robots_are_an_option(tmp_path):
    """Others are none of ours."""
    told = record("https://ex.com/", HTML, head="Content-Type: text/html\r\nX-Robots-Tag: noai, nofollow")
    file = written(tmp_path, told)
    assert reasons(read_warc(file, robots=())) == ["https://ex.com/"]
    assert reasons(read_warc(file, robots=("noindex",))) == ["https://ex.com/"]


def test_an_archive_without_headers_of_http_tells_what_its_pages_are(tmp_path):
    """Where the server did not."""
    told = "WARC-Identified-Payload-Type: text/html\r\n"
    file = written(tmp_path, record("<https://ex.com/>", HTML, head="Server: x", extra=told))
    assert [(page.url, page.content_type) for page in read_warc(file)] == [("https://ex.com/", None)]


@pytest.mark.parametrize("twice", [False, True])
def test_a_bomb_is_never_in_memory_as_a_whole(tmp_path, twice):
    """Whether the archive is one, or the answer in it."""
    import tracemalloc

    bomb = b"a" * 50_000_000
    if twice:
        bomb = gzip.compress(bomb)
    record_of_it = record("https://ex.com/", bomb, head="Content-Type: text/html\r\nContent-Encoding: gzip")
    file = written(tmp_path, gzip.compress(record_of_it) + gzip.compress(WHOLE[0]))
    del bomb, record_of_it
    tracemalloc.start()
    assert reasons(read_warc(file, max_bytes=100_000)) == ["page_bytes", "https://ex.com/0"]
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
