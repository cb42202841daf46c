"""Whole steps of a run: ours through `train`, beside open_flamingo's own loop, and beside the same written by hand.

open_flamingo's side is its `train_one_epoch`, as shipped, around its own `Flamingo`. Both get the same two data sets,
captioned images and interleaved pages, with its weights of them, the same clipping and AdamW, and images in the place
of the vision tower's features, which costs neither anything. As in OpenFlamingo-3B a block stands before each layer,
what is seen is half as wide as the text, and the vocabulary 24 times as large as its width.

What a process of the data side does is left out: rows come with their ids, ours with labels and layout too, for
collating makes them; open_flamingo makes labels in the loop.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.case import OURS, Bar, Case, Contender
from benchmarks.cases import peers
from benchmarks.cases.contenders import Checked, Inputs, agree
from benchmarks.cases.train import (
    MOST_PEAK,
    Setup,
    build_ours,
    our_parts,
    their_parts,
    under_our_parts,
    with_mixin,
    with_our_parts,
)
from flamingo_blocks import Flamingo
from flamingo_blocks.data import FlamingoBatch, SpecialTokens
from flamingo_blocks.training import Objective, TrainConfig, flamingo_loss, make_labels, param_groups, train
from flamingo_blocks.training.optim.optimisers import make_optimizer

STEPS = 2  # of a call; the second is made of what the first has left
STEPS_BY_HAND = 4
WEIGHTS = {"pairs": 0.2, "pages": 1.0}  # those of open_flamingo's runs, in the order of its loop
VOCAB_A_WIDTH = 24
LR, DECAY, MAX_NORM = 1e-4, 0.1, 1.0
MOST_OVERHEAD = 1.02


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """8 and 32 items a row beside open_flamingo's loop, and a step of about a tenth of a second beside one by hand."""
    if importlib.util.find_spec("transformers") is None or dtype == "float16":
        return []  # in float16 the squares of gradients vanish: nobody keeps AdamW's moments in it
    small = Setup(media=3, tokens=4, patches=5, latents=3, dim=16, vision_dim=12, depth=2, vocab=24)
    usual = partial(Setup, vocab=VOCAB_A_WIDTH * Setup.dim, every=1)
    found = [
        _case(f"train/loop/items{media}", small if tiny else usual(media=media), STEPS, _prepare, bars, device, dtype)
        for media, bars in ((media, _bars(media)) for media in MOST_PEAK)
    ]
    least = Bar("a step at most 2 % longer than one by hand", "by_hand", MOST_OVERHEAD, "at_most")
    overhead = "train/loop/overhead"
    setup = small if tiny else usual(media=2)
    return [*found, _case(overhead, setup, STEPS_BY_HAND, _prepare_by_hand, (least,), device, dtype)]


def _bars(media: int) -> tuple[Bar, ...]:
    peak = MOST_PEAK[media]
    return (
        Bar("a step faster than open_flamingo's", "open_flamingo", 1.0, "faster_by"),
        Bar(f"peak memory at most {peak:g}x open_flamingo's", "open_flamingo", peak, "at_most", "peak_bytes"),
    )


def _case(name: str, setup: Setup, steps: int, prepare: Any, bars: tuple[Bar, ...], device: str, dtype: str) -> Case:
    return Case(
        suite="train",
        name=name,
        sizes={**setup.words(), "pairs": 2 * setup.batch, "steps": steps},
        device=device,
        dtype=dtype,
        prepare=partial(prepare, setup, device, dtype),
        check=partial(agree, dtype=dtype, rename=under_our_parts),
        bar=bars,
    )


