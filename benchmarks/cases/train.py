"""A training step of a small Flamingo, beside open_flamingo's own mixin around the same language model."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
    checkpoint_wrapper,
)

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases import peers
from benchmarks.cases.contenders import Checked, Inputs, agree
from benchmarks.cases.evaluation import tiny_llama
from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler

MOST_PEAK = {8: 0.7, 32: 0.4}  # by items a row, without activation checkpointing
MOST_QUICK_MEDIA = 8  # with activation checkpointing, of which one size is enough for a short run


@dataclass(frozen=True)
class Setup:
    """Rows of text with images, and a small model for them.

    open_flamingo puts its blocks before layers `every` - 1, 2 * `every` - 1, ..., and so do we here.
    """

    media: int
    batch: int = 2
    tokens: int = 16
    patches: int = 64
    latents: int = 64
    dim: int = 256
    vision_dim: int = 128
    depth: int = 4
    every: int = 2
    vocab: int = 1024
    checkpointing: bool = False

    @property
    def text(self) -> int:
        """Tokens of a row."""
        return self.media * self.tokens

    def words(self) -> dict[str, int]:
        """Axis words to sizes."""
        names = ("batch", "text", "media", "patches", "latents", "dim", "vision_dim", "vocab")
        return {**{name: getattr(self, name) for name in names}, "items": self.batch * self.media}


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """8 and 32 items a row, with and without activation checkpointing. The language model is one of transformers'."""
    if importlib.util.find_spec("transformers") is None:
        return []
    found = []
    for checkpointing in (False, True):
        for media in (8, 32):
            setup = Setup(media=media, checkpointing=checkpointing)
            bars = _bars(setup)
            if tiny:
                setup = Setup(
                    media=3, tokens=4, patches=5, latents=3, dim=16, vision_dim=12, depth=2, vocab=24,
                    checkpointing=checkpointing,
                )  # fmt: skip
            label = "checkpointed" if checkpointing else "plain"
            found.append(_case(f"train/step/{label}/items{media}", setup, bars, device, dtype))
    return found


def _case(name: str, setup: Setup, bars: tuple[Bar, ...], device: str, dtype: str) -> Case:
    return Case(
        suite="train",
        name=name,
        sizes=setup.words(),
        device=device,
        dtype=dtype,
        prepare=partial(_prepare, setup, device, dtype),
        check=partial(agree, dtype=dtype, rename=under_our_parts),
        bar=bars,
        quick=device == "cuda" or not (setup.checkpointing and setup.media > MOST_QUICK_MEDIA),
    )


def _bars(setup: Setup) -> tuple[Bar, ...]:
    faster = Bar("a training step faster than open_flamingo's", "open_flamingo", 1.0, "faster_by")
    if setup.checkpointing:
        return (faster,)
    ratio = MOST_PEAK[setup.media]
    leaner = f"peak memory at most {ratio:g}x open_flamingo's"
    return faster, Bar(leaner, "open_flamingo", ratio, "at_most", "peak_bytes")


@dataclass(frozen=True)
class Batch:
    """Token ids with a tag at each item's first token, and the features of the items."""

    setup: Setup
    ids: Tensor
    inputs: Inputs

    def fresh(self, seed: int) -> None:
        """Draw words and features anew."""
        self.inputs.fresh(seed)
        noise = torch.Generator(self.ids.device).manual_seed(seed)
        self.ids.random_(3, self.setup.vocab - 1, generator=noise)
        self.ids[:, :: self.setup.tokens] = self.setup.vocab - 1


def _prepare(setup: Setup, device: str, dtype: str) -> list[Contender]:
    shape = (setup.batch * setup.media, 1, setup.patches, setup.vision_dim)
    ids = torch.empty(setup.batch, setup.text, dtype=torch.long, device=device)
    batch = Batch(setup, ids, Inputs(device, dtype, way="forward", features=shape))
    flamingo = build_ours(setup).to(device, getattr(torch, dtype)).train()

    def our_loss() -> Tensor:
        loss = flamingo(batch.ids, features=batch.inputs["features"], labels=batch.ids).loss
        assert loss is not None
        return loss

    found: list[Contender] = [_step(OURS, our_loss, flamingo, our_parts(flamingo), batch)]
    if why := peers.missing("open_flamingo"):
        return [*found, Contender.left_out("open_flamingo", why)]
    lm, resampler = _open_flamingo(setup, flamingo)
    their_loss = partial(_their_loss, lm, resampler, batch)
    return [*found, _step("open_flamingo", their_loss, lm, their_parts(lm, resampler), batch)]


def _step(name: str, loss_of: Any, module: nn.Module, parts: Mapping[str, nn.Module], batch: Batch) -> Contender:
    """Forward, backward, AdamW.

    Weights and moments are set back before each call, so that all calls do the same, and the gradients of the call
    before are let go: freed within a call, they would hide as much of its peak.
    """
    trained = {f"{part}|{n}": p for part, module in parts.items() for n, p in module.named_parameters()}
    weights = list(trained.values())
    start = [p.detach().clone() for p in weights]
    optimiser = torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.1)

    def fresh(seed: int) -> None:
        batch.fresh(seed)
        optimiser.zero_grad()
        with torch.no_grad():
            torch._foreach_copy_(weights, start)
            for state in optimiser.state.values():
                for moment in state.values():
                    moment.zero_()

    def run() -> dict[str, Tensor]:
        loss = loss_of()
        loss.backward()
        optimiser.step()
        gradients = {n: p.grad for n, p in trained.items() if p.grad is not None}
        return {"loss": loss.detach(), **gradients}

    return Checked(name=name, run=run, fresh=fresh, function=OURS, module=module)


