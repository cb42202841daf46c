"""Counting: how many things of a colour or a shape a picture shows; that counting is asked, the shots tell."""

from functools import partial

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.synthetic.choices import Choices
from flamingo_blocks.evaluation.synthetic.cut_exact_match import CutExactMatch
from flamingo_blocks.evaluation.synthetic.episode import with_facts
from flamingo_blocks.evaluation.synthetic.pictures import picture_of_several
from flamingo_blocks.evaluation.synthetic.setting import Setting
from flamingo_blocks.evaluation.synthetic.shapes import COLOURS, SHAPES, THINGS, Thing
from flamingo_blocks.evaluation.task import Task

MOST = 5
_FEWEST_OTHERS, _MOST_OTHERS = 1, 4


def counting_task(setting: Setting) -> Task:
    """Count the things of a picture that have the colour or the shape of the question, one to five.

    Args:
        setting: What decides the task.
    """

    def item(id_: str, name: str) -> TaskItem:
        choices = setting.choices(name)
        attribute = choices.one(("colour", "shape"), "attribute")
        value = choices.one(list(COLOURS) if attribute == "colour" else SHAPES, "value")
        count = choices.one(range(1, MOST + 1), "count")
        things = _things(choices, attribute, value, count)
        return TaskItem(
            id=id_,
            media=(setting.image(name, partial(picture_of_several, things, size=setting.size)),),
            texts={"question": f"{attribute}: {value}"},
            answers=(str(count),),
            facts={"things": tuple(thing.words for thing in things)},
        )

    return Task(
        name="counting",
        kind="continue",
        answering="open",
        metrics=(CutExactMatch(),),
        queries=tuple(
            with_facts(item(str(number), f"query/{number}"), chance=100 / MOST) for number in range(setting.queries)
        ),
        support=tuple(item(f"shot-{number}", f"support/{number}") for number in range(setting.support)),
        max_new_tokens=15,
    )


def _things(choices: Choices, attribute: str, value: str, count: int) -> list[Thing]:
    """So many things that have the value of the attribute, and a few that have not, in an order that is chosen."""
    has = [thing for thing in THINGS if getattr(thing, attribute) == value]
    lacks = [thing for thing in THINGS if thing not in has]
    others = choices.one(range(_FEWEST_OTHERS, _MOST_OTHERS + 1), "others")
    things = [choices.one(has, "has", number) for number in range(count)]
    things += [choices.one(lacks, "lacks", number) for number in range(others)]
    return choices.several(things, len(things), "order")
