"""Fast binding: made-up names are given to coloured shapes, anew in each episode."""

import math
from functools import cache, partial

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.synthetic.cut_exact_match import CutExactMatch
from flamingo_blocks.evaluation.synthetic.episode import naming_episode
from flamingo_blocks.evaluation.synthetic.pictures import picture_of_one
from flamingo_blocks.evaluation.synthetic.setting import Setting
from flamingo_blocks.evaluation.synthetic.shapes import THINGS, Thing
from flamingo_blocks.evaluation.task import Answering, Task

MADE_UP_NAMES = tuple(
    """
    dax blicket wug toma fep zib modi gorp kiki slithy perpo lorp nazz tulver bosk quim yiffle ronka
    mib snarp glim dorfa vosk plunk
    """.split()
)
QUESTION = "This is a"
_FEWEST_PICTURES = 8  # of each thing; there can be as many shots of a name


def binding_task(setting: Setting, *, names: int, answering: Answering) -> Task:
    """Name the thing of a picture as the shots of its episode name things.

    Pictures of the support are shared between episodes; those of queries are their own.

    Args:
        setting: What decides the task.
        names: Things of an episode, each with a name.
        answering: `"closed"`: the names of the episode may be answered.

    Raises:
        ValueError: If `names` is less than 2 or more than there are.
    """
    most = min(len(MADE_UP_NAMES), len(THINGS))
    if not 2 <= names <= most:
        raise ValueError(f"names is {names}, wanted 2 to {most}")

    of_each = max(_FEWEST_PICTURES, math.ceil(setting.support / names))

    @cache
    def pictures(thing: Thing) -> tuple[ImageSegment, ...]:
        draw = partial(picture_of_one, thing, size=setting.size)
        return tuple(setting.image(f"support/{thing.colour}-{thing.shape}-{number}", draw) for number in range(of_each))

    def query(number: int) -> TaskItem:
        choices = setting.choices(f"query {number}")
        things = choices.several(THINGS, names, "things")
        called = dict(zip(choices.several(MADE_UP_NAMES, names, "names"), things, strict=True))
        answer = choices.one(list(called), "answer")
        draw = partial(picture_of_one, called[answer], size=setting.size)
        item = TaskItem(
            id=str(number),
            media=(setting.image(f"query/{number}-of-{names}-names", draw),),
            texts={"question": QUESTION},
            answers=(answer,),
            facts={"things": {name: thing.words for name, thing in called.items()}},
        )
        shown = {name: pictures(thing) for name, thing in called.items()}
        return naming_episode(item, shown, names=names, answering=answering, seed=setting.seed)

    name = "binding" + (f"_{names}_names" if names != 2 else "") + ("_closed" if answering == "closed" else "")
    return Task(
        name=name,
        kind="continue",
        answering=answering,
        metrics=(CutExactMatch(),),
        queries=tuple(query(number) for number in range(setting.queries)),
        max_new_tokens=15,
    )