def under_our_parts(results: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A peer's gradients under our names, part by part."""
    renamed: dict[str, Tensor] = {}
    for name, value in results.items():
        part, _, inside = name.partition("|")
        own = peers.under_our_names({inside: value}) if inside else {"": value}
        renamed.update({f"{part}|{n}": v for n, v in own.items()})
    return renamed


def build_ours(setup: Setup) -> Flamingo:
    """A Flamingo with open_flamingo's sizes: eight heads of 64 at any width, everywhere."""
    lm = tiny_llama(dim=setup.dim, depth=setup.depth, vocab=setup.vocab)
    resampler = PerceiverResampler(
        vision_dim=setup.vision_dim, dim=setup.vision_dim, num_latents=setup.latents, depth=2, num_heads=8, head_dim=64,
        max_frames=0, activation="gelu", final_norm=True,
    )  # fmt: skip
    blocks = {
        layer: GatedCrossAttentionBlock(
            setup.dim, vision_dim=setup.vision_dim, num_heads=8, head_dim=64, activation="gelu", media_norm=False
        )
        for layer in range(setup.every - 1, setup.depth, setup.every)
    }
    for part in (resampler, *blocks.values()):
        peers.draw_weights(part)
    flamingo = Flamingo(lm=lm, blocks=blocks, resampler=resampler, media_token_id=setup.vocab - 1)
    flamingo.checkpoint_activations(enabled=setup.checkpointing)
    return flamingo


def our_parts(flamingo: Flamingo) -> dict[str, nn.Module]:
    """What trains, by the names of the parts."""
    assert flamingo.resampler is not None
    return {"resampler": flamingo.resampler, **{f"block{layer}": block for layer, block in flamingo.blocks.items()}}


def _open_flamingo(setup: Setup, ours: Flamingo) -> tuple[Any, nn.Module]:
    """The language model with its mixin, and its resampler, all with our weights and the language model frozen."""
    lm = with_mixin(setup)
    lm.init_flamingo(
        media_token_id=setup.vocab - 1, lang_hidden_size=setup.dim, vis_hidden_size=setup.vision_dim,
        cross_attn_every_n_layers=setup.every, gradient_checkpointing=setup.checkpointing,
    )  # fmt: skip
    resampler: Any = with_our_parts(lm, setup, ours)
    if setup.checkpointing:  # as its training script does, without moving activations to the host
        resampler._use_gradient_checkpointing = True  # noqa: SLF001 (its own flag)
        holder = nn.ModuleDict({"lm": lm, "resampler": resampler})
        chosen = lambda part: getattr(part, "_use_gradient_checkpointing", False)  # noqa: E731
        apply_activation_checkpointing(holder, checkpoint_wrapper_fn=checkpoint_wrapper, check_fn=chosen)
        resampler = holder["resampler"]
    return lm.train(), resampler


def with_mixin(setup: Setup) -> Any:
    """The language model as open_flamingo makes it its own."""
    lm: Any = tiny_llama(dim=setup.dim, depth=setup.depth, vocab=setup.vocab)
    peers.load_open_flamingo("utils").extend_instance(lm, peers.load_open_flamingo("flamingo_lm").FlamingoLMMixin)
    lm.set_decoder_layers_attr_name("model.layers")
    return lm


def with_our_parts(lm: Any, setup: Setup, ours: Flamingo) -> nn.Module:
    """Give their blocks in a language model our weights, freeze the rest of it, and make their resampler likewise."""
    some = next(ours.parameters())
    lm.to(some.device, some.dtype).requires_grad_(False)
    for layer, block in ours.blocks.items():
        peers.with_our_weights(lm.gated_cross_attn_layers[int(layer)], block).requires_grad_(True)
    build: Any = peers.load_open_flamingo().PerceiverResampler
    resampler: nn.Module = build(dim=setup.vision_dim, depth=2, num_latents=setup.latents)
    assert ours.resampler is not None
    return peers.with_our_weights(resampler, ours.resampler)


def their_parts(lm: Any, resampler: nn.Module) -> dict[str, nn.Module]:
    """The same of open_flamingo's."""
    blocks = enumerate(lm.gated_cross_attn_layers)
    return {"resampler": resampler, **{f"block{layer}": block for layer, block in blocks if block is not None}}


def _their_loss(lm: Any, resampler: nn.Module, batch: Batch) -> Tensor:
    """What its `Flamingo.forward` does behind the vision encoder."""
    setup, features = batch.setup, batch.inputs["features"]
    media = resampler(features.unflatten(0, (setup.batch, setup.media)))
    for layer in lm._get_decoder_layers():  # noqa: SLF001 (its own way)
        layer.condition_vis_x(media)
    labels = batch.ids.masked_fill(batch.ids == setup.vocab - 1, -100)
    loss: Tensor = lm(batch.ids, torch.ones_like(batch.ids), labels=labels).loss
    return loss
