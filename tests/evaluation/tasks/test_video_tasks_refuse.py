"""What is wrong in a file of a video task is told with file, row and key."""

import csv
import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from tests.evaluation.tasks.official_video_files import VIDEO_WRITERS
from tests.evaluation.tasks.video_readers import VIDEO_READERS

# Keys that files have and no reader looks at.
PASSED_OVER = {
    "version", "question_program", "choice_id", "choice_program", "situations", "chCap", "duration", "recipe_type",
    "video_url", "category_id", "is_cc", "frame_count", "width", "height",
}  # fmt: skip
JSON_TASKS = sorted(set(VIDEO_WRITERS) - {"ivqa", "rareact", "kinetics700", "imagenet"})
CSV_TASKS = ["ivqa", "next_qa", "rareact", "kinetics700"]


def places(value, path=()):
    """Every place in a JSON value, from the whole of it to each leaf; of long lists the first five."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for number in range(min(len(value), 5)):
            yield from places(value[number], (*path, number))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def read(name, folder):
    reader = VIDEO_READERS[name]
    return reader.read(Path(folder), reader.splits[0])


@pytest.mark.parametrize("name", JSON_TASKS)
@given(data=st.data())
def test_whatever_stands_in_a_json_is_read_or_refused_with_its_file(name, data):
    """Any value of any file, taken out or put in the place of another, gives items or an error that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        VIDEO_WRITERS[name](Path(folder), media=False, train=2, val=2)
        files = sorted(file for file in Path(folder).glob("*.json") if "private" not in file.name)
        file = data.draw(st.sampled_from(files))
        value = json.loads(file.read_text())
        path = data.draw(st.sampled_from([path for path in places(value) if path]))
        whole = at(value, path[:-1])
        if data.draw(st.booleans()):
            del whole[path[-1]]
        else:
            whole[path[-1]] = data.draw(st.sampled_from([None, True, -1, 3, 0.5, float("nan"), "x", "", [], [1], {}]))
        file.write_text(json.dumps(value))
        try:
            read(name, folder)
        except EvaluationError as error:
            assert str(folder) in str(error)  # noqa: PT017 - an error is one of two right ends


@pytest.mark.parametrize("name", JSON_TASKS)
def test_a_missing_key_is_told_with_its_place(name):
    """Each key of each object that a reader looks at, taken out, is missed by its name, and never as a KeyError."""
    with tempfile.TemporaryDirectory() as folder:
        VIDEO_WRITERS[name](Path(folder), media=False, train=1, val=1)
        names = {"map_vid_vidorID.json", "add_reference_answer_test.json"}  # whose keys are videos
        for file in sorted(Path(folder).glob("*.json")):
            if "private" in file.name or file.name in names:
                continue
            text = file.read_text()
            for path in places(json.loads(text)):
                if not path or not isinstance(path[-1], str) or PASSED_OVER & set(path) or path[-2:-1] == ("database",):
                    continue
                if name == "visdial" and "train" in file.name and path[-1] in ("gt_index", "answer_options"):
                    continue  # a shot has no options
                value = json.loads(text)
                if name == "visdial" and "dialog" in path and "train" not in file.name:
                    dense = json.loads((Path(folder) / "visdial_1.0_val_dense_annotations.json").read_text())
                    if path[-2] != dense[0]["round_id"] - 1:
                        continue  # rounds behind the one that is asked are not looked at
                    if path[-1] == "answer":
                        continue
                del at(value, path[:-1])[path[-1]]
                file.write_text(json.dumps(value))
                with pytest.raises(EvaluationError, match=f"{re.escape(str(file))}.*: has no '{path[-1]}', wanted"):
                    read(name, folder)
            file.write_text(text)


