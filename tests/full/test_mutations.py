"""Mistakes that were made before in models of this kind, made on purpose: each breaks the test that is named for it.

CONTRIBUTING.md has the same list for people.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
PACKAGE = "src/flamingo_blocks"
ATTEND, BLOCKS = "tests/properties/test_attention_backends.py", "tests/properties/test_blocks.py"
MUTATIONS = {
    "greater-or-equal for equal: a token sees every earlier item": (
        f"{PACKAGE}/ops/_visible_ranges.py",
        "        return start.gather(1, tag)\n",
        "        return torch.zeros_like(start)\n",
        "tests/properties/test_media_layout.py::test_mask_is_what_the_oracle_sees",
    ),
    "the same in the dense mask alone": (
        f"{PACKAGE}/ops/media_layout.py",
        "(self.first[..., None] <= slots) & (slots <= self.last[..., None])",
        "slots <= self.last[..., None]",
        f"{ATTEND}::test_influence_is_exactly_visibility",
    ),
    "rows that see nothing are not zeroed": (
        f"{PACKAGE}/ops/attention/_shared.py",
        "return out.masked_fill(blind[:, None], 0).transpose(1, 2)",
        "return out.transpose(1, 2)",
        f"{ATTEND}::test_tokens_that_see_nothing_get_exact_zeros",
    ),
    "the index is one token late": (
        f"{PACKAGE}/ops/_visible_ranges.py",
        "first.masked_fill(~sees, 0), last.masked_fill(~sees, -1)\n",
        "first.masked_fill(~sees, 0).roll(1, 1), last.masked_fill(~sees, -1).roll(1, 1)\n",
        "tests/properties/test_media_layout.py::test_mask_is_what_the_oracle_sees",
    ),
    "the gate of the attention is forgotten": (
        f"{PACKAGE}/nn/gated_cross_attention.py",
        "self.attention_gate(attended)",
        "attended",
        f"{BLOCKS}::test_closed_gates_are_the_identity",
    ),
    "the gate of the feed-forward layer is forgotten": (
        f"{PACKAGE}/nn/gated_cross_attention.py",
        "self.feed_forward_gate(dense)",
        "dense",
        f"{BLOCKS}::test_closed_gates_are_the_identity",
    ),
    "the block runs after its layer": (
        f"{PACKAGE}/lm/attach.py",
        "attachment._hook(decoder.layers[index], ",
        "attachment._hook(decoder.layers[min(index + 1, len(decoder.layers) - 1)], ",
        "tests/properties/test_attach.py::test_each_block_runs_right_before_its_layer",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_caught(name, tmp_path):
    """In a copy with the mistake, the named test fails, and for no other reason than a wrong result."""
    path, right, wrong, test = MUTATIONS[name]
    for part in ("src", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    source = (tmp_path / path).read_text()
    assert source.count(right) == 1, f"{path} has changed: say anew how to make this mistake"
    (tmp_path / path).write_text(source.replace(right, wrong))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", test]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "HYPOTHESIS_PROFILE": "ci"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "AssertionError" in done.stdout, done.stdout


def test_contributing_lists_each_mutation():
    """The table for people names every test that catches a mutation."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert all(test.partition("::")[2] in page for *_, test in MUTATIONS.values())
