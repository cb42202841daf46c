"""Queries that are shown the same shots."""

from collections.abc import Iterable

from flamingo_blocks.evaluation.shots.keyed_order import keyed_digest


def assign_groups(ids: Iterable[str], *, task: str, seed: int, num_groups: int | None = 64) -> dict[str, int]:
    """The group of each query; queries of one group share their shots, so that these are computed once.

    The expected score is the same for any number of groups. Fewer groups are faster, and add the variance of drawing
    few sets of shots; one for each query is OpenFlamingo's protocol.

    Args:
        ids: Of the queries.
        task: Name of the task.
        seed: Each seed divides the queries anew.
        num_groups: How many; None for a group of its own for each query.

    Returns:
        A number for each id, which depends on nothing but the id, task, seed and `num_groups`. Some groups are empty
        where queries are few.

    Raises:
        ValueError: If `num_groups` is less than 1.

    Example:
        >>> assign_groups(["a", "b", "c"], task="vqav2", seed=0, num_groups=2)
        {'a': 1, 'b': 1, 'c': 0}
    """
    if num_groups is not None and num_groups < 1:
        raise ValueError(f"num_groups is {num_groups}, wanted 1 or more, or None for a group for each query")
    # 60 bits of the digest: two queries of a million have one number with a chance of 1 in two million.
    most = 2**60 if num_groups is None else num_groups
    return {id_: int.from_bytes(keyed_digest(task, "groups", seed, id_)[:16]) % most for id_ in ids}
