"""The rows that point most nearly in the direction of another."""

import sys
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import MissingDependencyError
from flamingo_blocks.evaluation.shots import nearest_items

drawn = st.tuples(st.integers(1, 40), st.integers(1, 6), st.sampled_from([2, 3, 16]), st.integers(0, 2**31))


def features_of(items, queries, dim, seed):
    """Few values, so that there are ties, and no row of zeros."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randint(-1, 2, (number, dim), generator=generator).float() for number in (items, queries)]
    for rows in made:
        rows[rows.abs().sum(1) == 0, 0] = 1.0
    return made


def by_brute_force(features, queries, k):
    """All cosines, sorted with ties by place."""
    found = []
    for query in queries.double().tolist():
        cosines = []
        for row in features.double().tolist():
            dot = sum(a * b for a, b in zip(row, query, strict=True))
            lengths = sum(a * a for a in row) * sum(b * b for b in query)
            cosines.append(round(dot / lengths**0.5 * 2**24))
        found.append(sorted(range(len(cosines)), key=lambda place: (-cosines[place], place))[:k])
    return found


class FlatIndex:
    """A flat index as faiss has it, for machines without: in float32, of ties any."""

    def __init__(self, dim):
        self.dim = dim

    def add(self, rows):
        self.rows = torch.from_numpy(rows)

    def search(self, queries, k):
        scores = torch.from_numpy(queries) @ self.rows.T
        order = scores.flip(1).argsort(descending=True)[:, :k]
        places = len(self.rows) - 1 - order
        return scores.gather(1, places).numpy(), places.numpy()


@pytest.fixture
def faiss(monkeypatch):
    package = ModuleType("faiss")
    package.IndexFlatIP = FlatIndex
    monkeypatch.setitem(sys.modules, "faiss", package)


@given(drawn, st.integers(1, 40))
def test_it_is_brute_force(sizes, k):
    """With ties by place."""
    features, queries = features_of(*sizes)
    k = min(k, len(features))
    assert nearest_items(features, queries, k=k).tolist() == by_brute_force(features, queries, k)


@given(drawn, st.integers(-60, 60), st.floats(1e-20, 1e20))
def test_lengths_change_nothing(sizes, power, scale):
    """Neither of the items, each by itself, nor of the queries; ties are ties still where the product is exact."""
    features, queries = features_of(*sizes)
    expected = nearest_items(features, queries, k=len(features))
    scales = torch.where(torch.arange(len(features)) % 2 == 0, 2.0**power, 1.0)[:, None]
    assert torch.equal(nearest_items(features * scales, queries * 2.0**-power, k=len(features)), expected)
    generator = torch.Generator().manual_seed(0)
    features, queries = (torch.randn(number, 16, generator=generator) for number in (100, 3))
    scales = torch.where(torch.arange(100) % 2 == 0, scale, 1.0)[:, None]
    assert torch.equal(nearest_items(features * scales, queries * scale, k=9), nearest_items(features, queries, k=9))


@given(drawn, st.integers(1, 5))
def test_queries_may_be_asked_in_parts(sizes, k):
    """What is found for one does not depend on the others, nor the first on how many are asked for."""
    features, queries = features_of(*sizes)
    k = min(k, len(features))
    everything = nearest_items(features, queries, k=len(features))
    for row, query in enumerate(queries):
        assert torch.equal(nearest_items(features, query[None], k=k)[0], everything[row, :k])


@pytest.mark.usefixtures("faiss")
def test_another_search_finds_the_same():
    """Whatever it does with ties, as all that may be near are compared again."""
    for seed in range(20):
        features, queries = features_of(200, 5, 2 if seed % 2 else 16, seed)
        for k in (1, 7, 150, 200):
            expected = nearest_items(features, queries, k=k)
            assert torch.equal(nearest_items(features, queries, k=k, backend="faiss"), expected)


def test_faiss_finds_the_same():
    """The package itself, where it is."""
    pytest.importorskip("faiss", reason="faiss is an optional backend")
    for dim in (2, 64):
        features, queries = features_of(500, 20, dim, 0)
        expected = nearest_items(features, queries, k=40)
        assert torch.equal(nearest_items(features, queries, k=40, backend="faiss"), expected)


def test_near_ties_are_told_apart_exactly(generator):
    """Rows whose cosines differ by 1e-6 come in order among thousands, where a product in float32 is not enough."""
    angles = torch.linspace(0.5, 0.5005, 500, dtype=torch.float64)[torch.randperm(500, generator=generator)]
    features = torch.stack([angles.cos(), angles.sin()], 1).float()
    found = nearest_items(features, torch.tensor([[1.0, 0.0]]), k=500)[0]
    assert torch.equal(found, angles.argsort())


def test_pieces_of_a_large_search_are_put_together(monkeypatch):
    """Scores of a few queries and rows at a time."""
    features, queries = features_of(40, 6, 3, 0)
    expected = nearest_items(features, queries, k=10)
    module = sys.modules[nearest_items.__module__]
    monkeypatch.setattr(module, "_SCORES_AT_A_TIME", 90)
    monkeypatch.setattr(module, "_ROWS_AT_A_TIME", 7)
    assert torch.equal(nearest_items(features, queries, k=10), expected)


def test_no_query_has_no_rows():
    """The result keeps its width."""
    assert nearest_items(torch.ones(3, 2), torch.ones(0, 2), k=2).shape == (0, 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k is 0, wanted 1 to 3, the number of items"),
        ({"k": 4}, "k is 4, wanted 1 to 3"),
        ({"backend": "annoy"}, "backend is 'annoy', wanted one of 'torch', 'faiss'"),
        ({"queries": torch.ones(1, 3)}, "features are 2 wide and queries 3, wanted one width"),
        ({"queries": torch.zeros(2, 2)}, "queries has a row of zeros, or with NaN or infinity, at 0"),
        ({"features": torch.tensor([[1.0, 0], [torch.nan, 1], [1, 1]])}, "features has a row of zeros.* at 1"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_slips_are_told(options, said):
    """With the argument, what came and what is wanted."""
    with pytest.raises(ValueError, match=said):
        nearest_items(**{"features": torch.ones(3, 2), "queries": torch.ones(1, 2), "k": 1, **options})


def test_a_missing_package_is_told(monkeypatch):
    """With the extra that brings it."""
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependencyError, match="needs the package 'faiss'.*extra 'faiss'"):
        nearest_items(torch.ones(3, 2), torch.ones(1, 2), k=1, backend="faiss")
