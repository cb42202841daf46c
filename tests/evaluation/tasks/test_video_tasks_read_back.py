"""What was written in the official layout of a video task is what is read."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ClipSegment
from flamingo_blocks.data.video import decode_clip
from tests.evaluation.tasks.official_video_files import RARE, VIDEO_WRITERS, WNIDS
from tests.evaluation.tasks.stand_in_metrics import stand_in_metrics  # noqa: F401 - a fixture
from tests.evaluation.tasks.video_readers import VIDEO_READERS

SIZES = {"train": st.integers(1, 5), "val": st.integers(1, 5), "seed": st.integers(0, 10**6), "odd": st.booleans()}


def written_and_read(name, split=None, *, media=False, **sizes):
    """What was written, the folder, and the task that was read from it."""
    reader = VIDEO_READERS[name]
    with tempfile.TemporaryDirectory() as folder:
        rows = VIDEO_WRITERS[name](Path(folder), media=media, **sizes)
        task = reader.read(Path(folder), reader.splits[0] if split is None else split)
        for item in (*task.queries, *task.support):
            assert all(media.data.is_file() for media in item.media)
    return rows, task


def medium(item):
    """Name and cut of the only image or clip of an item."""
    (only,) = item.media
    assert set(only.metadata) in (set(), {"start_s", "end_s"})
    return (only.url, *only.metadata.values())


def short(seconds):
    return str(int(seconds)) if seconds == int(seconds) else str(seconds)


def cut(name, start, end):
    return f"{name}.mp4#{short(start)}-{short(end)}", start, end


@pytest.mark.parametrize("name", VIDEO_WRITERS)
@given(**SIZES)
def test_a_task_is_what_its_reader_says(name, train, val, seed, odd):
    """Name, kind and way of answering are those of the reader; ids come once; what is closed has candidates with the
    answer among them.
    """
    _, task = written_and_read(name, train=train, val=val, seed=seed, odd=odd)
    reader = VIDEO_READERS[name]
    assert (task.name, task.kind, task.answering) == (reader.name, reader.kind, reader.answering)
    items = (*task.queries, *task.support)
    assert len({item.id for item in items}) == len(items)
    assert {type(item.media[0]) for item in items} <= {type(items[0].media[0])}
    for item in task.queries:
        candidates = item.candidates or task.candidates
        assert bool(candidates) == (task.answering == "closed")
        assert len(item.answers) >= 1
        assert not candidates or set(item.answers) <= set(candidates)


@given(**SIZES)
def test_visdial_reads_back(train, val, seed, odd):
    """A query is the judged round with those before it; a shot is a whole dialogue, its last round as the answer."""
    rows, task = written_and_read("visdial", train=train, val=val, seed=seed, odd=odd)
    questions, answers = rows["texts"][0]["questions"], rows["texts"][0]["answers"]
    judged = {row["image_id"]: row for row in rows["dense"]}

    def turns(rounds):
        return tuple((questions[each["question"]], answers[each["answer"]]) for each in rounds)

    for item, row in zip(task.queries, rows["val"], strict=True):
        dense = judged[row["image_id"]]
        asked = row["dialog"][dense["round_id"] - 1]
        assert item.id == f"{row['image_id']}_{dense['round_id']}"
        assert medium(item) == (f"VisualDialog_val2018_{row['image_id']:012d}.jpg",)
        assert dict(item.texts) == {"caption": row["caption"], "question": questions[asked["question"]]}
        assert item.turns == turns(row["dialog"][: dense["round_id"] - 1])
        assert item.candidates == tuple(answers[place] for place in asked["answer_options"])
        assert item.answers == (answers[asked["answer"]],) == (item.candidates[asked["gt_index"]],)
        assert item.facts == {
            "round_id": dense["round_id"],
            "gt_index": asked["gt_index"],
            "relevance": tuple(dense["gt_relevance"]),
        }
    for number, (item, row) in enumerate(zip(task.support, rows["train"], strict=True)):
        half = ("train2014", "val2014")[number % 2]
        assert medium(item) == (f"COCO_{half}_{row['image_id']:012d}.jpg",)
        assert (*item.turns, (item.texts["question"], *item.answers)) == turns(row["dialog"])
        assert (item.id, item.texts["caption"]) == (str(row["image_id"]), row["caption"])


@pytest.mark.parametrize("name", ["msvd_qa", "msrvtt_qa"])
@given(**SIZES)
def test_questions_about_clips_read_back(name, train, val, seed, odd):
    """Questions with their answers, about the clip that the number of the video names."""
    rows, task = written_and_read(name, train=train, val=val, seed=seed, odd=odd)
    for items, split in ((task.queries, "test"), (task.support, "train")):
        for item, row in zip(items, rows[split], strict=True):
            clip = f"{row['clip']}.avi" if name == "msvd_qa" else f"video{row['video_id']}.mp4"
            assert (item.id, medium(item)) == (str(row["id"]), (clip,))
            assert (item.texts["question"], item.answers) == (row["question"], (row["answer"],))
            assert item.cluster == (row["clip"][:11] if name == "msvd_qa" else f"video{row['video_id']}")


@given(**SIZES)
def test_star_reads_back(train, val, seed, odd):
    """A cut of a video, a question, four choices and the type that the id begins with."""
    rows, task = written_and_read("star", train=train, val=val, seed=seed, odd=odd)
    for items, split in ((task.queries, "val"), (task.support, "train")):
        for item, row in zip(items, rows[split], strict=True):
            assert item.id == row["question_id"]
            assert medium(item) == cut(row["video_id"], row["start"], row["end"])
            assert (item.texts["question"], item.answers) == (row["question"], (row["answer"],))
            assert item.candidates == tuple(choice["choice"] for choice in row["choices"])
            assert item.facts == {"type": row["question_id"].split("_")[0]}
            assert item.cluster == row["video_id"]


@given(**SIZES)
def test_vatex_reads_back(train, val, seed, odd):
    """A clip with its ten English captions; none where the split has none."""
    rows, task = written_and_read("vatex", train=train, val=val, seed=seed, odd=odd)
    for items, split in ((task.queries, "public_test"), (task.support, "train")):
        for item, row in zip(items, rows[split], strict=True):
            assert (item.id, medium(item)) == (row["videoID"], (f"{row['videoID']}.mp4",))
            assert (item.answers, item.cluster) == (tuple(row["enCap"]), row["videoID"][:11])
    rows, task = written_and_read("vatex", "private_test", train=train, val=val, seed=seed, odd=odd)
    assert [item.id for item in task.queries] == [row["videoID"] for row in rows["private_test"]]
    assert not any(item.answers for item in task.queries)


@given(**SIZES)
def test_youcook2_reads_back(train, val, seed, odd):
    """A step of a recipe is a cut of its video with one caption."""
    rows, task = written_and_read("youcook2", train=train, val=val, seed=seed, odd=odd)
    for items, split in ((task.queries, "validation"), (task.support, "training")):
        for item, row in zip(items, rows[split], strict=True):
            assert (item.id, item.cluster) == (f"{row['video']}_{row['id']}", row["video"])
            assert (medium(item), item.answers) == (cut(row["video"], *row["segment"]), (row["sentence"],))


@given(**SIZES)
def test_ivqa_reads_back(train, val, seed, odd):
    """A cut of a video with a question and five answers, of which the most frequent is shown."""
    rows, task = written_and_read("ivqa", train=train, val=val, seed=seed, odd=odd)
    assert task.demo_answer == "majority"
    for items, split in ((task.queries, "test"), (task.support, "train")):
        for item, row in zip(items, rows[split], strict=True):
            assert item.id == f"{row['video_id']}_{row['start']}_{row['end']}"
            assert medium(item) == cut(row["video_id"], row["start"], row["end"])
            assert item.texts["question"] == row["question"]
            assert item.answers == tuple(row[f"answer{number}"] for number in range(1, 6))


@given(**SIZES)
def test_next_qa_reads_back(train, val, seed, odd):
    """A question about a video in its folder of VidOR, with the answer that was added for the test behind its own."""
    rows, task = written_and_read("next_qa", train=train, val=val, seed=seed, odd=odd)
    more = {(row["video"], row["qid"]): (row["answer"],) for row in rows["more"]}
    for items, split in ((task.queries, "test"), (task.support, "train")):
        for item, row in zip(items, rows[split], strict=True):
            assert (item.id, item.cluster) == (f"{row['video']}_{row['qid']}", row["video"])
            assert medium(item) == (f"{1000 + int(row['qid']) // 2}/{row['video']}.mp4",)
            assert item.texts["question"] == row["question"]
            assert item.answers == (row["answer"], *more.get((row["video"], str(row["qid"])), ()))
            assert item.facts == {"type": row["type"]}


@given(**SIZES)
def test_rareact_reads_back(train, val, seed, odd):
    """A cut of a video with the class that it was asked about; the candidates are all captions, in order of class."""
    rows, task = written_and_read("rareact", train=train, val=val, seed=seed, odd=odd)
    assert not task.support
    assert len(task.candidates) == len(RARE)
    for item, row in zip(task.queries, rows["test"], strict=True):
        assert (item.id, item.cluster) == (str(row["id"]), row["video_id"])
        assert medium(item) == cut(row["video_id"], row["start"], row["end"])
        assert item.answers == (task.candidates[row["class_id"]],)
        named = {key: row[key] for key in ("class_id", "verb", "noun", "annotation")}
        assert item.facts == {**named, "video": row["video_id"]}


@given(**SIZES)
def test_kinetics_reads_back(train, val, seed, odd):
    """A clip named by its video and ends, with its label; 32 shots of each label."""
    rows, task = written_and_read("kinetics700", train=train, val=val, seed=seed, odd=odd)
    assert task.candidates == tuple(sorted({row["label"] for row in rows["train"]}))
    assert task.num_support == 32
    for items, split in ((task.queries, "validate"), (task.support, "train")):
        for item, row in zip(items, rows[split], strict=True):
            assert item.id == f"{row['youtube_id']}_{row['time_start']:06d}_{row['time_end']:06d}"
            assert (medium(item), item.cluster) == ((f"{item.id}.mp4",), row["youtube_id"])
            assert item.answers == (row["label"],) == (task.classes(item),)
            assert task.candidates[item.facts["class_index"]] == row["label"]


@given(**SIZES)
def test_imagenet_reads_back(train, val, seed, odd):
    """Images with the name that was chosen for their class; 32 shots of each class."""
    rows, task = written_and_read("imagenet", train=train, val=val, seed=seed, odd=odd)
    assert task.candidates == tuple(WNIDS.values())
    assert task.num_support == 32
    for items, split in ((task.queries, "val"), (task.support, "train")):
        found = {(item.id, item.media[0].url, item.facts["wnid"], *item.answers, task.classes(item)) for item in items}
        assert found == {
            (row["name"], f"{row['name']}.JPEG", row["wnid"], WNIDS[row["wnid"]], WNIDS[row["wnid"]])
            for row in rows[split]
        }


def test_imagenet_takes_labels_in_order_and_folders_of_classes(tmp_path):
    """The classes of the images that are asked are the same from a file by name, from a list in order, and from
    folders.
    """
    rows = VIDEO_WRITERS["imagenet"](tmp_path, media=False, val=5)["val"]
    read = VIDEO_READERS["imagenet"].read
    by_name = {item.id: item.answers for item in read(tmp_path, "val").queries}
    (tmp_path / "LOC_val_solution.csv").unlink()
    lines = "".join(f"{row['wnid']}\n" for row in rows)
    (tmp_path / "imagenet_2012_validation_synset_labels.txt").write_text(lines)
    assert {item.id: item.answers for item in read(tmp_path, "val").queries} == by_name
    for row in rows:
        (tmp_path / "val" / row["wnid"]).mkdir(exist_ok=True)
        name = f"{row['name']}.JPEG"
        (tmp_path / "val" / name).rename(tmp_path / "val" / row["wnid"] / name)
    assert {item.id: item.answers for item in read(tmp_path, "val").queries} == by_name


def test_visdial_without_judgements_asks_the_last_round(tmp_path):
    """Dialogues of the test split end with a question; it is asked, and there is nothing to score it by."""
    VIDEO_WRITERS["visdial"](tmp_path, media=False, train=2, val=2)
    text = (tmp_path / "visdial_1.0_val.json").read_text().replace('"split": "val"', '"split": "test"')
    (tmp_path / "visdial_1.0_test.json").write_text(text)
    for item in VIDEO_READERS["visdial"].read(tmp_path, "test").queries:
        assert item.id.endswith("_10")
        assert item.facts == {"round_id": 10}
        assert (item.answers, len(item.turns), len(item.candidates)) == ((), 9, 100)


@pytest.mark.parametrize("name", VIDEO_WRITERS)
def test_written_clips_decode(name, tmp_path):
    """The clips of a written data set have frames, in whatever container, and more seconds than its cuts."""
    pytest.importorskip("av", reason="the extra 'video' brings PyAV")
    VIDEO_WRITERS[name](tmp_path, train=2, val=2)
    reader = VIDEO_READERS[name]
    for item in reader.read(tmp_path, reader.splits[0]).queries:
        for clip in item.media:
            if isinstance(clip, ClipSegment):
                found = decode_clip(clip.data, fps=4.0, count=16)
                assert len(found) == 16
                assert clip.metadata.get("end_s", 0.0) <= 4.0
