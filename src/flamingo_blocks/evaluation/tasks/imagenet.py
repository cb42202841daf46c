"""ImageNet-1k: which of a thousand things an image shows."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import ClassAccuracy
from flamingo_blocks.evaluation.read_rows import read_csv, read_text
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks._classes import SHOTS_A_CLASS, class_of
from flamingo_blocks.evaluation.tasks.check_items import Placed, check_split, distinct

_SPLITS = ("val",)
_CLASSES = "classes.txt"
_IN_ORDER = "imagenet_2012_validation_synset_labels.txt"
_BY_NAME = "LOC_val_solution.csv"
_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")


def read_imagenet(folder: Path, split: str) -> Task:
    """Read ImageNet, with names of classes that you choose: a thousand names are a prompt, and no file has them.

    Args:
        folder: Holds `classes.txt`, one `wnid<TAB>name` a line; `train/{wnid}/`; and `val/`, which has either a folder
            for each class as well, or the files `ILSVRC2012_val_00000001.JPEG` and so on. For the latter the classes
            are in `LOC_val_solution.csv`, by name, or in `imagenet_2012_validation_synset_labels.txt`, one a line.
        split: `"val"`.

    Returns:
        The task, with the training split as support. Its candidates are the names, in the order of `classes.txt`.
        `facts` of its items: `wnid`, and `class_index`, the place of its name among the candidates.

    Raises:
        EvaluationError: If files are missing or wrong, or two classes have one name.

    Source:
        Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge (arXiv 1409.0575).
    """
    check_split("imagenet", split, _SPLITS)
    names = _class_names(folder / _CLASSES)
    facts = {wnid: {"wnid": wnid, "class_index": place} for place, wnid in enumerate(names)}
    queries, support = distinct(
        list(_items(_of_val(folder), names, facts)),
        list(_items(_by_folder(folder / "train"), names, facts)),
        file=folder / "val",
    )
    candidates = tuple(names.values())
    return Task(
        name="imagenet",
        kind="class",
        answering="closed",
        metrics=(ClassAccuracy(candidates=candidates, top=(1,)),),
        queries=queries,
        support=support,
        candidates=candidates,
        num_support=SHOTS_A_CLASS,
        support_by_class=True,
        classes=class_of,
    )


def _class_names(file: Path) -> dict[str, str]:
    names: dict[str, str] = {}
    wnids: dict[str, str] = {}
    ties = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        wnid, tab, name = line.partition("\t")
        name = name.strip()
        if not (tab and name and re.fullmatch(r"n\d{8}", wnid)):
            raise EvaluationError(f"{file}, line {number}: is {line!r:.60}, wanted 'n01440764<TAB>tench'")
        if wnid in names:
            raise EvaluationError(f"{file}, line {number}: {wnid} stands there already; each may come once")
        if name in wnids:
            ties.append(f"{name!r} ({wnids[name]}, {wnid})")
        names[wnid] = name
        wnids.setdefault(name, wnid)
    if ties:
        raise EvaluationError(f"{file}: classes of one name cannot be told apart: {', '.join(ties)}; make them differ")
    return names


def _of_val(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files of `val/` with their classes, in the order of their names."""
    images = folder / "val"
    if not images.is_dir():
        raise EvaluationError(f"{images} is missing; wanted a folder with the images of the split")
    flat = sorted(path for path in images.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not flat:
        yield from _by_folder(images)
        return
    labels = _labels(folder)
    for path in flat:
        if path.stem not in labels:
            raise EvaluationError(f"{path} has no class in the file of labels, which has {len(labels)}")
        yield path, labels[path.stem]


def _labels(folder: Path) -> dict[str, str]:
    if (folder / _BY_NAME).is_file():
        rows = read_csv(folder / _BY_NAME, ("ImageId", "PredictionString"))
        return {row["ImageId"]: row["PredictionString"].partition(" ")[0] for row in rows}
    if (folder / _IN_ORDER).is_file():
        lines = read_text(folder / _IN_ORDER).split()
        return {f"ILSVRC2012_val_{number:08d}": wnid for number, wnid in enumerate(lines, start=1)}
    raise EvaluationError(
        f"{folder} has neither {_BY_NAME} nor {_IN_ORDER}, and val/ has no folders of classes; "
        "the numbers of ILSVRC2012_validation_ground_truth.txt are of another order and will not do"
    )


def _by_folder(images: Path) -> Iterator[tuple[Path, str]]:
    if not images.is_dir():
        raise EvaluationError(f"{images} is missing; wanted a folder for each class in it")
    for of_class in sorted(path for path in images.iterdir() if path.is_dir()):
        for path in sorted(of_class.iterdir()):
            if path.suffix.lower() in _SUFFIXES:
                yield path, of_class.name


def _items(
    found: Iterable[tuple[Path, str]], names: Mapping[str, str], facts: Mapping[str, Mapping[str, object]]
) -> Iterator[Placed]:
    nothing: dict[str, str] = {}  # a million items share what they can
    answers = {wnid: (name,) for wnid, name in names.items()}
    for path, wnid in found:
        if wnid not in names:
            raise EvaluationError(f"{path} is of class {wnid!r:.60}, wanted one of the {len(names)} of {_CLASSES}")
        image = ImageSegment(url=path.name, data=path, metadata=nothing)
        yield (
            TaskItem(id=path.stem, media=(image,), texts=nothing, answers=answers[wnid], facts=facts[wnid]),
            str(path),
        )


IMAGENET = TaskReader(
    name="imagenet",
    title="ImageNet",
    metric="top-1 accuracy",
    kind="class",
    answering="closed",
    files={
        _CLASSES: "names of the classes that you choose, 'n01440764<TAB>tench' a line",
        "val/{wnid}/*.JPEG or val/ILSVRC2012_val_{n:08d}.JPEG": "images that are asked",
        f"{_BY_NAME} or {_IN_ORDER}": "their classes, if they are not in folders",
        "train/{wnid}/*.JPEG": "images for shots",
    },
    splits=_SPLITS,
    read=read_imagenet,
)
