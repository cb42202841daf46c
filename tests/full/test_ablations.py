"""The paper's ablations in small, half as long and on one seed, held to what no seed should miss; ten minutes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.full

SCRIPT = Path(__file__).parents[2] / "examples" / "ablations" / "run_ablations.py"
VARIANTS = ("baseline", "no_gate", "all_previous", "round_robin", "lm_trained")


def test_the_mask_and_the_frozen_language_model_matter(tmp_path):
    """With all images in sight naming stays at chance while captions are learnt, and a trained language model forgets.

    No claim is made of gates and round-robin but that they train as well as the baseline: there the small world does
    not agree with the paper.
    """
    words = ("--seeds", "0", "--variants", ",".join(VARIANTS), "--steps", "200", "--episodes", "100")
    command = [sys.executable, str(SCRIPT), *words, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = {run["variant"]: run for run in json.loads((tmp_path / "results.json").read_text())}
    assert list(runs) == list(VARIANTS)
    closed = {name: run["naming"]["closed"]["8"] for name, run in runs.items()}
    wrote = {name: run["naming"]["open"]["8"] for name, run in runs.items()}
    bars = [
        *((f"{name}, 8 shots", 0.80, closed[name], 1) for name in ("baseline", "no_gate", "round_robin")),
        ("all previous images, 8 shots", 0, closed["all_previous"], 0.35),
        ("all previous images, captions", 0.85, runs["all_previous"]["captions"]["seen"], 1),
        ("baseline, open", 0.60, wrote["baseline"], 1),
        ("language model trained on, open", 0, wrote["lm_trained"], 0.10),
        ("language model trained on, recall on text", 0, runs["lm_trained"]["text_recall"], 0.85),
    ]
    assert not [bar for bar in bars if not bar[1] <= bar[2] <= bar[3]], done.stdout
