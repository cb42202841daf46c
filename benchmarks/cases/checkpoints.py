"""The pause that a save makes in a run: copying what trains, beside writing it."""

import shutil
import tempfile
import weakref
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import torch
from torch import nn

from benchmarks.case import OURS, Bar, Case, Contender
from flamingo_blocks.nn import GatedCrossAttentionBlock
from flamingo_blocks.training.checkpoints import Checkpointer

DIM = 256
CHECK_SEED = 1


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """Gated blocks with AdamW, as they train: in float32."""
    if dtype != "float32":
        return []
    dim, depth = (16, 1) if tiny else (DIM, 4)
    return [
        Case(
            suite="checkpoints", name=f"checkpoints/pause/dim{DIM}", sizes={"dim": dim, "blocks": depth},
            device=device, dtype=dtype, prepare=partial(_prepare, dim, depth, device), check=_check,
            bar=(Bar("a pause of at most 0.5x that of a save without a thread", "blocking", 0.5, "at_most"),),
        )
    ]  # fmt: skip


@dataclass
class _Run:
    """A model after an update, and a folder that is gone when nobody saves into it any more."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    asynchronous: bool
    folder: str = field(default_factory=tempfile.mkdtemp)

    def __post_init__(self) -> None:
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.checkpoints = Checkpointer(self.folder, keep_last=1, asynchronous=self.asynchronous, max_failures=1)
        self.steps = count()

    def fresh(self, seed: int) -> None:
        """Other weights; and the save before is on the disk, for its end is not part of the next pause."""
        self.checkpoints.wait()
        noise = torch.Generator(next(self.model.parameters()).device).manual_seed(seed)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.normal_(generator=noise)

    def save(self) -> "_Run":
        """Save the next step."""
        self.checkpoints.save(next(self.steps), self.model, self.optimizer)
        return self


def _prepare(dim: int, depth: int, device: str) -> list[Contender]:
    """The same weights saved in both ways."""
    model = nn.ModuleList(GatedCrossAttentionBlock(dim, vision_dim=dim, num_heads=4) for _ in range(depth)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    runs = {OURS: _Run(model, optimizer, asynchronous=True), "blocking": _Run(model, optimizer, asynchronous=False)}
    return [Contender(name, run.save, run.fresh) for name, run in runs.items()]


def _check(contenders: list[Contender]) -> None:
    """What was saved is what stood when it was called."""
    for contender in contenders:
        contender.fresh(CHECK_SEED)
        run: _Run = contender.run()
        before = {name: value.clone() for name, value in run.model.state_dict().items()}
        with torch.no_grad():
            for parameter in run.model.parameters():
                parameter.zero_()
        run.checkpoints.load(run.model, run.optimizer)
        if not all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items()):
            raise AssertionError(f"{contender.name} saved other weights than stood there")