@pytest.mark.parametrize("name", CSV_TASKS)
@given(data=st.data())
def test_whatever_stands_in_a_csv_is_read_or_refused_with_its_file(name, data):
    """Any cell of any file, changed, gives items or an error that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        VIDEO_WRITERS[name](Path(folder), media=False, train=2, val=2)
        file = data.draw(st.sampled_from(sorted(Path(folder).glob("*.csv"))))
        with file.open(newline="") as opened:
            rows = list(csv.reader(opened))
        row = data.draw(st.integers(0, len(rows) - 1))
        column = data.draw(st.integers(0, len(rows[0]) - 1))
        rows[row][column] = data.draw(st.sampled_from(["", " ", "x", "-1", "1.5", "nan", "inf", "1e999", "7", "९"]))
        with file.open("w", newline="") as opened:
            csv.writer(opened).writerows(rows)
        try:
            read(name, folder)
        except EvaluationError as error:
            assert str(folder) in str(error)  # noqa: PT017 - an error is one of two right ends


@pytest.mark.parametrize("name", VIDEO_WRITERS)
def test_a_split_that_is_not_there_is_refused(name, tmp_path):
    """The error names those that there are."""
    reader = VIDEO_READERS[name]
    with pytest.raises(EvaluationError, match=f"split is 'dev', {name} has '{reader.splits[0]}'"):
        reader.read(tmp_path, "dev")


@pytest.mark.parametrize("name", VIDEO_WRITERS)
def test_a_missing_file_is_named_with_what_is_there(name, tmp_path):
    """Each official file, taken away, is missed by its name."""
    VIDEO_WRITERS[name](tmp_path, media=False)
    for file in sorted(tmp_path.glob("*.*")):
        if "private" in file.name:
            continue
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(
            EvaluationError, match=f"{re.escape(file.name)}.* is missing|neither {re.escape(file.name)}"
        ):
            read(name, tmp_path)
        file.write_bytes(content)


@pytest.mark.parametrize("name", sorted(set(VIDEO_WRITERS) - {"imagenet", "rareact", "visdial"}))
def test_missing_media_are_no_error_of_reading(name, tmp_path):
    """A clip that is not there has the path where its official name would be; it is missed when it is shown."""
    VIDEO_WRITERS[name](tmp_path, media=False)
    before = {item.id: item.media[0].url for item in read(name, tmp_path).queries}
    for file in [
        *tmp_path.rglob("*.mp4"),
        *tmp_path.rglob("*.avi"),
        *tmp_path.rglob("*.webm"),
        *tmp_path.rglob("*.mkv"),
    ]:
        file.unlink()
    items = read(name, tmp_path).queries
    assert {item.id: item.media[0].url for item in items} == before
    for item in items:
        assert item.media[0].data == tmp_path / item.media[0].url.partition("#")[0]


DENSE = "visdial_1.0_val_dense_annotations.json"
DIALOG = ("data", "dialogs", 1, "dialog", 2)
CASES = [
    ("visdial", "visdial_1.0_val.json", ("data", "dialogs", 0, "dialog"), [], r"dialogs\[0\]: dialog is \[\]"),
    ("visdial", "visdial_1.0_train.json", (*DIALOG, "answer"), 120, "wanted the place of one of 120"),
    ("visdial", "visdial_1.0_val.json", ("split",), "dev", "split is 'dev'"),
    ("visdial", DENSE, (0, "round_id"), 11, r"row\[0\]: round_id is 11.*wanted 1 to 10"),
    ("visdial", DENSE, (1, "gt_relevance"), [0.5], r"row\[1\]: gt_relevance has 1 values, wanted .* the 100"),
    ("visdial", DENSE, (0, "gt_relevance", 3), 2, r"gt_relevance\[3\] is 2, wanted 0 to 1"),
    ("visdial", DENSE, (0, "image_id"), 7, "4 dialogues and .* judges 4; .*: 7, 9003"),
    ("msvd_qa", "test_qa.json", (1, "video_id"), 7777, r"row\[1\]: video_id is 7777.*mapping.txt, which has 10"),
    ("msvd_qa", "test_qa.json", (1, "id"), 500, r"row\[1\]: id '500' stands at .*row\[0\] already"),
    ("msrvtt_qa", "test_qa.json", (0, "id"), 0, "id '0' stands at .*train_qa.json, row\\[0\\] already"),
    ("star", "STAR_val.json", (0, "question_id"), "Interact_T1_2", "to begin with one of Interaction, Sequence"),
    ("star", "STAR_val.json", (0, "answer"), "a fox", "answer is 'a fox'.*wanted one of the choices"),
    ("star", "STAR_val.json", (0, "choices"), [], "wanted 4, found 0"),
    ("star", "STAR_val.json", (0, "end"), 0, "end is 0 of type int, wanted more than start"),
    ("star", "STAR_val.json", (0, "start"), -1, "start is -1 of type int, wanted 0 or more seconds"),
    ("vatex", "vatex_training_v1.0.json", (0, "enCap"), [], "wanted one caption at least"),
    ("next_qa", "add_reference_answer_test.json", ("5000000000",), {"77": "x"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "path", "value", "said"), CASES)
def test_worked_slips(name, file, path, value, said, tmp_path):
    """Slips of one value each, and what is said of them; second answers to other questions are none."""
    VIDEO_WRITERS[name](tmp_path, media=False)
    whole = json.loads((tmp_path / file).read_text())
    at(whole, path[:-1])[path[-1]] = value
    (tmp_path / file).write_text(json.dumps(whole))
    if said is None:
        read(name, tmp_path)
        return
    with pytest.raises(EvaluationError, match=said):
        read(name, tmp_path)


ANSWERS = [f"answer{number}" for number in range(1, 6)]
CSV_CASES = [
    ("ivqa", "test.csv", "answer1", dict.fromkeys(ANSWERS, " "), "line 2: answer1 is ' '.*one answer at"),
    ("ivqa", "test.csv", "start", {"start": "soon"}, "line 2: start is 'soon'.*wanted a number"),
    ("ivqa", "test.csv", "end", {"end": "inf"}, "line 2: end is 'inf'.*wanted a finite number"),
    ("next_qa", "test.csv", "video", {"video": "1"}, "video is '1'.*wanted one of the 5 videos of map_vid"),
    ("next_qa", "test.csv", "type", {"type": "XX"}, "type is 'XX'.*wanted one of CW, CH"),
    ("rareact", "rareact.csv", "class_id", {"class_id": "1"}, "class_id is '1'.*is 'wash egg', it was 'hammer phone'"),
    ("rareact", "rareact.csv", "class_id", {"class_id": "99"}, "class_id has 6 values up to 99, wanted each from 0 on"),
    ("rareact", "rareact.csv", "annotation", {"annotation": "5"}, "annotation is '5'.*wanted 0 to 4"),
    ("rareact", "rareact.csv", "noun", {"noun": " "}, "noun is ' '.*wanted a word"),
    ("kinetics700", "validate.csv", "label", {"label": "zzz"}, "line 2: label is 'zzz'.*wanted one of the 6 labels"),
    ("kinetics700", "validate.csv", "split", {"split": "test"}, "split is 'test'.*wanted 'validate'"),
    ("kinetics700", "train.csv", "time_start", {"time_start": "0.5"}, "time_start is '0.5'.*wanted a whole number"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "key", "values", "said"), CSV_CASES)
def test_worked_slips_of_csv(name, file, key, values, said, tmp_path):
    """Slips in the first row of a CSV, and what is said of them; lines count from 1, the head among them."""
    VIDEO_WRITERS[name](tmp_path, media=False)
    with (tmp_path / file).open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    rows[0].update(values)
    with (tmp_path / file).open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(EvaluationError, match=said):
        read(name, tmp_path)


def test_second_answers_of_another_split_are_noticed(tmp_path):
    """A file of second answers of which none belongs to a question is the wrong file."""
    VIDEO_WRITERS["next_qa"](tmp_path, media=False)
    (tmp_path / "add_reference_answer_test.json").write_text('{"1": {"2": "home"}}')
    with pytest.raises(EvaluationError, match="has no answer to a question of"):
        read("next_qa", tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("clip_1_2", "line 1: is 'clip_1_2', wanted '<clip> vid<number>'"),
        ("clip_1_2 vid500\nclip_3_4 vid500", "line 2: vid500 is clip_1_2 already"),
    ],
)
def test_a_broken_mapping_is_told_by_its_line(line, said, tmp_path):
    """Lines of `youtube_mapping.txt` are a clip and a number, and each number comes once."""
    VIDEO_WRITERS["msvd_qa"](tmp_path, media=False)
    (tmp_path / "youtube_mapping.txt").write_text(line)
    with pytest.raises(EvaluationError, match=said):
        read("msvd_qa", tmp_path)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("n01440764 tench", "line 1: is 'n01440764 tench', wanted 'n01440764<TAB>tench'"),
        ("n01440764\ttench\nn01440764\tfish", "line 2: n01440764 stands there already"),
        (
            "n01440764\tfish\nn01443537\tfish\nn02084071\tdog",
            r"one name cannot be told apart: 'fish' \(n01440764, n01443537\); make them differ",
        ),
        ("n01440764\ttench", "is of class '.*', wanted one of the 1 of classes.txt"),
    ],
)
def test_names_of_classes_are_distinct_and_complete(lines, said, tmp_path):
    """Ties are all named; a class without a name is found at its image."""
    VIDEO_WRITERS["imagenet"](tmp_path, media=False)
    (tmp_path / "classes.txt").write_text(lines)
    with pytest.raises(EvaluationError, match=said):
        read("imagenet", tmp_path)


def test_an_image_without_a_label_is_named(tmp_path):
    """A flat folder of images needs a class for each."""
    VIDEO_WRITERS["imagenet"](tmp_path, media=False)
    (tmp_path / "val" / "ILSVRC2012_val_00050001.JPEG").touch()
    with pytest.raises(EvaluationError, match="ILSVRC2012_val_00050001.JPEG has no class in the file of labels"):
        read("imagenet", tmp_path)


@pytest.mark.parametrize("name", ["train", "val"])
def test_a_missing_folder_of_images_is_named(name, tmp_path):
    """Both folders have to be there."""
    VIDEO_WRITERS["imagenet"](tmp_path, media=False)
    (tmp_path / name).rename(tmp_path / "other")
    with pytest.raises(EvaluationError, match=f"{name} is missing"):
        read("imagenet", tmp_path)
