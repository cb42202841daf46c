"""Tiny datasets in the layout of the official files, for each image task: rows that are made up, images that are drawn.

A writer of `WRITERS` takes the folder of its task, which is `data / name`, and writes all that the task reads.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

WORDS = "red blue two three dog café surfboard 猫 t-shirt yes no naïve 🙂 don't".split()


@dataclass(frozen=True)
class Record:
    """What a row says, whatever its task: question, words on the picture; captions or answers."""

    number: int
    image: int
    text: str
    answers: tuple[str, ...]


Splits = dict[str, list[Record]]  # `train` is the support


@dataclass(frozen=True)
class Layout:
    """How a task lays its files out.

    Args:
        files: Files by name, of the records of each split: a list for `.jsonl`, what JSON holds for others.
        image: Path of an image below the task's folder, of its split and record.
        query: The split that is asked first.
        answers: How many answers a record has.
    """

    files: Callable[[Splits], dict[str, Any]]
    image: Callable[[str, Record], str]
    query: str
    answers: int = 10


def write_layout(layout: Layout, folder: Path, splits: Splits, *, images: bool = False) -> None:
    """Write records as the files of a task, and where asked draw their images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in layout.files(splits).items():
        write_file(folder / name, content)
    for split, records in splits.items() if images else ():
        for record in records:
            path = folder / layout.image(split, record)
            path.parent.mkdir(parents=True, exist_ok=True)
            draw = random.Random(path.name)  # noqa: S311 - no secret
            image = Image.new("RGB", (24, 16), tuple(draw.randrange(256) for _ in range(3)))
            image.paste(tuple(draw.randrange(256) for _ in range(3)), (draw.randrange(12), 4, 18, 12))
            image.save(path)


def write_file(path: Path, content: Any) -> None:
    """Write what JSON holds, or a list as lines of JSON."""
    rows = content if path.suffix == ".jsonl" else [content]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def records(number: int, *, first: int, answers: int, draw: random.Random) -> list[Record]:
    """Records about images of their own, but for every fourth, which is about the image before it."""
    found: list[Record] = []
    for k in range(first, first + number):
        image = found[-1].image if found and k % 4 == 3 else k
        text = f"what {draw.choice(WORDS)} {k}?"
        found.append(Record(k, image, text, tuple(" ".join(draw.sample(WORDS, 2)) for _ in range(answers))))
    return found


def _karpathy(dataset: str, splits: Splits, name: Callable[[str, Record], dict[str, Any]]) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    for split, found in splits.items():
        for record in found:
            ids = [10 * record.number + k for k in range(len(record.answers))]
            sentences = [
                {"tokens": raw.lower().split(), "raw": raw, "imgid": len(images), "sentid": sentid}
                for sentid, raw in zip(ids, record.answers, strict=True)
            ]
            row = {"imgid": len(images), "split": split, "sentids": ids, "sentences": sentences}
            images.append(name(split, record) | row)
    return {f"dataset_{dataset}.json": {"images": images, "dataset": dataset}}


def _coco_name(split: str, record: Record) -> dict[str, Any]:
    part = "train2014" if split == "train" else "val2014"
    return {"filepath": part, "filename": f"COCO_{part}_{record.number:012d}.jpg", "cocoid": record.number}


def _flickr_name(split: str, record: Record) -> dict[str, Any]:
    return {"filename": f"{record.number}.jpg"}


def _question(record: Record, image: Any) -> dict[str, Any]:
    return {"image_id": image, "question": record.text, "question_id": record.number}


