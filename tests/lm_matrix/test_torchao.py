"""A frozen language model with torchao's weights in eight bits, which trains blocks as any other does."""

import pytest
import torch

from flamingo_blocks.testing import check_language_model
from tests.flamingos import EXAMPLE_ROWS, make_batch, make_flamingo
from tests.language_models import make_language_model

pytestmark = pytest.mark.adapters


def in_eight_bits(name: str):
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    lm = make_language_model(name).requires_grad_(False)
    quantize_(lm, Int8WeightOnlyConfig(version=2))
    return lm


@pytest.mark.parametrize("name", ["llama", "opt", "qwen3"])
def test_the_suite_takes_it(name):
    """Only the loss makes all logits at once, for the head is no matrix of floats."""
    report = check_language_model(in_eight_bits(name))
    assert {check for check in report.holds if not report.can(check)} <= {"loss in pieces"}


def test_blocks_and_new_tokens_train():
    """One step behind the quantised model moves them, and the loss is near that of the exact model."""
    batch = make_batch(EXAMPLE_ROWS, 0, dtype=torch.float32)
    losses = []
    for lm in (make_language_model("llama"), in_eight_bits("llama")):
        flamingo = make_flamingo("llama").float()
        parts = {part: getattr(flamingo, part) for part in ("resampler", "vision", "media_token_id", "num_new_tokens")}
        blocks = {int(index): block for index, block in flamingo.blocks.items()}
        flamingo = type(flamingo)(lm=lm, blocks=blocks, **parts)
        loss = flamingo(**batch.arguments(), labels=batch.input_ids).loss
        loss.backward()
        assert all(weight.grad is not None for weight in flamingo.trained_parameters().values())
        losses.append(loss.detach())
    torch.testing.assert_close(*losses, atol=0.1, rtol=0.0)


def test_the_page_shows_it(tmp_path, monkeypatch):
    """The blocks of the page up to the one with torchao, from top to bottom."""
    import re
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "how-to" / "bring-your-lm.md"
    blocks = re.findall(r"^```(python|\{\.python \.quantised\})\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    last = next(index for index, (kind, _) in enumerate(blocks) if kind != "python")
    namespace: dict[str, object] = {}
    for _, code in blocks[: last + 1]:
        exec(compile(code, str(page), "exec"), namespace)
