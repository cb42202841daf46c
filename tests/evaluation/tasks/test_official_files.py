"""Every image task, read from files in the official layout: what was written is what is read, in any order of rows."""

from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.tasks import TASKS, missing_media, read_coco, read_task
from tests.evaluation.tasks.official_files import LAYOUTS, RECUT, WRITERS, Record, write_file, write_layout

ALL = [(name, split) for name in LAYOUTS for split in TASKS[name].splits]
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)  # lone halves of a pair are no text


@st.composite
def datasets(draw, name, split):
    """Records of the support and of a split; only questions of one split share images."""
    answers = ["yes", "no"] if name == "hateful_memes" else draw(st.lists(text, min_size=1, max_size=5))
    found = {}
    for part, first in (("train", 1), (split, 500)):
        least = 2 if name == "hateful_memes" else 1
        numbers = draw(st.lists(st.integers(first, first + 400), min_size=least, max_size=4, unique=True))
        some = st.integers(0, 4).map(
            lambda start: tuple(answers[(start + k) % len(answers)] for k in range(LAYOUTS[name].answers))
        )
        found[part] = [Record(n, first + n % 3, draw(text), draw(some)) for n in numbers]
        if name == "hateful_memes":  # both labels are there
            found[part][:2] = [replace(r, answers=(label,)) for r, label in zip(found[part], answers, strict=False)]
    return found


def written(name, splits, then):
    """What `then` gives of the folder with these records."""
    with TemporaryDirectory() as temporary:
        write_layout(LAYOUTS[name], Path(temporary) / name, splits)
        return then(Path(temporary))


def told(name, split, record):
    """What an item says, by the record that it was written from: id, name of the image, cluster, texts, answers."""
    image = PurePosixPath(LAYOUTS[name].image(split, record))
    number = str(record.number)
    texts = {"ocr": record.text} if name == "hateful_memes" else {"question": record.text}
    answers = () if split in ("test", "test-dev") and name not in ("coco", "flickr30k") else record.answers
    by_task = {
        "coco": (number, str(image), number, {}),
        "flickr30k": (number, image.name, number, {}),
        "vqav2": (number, str(image), str(record.image), texts),
        "okvqa": (number, str(image), str(record.image), texts),
        "vizwiz": (image.name, image.name, image.name, texts),
        "textvqa": (number, image.name, image.stem, texts),
        "hateful_memes": (number, str(image), str(image), texts),
    }
    return (*by_task[name], answers, str(image))


def said(item, folder):
    """The same of an item that was read."""
    (image,) = item.media
    path = image.data.relative_to(folder).as_posix()
    return (item.id, image.url, item.cluster, dict(item.texts), item.answers, path)


@pytest.mark.parametrize(("name", "split"), ALL)
@given(data=st.data())
def test_what_was_written_is_what_is_read(name, split, data):
    """Ids, images, clusters, texts and answers are those of the rows, in their order, with any characters in them."""
    splits = data.draw(datasets(name, split))

    def check(folder):
        task = read_task(name, folder, split)
        assert [said(item, folder / name) for item in task.queries] == [told(name, split, r) for r in splits[split]]
        assert [said(item, folder / name) for item in task.support] == [told(name, "train", r) for r in splits["train"]]
        reader = TASKS[name]
        assert (task.name, task.kind, task.answering) == (name, reader.kind, reader.answering)

    written(name, splits, check)


def rows_in(content):
    """The list of rows in what a file holds."""
    if isinstance(content, list):
        return content
    return next(content[key] for key in ("images", "questions", "annotations", "data") if key in content)


def items(task):
    """What a task holds, by id."""
    return {
        item.id: (item.media, dict(item.texts), item.answers, item.cluster, dict(item.facts))
        for item in (*task.queries, *task.support)
    }


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_the_order_of_rows_does_not_matter(name, data):
    """Files whose rows are shuffled, each on its own, hold the same items."""
    split = data.draw(st.sampled_from(TASKS[name].splits))
    splits, draw = data.draw(datasets(name, split)), data.draw(st.randoms(use_true_random=False))

    def check(folder):
        before = items(read_task(name, folder, split))
        for file, content in LAYOUTS[name].files(splits).items():
            draw.shuffle(rows_in(content))
            write_file(folder / name / file, content)
        assert items(read_task(name, folder, split)) == before

    written(name, splits, check)


@pytest.mark.parametrize("name", RECUT)
@given(data=st.data())
def test_the_layout_of_open_flamingo_gives_the_same_items(name, data):
    """VizWiz and TextVQA cut into questions and annotations are the same task, item for item."""
    split = data.draw(st.sampled_from(TASKS[name].splits))
    splits = data.draw(datasets(name, split))

    def check(folder):
        official = items(read_task(name, folder, split))
        for file in (folder / name).iterdir():
            file.unlink()
        write_layout(RECUT[name], folder / name, splits)
        assert items(read_task(name, folder, split)) == official

    written(name, splits, check)