def _annotation(record: Record, image: Any, answers: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {"question_type": "what", "answer_type": "other", "multiple_choice_answer": "".join(record.answers[:1])}
    return {"question_id": record.number, "image_id": image, "answers": answers, **kinds}


def _answers(record: Record, *, raw: bool = False, number: bool = True) -> list[dict[str, Any]]:
    return [
        {"answer": answer, "answer_confidence": "yes"}
        | ({"answer_id": k} if number else {})
        | ({"raw_answer": f"{answer}s"} if raw else {})
        for k, answer in enumerate(record.answers, start=1)
    ]


def _vqa(splits: Splits, prefix: str, *, raw: bool = False) -> dict[str, Any]:
    names = {"train": "train2014", "val": "val2014", "test-dev": "test-dev2015", "test": "test2015"}
    files: dict[str, Any] = {}
    for split, found in splits.items():
        about = {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "data_subtype": names[split]}
        files[f"{prefix}OpenEnded_mscoco_{names[split]}_questions.json"] = about | {
            "questions": [_question(record, record.image) for record in found]
        }
        if not split.startswith("test"):
            rows = [_annotation(record, record.image, _answers(record, raw=raw)) for record in found]
            files[f"{prefix}mscoco_{names[split]}_annotations.json"] = about | {"annotations": rows}
    return files


def _vqa_image(split: str, record: Record) -> str:
    part = {"train": "train2014", "val": "val2014"}.get(split, "test2015")
    return f"{part}/COCO_{part}_{record.image:012d}.jpg"


def _vizwiz_image(split: str, record: Record) -> str:
    return f"{split}/VizWiz_{split}_{record.number:08d}.jpg"


def _vizwiz(splits: Splits) -> dict[str, Any]:
    files = {}
    for split, found in splits.items():
        rows = [{"image": _vizwiz_image(split, r).partition("/")[2], "question": r.text} for r in found]
        if split != "test":
            for row, record in zip(rows, found, strict=True):
                row |= {"answers": _answers(record, number=False), "answer_type": "other", "answerable": 1}
        files[f"{split}.json"] = rows
    return files


def _text_vqa_image(split: str, record: Record) -> str:
    return f"{'test' if split == 'test' else 'train'}_images/{record.image:016x}.jpg"


def _text_vqa(splits: Splits) -> dict[str, Any]:
    files = {}
    for split, found in splits.items():
        rows = [_question(record, f"{record.image:016x}") | {"image_width": 24, "set_name": split} for record in found]
        if split != "test":
            rows = [row | {"answers": list(record.answers)} for row, record in zip(rows, found, strict=True)]
        files[f"TextVQA_0.5.1_{split}.json"] = {"dataset_type": split, "dataset_name": "textvqa", "data": rows}
    return files


def _recut(splits: Splits, image: Callable[[str, Record], str], *, anew: bool = False) -> dict[str, Any]:
    """As open_flamingo cuts them: no `answer_type`, and numbers that start anew in each file of VizWiz."""
    files: dict[str, Any] = {}
    for split, found in splits.items():
        asked, answered = [], []
        for place, record in enumerate(found):
            number = {"question_id": place if anew else record.number}
            asked.append(_question(record, image(split, record)) | number)
            row = _annotation(record, image(split, record), _answers(record, number=not anew)) | number
            answered.append(row | {"question_type": row.pop("answer_type")})
        files[f"{split}_questions_vqa_format.json"] = {"questions": asked}
        if split != "test":
            files[f"{split}_annotations_vqa_format.json"] = {"annotations": answered}
    return files


def _memes(splits: Splits) -> dict[str, Any]:
    return {
        f"{split}.jsonl": [
            {"id": r.number, "img": _memes_image(split, r), "label": int(r.answers[0] == "yes"), "text": r.text}
            for r in found
        ]
        for split, found in splits.items()
    }


def _memes_image(split: str, record: Record) -> str:
    return f"img/{record.number:05d}.png"


LAYOUTS = {
    "coco": Layout(
        lambda splits: _karpathy("coco", splits, _coco_name),
        lambda split, record: "{filepath}/{filename}".format(**_coco_name(split, record)),
        "test",
        answers=5,
    ),
    "flickr30k": Layout(
        lambda splits: _karpathy("flickr30k", splits, _flickr_name),
        lambda split, record: f"flickr30k-images/{record.number}.jpg",
        "test",
        answers=5,
    ),
    "vqav2": Layout(lambda splits: _vqa(splits, "v2_"), _vqa_image, "val"),
    "okvqa": Layout(lambda splits: _vqa(splits, "", raw=True), _vqa_image, "val"),
    "vizwiz": Layout(_vizwiz, _vizwiz_image, "val"),
    "textvqa": Layout(_text_vqa, _text_vqa_image, "val"),
    "hateful_memes": Layout(_memes, _memes_image, "test_seen", answers=1),
}
RECUT = {
    "vizwiz": Layout(
        lambda splits: _recut(splits, lambda *of: _vizwiz_image(*of).partition("/")[2], anew=True), _vizwiz_image, "val"
    ),
    "textvqa": Layout(lambda splits: _recut(splits, lambda _, record: f"{record.image:016x}"), _text_vqa_image, "val"),
}


def write_dataset(name: str, folder: Path, *, train: int, test: int, seed: int) -> None:
    """Write a dataset of a task with its images: so many records of support and of queries."""
    layout, draw = LAYOUTS[name], random.Random(seed)  # noqa: S311 - no secret
    parts = (("train", train, 1), (layout.query, test, 1000))
    splits = {split: records(n, first=first, answers=layout.answers, draw=draw) for split, n, first in parts}
    if name == "hateful_memes":  # both labels by turns
        for found in splits.values():
            found[:] = [replace(record, answers=(("no", "yes")[record.number % 2],)) for record in found]
    write_layout(layout, folder, splits, images=True)


def write_coco(folder: Path, *, train: int = 12, test: int = 5, seed: int = 0) -> None:
    """Write captions of COCO."""
    write_dataset("coco", folder, train=train, test=test, seed=seed)


def write_flickr30k(folder: Path, *, train: int = 12, test: int = 5, seed: int = 0) -> None:
    """Write captions of Flickr30k."""
    write_dataset("flickr30k", folder, train=train, test=test, seed=seed)


def write_vqav2(folder: Path, *, train: int = 12, test: int = 5, seed: int = 0) -> None:
    """Write questions of VQAv2; some share an image."""
    write_dataset("vqav2", folder, train=train, test=test, seed=seed)


def write_okvqa(folder: Path, *, train: int = 12, test: int = 5, seed: int = 0) -> None:
    """Write questions of OK-VQA; some share an image."""
    write_dataset("okvqa", folder, train=train, test=test, seed=seed)


def write_vizwiz(folder: Path, *, train: int = 12, test: int = 5, seed: int = 0) -> None:
    """Write questions of VizWiz."""
    write_dataset("vizwiz", folder, train=train, test=test, seed=seed)


def write_textvqa(folder: Path, *, train: int = 12, test: int = 5, seed: int = 0) -> None:
    """Write questions of TextVQA; some share an image."""
    write_dataset("textvqa", folder, train=train, test=test, seed=seed)


def write_hateful_memes(folder: Path, *, train: int = 12, test: int = 5, seed: int = 0) -> None:
    """Write memes, hateful and not by turns."""
    write_dataset("hateful_memes", folder, train=train, test=test, seed=seed)


WRITERS = {
    "coco": write_coco,
    "flickr30k": write_flickr30k,
    "vqav2": write_vqav2,
    "okvqa": write_okvqa,
    "vizwiz": write_vizwiz,
    "textvqa": write_textvqa,
    "hateful_memes": write_hateful_memes,
}
