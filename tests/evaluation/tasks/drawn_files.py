"""Drawn values, and files of them: what writers of tiny data sets share."""

import csv
import json
import random
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from flamingo_blocks.data.video import encode_clip

WORDS = "red blue green dog cat cup ball runs sits holds opens near under a the of table tree bread two".split()
ODD = (
    '"quoted", twice',
    "naïve café",
    "semi; colon: 50 %",
    "don't",
    "tab\there",
    "line\nbreak",
    "中文",
    "#1-2",
    "<image>",
)
SIDE_PX = 32
CLIP_S = 4.0


class Drawn:
    """Values drawn from a seed; texts with marks that files stumble over, if `odd`; images and clips, if `media`."""

    def __init__(self, seed: int, *, odd: bool = False, media: bool = True) -> None:
        self.random, self.odd, self.media = random.Random(seed), odd, media  # noqa: S311 - no secret

    def text(self, words: int = 4) -> str:
        found = [self.random.choice(WORDS) for _ in range(words)]
        if self.odd:
            found[self.random.randrange(words)] = self.random.choice(ODD)
        return " ".join(found)

    def word(self) -> str:
        return self.text(1)

    def distinct(self, count: int) -> list[str]:
        return [f"{self.text(2)} {number}" for number in range(count)]

    def youtube(self) -> str:
        return "".join(self.random.choices(f"{string.ascii_letters}{string.digits}-_", k=11))

    def cut(self) -> tuple[float, float]:
        start = self.random.choice((0, 0.5, 1))
        return start, start + self.random.choice((1, 1.5, 2.25))


def write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_image(file: Path, drawn: Drawn) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if drawn.media:
        Image.new("RGB", (SIDE_PX, SIDE_PX), _colour(drawn)).save(file, "JPEG")
    else:
        file.touch()


def write_clip(file: Path, drawn: Drawn) -> None:
    """Sixteen frames at 4 a second, each of one colour, so that a cut can be told from another."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not drawn.media:
        file.touch()
        return
    colours = torch.tensor([_colour(drawn) for _ in range(int(4 * CLIP_S))], dtype=torch.uint8)
    frames = colours[:, :, None, None].expand(-1, -1, SIDE_PX, SIDE_PX)
    container, codec = {
        ".mkv": ("matroska", "mpeg4"), ".avi": ("avi", "mpeg4"), ".webm": ("webm", "libvpx"), ".mp4": ("mp4", "mpeg4"),
    }[file.suffix]  # fmt: skip
    file.write_bytes(encode_clip(frames, fps=4.0, codec=codec, container=container))


def _colour(drawn: Drawn) -> tuple[int, int, int]:
    return drawn.random.randrange(256), drawn.random.randrange(256), drawn.random.randrange(256)
