"""Tiny data sets of drawn values, in exactly the layout of the official files of the video tasks, dialogues, classes.

Each writer makes the files below a folder that is made if need be: `train` items for shots and `val` items of the split
that the paper asks. It gives back what it wrote, so that a test can compare what is read. `odd=True` draws texts with
marks that readers stumble over, `media=False` leaves images and clips empty, for tests that open none.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.evaluation.tasks.drawn_files import CLIP_S, SIDE_PX, Drawn, write_clip, write_csv, write_image, write_json

RARE = (("hammer", "phone"), ("wash", "egg"), ("measure", "carrots"), ("hammer", "egg"), ("fry", "ice"))
STAR_TYPES = ("Interaction", "Sequence", "Prediction", "Feasibility")
NEXT_QA_TYPES = ("CW", "CH", "TN", "TP", "TC", "DB", "DC", "DL", "DO")
LABELS = ("abseiling", "air drumming", "zumba", "yoga", "baking cookies", "archery")
WNIDS = {"n01440764": "tench", "n01443537": "goldfish", "n02084071": "dog"}

Rows = dict[str, list[dict[str, Any]]]


def write_visdial(folder: Path, *, train: int = 6, val: int = 4, seed: int = 0, **how: bool) -> Rows:
    drawn = Drawn(seed, **how)
    answers, questions = drawn.distinct(120), drawn.distinct(30)

    def dialogue(number: int) -> dict[str, Any]:
        rounds = []
        for _ in range(10):
            options = drawn.random.sample(range(len(answers)), 100)
            place = drawn.random.randrange(100)
            question = drawn.random.randrange(len(questions))
            rounds.append(
                {"question": question, "answer": options[place], "gt_index": place, "answer_options": options}
            )
        return {"image_id": number, "caption": drawn.text(), "dialog": rounds}

    found: Rows = {"train": [dialogue(100 + number) for number in range(train)]}
    found["val"] = [dialogue(9000 + number) for number in range(val)]
    for split, dialogues in found.items():
        data = {"questions": questions, "answers": answers, "dialogs": dialogues}
        write_json(folder / f"visdial_1.0_{split}.json", {"split": split, "version": "1.0", "data": data})
    relevance = [0.0] * 96 + [1, 0.4, 0.2, 0.6]
    found["dense"] = [
        {
            "image_id": row["image_id"],
            "round_id": drawn.random.randint(1, 10),
            "gt_relevance": drawn.random.sample(relevance, 100),
        }
        for row in reversed(found["val"])
    ]
    write_json(folder / "visdial_1.0_val_dense_annotations.json", found["dense"])
    for number, row in enumerate(found["train"]):  # of both halves of COCO
        half = ("train2014", "val2014")[number % 2]
        write_image(folder / half / f"COCO_{half}_{row['image_id']:012d}.jpg", drawn)
    for row in found["val"]:
        write_image(folder / "VisualDialog_val2018" / f"VisualDialog_val2018_{row['image_id']:012d}.jpg", drawn)
    found["texts"] = [{"questions": questions, "answers": answers}]
    return found


def write_msvd_qa(folder: Path, *, train: int = 6, val: int = 4, seed: int = 0, **how: bool) -> Rows:
    drawn = Drawn(seed, **how)
    found = _video_qa(drawn, train=train, val=val)
    names = {row["video_id"]: f"{drawn.youtube()}_{index}_{index + 4}" for index, row in enumerate(_all(found))}
    lines = [f"{name} vid{video}\n" for video, name in names.items()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "youtube_mapping.txt").write_text("".join(lines))
    for name in names.values():
        write_clip(folder / "YouTubeClips" / f"{name}.avi", drawn)
    for split, rows in found.items():
        write_json(folder / f"{split}_qa.json", rows)
    for row in _all(found):
        row["clip"] = names[row["video_id"]]
    return found


def write_msrvtt_qa(folder: Path, *, train: int = 6, val: int = 4, seed: int = 0, **how: bool) -> Rows:
    drawn = Drawn(seed, **how)
    found = _video_qa(drawn, train=train, val=val)
    for split, rows in found.items():
        write_json(folder / f"{split}_qa.json", [{**row, "category_id": 14} for row in rows])
        for row in rows:
            write_clip(
                folder / ("TestVideo" if split == "test" else "TrainValVideo") / f"video{row['video_id']}.mp4", drawn
            )
    return found


def write_star(folder: Path, *, train: int = 6, val: int = 4, seed: int = 0, **how: bool) -> Rows:
    drawn = Drawn(seed, **how)
    found: Rows = {}
    for split, count in (("train", train), ("val", val)):
        found[split] = []
        for number in range(count):
            choices, (start, end) = drawn.distinct(4), drawn.cut()
            found[split].append(
                {
                    "question_id": f"{STAR_TYPES[number % 4]}_T1_{len(_all(found))}",
                    "question": drawn.text(),
                    "video_id": f"{split[0].upper()}{number // 2:04d}",  # two questions of one video
                    "start": start,
                    "end": end,
                    "answer": drawn.random.choice(choices),
                    "question_program": [{"function": "Situations", "value_input": []}],
                    "choices": [
                        {"choice_id": place, "choice": choice, "choice_program": []}
                        for place, choice in enumerate(choices)
                    ],
                    "situations": {},
                }
            )
        write_json(folder / f"STAR_{split}.json", found[split])
    for video in sorted({row["video_id"] for row in _all(found)}):
        write_clip(folder / "Charades_v1_480" / f"{video}.mp4", drawn)
    return found


def write_vatex(folder: Path, *, train: int = 6, val: int = 4, seed: int = 0, **how: bool) -> Rows:
    drawn = Drawn(seed, **how)
    found: Rows = {}
    for split, count in (("train", train), ("public_test", val), ("private_test", val)):
        found[split] = [
            {"videoID": f"{drawn.youtube()}_{number:06d}_{number + 10:06d}", "enCap": [drawn.text() for _ in range(10)]}
            for number in range(count)
        ]
        for row in found[split]:
            write_clip(folder / "clips" / f"{row['videoID']}.mp4", drawn)
    chinese = [{**row, "chCap": ["中文"] * 10} for row in found["train"]]
    write_json(folder / "vatex_training_v1.0.json", chinese)
    write_json(folder / "vatex_public_test_english_v1.1.json", found["public_test"])
    names = [{"videoID": row["videoID"]} for row in found["private_test"]]
    write_json(folder / "vatex_private_test_without_annotations.json", names)
    return found


def write_youcook2(folder: Path, *, train: int = 6, val: int = 4, seed: int = 0, **how: bool) -> Rows:
    drawn = Drawn(seed, **how)
    found: Rows = {}
    database: dict[str, Any] = {}
    for split, count in (("training", train), ("validation", val)):
        found[split] = []
        while len(found[split]) < count:  # two steps of one video
            video, steps = drawn.youtube(), min(2, count - len(found[split]))
            annotations = [{"segment": [step, step + 2], "id": step, "sentence": drawn.text()} for step in range(steps)]
            database[video] = {
                "duration": CLIP_S,
                "subset": split,
                "recipe_type": "113",
                "annotations": annotations,
                "video_url": f"https://www.youtube.com/watch?v={video}",
            }
            found[split] += [{"video": video, **annotation} for annotation in annotations]
            container = drawn.random.choice(("mp4", "mkv"))  # what was to be had
            write_clip(folder / "raw_videos" / split / "113" / f"{video}.{container}", drawn)
    write_json(folder / "youcookii_annotations_trainval.json", {"database": database})
    return found


def write_ivqa(folder: Path, *, train: int = 6, val: int = 4, seed: int = 0, **how: bool) -> Rows:
    drawn = Drawn(seed, **how)
    found: Rows = {}
    for split, count in (("train", train), ("test", val)):
        found[split] = []
        for _ in range(count):
            start = drawn.random.choice((0, 1))
            row = {"video_id": drawn.youtube(), "start": start, "end": start + 2, "question": drawn.text()}
            row |= {f"answer{number}": drawn.word() for number in range(1, 6)}
            found[split].append(row)
            write_clip(folder / "videos" / f"{row['video_id']}.webm", drawn)
        write_csv(folder / f"{split}.csv", found[split])
    return found


def write_next_qa(folder: Path, *, train: int = 6, val: int = 4, seed: int = 0, **how: bool) -> Rows:
    drawn = Drawn(seed, **how)
    found: Rows = {}
    names: dict[str, str] = {}
    more: dict[str, dict[str, str]] = {}
    for split, count in (("train", train), ("test", val)):
        found[split] = []
        for number in range(count):
            video = f"{2000 if split == 'train' else 5000}{number // 2:06d}"
            names[video] = f"{1000 + number // 2}/{video}"
            row = {"video": video, "frame_count": 16, "width": SIDE_PX, "height": SIDE_PX, "question": drawn.text()}
            row |= {"answer": drawn.text(2), "qid": number, "type": NEXT_QA_TYPES[number % 9]}
            found[split].append(row)
            if split == "test" and number % 2 == 0:
                more.setdefault(video, {})[str(number)] = drawn.text(2)
        write_csv(folder / f"{split}.csv", found[split])
    write_json(folder / "map_vid_vidorID.json", names)
    write_json(folder / "add_reference_answer_test.json", more)
    for name in names.values():
        write_clip(folder / "NExTVideo" / f"{name}.mp4", drawn)
    found["more"] = [{"video": video, "qid": qid, "answer": of[qid]} for video, of in more.items() for qid in of]
    return found


def write_rareact(folder: Path, *, train: int = 0, val: int = 10, seed: int = 0, **how: bool) -> Rows:
    """Ten clips at least, two of each class, the first of which shows it. There is nothing to train on."""
    drawn = Drawn(seed, **how)
    rows = []
    for number in range(max(val, 10)):
        start = drawn.random.choice((0, 1))
        class_id = number % len(RARE)
        verb, noun = RARE[class_id]
        annotation = 1 if number < len(RARE) else drawn.random.randrange(5)
        rows.append(
            {
                "id": number, "video_id": drawn.youtube(), "start": start, "end": start + 2, "class_id": class_id,
                "verb": verb, "noun": noun, "annotation": annotation,
            }
        )  # fmt: skip
        write_clip(folder / "videos" / f"{rows[-1]['video_id']}.mp4", drawn)
    rows.append({**rows[-1], "id": len(rows)})  # some clips are in the file twice
    write_csv(folder / "rareact.csv", rows)
    return {"test": rows}


def write_kinetics700(folder: Path, *, train: int = 6, val: int = 4, seed: int = 0, **how: bool) -> Rows:
    """Six clips at least to train on, one of each label."""
    drawn = Drawn(seed, **how)
    found: Rows = {}
    for split, count in (("train", max(train, len(LABELS))), ("validate", val)):
        found[split] = [
            {
                "label": LABELS[number % len(LABELS)],
                "youtube_id": drawn.youtube(),
                "time_start": number,
                "time_end": number + 10,
                "split": split,
                "is_cc": 0,
            }
            for number in range(count)
        ]
        write_csv(folder / f"{split}.csv", found[split])
        for row in found[split]:
            write_clip(folder / split / f"{row['youtube_id']}_{row['time_start']:06d}_{row['time_end']:06d}.mp4", drawn)
    return found


def write_imagenet(folder: Path, *, train: int = 6, val: int = 4, seed: int = 0, **how: bool) -> Rows:
    drawn = Drawn(seed, **how)
    wnids = list(WNIDS)
    found: Rows = {"train": [], "val": []}
    for number in range(train):
        wnid = wnids[number % len(wnids)]
        found["train"].append({"name": f"{wnid}_{number}", "wnid": wnid})
        write_image(folder / "train" / wnid / f"{wnid}_{number}.JPEG", drawn)
    for number in range(1, val + 1):
        name = f"ILSVRC2012_val_{number:08d}"
        found["val"].append({"name": name, "wnid": drawn.random.choice(wnids)})
        write_image(folder / "val" / f"{name}.JPEG", drawn)
    (folder / "classes.txt").write_text("".join(f"{wnid}\t{name}\n" for wnid, name in WNIDS.items()))
    write_csv(
        folder / "LOC_val_solution.csv",
        [
            {"ImageId": row["name"], "PredictionString": f"{row['wnid']} 1 2 30 31 "}
            for row in sorted(found["val"], key=lambda row: row["wnid"])
        ],
    )
    return found


VIDEO_WRITERS: dict[str, Callable[..., Rows]] = {
    "visdial": write_visdial,
    "msvd_qa": write_msvd_qa,
    "msrvtt_qa": write_msrvtt_qa,
    "star": write_star,
    "vatex": write_vatex,
    "youcook2": write_youcook2,
    "ivqa": write_ivqa,
    "next_qa": write_next_qa,
    "rareact": write_rareact,
    "imagenet": write_imagenet,
    "kinetics700": write_kinetics700,
}


def _video_qa(drawn: Drawn, *, train: int, val: int) -> Rows:
    found: Rows = {}
    for split, count, first in (("train", train, 0), ("test", val, 500)):
        found[split] = [
            {"id": first + number, "video_id": first + number, "question": drawn.text(), "answer": drawn.word()}
            for number in range(count)
        ]
    return found


def _all(found: Mapping[str, Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for rows in found.values() for row in rows]
