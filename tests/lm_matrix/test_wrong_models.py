"""What the check of a language model says about what it cannot look at."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock
from flamingo_blocks.errors import ConformanceError
from flamingo_blocks.lm import attach
from flamingo_blocks.models import PaperLanguageModel, build_tiny_flamingo
from flamingo_blocks.testing import check_language_model

pytestmark = pytest.mark.usefixtures("without_shape_checks")


class Gives(nn.Module):
    """A decoder that wraps its logits."""

    def __init__(self, wrap):
        super().__init__()
        self.inner = PaperLanguageModel(vocab_size=20, dim=16, depth=2, num_heads=2)
        self.wrap = wrap

    def forward(self, input_ids, attention_mask=None):
        return self.wrap(self.inner(input_ids, attention_mask=attention_mask))


WRAPS = {
    "tuple": lambda logits: (logits, None),
    "dict": lambda logits: {"logits": logits},
    "SimpleNamespace": lambda logits: SimpleNamespace(scores=logits),
}


@pytest.mark.parametrize("kind", WRAPS)
def test_a_model_gives_logits(kind):
    """Or an object that has them."""
    with pytest.raises(ConformanceError, match=rf"Gives gives a {kind}, wanted logits \[batch text vocab\], or an obj"):
        check_language_model(Gives(WRAPS[kind]))


def test_logits_have_three_axes():
    """One row of scores for each token."""
    with pytest.raises(ConformanceError, match=r"Gives gives a tensor of shape \[1, 20\], wanted logits"):
        check_language_model(Gives(lambda logits: logits[:, -1]))


def test_a_flamingo_around_such_a_model_says_so_too():
    """At its first call, for nothing runs before."""
    lm = Gives(WRAPS["tuple"])
    block = GatedCrossAttentionBlock(16, vision_dim=8, num_heads=2)
    with pytest.raises(ValueError, match="Gives gives a tuple, wanted logits"):
        Flamingo(lm=lm, blocks={0: block}, media_token_id=9)(torch.tensor([[1, 2]]))


@pytest.mark.parametrize("lm", ["gpt2", lambda ids: ids])
def test_what_is_no_module_is_told(lm):
    """A name, or a function."""
    with pytest.raises(ConformanceError, match="lm is a (str|function), wanted a module"):
        check_language_model(lm)


def test_a_model_with_blocks_is_told():
    """They stay as they are."""
    lm = PaperLanguageModel(vocab_size=20, dim=16, depth=2, num_heads=2)
    attachment = attach(lm, {1: GatedCrossAttentionBlock(16, vision_dim=8, num_heads=2)})
    with pytest.raises(ConformanceError, match=r"PaperLanguageModel has blocks attached, wanted .* call detach\(\)"):
        check_language_model(lm)
    assert attachment.attached
    with pytest.raises(ConformanceError, match=r"lm is a Flamingo, wanted .*: flamingo.detach\(\) gives it back"):
        check_language_model(build_tiny_flamingo())
