"""What holds for every search of duplicates: order and shards do not matter, and twice is once."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import Dropped, ImageSegment, InterleavedDocument
from flamingo_blocks.data.dedup import (
    Duplicates,
    ExactDuplicates,
    FrequentParts,
    ImageNearDuplicates,
    Signatures,
    TextNearDuplicates,
    frequent_parts,
    grouping,
)
from tests.data.dedup.pictures import FILES

WORDS = "the cat sat on a mat and saw the dog that ran by the old house near a green river bank".split()
TEXTS = [" ".join(Random(seed).choices(WORDS, k=30)) for seed in range(3)]  # noqa: S311 - no secret
TEXTS += [TEXTS[0].title() + "!", TEXTS[1] + " indeed", "short", "Short.", "", "short\n\nlonger\n\n\n"]
FINDERS = {
    **{by: ExactDuplicates(by) for by in ("text", "url", "images", "image")},
    "near text": TextNearDuplicates(backend="numpy"),
    "near image": ImageNearDuplicates(),
    "frequent images": FrequentParts("image_url", most=2),
    "frequent paragraphs": FrequentParts("paragraph", most=1),
}
every_finder = pytest.mark.parametrize("finder", FINDERS.values(), ids=FINDERS)

# Plain values are drawn, and documents made of them in the tests: what checks the annotations there draws by itself.
URLS = [None, "https://ex.com/1.jpg", "https://EX.com/1.jpg#top", "https://ex.com/2.jpg"]
DATES = [None, "2024-01-01", "2025-01-01T10:00:00Z", "soon"]
texts = st.sampled_from(TEXTS)
pictures = st.tuples(st.sampled_from([None, *FILES]), st.sampled_from(URLS))
pages = st.tuples(
    st.lists(texts | pictures, max_size=4), st.sampled_from([None, "https://a.com/x", "https://a.com/y"]),
    st.sampled_from(DATES),
)  # fmt: skip
corpora = st.lists(pages, max_size=8)


def made(corpus):
    """Documents of drawn values, and their keys."""
    return [(f"{number:02}", _page(*drawn)) for number, drawn in enumerate(corpus)]


def _page(parts, url, date):
    segments = [part if isinstance(part, str) else ImageSegment(data=part[0], url=part[1]) for part in parts]
    return InterleavedDocument.from_parts(segments, metadata={"url": url, "date": date})


def found_by(finder, corpus, shards=1):
    parts = [corpus[number::shards] for number in range(shards)]
    return finder.merge([finder.signatures(part) for part in parts])


def filtered(finder, corpus, duplicates=None):
    """The documents that are left, by their keys, and what was counted."""
    duplicates = found_by(finder, corpus) if duplicates is None else duplicates
    results = {key: duplicates.filter_items(key, page) for key, page in corpus}
    left = {key: result.document for key, result in results.items()}
    counts = Counter(gone.reason for result in results.values() for gone in result.removed)
    counts.update(page.reason for page in left.values() if isinstance(page, Dropped))
    assert set(counts) <= set(finder.reasons) == set(duplicates.reasons)
    assert sum(counts.values()) == duplicates.num_removed
    return {key: page for key, page in left.items() if not isinstance(page, Dropped)}


@every_finder
@given(corpora, st.randoms(), st.integers(1, 4))
def test_order_and_shards_do_not_matter(finder, corpus, random, shards):
    """Any order of documents in any number of shards keeps the same."""
    corpus = made(corpus)
    mixed = random.sample(corpus, len(corpus))
    duplicates = found_by(finder, mixed, shards)
    assert filtered(finder, mixed, duplicates) == filtered(finder, corpus)
    table = found_by(finder, corpus).arrays
    assert {name: array.tolist() for name, array in duplicates.arrays.items()} == {
        name: array.tolist() for name, array in table.items()
    }


@every_finder
@given(corpora)
def test_groups_are_looked_at_in_any_number_of_pieces(finder, corpus):
    """As many members at a time as fit in memory."""
    corpus = made(corpus)
    expected = found_by(finder, corpus, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping, "AT_A_TIME", 2)
        patch.setattr(frequent_parts, "AT_A_TIME", 2)
        found = found_by(finder, corpus, 2)
    assert {name: array.tolist() for name, array in found.arrays.items()} == {
        name: array.tolist() for name, array in expected.arrays.items()
    }


@every_finder
@given(corpora)
def test_twice_is_once(finder, corpus):
    """What was filtered has no duplicates, and filtering it by the same table changes nothing."""
    corpus = made(corpus)
    duplicates = found_by(finder, corpus)
    once = filtered(finder, corpus, duplicates)
    assert found_by(finder, list(once.items())).num_removed == 0
    assert {key: duplicates.filter(key, page) for key, page in once.items()} == once


@every_finder
@given(corpus=corpora)
def test_files_hold_all(finder, corpus, tmp_path_factory):
    """Signatures and tables that went through a file do the same."""
    corpus = made(corpus)
    folder = tmp_path_factory.mktemp("files")
    for number in (0, 1):
        finder.signatures(corpus[number::2]).save(folder / f"{number}.npz")
    found = finder.merge([folder / "0.npz", str(folder / "1.npz")])
    found.save(folder / "table.npz")
    assert filtered(finder, corpus, Duplicates.load(folder / "table.npz")) == filtered(finder, corpus)
    before = (folder / "0.npz").read_bytes()
    finder.signatures(corpus[0::2]).save(folder / "0.npz")
    assert (folder / "0.npz").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["0.npz", "1.npz", "table.npz"]


@every_finder
def test_kinds_are_not_mixed(finder):
    """Signatures of another finder are refused by both names."""
    for other in FINDERS.values():
        if other is not finder:
            with pytest.raises(ValueError, match=f"of the kind '{other.kind}', wanted '{finder.kind}'"):
                finder.merge([finder.signatures([]), other.signatures([])])


@pytest.mark.parametrize("name", [name for name in FINDERS if "frequent" not in name])
def test_a_document_has_a_key_of_its_own(name):
    """One key for two documents is an error that names it: which of them would go?"""
    finder = FINDERS[name]
    page = InterleavedDocument.from_parts(["cat", ImageSegment("https://a.com/1.jpg", FILES[0])], metadata={"url": "x"})
    shard = finder.signatures([("a", page), ("b", page)])
    with pytest.raises(ValueError, match="the document 'b' was given twice"):
        finder.merge([shard, finder.signatures([("c", page), ("b", page)])])


@every_finder
def test_nothing_has_no_duplicates(finder):
    """No shard, an empty one, and documents of nothing."""
    empty = InterleavedDocument.from_parts([])
    assert finder.merge([]).num_removed == 0
    found = finder.merge([finder.signatures([]), finder.signatures([("a", empty), ("b", empty)])])
    assert found.num_removed == 0
    assert found.filter("b", empty) is empty


def test_a_file_of_something_else_is_told(tmp_path):
    """By its path."""
    import numpy as np

    (tmp_path / "text").write_text("cat")
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "some.npz", cat=np.zeros(3))
    for name, said in (("text", "no file of signatures"), ("one.npy", "a single array"), ("some.npz", r"\['cat'\]")):
        with pytest.raises(ValueError, match=f"{name}.*{said}"):
            Signatures.load(tmp_path / name)
    FINDERS["text"].signatures([]).save(tmp_path / "part.npz")
    with pytest.raises(ValueError, match="part.npz is of the kind 'exact text 1', wanted 'duplicates 1'"):
        Duplicates.load(tmp_path / "part.npz")
    with pytest.raises(FileNotFoundError):
        Signatures.load(tmp_path / "missing.npz")
