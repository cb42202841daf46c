"""What pages were wrapped in on their way is undone within bounds."""

import gzip

import pytest

from flamingo_blocks.data.sources.http_content import MAX_STREAMS, decode_content


def decoded(body, **options):
    return decode_content(body, **({"transfer": "", "encoding": "gzip", "max_bytes": 10**6} | options))


def test_several_streams_are_one_content():
    """As servers write them that compress piece by piece."""
    assert decoded(b"".join(gzip.compress(part) for part in (b"Tom ", b"and ", b"Mia"))) == b"Tom and Mia"


def test_streams_without_end_are_refused():
    """Each costs a copy of all behind it, so a page of empty ones would take minutes."""
    assert decoded(gzip.compress(b"") * (MAX_STREAMS - 1) + gzip.compress(b"Tom")) == b"Tom"
    with pytest.raises(OSError, match="more than 1000 streams in one"):
        decoded(gzip.compress(b"") * (MAX_STREAMS + 1))
