"""Matching: two pictures, yes or no, by a rule that the shots alone tell."""

from functools import partial

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.synthetic.choices import Choices
from flamingo_blocks.evaluation.synthetic.cut_exact_match import CutExactMatch
from flamingo_blocks.evaluation.synthetic.episode import with_facts, with_shots_in_order
from flamingo_blocks.evaluation.synthetic.pictures import picture_of_one
from flamingo_blocks.evaluation.synthetic.setting import Setting
from flamingo_blocks.evaluation.synthetic.shapes import COLOURS, SHAPES, THINGS, Thing
from flamingo_blocks.evaluation.task import Answering, Task

RULES = ("colour", "shape")
ANSWERS = ("yes", "no")
QUESTION = "Do they match?"


def matching_task(setting: Setting, *, answering: Answering) -> Task:
    """Say whether two pictures match, where the shots tell whether colours or shapes have to.

    Every pair agrees in one of both, so that a pair by itself does not tell: what is a match by colour is none by
    shape.

    Args:
        setting: What decides the task.
        answering: `"closed"`: `yes` and `no` may be answered.
    """

    def item(id_: str, name: str, *, rule: str, answer: str) -> TaskItem:
        agree = rule if answer == "yes" else next(other for other in RULES if other != rule)
        things = _pair(setting.choices(name), agree=agree)
        return TaskItem(
            id=id_,
            media=tuple(_images(setting, name, things)),
            texts={"question": QUESTION},
            answers=(answer,),
            facts={"rule": rule, "things": tuple(thing.words for thing in things)},
        )

    rows = {
        rule: [
            [item(f"{rule}-{number}-{answer}", f"support/{rule}-{number}-{answer}", rule=rule, answer=answer)
             for answer in ANSWERS]
            for number in range(setting.support)
        ]
        for rule in RULES
    }  # fmt: skip

    def query(number: int) -> TaskItem:
        choices = setting.choices(f"query {number}")
        rule, answer = choices.one(RULES, "rule"), choices.one(ANSWERS, "answer")
        asked = item(str(number), f"query/{number}", rule=rule, answer=answer)
        return with_shots_in_order(with_facts(asked, chance=50.0), rows[rule], seed=setting.seed)

    return Task(
        name="matching" + ("_closed" if answering == "closed" else ""),
        kind="continue",
        answering=answering,
        metrics=(CutExactMatch("contains_yes"),),
        queries=tuple(query(number) for number in range(setting.queries)),
        candidates=ANSWERS if answering == "closed" else (),
        max_new_tokens=15,
    )


def _pair(choices: Choices, *, agree: str) -> tuple[Thing, Thing]:
    """Two things that agree in colour or in shape, and not in the other."""
    first = choices.one(THINGS, "first")
    if agree == "colour":
        return first, Thing(first.colour, choices.one([shape for shape in SHAPES if shape != first.shape], "second"))
    return first, Thing(choices.one([colour for colour in COLOURS if colour != first.colour], "second"), first.shape)


def _images(setting: Setting, name: str, things: tuple[Thing, Thing]) -> list[ImageSegment]:
    return [
        setting.image(f"{name}-{place}", partial(picture_of_one, thing, size=setting.size))
        for place, thing in enumerate(things)
    ]
