"""The loss of a large vocabulary, chunk by chunk, beside all logits at once and beside torch's own function."""

from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases import peers
from benchmarks.cases.contenders import Inputs, agree, contender
from benchmarks.cases.work import least_bytes
from flamingo_blocks.ops.linear_cross_entropy import linear_cross_entropy

WAY = "forward+backward"


@dataclass(frozen=True)
class Head:
    """Sizes of an output projection and of what goes into it."""

    text: int
    dim: int
    vocab: int
    trained: bool

    def words(self) -> dict[str, int]:
        """Axis words to sizes."""
        return {"text": self.text, "dim": self.dim, "vocab": self.vocab}

    def flops(self) -> int:
        """Logits, the gradient of the hidden states, and the weight's where it trains."""
        return (3 if self.trained else 2) * 2 * self.text * self.dim * self.vocab


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """A vocabulary of 32k, its head frozen (as in a Flamingo) and trained."""
    text, dim = (16384, 4096) if device == "cuda" else (2048, 128)
    heads = (Head(text=text, dim=dim, vocab=32000, trained=trained) for trained in (False, True))
    return [_case(replace(head, text=9, dim=8, vocab=40) if tiny else head, device, dtype) for head in heads]


def _case(head: Head, device: str, dtype: str) -> Case:
    moved = (head.text * head.dim, head.dim * head.vocab)
    return Case(
        suite="loss",
        name=f"loss/{WAY}/vocab32k/{'trained' if head.trained else 'frozen'}-head",
        sizes=head.words(),
        device=device,
        dtype=dtype,
        prepare=partial(_prepare, head, device, dtype),
        check=partial(agree, dtype=dtype, rename=dict),
        flops=head.flops(),
        bytes=least_bytes(moved, itemsize=getattr(torch, dtype).itemsize, way=WAY),
        bar=(
            Bar("peak memory at most 0.4x that of all logits at once", "all_logits", 0.4, "at_most", "peak_bytes"),
            Bar("at most 1.1x the time of all logits at once", "all_logits", 1.1, "at_most"),
        ),
    )


def _prepare(head: Head, device: str, dtype: str) -> list[Contender]:
    inputs = Inputs(device, dtype, way=WAY, hidden=(head.text, head.dim))
    labels = torch.empty(head.text, dtype=torch.long, device=device)
    project = nn.Linear(head.dim, head.vocab, bias=False)
    peers.draw_weights(project)
    project.to(device, getattr(torch, dtype)).requires_grad_(head.trained)

    def fresh(seed: int) -> None:
        inputs.fresh(seed)
        labels.random_(0, head.vocab, generator=torch.Generator(device).manual_seed(seed))

    def ours() -> Tensor:
        loss: Tensor = linear_cross_entropy(inputs["hidden"], project.weight, labels)
        return loss.to(inputs.dtype)

    def all_logits() -> Tensor:
        logits = project(inputs["hidden"])
        return F.cross_entropy(logits.float(), labels).to(inputs.dtype)

    def torchs() -> Tensor:
        loss: Tensor = F.linear_cross_entropy(inputs["hidden"], project.weight, labels)
        return loss.to(inputs.dtype)

    add = partial(contender, inputs=inputs, module=project, way=WAY, shapes=[()], function=OURS)
    calls = {OURS: ours, "all_logits": all_logits} | ({"torch": torchs} if hasattr(F, "linear_cross_entropy") else {})
    found: list[Contender] = [replace(add(name, call), fresh=fresh) for name, call in calls.items()]
    missing = Contender.left_out("torch", "this torch has no linear_cross_entropy")
    return found if "torch" in calls else [*found, missing]
