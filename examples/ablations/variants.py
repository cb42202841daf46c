"""What the ablations change: the demo's Flamingo, and others that differ from it in one thing."""

import copy
from dataclasses import dataclass
from typing import Literal

from torch import nn

from flamingo_blocks.demo.language_model import TinyDecoder
from flamingo_blocks.demo.model import Updates, build_flamingo
from flamingo_blocks.demo.parts import Parts, seeded
from flamingo_blocks.models import Flamingo
from flamingo_blocks.types import Scope


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A Flamingo and how it is trained; the defaults are the demo's.

    Args:
        title: Stands in the table.
        paper: Overall score of the paper's row (tables 3 and 10): the mean over five benchmarks, in percent of what
            the best fine-tuned models reached.
        gated: Whether updates pass a tanh gate that starts at 0, or are added as they are.
        scope: Which images a token sees: the latest, or all so far.
        updates: An update for the gradients of both data sets together, or for one data set in turn.
        steps: Updates, in units of the baseline's.
        lm: Whether the language model is frozen, trained on from what it learnt from text, or from random weights.
        every: 2 for a block before the first of every two layers.
        resampler: Attention from learned latents, or a multi-layer perceptron over all patches.
    """

    title: str
    paper: float | None
    gated: bool = True
    scope: Scope = "last"
    updates: Updates = "accumulate"
    steps: int = 1
    lm: Literal["frozen", "trained", "from_scratch"] = "frozen"
    every: int = 1
    resampler: Literal["perceiver", "mlp"] = "perceiver"


VARIANTS = {
    "baseline": Variant(title="nothing: the demo", paper=70.7),
    "no_gate": Variant(title="no tanh gates", paper=66.5, gated=False),
    "all_previous": Variant(title="a token sees all previous images", paper=63.5, scope="all"),
    "round_robin": Variant(title="round-robin, the same batches", paper=62.9, updates="round_robin", steps=2),
    "round_robin_short": Variant(title="round-robin, the same updates", paper=None, updates="round_robin"),
    "lm_trained": Variant(title="language model trained on", paper=62.7, lm="trained"),
    "lm_from_scratch": Variant(title="language model from random weights", paper=57.8, lm="from_scratch"),
    "every_second": Variant(title="a block before every second layer", paper=68.2, every=2),
    "mlp": Variant(title="MLP in place of the resampler", paper=66.6, resampler="mlp"),
}


def build(variant: Variant, parts: Parts, *, seed: int) -> Flamingo:
    """The Flamingo of a variant, around copies of the frozen parts; what it shares with the demo's has its weights.

    Args:
        variant: What to change.
        parts: Tower and language model, trained each on its own.
        seed: Decides the new weights.

    Returns:
        It, to be trained.
    """
    tower, lm = copy.deepcopy(parts.tower), copy.deepcopy(parts.lm)
    if variant.lm == "from_scratch":
        with seeded(seed + 1):
            lm = TinyDecoder(**lm.config)
    with seeded(seed):
        flamingo = build_flamingo(tower, lm, parts.vocabulary, scope=variant.scope, every=variant.every)
        if variant.resampler == "mlp":
            flamingo.resampler = mlp_resampler(patches=parts.training.features.shape[-2], dim=tower.dim)
    if not variant.gated:
        take_gates_away(flamingo)
    if variant.lm != "frozen":
        lm.requires_grad_(requires_grad=True)
    return flamingo


def take_gates_away(flamingo: Flamingo) -> None:
    """Let the blocks add their updates as they are, from the first step on."""
    for block in flamingo.blocks.values():
        block.attention_gate = block.feed_forward_gate = nn.Identity()


def mlp_resampler(*, patches: int, dim: int, num_latents: int = 4, hidden_dim: int = 26) -> nn.Module:
    """All patches of an image in, media tokens out, by a perceptron with about as many weights as the resampler."""
    return nn.Sequential(
        nn.Flatten(1),  # items frames patches dim -> items (frames patches dim)
        nn.Linear(patches * dim, hidden_dim),
        nn.GELU(),
        nn.Linear(hidden_dim, num_latents * dim),
        nn.Unflatten(1, (num_latents, dim)),  # items latents dim
        nn.LayerNorm(dim),
    )


def count_trained(flamingo: Flamingo) -> dict[str, int]:
    """How many numbers are trained, in all and of the resampler."""
    assert flamingo.resampler is not None

    def count(module: nn.Module) -> int:
        return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)

    return {"all": count(flamingo), "resampler": count(flamingo.resampler)}