@pytest.mark.parametrize("name", WRITERS)
def test_no_image_is_opened_and_those_that_are_missing_can_be_asked_for(name, tmp_path):
    """A task without images is read; each image that is not there is told by its items, and a folder is no image."""
    WRITERS[name](tmp_path / name)
    task = read_task(name, tmp_path)
    assert (len(task.support), len(task.queries)) == (12, 5)
    assert missing_media([*task.support, *task.queries]) == []
    gone = task.queries[1].media[0].data
    gone.unlink()
    again = read_task(name, tmp_path).queries
    lacking = [item for item in again if item.media[0].data == gone]
    assert missing_media(again) == lacking != []
    gone.mkdir()
    assert missing_media(again) == lacking


def test_an_item_is_missing_where_any_of_its_media_is(tmp_path):
    """One file that is gone of two is enough; what is no path, or has no media, is never missing."""
    there = tmp_path / "there.png"
    there.touch()
    paths = {"both": [there, there], "one": [there, tmp_path / "gone.png"], "none": [], "in memory": [b"picture"]}
    found = [TaskItem(id=name, media=tuple(ImageSegment(data=data) for data in media)) for name, media in paths.items()]
    assert [item.id for item in missing_media(found)] == ["one"]


def test_a_writer_writes_the_same_each_time(tmp_path):
    """Two folders of one seed hold the same bytes, another seed holds others; runs of tests can be compared."""
    for name, write in WRITERS.items():
        for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
            write(tmp_path / folder / name, seed=seed)
    held = {
        folder: {
            path.relative_to(tmp_path / folder): path.read_bytes()
            for path in (tmp_path / folder).rglob("*")
            if path.is_file()
        }
        for folder in "abc"
    }
    assert held["a"] == held["b"] != held["c"]


def test_restval_joins_the_support_of_coco_where_it_is_asked_for(tmp_path):
    """Karpathy's restval is left out, as in open_flamingo, and behind the training images where it is taken."""
    splits = {
        split: [Record(n, n, "", ("a", "b", "c", "d", "e")) for n in numbers]
        for split, numbers in {"restval": (1, 2), "train": (3,), "test": (4,), "val": (5,)}.items()
    }
    write_layout(LAYOUTS["coco"], tmp_path, splits)
    assert [item.id for item in read_coco(tmp_path, "test").support] == ["3"]
    assert [item.id for item in read_coco(tmp_path, "val", restval=True).support] == ["3", "1", "2"]


def test_facts_are_what_metrics_read(tmp_path):
    """OK-VQA has what people wrote beside the stems, memes have their label, VQAv2 and VizWiz the types of answers."""
    for name in ("okvqa", "hateful_memes", "vqav2", "vizwiz"):
        WRITERS[name](tmp_path / name)
    item = read_task("okvqa", tmp_path).queries[0]
    assert item.facts == {"raw_answers": tuple(f"{answer}s" for answer in item.answers)}
    memes = read_task("hateful_memes", tmp_path)
    assert memes.candidates == ("yes", "no")
    assert {(item.facts["label"], item.answers) for item in memes.queries} == {(1, ("yes",)), (0, ("no",))}
    assert {memes.classes(item) for item in memes.support} == {"yes", "no"}
    assert read_task("vqav2", tmp_path).queries[0].facts == {"question_type": "what", "answer_type": "other"}
    assert read_task("vizwiz", tmp_path).queries[0].facts == {"answer_type": "other"}


@pytest.mark.parametrize(("old", "new"), [("test", "test_seen"), ("dev", "dev_seen")])
def test_memes_are_read_under_both_names_of_their_files(old, new, tmp_path):
    """`test.jsonl` is what `test_seen.jsonl` was called first; where both are there the new name is taken."""
    folder = tmp_path / "hateful_memes"

    def two(number):
        return [Record(number, number, "b", ("yes",)), Record(number + 10, number, "c", ("no",))]

    both = {"train": [Record(1, 1, "a", ("no",))], old: two(2)}
    write_layout(LAYOUTS["hateful_memes"], folder, both)
    assert [item.id for item in read_task("hateful_memes", tmp_path, new).queries] == ["2", "12"]
    write_layout(LAYOUTS["hateful_memes"], folder, {new: two(3)})
    assert [item.id for item in read_task("hateful_memes", tmp_path, new).queries] == ["3", "13"]
    with pytest.raises(EvaluationError, match=r"train.jsonl \(there\), test_unseen.jsonl \(missing\); the folder has"):
        read_task("hateful_memes", tmp_path, "test_unseen")


def test_memes_of_a_test_file_without_labels_have_no_answers(tmp_path):
    """The first test file had no labels: its items can be asked, and have nothing to be scored by."""
    write_layout(LAYOUTS["hateful_memes"], tmp_path / "hateful_memes", {"train": [Record(1, 1, "a", ("no",))]})
    write_file(tmp_path / "hateful_memes" / "test.jsonl", [{"id": 2, "img": "img/00002.png", "text": "b"}])
    (item,) = read_task("hateful_memes", tmp_path).queries
    assert (item.answers, dict(item.facts)) == ((), {})