class Rows:
    """Rows of one data set: text, a tag, text with its end, and so on; refilled in place.

    Args:
        setup: Sizes; the last two ids of the vocabulary are the end of a chunk and the tag.
        rows: How many.
        media: Items of each.
        lead: Tokens before the first tag.
    """

    def __init__(self, setup: Setup, flamingo: Flamingo, *, rows: int, media: int, lead: int, dtype: str) -> None:
        device = next(flamingo.parameters()).device
        self.shape, self.vocab, self.chunk, self.lead = (rows, media), setup.vocab, setup.tokens, lead
        self.pool = Inputs(
            str(device), dtype, way="forward", features=(rows * media, 1, setup.patches, setup.vision_dim)
        )
        self.ids = torch.empty(rows, media * setup.tokens, dtype=torch.long, device=device)
        self.labels = torch.empty_like(self.ids)
        self.fresh(0)
        # Tags stand in the same columns whatever the words are.
        self.layout = flamingo.make_layout(self.ids).prepare()
        self.real = torch.ones_like(self.ids, dtype=torch.bool)

    def fresh(self, seed: int) -> None:
        """Draw words and features anew, and take the labels that open_flamingo's loop takes."""
        self.pool.fresh(seed)
        noise = torch.Generator(self.ids.device).manual_seed(seed)
        media, end = self.vocab - 1, self.vocab - 2
        self.ids.random_(3, end, generator=noise)
        self.ids[:, self.lead :: self.chunk] = media
        self.ids[:, self.lead + self.chunk - 2 :: self.chunk] = end
        special = SpecialTokens(media=media, end_of_chunk=end)
        between = self.lead > 0  # its loop leaves out what is between chunks of pages alone
        self.labels.copy_(
            make_labels(self.ids, special=special, mask_before_first_media=between, mask_between_chunks=between)
        )

    def ours(self) -> FlamingoBatch:
        """As our loop takes them."""
        return FlamingoBatch(
            input_ids=self.ids, attention_mask=self.real, layout=self.layout, labels=self.labels,
            features=self.pool["features"],
        )  # fmt: skip

    def images(self) -> Tensor:
        """The features as images one pixel wide: channels are the features' width, rows are the patches."""
        return self.pool["features"][:, 0].mT[..., None]

    def pairs(self) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As open_flamingo's loop takes captioned images."""
        return self.images(), (self.ids, self.real)

    def pages(self) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """As open_flamingo's loop takes interleaved pages."""
        rows = zip(self.ids[:, None], self.real[:, None], strict=True)
        return self.images().unflatten(0, self.shape), list(rows)


@dataclass
class Run:
    """A model whose weights are set back before each call, the rows it trains on, and what is compared of a call.

    Args:
        module: The model.
        parts: What trains, by the names of the parts.
        sets: Rows by data set.
        steps: Of a call.
    """

    module: nn.Module
    parts: dict[str, nn.Module]
    sets: dict[str, Rows]
    steps: int
    losses: list[Tensor] = field(default_factory=list)
    room: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.trained = {f"{part}|{n}": p for part, each in self.parts.items() for n, p in each.named_parameters()}
        self.weights = list(self.trained.values())
        self.start = [weight.detach().clone() for weight in self.weights]

    def fresh(self, seed: int) -> None:
        """Other rows, the weights of the start, and no gradient.

        The room of the optimiser's moments is taken, and given back when the call begins, which makes its own: so the
        peak is what a step adds to a run under way.
        """
        for number, rows in enumerate(self.sets.values()):
            rows.fresh(len(self.sets) * seed + number)
        for weight in self.weights:
            weight.grad = None
        with torch.no_grad():
            torch._foreach_copy_(self.weights, self.start)
        self.room = [torch.ones_like(weight) for weight in self.weights for _ in range(2)]

    def gradients(self) -> dict[str, Tensor]:
        """Those that are there, after clipping."""
        return {name: weight.grad for name, weight in self.trained.items() if weight.grad is not None}

    def contender(self, name: str, steps: Callable[["Run"], dict[str, Tensor]]) -> Contender:
        """A contender that is held against the others."""

        def run() -> dict[str, Tensor]:
            self.room.clear()
            return steps(self)

        return Checked(name=name, run=run, fresh=self.fresh, function=OURS, module=self.module)


