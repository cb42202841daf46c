"""Law 12, in cost: what is frozen has no gradient computed for it."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock
from flamingo_blocks.models import PaperLanguageModel

DIM, VOCAB, PATCHES = 24, 50, 9
# Shapes of which no trained weight has one, nor any activation: 2 rows of 17 tokens, 3 items of 9 patches.
FROZEN = {(DIM, DIM), (4 * DIM, DIM), (VOCAB, DIM)}


class Products(TorchDispatchMode):
    """Remembers the shapes of matrix products, those of what is transposed later among them."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and function.name().split(".")[0] in ("aten::mm", "aten::addmm", "aten::bmm"):
            self.shapes += [tuple(result.shape), tuple(result.shape[::-1])]
        return result


def products_of_backward(*, freeze, checkpointed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lm = PaperLanguageModel(vocab_size=VOCAB, dim=DIM, depth=2, num_heads=4)
        block = GatedCrossAttentionBlock(DIM, vision_dim=10, num_heads=2, head_dim=8, ff_mult=3)
        flamingo = Flamingo(
            lm=lm, blocks={0: block}, media_token_id=VOCAB, num_new_tokens=1, freeze=freeze, resampler=nn.Linear(10, 10)
        )  # fmt: skip
    nn.init.ones_(block.attention_gate.gate)
    flamingo.train().checkpoint_activations(enabled=checkpointed)
    ids = torch.arange(34).reshape(2, 17)
    ids[0, 3], ids[1, 5], ids[1, 9] = VOCAB, VOCAB, VOCAB
    loss = flamingo(ids, features=torch.ones(3, 1, PATCHES, 10), labels=ids).loss
    with Products() as products:
        loss.backward()
    return set(products.shapes)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_no_gradient_of_a_frozen_weight_is_computed(checkpointed):
    """Backward holds no product of the shape of a frozen weight: neither in the layers nor in the head."""
    assert not products_of_backward(freeze=True, checkpointed=checkpointed) & FROZEN
    trained = products_of_backward(freeze=False, checkpointed=checkpointed)
    assert {(DIM, DIM), (4 * DIM, DIM)} <= trained
