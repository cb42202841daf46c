"""What is wrong with a file of a task is told with the file, the row and the key, wherever it stands."""

import copy
import random
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.tasks import TASKS, read_task
from tests.evaluation.tasks.official_files import LAYOUTS, RECUT, WRITERS, Record, records, write_file, write_layout

SENTENCE = ("sentences", 0, "raw")
ANSWERS = [("answers",), ("answers", 3), ("answers", 3, "answer")]
QUESTION = [("question_id",), ("image_id",), ("question",)]
# What each kind of row cannot do without, by the key of its list.
NEEDED = {
    "coco": {"images": [("split",), ("filepath",), ("filename",), ("cocoid",), ("sentences",), SENTENCE]},
    "flickr30k": {"images": [("split",), ("filename",), ("sentences",), SENTENCE]},
    "vqav2": {"questions": QUESTION, "annotations": [("question_id",), ("answer_type",), *ANSWERS]},
    "okvqa": {"questions": QUESTION, "annotations": [("question_id",), ("answers", 3, "raw_answer"), *ANSWERS]},
    "vizwiz": {"row": [("image",), ("question",), ("answer_type",), *ANSWERS]},
    "textvqa": {"data": [*QUESTION, ("answers",), ("answers", 3)]},
    "hateful_memes": {"line": [("id",), ("img",), ("label",), ("text",)]},
}
RECUT_NEEDED = {"questions": QUESTION, "annotations": [("question_id",), *ANSWERS]}
GONE = object()
WRONG = [GONE, None, [], {}, True, 1.5]


def splits_of(name, draw, numbers=(4, 3)):
    """Records of the support and of the split that is asked first."""
    layout = LAYOUTS[name]
    parts = zip(("train", layout.query), numbers, (1, 1000), strict=True)
    found = {split: records(n, first=first, answers=layout.answers, draw=draw) for split, n, first in parts}
    if name == "hateful_memes":
        found = {split: [Record(r.number, r.image, r.text, ("no",)) for r in some] for split, some in found.items()}
    return found


def rows_in(file, content):
    """How errors call the rows of a file, what the first is numbered, and the rows."""
    if file.endswith(".jsonl"):
        return "line", 1, content
    if isinstance(content, list):
        return "row", 0, content
    key = next(key for key in ("images", "questions", "annotations", "data") if key in content)
    return key, 0, content[key]


def place(key, number):
    """A row, as errors name it."""
    return f"line {number}:" if key == "line" else f"{key}[{number}]"


def broken(row, path, value):
    """A copy of a row with something else at a path in it."""
    row = copy.deepcopy(row)
    *above, last = path
    inner = row
    for step in above:
        inner = inner[step]
    if value is not GONE:
        inner[last] = value
    elif isinstance(inner, list):
        inner.pop(last)
    else:
        inner.pop(last)
    return row


@pytest.mark.parametrize(
    ("name", "layout", "needed"),
    [(name, LAYOUTS[name], NEEDED[name]) for name in NEEDED] + [(name, RECUT[name], RECUT_NEEDED) for name in RECUT],
    ids=[*NEEDED, *(f"{name}-recut" for name in RECUT)],
)
@given(draw=st.randoms(use_true_random=False))
def test_a_broken_row_is_told_where_it_stands(name, layout, needed, draw):
    """A key that is gone or of another type, in any row of any file, is an error with file, row and key."""
    files = layout.files(splits_of(name, draw))
    file = draw.choice(sorted(files))
    key, first, rows = rows_in(file, files[file])
    number, path = draw.randrange(len(rows)), draw.choice(needed[key])
    rows[number] = broken(rows[number], path, draw.choice(WRONG))
    named = next(step for step in reversed(path) if isinstance(step, str))
    with TemporaryDirectory() as temporary:
        for other, content in files.items():
            (Path(temporary) / name).mkdir(exist_ok=True)
            write_file(Path(temporary) / name / other, content)
        with pytest.raises(
            EvaluationError, match=f"{re.escape(file)}.*{re.escape(place(key, number + first))}.*{named}"
        ):
            read_task(name, Path(temporary))