def _our_run(setup: Setup, device: str, dtype: str, steps: int) -> Run:
    flamingo = build_ours(setup).to(device, getattr(torch, dtype)).train()
    make = partial(Rows, setup, flamingo, dtype=dtype)
    sets = {
        "pairs": make(rows=2 * setup.batch, media=1, lead=0),
        "pages": make(rows=setup.batch, media=setup.media, lead=setup.tokens // 4),
    }
    return Run(flamingo, our_parts(flamingo), sets, steps)


def _train(run: Run) -> dict[str, Tensor]:
    objectives = [
        Objective(name=name, batches=[rows.ours()] * run.steps, loss=flamingo_loss, weight=WEIGHTS[name])
        for name, rows in run.sets.items()
    ]
    config = TrainConfig(
        model=run.module, objectives=objectives, steps=run.steps, lr=LR, schedule=lambda _: 1.0, weight_decay=DECAY,
        max_grad_norm=MAX_NORM,
    )  # fmt: skip
    losses = [list(report.losses.values()) for report in train(config).reports]
    return {"loss": torch.tensor(losses), **run.gradients()}


def _prepare(setup: Setup, device: str, dtype: str) -> list[Contender]:
    ours = _our_run(setup, device, dtype, STEPS)
    found = [ours.contender(OURS, _train)]
    if why := peers.missing("open_flamingo"):
        return [*found, Contender.left_out("open_flamingo", why)]
    model = _their_model(setup, ours.module)
    theirs = Run(model, their_parts(model.lang_encoder, model.perceiver), ours.sets, STEPS)
    model.register_forward_hook(lambda _, __, output: theirs.losses.append(output.loss.detach()))
    return [*found, theirs.contender("open_flamingo", _train_one_epoch)]


class _Seen(nn.Module):
    """In the place of a vision tower: what is in the images already."""

    def forward(self, images: Tensor) -> tuple[None, Tensor]:
        return None, images.flatten(2).mT


def _their_model(setup: Setup, ours: Any) -> Any:
    """open_flamingo's whole model with our weights, its language model frozen with its embeddings."""
    build: Any = peers.load_open_flamingo("flamingo").Flamingo
    model = build(
        SimpleNamespace(visual=_Seen()), with_mixin(setup), setup.vocab - 2, setup.vocab - 1, vis_dim=setup.vision_dim,
        cross_attn_every_n_layers=setup.every,
    )  # fmt: skip
    model.perceiver = with_our_parts(model.lang_encoder, setup, ours)
    return model.train()


@dataclass(frozen=True)
class _Loader:
    """As its loop asks for one."""

    batch: Any
    num_batches: int

    def __iter__(self) -> Iterator[Any]:
        return iter([self.batch] * self.num_batches)


def _train_one_epoch(run: Run) -> dict[str, Tensor]:
    """Its loop, silent and without a report, as on any rank but the first, with the options of its training script."""
    vocab, kept = run.sets["pages"].vocab, dict[str, Tensor]()
    optimizer = _their_optimizer(run)
    last = partial(_keep_gradients, run, kept)
    optimizer.register_step_pre_hook(last)
    options = SimpleNamespace(
        precision="fp32", fsdp=False, num_epochs=1, rank=1, gradient_accumulation_steps=1, freeze_lm_embeddings=True,
        loss_multiplier_laion=WEIGHTS["pairs"], loss_multiplier_mmc4=WEIGHTS["pages"], logging_steps=100,
    )  # fmt: skip
    run.losses.clear()
    peers.load_open_flamingo_loop().train_one_epoch(
        args=options, model=run.module, epoch=0, laion_loader=_Loader(run.sets["pairs"].pairs(), run.steps),
        mmc4_loader=_Loader(run.sets["pages"].pages(), run.steps), tokenizer=_Words(vocab), optimizer=optimizer,
        lr_scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0), device_id=run.weights[0].device,
        wandb=None,
    )  # fmt: skip
    return {"loss": torch.stack(run.losses).float().reshape(run.steps, -1), **kept}


@dataclass(frozen=True)
class _Words:
    """What its loop asks of a tokenizer."""

    vocab: int
    pad_token_id: int = 0
    eos_token: str = "</s>"  # noqa: S105 - no secret

    def __call__(self, word: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [self.vocab - 1 if word == "<image>" else self.vocab - 2]}


def _their_optimizer(run: Run) -> torch.optim.Optimizer:
    """As its training script makes it, but for the decay of gates and norms, which we have none of."""
    decayed = {id(w) for n, w in run.trained.items() if n.startswith("block") and w.ndim > 1}
    groups = [
        {"params": [w for w in run.weights if w.requires_grad and (id(w) in decayed) == told], "weight_decay": decay}
        for told, decay in ((True, DECAY), (False, 0.0))
    ]
    return torch.optim.AdamW(groups, lr=LR)


def _keep_gradients(run: Run, kept: dict[str, Tensor], *_: Any) -> None:
    """Before its loop lets go of them; of the last step alone, so that they stand beside no other."""
    if len(run.losses) == run.steps * len(run.sets):
        kept.update(run.gradients())


def _prepare_by_hand(setup: Setup, device: str, dtype: str) -> list[Contender]:
    run = _our_run(setup, device, dtype, STEPS_BY_HAND)
    return [run.contender(OURS, _train), run.contender("by_hand", _by_hand)]


def _by_hand(run: Run) -> dict[str, Tensor]:
    """Forward, backward, clipping and update, and nothing else."""
    optimizer = make_optimizer("adamw", param_groups(run.module, lr=LR, weight_decay=DECAY))
    batches = {name: rows.ours() for name, rows in run.sets.items()}
    losses = []
    for _ in range(run.steps):
        optimizer.zero_grad()
        for name, batch in batches.items():
            loss = flamingo_loss(run.module, batch)
            (loss * WEIGHTS[name]).backward()
            losses.append(loss.detach())
        nn.utils.clip_grad_norm_(run.weights, MAX_NORM)
        optimizer.step()
    return {"loss": torch.stack(losses).float().reshape(run.steps, -1), **run.gradients()}
