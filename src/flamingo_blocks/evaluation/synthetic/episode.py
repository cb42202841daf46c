"""From rows of a few-shot episode to an item with shots of its own; drawn tasks and files of VL-ICL share it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.synthetic.choices import Choices
from flamingo_blocks.evaluation.task import Answering


def naming_episode(
    query: TaskItem,
    pictures: Mapping[str, Sequence[ImageSegment]],
    *,
    names: int,
    answering: Answering,
    seed: int,
) -> TaskItem:
    """A query with shots that name pictures: each name once before any twice, the names in an order that is chosen.

    Args:
        query: Its question and its answer; the answer is one of the names.
        pictures: Pictures of each name.
        names: How many names are in play: the answer and others that are chosen.
        answering: Whether the names are what may be answered.
        seed: Decides what is chosen, with the id of the query.
    """
    choices = Choices("episode", seed, query.id)
    answer = query.answers[0]
    others = choices.several(sorted(set(pictures) - {answer}), names - 1, "others")
    order = choices.several(sorted([answer, *others]), names, "order")
    shots = tuple(
        TaskItem(
            id=f"{query.id}/{name}/{number}",
            media=(pictures[name][number],),
            texts=query.texts,
            answers=(name,),
        )
        for number in range(min(len(pictures[name]) for name in order))
        for name in order
    )
    candidates = tuple(choices.several(order, names, "candidates"))
    facts = {"chance": 100 / names, "names": candidates, **query.facts}
    return replace(query, support=shots, facts=facts, candidates=candidates if answering == "closed" else ())


def with_shots_in_order(query: TaskItem, rows: Sequence[Sequence[TaskItem]], *, seed: int) -> TaskItem:
    """A query whose shots are all rows of its rule, in an order that is chosen.

    Args:
        query: The query.
        rows: The shots of each row, which stay together.
        seed: Decides the order, with the ids of query and shots.
    """
    choices = Choices("episode", seed, query.id)
    order = sorted(rows, key=lambda row: choices.between(0, 1, "shots", row[0].id))
    return replace(query, support=tuple(shot for row in order for shot in row))


def with_facts(item: TaskItem, **facts: Any) -> TaskItem:
    """An item of which more is known.

    Args:
        item: The item.
        facts: What is known besides.
    """
    return replace(item, facts={**item.facts, **facts})
