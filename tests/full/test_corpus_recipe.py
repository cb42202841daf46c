"""The three commands of `docs/how-to/train.md`: a corpus, its shards, and a model whose few-shot score rises."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.full


def commands():
    """As the page has them, each in words of this interpreter."""
    page = (ROOT / "docs" / "how-to" / "train.md").read_text()
    (block,) = re.findall(r"```text\n(python examples/make_corpus\.py.*?)```", page, re.DOTALL)
    shell = block.replace("\\\n", " ").replace("examples/", f"{ROOT}/examples/")
    words = [command.split() for command in shell.split("&&")]
    start = {"python": [sys.executable], "flamingo-blocks": [sys.executable, "-m", "flamingo_blocks.cli"]}
    return [[*start[first], *rest] for first, *rest in words]


def test_the_score_rises_with_the_training(tmp_path):
    """Of pictures that were kept out: colours at once, digits after some hundred steps, with and without examples."""
    for command in commands():
        subprocess.run(command, cwd=tmp_path, check=True, timeout=1800)
    lines = [json.loads(line) for line in (tmp_path / "runs" / "corpus" / "metrics.jsonl").read_text().splitlines()]
    scores = [line["measured"] for line in lines if "few_shot/digit, 0 shots" in line.get("measured", {})]
    first, last = scores[0], scores[-1]
    assert last["few_shot/colour, 0 shots"] >= 0.9
    assert last["few_shot/digit, 0 shots"] >= first["few_shot/digit, 0 shots"] + 0.3
    assert last["few_shot/digit, 4 shots"] >= first["few_shot/digit, 4 shots"] + 0.3
