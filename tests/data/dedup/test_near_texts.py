"""Texts that are nearly the same are found, others are not, by either backend."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import Dropped, InterleavedDocument
from flamingo_blocks.data.dedup import Signatures, TextNearDuplicates, canonical_text, minhash
from flamingo_blocks.data.dedup.components import Components
from flamingo_blocks.data.dedup.minhash import run_hashes
from flamingo_blocks.errors import MissingDependencyError

both = pytest.mark.parametrize("backend", ["numpy", "rensa"])


def finder_by(backend, **options):
    if backend == "rensa":
        pytest.importorskip("rensa", reason="rensa is an optional backend")
    return TextNearDuplicates(backend=backend, **options)


def texts_sharing(share, number, seed=0, words=300):
    """Pairs of texts of so many words, of whose runs of five they have this share in common."""
    random = np.random.default_rng(seed)
    for _ in range(number):
        start = random.integers(1_000_000_000, size=words)
        apart = round(words * (1 - share) / (1 + share))  # the last words differ, and so do the runs that hold them
        other = np.concatenate([start[: words - apart], random.integers(1_000_000_000, size=apart)])
        yield " ".join(map(str, start)), " ".join(map(str, other))


def runs_of(text, length=5):
    words = canonical_text(text).split()
    return {tuple(words[k : k + length]) for k in range(max(len(words) - length, 0) + 1)} if words else set()


def resemblance(one, other):
    return len(runs_of(one) & runs_of(other)) / len(runs_of(one) | runs_of(other))


def found_pairs(finder, pairs):
    """How many of the pairs are told to be the same; members of different pairs never are."""
    named = [
        (f"{number:05}{side}", text) for number, pair in enumerate(pairs) for side, text in zip("ab", pair, strict=True)
    ]
    documents = [(name, InterleavedDocument.from_parts([text])) for name, text in named]
    duplicates = finder.merge([finder.signatures(documents)])
    gone = {
        name: found.detail for name, page in documents if isinstance(found := duplicates.filter(name, page), Dropped)
    }
    assert all(detail == f"as in '{name[:-1]}a'" for name, detail in gone.items())
    return len(gone)


@both
def test_shares_of_runs_are_estimated(backend):
    """The mean error is that of a count of 112 throws, a thirtieth; with no drift to either side."""
    finder = finder_by(backend)
    errors = []
    for share in (0.2, 0.5, 0.8, 0.9):
        for one, other in texts_sharing(share, 60, seed=round(10 * share)):
            left, right = finder.sketch([one, other])
            errors.append((left == right).mean() - resemblance(one, other))
    expected = np.mean([np.sqrt(2 / np.pi * share * (1 - share) / 112) for share in (0.2, 0.5, 0.8, 0.9)])
    assert 0.8 * expected < np.abs(errors).mean() < 1.25 * expected
    assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(len(errors))


@both
def test_near_pairs_are_found_and_others_are_not(backend):
    """All that share nine tenths of their runs, none that share a fifth, and between them as many as the bands say."""
    finder = finder_by(backend)
    pairs = [pair for pair in texts_sharing(0.93, 150) if resemblance(*pair) >= 0.9]
    assert len(pairs) > 100
    assert found_pairs(finder, pairs) == len(pairs)
    assert found_pairs(finder, texts_sharing(0.2, 150)) == 0
    half = list(texts_sharing(0.72, 200))
    chance = np.mean([1 - (1 - resemblance(*pair) ** 8) ** 14 for pair in half])
    assert abs(found_pairs(finder, half) / 200 - chance) < 4 * np.sqrt(chance * (1 - chance) / 200)


@both
def test_what_is_like_the_same_is_the_same(backend):
    """A text that changed bit by bit is one group, of which the least key stays."""
    words = np.random.default_rng(1).integers(10_000_000, size=700)
    documents = [
        (f"{9 - step}", InterleavedDocument.from_parts([" ".join(map(str, words[30 * step : 30 * step + 400]))]))
        for step in range(10)
    ]
    finder = finder_by(backend, bands=28, rows=4)
    duplicates = finder.merge([finder.signatures([document]) for document in documents])
    kept = [name for name, page in documents if duplicates.filter(name, page) is page]
    assert kept == ["0"]
    assert finder.merge([finder.signatures([documents[0], documents[9]])]).num_removed == 0


@both
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("one two three", "One, two: three!", True), ("one two three", "one two three four", False),
     ("a b c d", "b a c d", False), ("a b c d e", "a b c d", False), ("", "", False), ("…", "!", False),
     ("a", "A", True)],
)  # fmt: skip
def test_short_texts_are_one_run(backend, one, other, same):
    """So only their like is found; texts without words are no duplicates."""
    assert found_pairs(finder_by(backend), [(one, other)]) == same


@given(st.lists(st.text(alphabet="ab ", max_size=30), min_size=1, max_size=6), st.integers(1, 6))
def test_runs_are_those_of_a_naive_count(texts, length):
    """Equal hashes where the words of two runs are equal, and nowhere else."""
    hashes, bounds = run_hashes(texts, length)
    parts = [hashes[start:end].tolist() for start, end in pairwise(bounds.astype(int).tolist())]
    named: dict[int, tuple[str, ...]] = {}
    for text, found in zip(texts, parts, strict=True):
        words = canonical_text(text).split()
        size = min(length, len(words))
        runs = [tuple(words[k : k + size]) for k in range(len(words) - size + 1)] if words else []
        assert len(found) == len(runs)
        for number, run in zip(found, runs, strict=True):
            assert named.setdefault(number, run) == run
    assert len(set(named.values())) == len(named)


@both
def test_texts_have_the_same_signature_in_any_company(backend, monkeypatch):
    """However many there are at a time, however long they are."""
    finder = finder_by(backend)
    texts = [pair[0] for pair in texts_sharing(0.5, 3, words=5000)] + ["", "cat", "a b c d e f"]
    together = finder.sketch(texts)
    assert together.shape == (6, 112)
    monkeypatch.setattr(minhash, "LONG_TEXT", 5)
    monkeypatch.setattr(minhash, "BLOCK", 7)
    alone = [finder_by(backend).sketch([text])[0] for text in texts]
    told = [number for number, text in enumerate(texts) if text]
    assert np.array_equal(together[told], np.stack(alone)[told])


def test_signatures_do_not_change_between_versions():
    """Those of saved files would be compared with others: a change needs another version."""
    finder = TextNearDuplicates(backend="numpy")
    page = InterleavedDocument.from_parts(["The cat sat on the mat, and the dog saw it."])
    found = finder.signatures([("a", page)])
    assert found.kind == "near text numpy-1 1 5 14x8"
    assert [hex(found.arrays[f"key_{number}"][0]) for number in (0, 13)] == ["0xd8d540d387c5b45a", "0xef4a0dbad1909a46"]


def test_backends_are_picked_by_name(monkeypatch):
    """The first that is installed, unless one is asked for; each has its own kind."""

    def refuse(package, **_):
        if package == "rensa":
            raise MissingDependencyError("rensa is missing")
        return np

    monkeypatch.setattr(minhash, "require", refuse)
    assert TextNearDuplicates().backend == "numpy-1"
    with pytest.raises(MissingDependencyError, match="rensa"):
        TextNearDuplicates(backend="rensa")


def test_signatures_of_two_backends_are_not_mixed():
    """Nor those of other options."""
    numpy, rensa = finder_by("numpy"), finder_by("rensa")
    for other in (rensa, finder_by("numpy", bands=7), finder_by("numpy", run_words=6)):
        with pytest.raises(ValueError, match=f"are of the kind '{other.kind}', wanted '{numpy.kind}'"):
            numpy.merge([other.signatures([])])


@pytest.mark.parametrize(
    ("options", "said"),
    [({"run_words": 0}, "run_words is 0"), ({"bands": 0}, "bands is 0"), ({"rows": -1}, "rows is -1"),
     ({"backend": "spark"}, "backend is 'spark', wanted 'auto', 'rensa' or 'numpy'")],
)  # fmt: skip
@pytest.mark.usefixtures("without_shape_checks")
def test_slips_are_told(options, said):
    """With the value and what was wanted."""
    with pytest.raises(ValueError, match=said):
        TextNearDuplicates(**options)


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40), st.integers(1, 5))
def test_components_are_those_of_a_naive_search(number, pairs, pieces):
    """The least row of all that can be reached, in however many pieces the pairs come."""
    pairs = [(one % number, other % number) for one, other in pairs]
    rows = Components(number)
    for piece in range(pieces):
        some = np.array(pairs[piece::pieces], np.int64).reshape(-1, 2)
        rows.join(some[:, 0], some[:, 1])
    least = list(range(number))
    for _ in range(number):
        for one, other in pairs:
            least[one] = least[other] = min(least[one], least[other])
    assert rows.roots.tolist() == least


def test_memory_is_bounded(tmp_path):
    """Merging holds less than 64 bytes a document, whatever their texts and the size of their signatures."""
    finder, number = TextNearDuplicates(backend="numpy"), 40_000
    random = np.random.default_rng(0)
    for shard in range(4):
        keys = random.integers(2**63, size=(16, number // 4), dtype=np.uint64)
        zeros, rows = np.zeros(number // 4, np.int32), np.arange(number // 4, dtype=np.int32)
        arrays = {"document": rows, "segment": zeros, "rank": zeros, "part": keys[14], "name_keys": keys[15],
                  "names": np.zeros(20 * number // 4, np.uint8), "name_ends": 20 * rows + 20,
                  **{f"key_{band}": keys[band] for band in range(14)}}  # fmt: skip
        Signatures(finder.kind, arrays).save(tmp_path / f"{shard}.npz")
    tracemalloc.start()
    assert finder.merge([tmp_path / f"{shard}.npz" for shard in range(4)]).num_removed == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * number
