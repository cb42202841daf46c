"""The tokens of many candidates with their common beginnings once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from jaxtyping import Bool
from torch import Tensor

Candidates = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class TokenTrie:
    """A tree of tokens in which each candidate is a way from the root.

        c a t <EOC>          c - a - t - <EOC>
        c a r <EOC>              `-- r - <EOC>
        dog <EOC>            dog - <EOC>

    Every token is an edge. Those that another one follows are nodes that a model has to read: it predicts what follows
    them. The last tokens of candidates are predicted, and never read.

    Args:
        edges: For each edge the node that it leaves (-1: the root) and its token; parents first.
        nodes: The edge that leads to each node; parents first.
        depths: Tokens between the root and each node, 0 for the first.
        ends: The last edge of each candidate.

    Example:
        >>> trie = TokenTrie.of(((5, 6, 1), (5, 7, 1), (8, 1)))
        >>> [trie.edges[edge] for edge in trie.nodes]  # 5, then 6 and 7 behind it, then 8
        [(-1, 5), (0, 6), (0, 7), (-1, 8)]
        >>> trie.totals([-1.0, -2.0, -4.0, -8.0, -16.0, -32.0, -64.0])
        [-7.0, -25.0, -96.0]
    """

    edges: tuple[tuple[int, int], ...]
    nodes: tuple[int, ...]
    depths: tuple[int, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, candidates: Candidates) -> "TokenTrie":
        """The tree of some candidates.

        Args:
            candidates: Token ids of each, one at least; two may be the same.
        """
        return _tree_of(candidates)

    @property
    def tokens(self) -> list[int]:
        """The token of each node."""
        return [self.edges[edge][1] for edge in self.nodes]

    def sees(self) -> Bool[Tensor, "nodes nodes"]:
        """True where the second node lies on the way from the root to the first one, that one included."""
        count = len(self.nodes)
        # One step a level, for all nodes together. The root is its own parent; its column is cut off.
        parents = torch.tensor([*(self.edges[edge][0] for edge in self.nodes), -1]) % (count + 1)
        seen, nodes, ahead = torch.eye(count, count + 1, dtype=torch.bool), torch.arange(count), parents[:-1]
        for _ in range(max(self.depths, default=0)):
            seen[nodes, ahead] = True
            ahead = parents[ahead]
        return seen[:, :-1]

    def totals(self, log_probs: Sequence[float]) -> list[float]:
        """The sum along the way of each candidate.

        Args:
            log_probs: One for each edge.
        """
        sums: list[float] = []
        for (parent, _), own in zip(self.edges, log_probs, strict=True):
            sums.append(own if parent < 0 else sums[self.nodes[parent]] + own)
        return [sums[edge] for edge in self.ends]


@lru_cache(64)
def _tree_of(candidates: Candidates) -> TokenTrie:
    children: list[dict[int, int]] = [{}]  # of the root, then of each edge: the edge that a token is
    edges: list[tuple[int, int]] = []  # the edge before, -1 for none, and the token
    ends = []
    for candidate in candidates:
        edge = -1
        for token in candidate:
            following = children[edge + 1]
            if token not in following:
                following[token] = len(edges)
                edges.append((edge, token))
                children.append({})
            edge = following[token]
        ends.append(edge)
    nodes = [edge for edge in range(len(edges)) if children[edge + 1]]
    number = {edge: node for node, edge in enumerate(nodes)} | {-1: -1}
    depths: list[int] = []
    for edge in nodes:
        parent = number[edges[edge][0]]
        depths.append(0 if parent < 0 else depths[parent] + 1)
    return TokenTrie(
        tuple((number[before], token) for before, token in edges), tuple(nodes), tuple(depths), tuple(ends)
    )


def split(candidates: Candidates, most_tokens: int) -> list[list[int]]:
    """Numbers of candidates in groups of `most_tokens` tokens at most; those that begin alike stay side by side.

    Args:
        candidates: Token ids of each.
        most_tokens: Of a group of more than one candidate.

    Example:
        >>> split(((5, 1), (9, 1), (5, 6, 1)), 5)
        [[0, 2], [1]]
    """
    groups: list[list[int]] = [[]]
    tokens = 0
    for number in sorted(range(len(candidates)), key=lambda number: candidates[number]):
        tokens += len(candidates[number])
        if groups[-1] and tokens > most_tokens:
            groups.append([])
            tokens = len(candidates[number])
        groups[-1].append(number)
    return groups


def one_in_another(candidates: Candidates) -> tuple[int, int] | None:
    """A candidate that another one begins with, and that other one; None where there is no such pair.

    Args:
        candidates: Token ids of each.

    Example:
        >>> one_in_another(((5, 6), (7, 8), (5, 6, 9)))
        (0, 2)
    """
    order = sorted(range(len(candidates)), key=lambda number: candidates[number])
    for one, other in pairwise(order):  # whatever begins with a candidate follows it at once
        if candidates[other][: len(candidates[one])] == candidates[one]:
            return one, other
    return None
