"""Documents, metadata and rows that Hypothesis draws for the tests of what is on disk."""

import math

import jaxtyping
from hypothesis import strategies as st

from flamingo_blocks.data import ClipSegment, ImageSegment, InterleavedDocument, TextSegment

STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF....WEBP", b"....ftypisom", b"", b"<html>")


def drawn(kind, *parts, **named):
    """A strategy of a class of ours, made without the checks of shapes, which look at some values by chance."""

    def make(*parts, **named):
        before = jaxtyping.config.jaxtyping_disable
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            return kind(*parts, **named)
        finally:
            jaxtyping.config.update("jaxtyping_disable", before)

    return st.builds(make, *parts, **named)


texts = st.text(max_size=8)  # every character, half surrogate pairs apart
wild_texts = st.text(st.characters(), max_size=8)  # those too
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | wild_texts,
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(wild_texts, inside, max_size=2),
    max_leaves=4,
)
metadata = st.dictionaries(texts.filter(lambda key: key not in ("obelics", "mmc4")), values, max_size=2)
urls = texts.map("https://ex.com/{}".format)
files = st.tuples(st.sampled_from(STARTS), st.binary(max_size=20)).map(b"".join)
url_images = drawn(ImageSegment, url=urls, alt=st.none() | texts, metadata=metadata)
documents_of_urls = drawn(
    InterleavedDocument, st.lists(drawn(TextSegment, texts) | url_images, max_size=5).map(tuple), metadata
)
items = drawn(
    ImageSegment, url=st.none() | urls, data=st.none() | files, alt=st.none() | texts, metadata=metadata
) | drawn(
    ClipSegment, url=st.none() | urls, data=st.none() | files | st.lists(files, max_size=3).map(tuple),
    alt=st.none() | texts, metadata=metadata,
)  # fmt: skip
documents = drawn(
    InterleavedDocument, st.lists(drawn(TextSegment, wild_texts) | items, max_size=5).map(tuple), metadata
)


def same(left, right):
    """Whether two values of JSON are the same, where NaN is itself and 1 is neither 1.0 nor True."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right, strict=True))
    return left == right or (isinstance(left, float) and math.isnan(left) and math.isnan(right))
