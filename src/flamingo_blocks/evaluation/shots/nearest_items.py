"""The rows that point most nearly in the direction of another, exactly."""

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flamingo_blocks._optional import require

Backend = Literal["torch", "faiss"]
_SCORES_AT_A_TIME = 2**26  # 256 MiB
_ROWS_AT_A_TIME = 2**15
_PLACES = 2.0**24  # cosines that differ by less than a float32 can tell are ties


@torch.no_grad()
def nearest_items(
    features: Float[Tensor, "items dim"],
    queries: Float[Tensor, "queries dim"],
    *,
    k: int,
    backend: Backend = "torch",
) -> Int[Tensor, "queries k"]:
    """Rows of the `k` largest cosines with each query, the nearest first; of ties the earlier row.

    A product in float32 finds the rows that may be among the nearest; their cosines are then computed in float64, each
    in the same way, and compared to 24 binary places. So the result is that of comparing all rows, whatever the
    backend, the number of queries or the length of the rows.

    Args:
        features: What is searched, of any length but 0.
        queries: What is searched for.
        k: How many; no more than there are rows.
        backend: What finds the candidates: `"torch"`, or `"faiss"` by its flat index.

    Raises:
        ValueError: If `k` is less than 1 or more than there are rows, `backend` is none of these, a row is zero or not
            finite, or widths differ.
        MissingDependencyError: If `backend="faiss"` and it is not installed.

    Example:
        >>> nearest_items(torch.tensor([[0.0, 1.0], [1.0, 0.1], [2.0, 0.2]]), torch.tensor([[1.0, 0.0]]), k=3)
        tensor([[1, 2, 0]])
    """
    if not 1 <= k <= len(features):
        raise ValueError(f"k is {k}, wanted 1 to {len(features)}, the number of items")
    if backend not in get_args(Backend):
        raise ValueError(f"backend is {backend!r}, wanted one of {', '.join(map(repr, get_args(Backend)))}")
    if features.shape[1] != queries.shape[1]:
        raise ValueError(f"features are {features.shape[1]} wide and queries {queries.shape[1]}, wanted one width")
    rows, asked = _units(features, "features"), _units(queries, "queries")
    # The most by which the products of two rows may be wrong relative to each other
    margin = features.shape[1] * torch.finfo(torch.float32).eps
    find = _by_faiss if backend == "faiss" else _by_torch
    found = [
        _best(features[places], query, places, k)
        for places, query in zip(find(rows, asked, k, margin), queries, strict=True)
    ]
    return torch.stack(found) if found else torch.zeros(0, k, dtype=torch.long)


def _best(
    features: Float[Tensor, "some dim"], query: Float[Tensor, " dim"], places: Int[Tensor, " some"], k: int
) -> Int[Tensor, " k"]:
    """The nearest of some candidates, which come in the order of their places."""
    cosines = (_unit(features) * _unit(query[None])).sum(1)
    order = (cosines * _PLACES).round().argsort(descending=True, stable=True)
    return places[order[:k]].cpu()


def _by_torch(
    rows: Float[Tensor, "items dim"], queries: Float[Tensor, "queries dim"], k: int, margin: float
) -> Iterator[Tensor]:
    """Places of the rows that may be among the nearest, query by query."""
    step = max(1, _SCORES_AT_A_TIME // len(rows))
    for start in range(0, len(queries), step):
        scores = queries[start : start + step] @ rows.T
        least = scores.topk(k, dim=1).values[:, -1:] - margin
        for near in scores >= least:
            yield near.nonzero()[:, 0]


def _by_faiss(
    rows: Float[Tensor, "items dim"], queries: Float[Tensor, "queries dim"], k: int, margin: float
) -> Iterator[Tensor]:
    package = require("faiss", used_by="nearest_items(backend='faiss')", extra="faiss")
    index = package.IndexFlatIP(rows.shape[1])
    index.add(rows.cpu().numpy())

    def search(query: Tensor) -> Tensor:
        wanted = k
        while True:
            wanted = min(len(rows), 2 * wanted + 16)
            scores, places = map(torch.from_numpy, index.search(query.cpu().numpy(), wanted))
            near = scores[0] >= scores[0, k - 1] - margin
            if wanted == len(rows) or not near[-1]:
                return places[0, near].sort()[0]

    for query in queries:
        yield search(query[None])


def _units(rows: Float[Tensor, "rows dim"], name: str) -> Float[Tensor, "rows dim"]:
    """Rows of length 1 in float32."""
    parts = [_unit(rows[start : start + _ROWS_AT_A_TIME]).float() for start in range(0, len(rows), _ROWS_AT_A_TIME)]
    units = torch.cat(parts) if parts else rows.float()
    bad = (~units.isfinite().all(1)).nonzero()
    if len(bad):
        raise ValueError(
            f"{name} has a row of zeros, or with NaN or infinity, at {int(bad[0, 0])}; look at its picture"
        )
    return units


def _unit(rows: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
    exact = rows.double()
    unit: Tensor = exact / exact.norm(dim=1, keepdim=True)
    return unit
