"""A task in YAML is read, and a bar counts."""

import json
from pathlib import Path

from flamingo_blocks.cli import main
from flamingo_blocks.evaluation.tasks import read_custom_task

for name in ("test", "train"):
    row = {"number": name, "file": "stop.png", "asked": "What does it say?", "said": ["stop"]}
    Path(f"{name}.jsonl").write_text(json.dumps(row) + "\n")
Path("task.yaml").write_text("""
name: signs
kind: question
answering: open
metric: exact_match
rows: test.jsonl
support: train.jsonl
fields: {id: number, image: file, question: asked, answers: said}
""")
task = read_custom_task("task.yaml")
assert (task.name, len(task.queries), len(task.support)) == ("signs", 1, 1)
assert main(["eval", "--list"]) == 0
