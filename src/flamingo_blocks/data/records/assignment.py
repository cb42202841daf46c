"""Which image goes to which sentence, so that the sum of their scores is greatest."""

from collections.abc import Sequence
from math import inf


def best_assignment(scores: Sequence[Sequence[float]]) -> list[int | None]:
    """One column for each row, each column at most once, with the greatest sum of scores.

    Args:
        scores: A row for each image, as long as there are sentences; finite numbers.

    Returns:
        The column of each row; `None` for the rows that are left over, where there are more rows than columns.

    Example:
        >>> best_assignment([[0.9, 0.8], [0.9, 0.1]])
        [1, 0]

    Source:
        Shortest augmenting paths after Kuhn and Munkres; rows squared times columns.
    """
    rows = len(scores)
    columns = len(scores[0]) if scores else 0
    if rows <= columns:
        return list(_columns([[-score for score in row] for row in scores], columns))
    found: list[int | None] = [None] * rows
    turned = [[-scores[row][column] for row in range(rows)] for column in range(columns)]
    for column, row in enumerate(_columns(turned, rows)):
        found[row] = column
    return found


def _columns(costs: Sequence[Sequence[float]], columns: int) -> list[int]:
    """The cheapest columns of all rows, which are no more than the columns: rows come in one after another."""
    prices, owner = [0.0] * columns, [-1] * columns
    discounts = [0.0] * len(costs)
    for newcomer in range(len(costs)):
        end, way = _shortest_path(costs, newcomer, prices, discounts, owner)
        while end != -1:  # each row on the way moves on to the column that was found from it
            before = way[end]
            owner[end] = newcomer if before == -1 else owner[before]
            end = before
    found = [0] * len(costs)
    for column, row in enumerate(owner):
        if row != -1:
            found[row] = column
    return found


def _shortest_path(
    costs: Sequence[Sequence[float]], row: int, prices: list[float], discounts: list[float], owner: list[int]
) -> tuple[int, list[int]]:
    """From a row to a free column, over columns whose rows could move; keeps every reduced cost at zero or more."""
    distance, way = [inf] * len(prices), [-1] * len(prices)
    free, passed = set(range(len(prices))), []
    here, last, newcomer = 0.0, -1, row
    while row != -1:
        line, base = costs[row], here - discounts[row]
        nearest, closest = inf, -1
        for column in free:
            through = base + line[column] - prices[column]
            if through < distance[column]:
                distance[column], way[column] = through, last
            if distance[column] < nearest:
                nearest, closest = distance[column], column
        here, last = nearest, closest
        free.remove(closest)
        row = owner[closest]
        if row != -1:
            passed.append(closest)
    discounts[newcomer] += here
    for column in passed:
        discounts[owner[column]] += here - distance[column]
        prices[column] -= here - distance[column]
    return last, way
