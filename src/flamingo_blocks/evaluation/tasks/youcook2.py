"""YouCook2: captions of the steps of recipes, each a piece of a long video."""

from pathlib import Path

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import Cider
from flamingo_blocks.evaluation.read_rows import Row, read_object
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import Placed, check_split, distinct
from flamingo_blocks.evaluation.tasks.clip_files import ClipFiles, cut_of

_FILE = "youcookii_annotations_trainval.json"
_SUBSETS = ("training", "validation")
_SPLITS = ("validation",)


def read_youcook2(folder: Path, split: str) -> Task:
    """Read YouCook2: one caption for each step, whose piece of the video is all that is seen of it.

    Args:
        folder: Holds `youcookii_annotations_trainval.json`, and the videos anywhere below, named by their id.
        split: `"validation"`.

    Returns:
        The task, with the training split as support. The id of a step is `{video}_{id}`; a video is a cluster.

    Raises:
        EvaluationError: If files are missing or wrong.

    Source:
        Zhou et al., Towards Automatic Learning of Procedures from Web Instructional Videos (arXiv 1703.09788).
    """
    check_split("youcook2", split, _SPLITS)
    clips, file = ClipFiles(folder), folder / _FILE
    found: dict[str, list[Placed]] = {subset: [] for subset in _SUBSETS}
    for video, values in read_object(file).take("database", dict).items():
        place = f"{file}, database[{video!r}]"
        if not isinstance(values, dict):
            raise EvaluationError(f"{place}: is {values!r:.60}, wanted an object")
        row = Row(values, place)
        if row.take("subset", str) not in _SUBSETS:
            raise row.wrong("subset", f"wanted one of {', '.join(map(repr, _SUBSETS))}")
        found[row["subset"]] += [(_item(video, step, clips), step.place) for step in row.rows("annotations")]
    queries, support = distinct(found[split], found["training"], file=file)
    return Task(
        name="youcook2",
        kind="caption",
        answering="open",
        metrics=(Cider(),),
        queries=queries,
        support=support,
    )


def _item(video: str, step: Row, clips: ClipFiles) -> TaskItem:
    segment = step.take("segment", list)
    if len(segment) != 2:
        raise step.wrong("segment", "wanted where it begins and where it ends")
    ends = Row(dict(zip(("segment[0]", "segment[1]"), segment, strict=True)), step.place)
    return TaskItem(
        id=f"{video}_{step.text('id')}",
        media=(clips.clip(video, cut_s=cut_of(ends, *ends)),),
        answers=(step.take("sentence", str),),
        cluster=video,
    )


YOUCOOK2 = TaskReader(
    name="youcook2",
    title="YouCook2",
    metric="CIDEr-D",
    kind="caption",
    answering="open",
    files={_FILE: "steps of both splits", "{video}.mp4": "videos"},
    splits=_SPLITS,
    read=read_youcook2,
)