@pytest.mark.parametrize(
    ("name", "same"),
    [
        (name, same) for name in NEEDED for same in (True, False) if (name, same) != ("vizwiz", False)
    ],  # names tell split
)
def test_an_id_that_comes_twice_is_told_with_both_places(name, same, tmp_path):
    """A row may come once: not twice among the queries, be it the same content, and not in the support besides."""
    splits = splits_of(name, random.Random(0))  # noqa: S311 - no secret
    query = LAYOUTS[name].query
    row = splits[query][1]
    splits[query if same else "train"].append(row)
    write_layout(LAYOUTS[name], tmp_path / name, splits)
    with pytest.raises(EvaluationError, match=r"(?:\]|line \d+): \w*id '.*' stands at .*(?:\]|line \d+) already"):
        read_task(name, tmp_path)


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (
            "questions",
            r"questions.json and .*annotations.json do not fit: 2 of 5 annotations have no question \(",
        ),
        ("annotations", r"2 of 5 questions have no annotation \(first: 1000, 1001\)"),
        (
            "both",
            r"1 of 4 questions have no annotation \(first: 1001\); 1 of 4 annotations have no question \(",
        ),
    ],
)
def test_questions_and_annotations_that_do_not_fit_are_counted(drop, message, tmp_path):
    """Questions without annotations, or the reverse, are an error with their number and the first ids."""
    WRITERS["vqav2"](tmp_path / "vqav2")
    files = LAYOUTS["vqav2"].files(splits_of("vqav2", random.Random(0), (3, 5)))  # noqa: S311 - no secret
    for file, content in files.items():
        if "val2014" in file:
            key, _, rows = rows_in(file, content)
            del rows[0 : 1 if drop == "both" and key == "questions" else 2 if key == drop else 0]
            if drop == "both" and key == "annotations":
                del rows[1]
        write_file(tmp_path / "vqav2" / file, content)
    with pytest.raises(EvaluationError, match=message):
        read_task("vqav2", tmp_path)


def test_an_annotation_of_another_image_is_refused(tmp_path):
    """A question and its annotation are about one image; files of two releases are told apart by it."""
    files = LAYOUTS["okvqa"].files(splits_of("okvqa", random.Random(0)))  # noqa: S311 - no secret
    files["mscoco_val2014_annotations.json"]["annotations"][1]["image_id"] = 7
    (tmp_path / "okvqa").mkdir()
    for file, content in files.items():
        write_file(tmp_path / "okvqa" / file, content)
    with pytest.raises(EvaluationError, match=r"annotations\[1\]: image_id is 7 .*wanted that of its question, 1001"):
        read_task("okvqa", tmp_path)


@pytest.mark.parametrize("name", ["vqav2", "okvqa", "vizwiz", "textvqa"])
@pytest.mark.parametrize("number", [0, 9, 11])
def test_other_than_ten_answers_are_refused(name, number, tmp_path):
    """The official tasks have ten answers to each question, and their accuracy counts on it."""
    splits = splits_of(name, random.Random(0))  # noqa: S311 - no secret
    record = splits["val"][2]
    splits["val"][2] = Record(record.number, record.image, record.text, ("a",) * number)
    write_layout(LAYOUTS[name], tmp_path / name, splits)
    with pytest.raises(EvaluationError, match=rf"\[2\]: answers has {number} of them, wanted 10"):
        read_task(name, tmp_path)


def test_a_label_is_nought_or_one_and_all_rows_have_one_or_none(tmp_path):
    """Some rows without a label are an error at the row, as is a label that is no class; the support has labels."""
    folder = tmp_path / "hateful_memes"
    WRITERS["hateful_memes"](folder)
    good = {"img": "img/1.png", "text": ""}
    write_file(folder / "test_seen.jsonl", [{"id": 1, "label": 0, **good}, {"id": 2, **good}])
    with pytest.raises(EvaluationError, match=r"test_seen.jsonl, line 2: has no 'label', wanted a whole number"):
        read_task("hateful_memes", tmp_path)
    write_file(folder / "test_seen.jsonl", [{"id": 1, "label": 2, **good}])
    with pytest.raises(EvaluationError, match=r"line 1: label is 2 .*wanted 0, or 1 for a hateful one"):
        read_task("hateful_memes", tmp_path)
    write_file(folder / "dev_seen.jsonl", [{"id": 1, **good}])
    with pytest.raises(EvaluationError, match=r"dev_seen.jsonl, line 1: has no 'label'"):
        read_task("hateful_memes", tmp_path, "dev_seen")


