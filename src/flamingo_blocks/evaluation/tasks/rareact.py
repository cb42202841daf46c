"""RareAct: clips of actions that are hardly ever seen, such as hammering a phone."""

from collections.abc import Sequence
from pathlib import Path

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import RareAct
from flamingo_blocks.evaluation.read_rows import Row, read_csv
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import check_split, distinct
from flamingo_blocks.evaluation.tasks.clip_files import ClipFiles, cut_of, whole_number_of

PLURALS = ("carrots", "eggs", "shoes")
_FILE = "rareact.csv"
_SPLITS = ("test",)
_COLUMNS = ("id", "video_id", "start", "end", "class_id", "verb", "noun", "annotation")


def read_rareact(folder: Path, split: str) -> Task:
    """Read RareAct: every caption is ranked for every clip. It has no training split, so there are no shots.

    Args:
        folder: Holds `rareact.csv`, and the videos anywhere below, named by their id.
        split: `"test"`.

    Returns:
        The task. Its candidates are the captions of the classes, in the order of `class_id`. `facts` of its items:
        `class_id`, `verb`, `noun`, `annotation` (0 to 4) and `video`. The answer of an item is the caption of its
        class, whether or not it is shown. A video is a cluster.

    Raises:
        EvaluationError: If files are missing or wrong.

    Source:
        Miech et al., RareAct (arXiv 2008.01018); for the captions Flamingo (arXiv 2204.14198), section B.1.5.
    """
    check_split("rareact", split, _SPLITS)
    clips, file = ClipFiles(folder), folder / _FILE
    rows = read_csv(file, _COLUMNS)
    captions = _captions(rows)
    queries, _ = distinct([(_item(row, clips, captions), row.place) for row in rows], [], file=file)
    return Task(
        name="rareact",
        kind="action",
        answering="closed",
        metrics=(RareAct(),),
        queries=queries,
        candidates=captions,
    )


def rareact_caption(verb: str, noun: str) -> str:
    """The caption of a class.

    Args:
        verb: Its verb, as the file has it.
        noun: Its noun, as the file has it.

    Example:
        >>> rareact_caption("wash", "egg"), rareact_caption("measure", "carrots")
        ('a person washes an egg', 'a person measures carrots')
    """
    article = "" if noun in PLURALS else "an " if noun[0] in "aeiou" else "a "
    return f"a person {_third_person(verb)} {article}{noun}"


def _third_person(verb: str) -> str:
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return f"{verb}es"
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return f"{verb[:-1]}ies"
    return f"{verb}s"


def _captions(rows: Sequence[Row]) -> tuple[str, ...]:
    """Captions by `class_id`, which are the whole numbers from 0 on, each of one verb and noun."""
    classes: dict[int, tuple[str, str]] = {}
    for row in rows:
        number = whole_number_of(row, "class_id")
        for key in ("verb", "noun"):
            if not row.take(key, str).strip():
                raise row.wrong(key, "wanted a word")
        words = (row["verb"], row["noun"])
        if classes.setdefault(number, words) != words:
            raise row.wrong("class_id", f"and 'verb noun' is {' '.join(words)!r}, it was {' '.join(classes[number])!r}")
    if sorted(classes) != list(range(len(classes))):
        place = rows[0].place.rpartition(",")[0]
        raise EvaluationError(
            f"{place}: class_id has {len(classes)} values up to {max(classes)}, wanted each from 0 on"
        )
    captions = tuple(rareact_caption(*classes[number]) for number in range(len(classes)))
    if twice := sorted({caption for caption in captions if captions.count(caption) > 1}):
        raise EvaluationError(f"{rows[0].place.rpartition(',')[0]}: two classes are {twice[0]!r}; each may come once")
    return captions


def _item(row: Row, clips: ClipFiles, captions: Sequence[str]) -> TaskItem:
    video, number, annotation = row.take("video_id", str), int(row["class_id"]), whole_number_of(row, "annotation")
    if annotation not in range(5):
        raise row.wrong("annotation", "wanted 0 to 4")
    return TaskItem(
        id=row.take("id", str),
        media=(clips.clip(video, cut_s=cut_of(row)),),
        answers=(captions[number],),
        cluster=video,
        facts={
            "class_id": number, "verb": row["verb"], "noun": row["noun"], "annotation": annotation, "video": video,
        },
    )  # fmt: skip


RAREACT = TaskReader(
    name="rareact",
    title="RareAct",
    metric="mWAP",
    kind="action",
    answering="closed",
    files={_FILE: "clips and their annotations", "{video_id}.mp4": "videos"},
    splits=_SPLITS,
    read=read_rareact,
)
