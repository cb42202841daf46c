"""A language model under test: what was seen of it, and texts and blocks that fit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.errors import ConformanceError
from flamingo_blocks.lm.attach import has_block
from flamingo_blocks.lm.find_layers import find_decoder_layers
from flamingo_blocks.lm.find_text import find_text
from flamingo_blocks.models.call_language_model import accepts, logits_of
from flamingo_blocks.models.flamingo import Flamingo
from flamingo_blocks.nn.gated_cross_attention import GatedCrossAttentionBlock

MEDIA_DIM, LATENTS = 8, 2
# Two rows: words (.) and media tags (T); three items in all.
ROWS = (".T..T...", "...T....")


class Wrong(Exception):  # noqa: N818 - never leaves this package
    """The model computes something else than it should."""


@dataclass(frozen=True)
class Subject:
    """What the checks need to know.

    Args:
        lm: The language model, in eval mode.
        layers: Dotted name of its layers.
        names: Dotted names of layers, embedding and head where the caller gave them.
        sizes: Root mean square of what enters each layer, so that blocks of that size are felt.
        dim: Width of what enters.
        vocab: How many ids the texts are drawn from.
        device: Where ids belong.
        bound: Largest difference that is rounding.
    """

    lm: nn.Module
    layers: str
    names: dict[str, Any]
    sizes: list[float]
    dim: int
    vocab: int
    device: torch.device
    bound: float

    @property
    def tag(self) -> int:
        """The id that stands for a media tag; no word of a text."""
        return self.vocab - 1

    @property
    def takes_mask(self) -> bool:
        """Whether pads can be told to the model."""
        return accepts(self.lm, "attention_mask")

    def texts(self, rows: tuple[str, ...] = ROWS, seed: int = 0) -> Tensor:
        """Ids of texts as drawn: a dot is a word, T a tag."""
        noise = torch.Generator().manual_seed(seed)
        words = torch.randint(0, self.tag, (len(rows), len(rows[0])), generator=noise)
        tags = torch.tensor([[kind == "T" for kind in row] for row in rows])
        return words.masked_fill(tags, self.tag).to(self.device)

    def items(self, number: int, seed: int = 0) -> Tensor:
        """Media tokens."""
        return torch.randn(number, LATENTS, MEDIA_DIM, generator=torch.Generator().manual_seed(seed)).to(self.device)

    @contextmanager
    def flamingo(self, *, closed: bool = False, **options: Any) -> Iterator[Flamingo]:
        """The model with a block before every layer; afterwards it has none again."""
        found = find_decoder_layers(self.lm, self.names["layers"]).layers
        blocks = {
            index: _block(self.dim, size, layer, closed=closed, seed=index)
            for index, (size, layer) in enumerate(zip(self.sizes, found, strict=True))
        }
        modes = [(part, part.training) for part in self.lm.modules()]
        arguments = {"media_token_id": self.tag, "freeze": False, **self.names, **options}
        flamingo = Flamingo(lm=self.lm, blocks=blocks, **arguments).eval()
        try:
            yield flamingo
        finally:
            flamingo.detach()
            for part, mode in modes:
                part.training = mode

    def same(self, actual: Tensor, expected: Tensor, what: str) -> None:
        """Fail unless two tensors of logits differ by rounding only."""
        error = difference(actual, expected)
        if not error <= self.bound:  # NaN is a difference
            raise Wrong(f"{what}: the logits differ by {error:.1e} of their size, bound {self.bound:.0e}")

    def differ(self, actual: Tensor, expected: Tensor, what: str) -> None:
        """Fail if two tensors of logits differ by rounding only."""
        error = difference(actual, expected)
        if error <= self.bound:
            raise Wrong(f"{what}: the logits change by {error:.1e} of their size only, bound {self.bound:.0e}")


def difference(actual: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest logit."""
    if actual.shape != expected.shape:
        raise Wrong(f"logits have shape {tuple(actual.shape)}, wanted {tuple(expected.shape)}")
    actual, expected = actual.detach().cpu().double(), expected.detach().cpu().double()
    return float((actual - expected).abs().max() / expected.abs().max().clamp(min=1e-6)) if expected.numel() else 0.0


@torch.no_grad()
def look_at(lm: nn.Module, *, bound: float | None, **names: Any) -> Subject:
    """Run a short text and see what passes through the layers.

    Raises:
        LayersNotFoundError: If the layers cannot be found.
        ConformanceError: If they are not called one after the other, once each, have blocks already, or the model gives
            no logits.
    """
    found = find_decoder_layers(lm, names["layers"])
    if any(has_block(layer) for layer in found.layers):
        raise ConformanceError(
            f"{type(lm).__name__} has blocks attached, wanted a language model without; call detach() first"
        )
    seen: list[tuple[int, Tensor]] = []
    handles = [
        layer.register_forward_pre_hook(
            lambda layer, args, kwargs, index=index: seen.append((index, find_text(layer, args, kwargs)[0])),
            with_kwargs=True,
        )
        for index, layer in enumerate(found.layers)
    ]
    weight = next(p for p in lm.parameters() if p.is_floating_point())
    device = torch.device("cpu") if weight.is_meta else weight.device
    try:
        output = lm(torch.tensor([[2, 1, 3]], device=device))
    finally:
        for handle in handles:
            handle.remove()
    try:
        logits = logits_of(output, lm)
    except ValueError as error:
        raise ConformanceError(str(error)) from error
    order = [index for index, _ in seen]
    if order != list(range(len(found.layers))):
        raise ConformanceError(
            f"{type(lm).__name__} calls its layers {found.name!r} in the order {order}, wanted each of the "
            f"{len(found.layers)} once, one after the other; if other layers are meant, pass layers="
        )
    if bound is None:
        bound = 1e-4 if weight.dtype in (torch.float32, torch.float64) else 3e-2
    sizes = [float(hidden.float().square().mean().sqrt()) for _, hidden in seen]
    return Subject(
        lm, found.name, names, sizes, seen[0][1].shape[-1], min(logits.shape[-1], 64), device, bound
    )  # fmt: skip


def _block(dim: int, size: float, layer: nn.Module, *, closed: bool, seed: int) -> GatedCrossAttentionBlock:
    """A block whose update is as large as what enters the layer, on the layer's device."""
    block = GatedCrossAttentionBlock(dim, vision_dim=MEDIA_DIM, num_heads=2, head_dim=8, hidden_dim=16)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for linear in (part for part in block.modules() if isinstance(part, nn.Linear)):
            linear.weight.normal_(std=linear.in_features**-0.5, generator=noise)
        for last in (block.attention.o_proj, block.feed_forward.down_proj):
            last.weight.mul_(max(size, 1e-3))
        for gate in (block.attention_gate.gate, block.feed_forward_gate.gate):
            gate.fill_(0.0 if closed else 0.6)
    weight = next((p for p in layer.parameters() if p.is_floating_point()), block.attention_gate.gate)
    block = block.double() if weight.dtype == torch.float64 else block
    return block if weight.is_meta else block.to(weight.device)