@pytest.mark.parametrize("label", [0, 1])
def test_a_split_of_one_label_is_refused_before_anything_is_asked(label, tmp_path):
    """Whatever a model answers, there would be no area."""
    folder = tmp_path / "hateful_memes"
    WRITERS["hateful_memes"](folder)
    rows = [{"id": number, "label": label, "img": f"img/{number}.png", "text": ""} for number in (101, 102)]
    write_file(folder / "test_seen.jsonl", rows)
    said = f"task hateful_memes: each of the 2 queries with a label has label {label}, .*; give queries of both"
    with pytest.raises(EvaluationError, match=said):
        read_task("hateful_memes", tmp_path)


@pytest.mark.parametrize("name", ["coco", "flickr30k"])
def test_rows_of_no_split_and_files_of_another_dataset_are_refused(name, tmp_path):
    """Karpathy's rows are of one of four splits, in a file of this dataset, and none is without captions."""
    (content,) = (LAYOUTS[name].files(splits_of(name, random.Random(0)))).values()  # noqa: S311 - no secret
    (tmp_path / name).mkdir()
    file = tmp_path / name / f"dataset_{name}.json"
    for change, message in (
        ({"split": "training"}, r"images\[2\]: split is 'training' .*wanted one of train, restval, val, test"),
        ({"sentences": []}, r"images\[2\]: sentences is empty, wanted one caption at least"),
    ):
        rows = [row | (change if k == 2 else {}) for k, row in enumerate(content["images"])]
        write_file(file, content | {"images": rows})
        with pytest.raises(EvaluationError, match=message):
            read_task(name, tmp_path)
    write_file(file, content | {"dataset": "flickr8k"})
    with pytest.raises(EvaluationError, match=f"dataset_{name}.json: dataset is 'flickr8k' .*wanted '{name}'"):
        read_task(name, tmp_path)
    write_file(file, content | {"images": [row for row in content["images"] if row["split"] == "train"]})
    with pytest.raises(EvaluationError, match=f"dataset_{name}.json: has no item for the queries"):
        read_task(name, tmp_path)


@pytest.mark.parametrize("name", NEEDED)
def test_a_file_that_is_missing_is_told_with_all_that_were_wanted(name, tmp_path):
    """Each file that is taken away is told as missing, the others as there; a folder of its name is no file."""
    WRITERS[name](tmp_path / name)
    files = sorted(path.name for path in (tmp_path / name).iterdir() if path.is_file())
    for gone in files:
        held = (tmp_path / name / gone).read_bytes()
        (tmp_path / name / gone).unlink()
        with pytest.raises(EvaluationError) as raised:
            read_task(name, tmp_path)
        message = str(raised.value)
        assert message.startswith(f"{tmp_path / name} lacks files of the task: wanted ")
        assert f"{gone} (missing)" in message
        assert all(f"{file} (there)" in message for file in files if file != gone)
        (tmp_path / name / gone).mkdir()
        with pytest.raises(EvaluationError, match=re.escape(f"{gone} (missing)")):
            read_task(name, tmp_path)
        (tmp_path / name / gone).rmdir()
        (tmp_path / name / gone).write_bytes(held)


@pytest.mark.parametrize("name", NEEDED)
def test_a_split_that_a_task_does_not_have_is_refused(name, tmp_path):
    """The error lists the splits; the training split is for the support alone."""
    WRITERS[name](tmp_path / name)
    splits = ", ".join(map(repr, TASKS[name].splits))
    with pytest.raises(EvaluationError, match=f"split is 'train', {name} has {splits}"):
        read_task(name, tmp_path, "train")
