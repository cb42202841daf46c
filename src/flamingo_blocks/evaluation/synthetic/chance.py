"""What a model gets that does not look at the pictures."""

from flamingo_blocks.evaluation.task import Task


def chance(task: Task) -> float:
    """Score of a model that sees no picture, in percent.

    Args:
        task: One of `synthetic_task` or `read_vl_icl`.

    Returns:
        For names and for yes and no, the share of one of those in play; for numbers, that of the most frequent one.

    Raises:
        ValueError: If the queries do not tell.

    Example:
        >>> from flamingo_blocks.evaluation.synthetic import synthetic_task
        >>> chance(synthetic_task("binding", queries=2, size=32))
        50.0
    """
    told = [query.facts.get("chance") for query in task.queries]
    if not told or None in told:
        raise ValueError(f"task {task.name!r} does not tell its chance: give one of synthetic_task or read_vl_icl")
    return sum(float(each) for each in told if each is not None) / len(told)
