"""A whole run that may be killed: `python -m tests.training.whole_runs '{"folder": "..."}'`, by torchrun or not.

What is to happen to it stands in the order, a JSON object; `test_killed_runs.py` says what has to come out.
"""

import io
import json
import os
import signal
import sys
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from flamingo_blocks.data import ImageSegment, InterleavedDocument, SpecialTokens, collate
from flamingo_blocks.data.examples import AugmentImages, AugmentText, CaptionExamples, InterleavedExamples
from flamingo_blocks.data.loading import DataSource, Mixture
from flamingo_blocks.data.records import to_members
from flamingo_blocks.data.shards import DocumentShards, Sample, write_shard
from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import (
    Checkpointer,
    Objective,
    StepReport,
    TrainConfig,
    flamingo_loss,
    shard,
    train,
    warmup_hold_decay,
)
from flamingo_blocks.training.ranks.process_group import process_group
from tests.data.build.killed_builds import Points
from tests.training.checkpoint_runs import watch

COLOURS = ("red", "blue", "green", "black", "white", "grey")


class Bytes:
    """A tokenizer whose tokens are bytes."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")


@dataclass(frozen=True)
class Kill:
    """The end of one life of a run.

    Args:
        among: `"loop"` counts losses and steps, `"save"` each operation on files of a save.
        at: At which of them.
        rank: Of the process that dies.
        everyone: Whether all others and `torchrun` die with it.
    """

    among: str
    at: int
    rank: int = 0
    everyone: bool = False


@dataclass(frozen=True)
class Order:
    """What a process is told.

    Args:
        folder: Of the run, and all that it writes; the shards are beside it.
        steps: How many it makes.
        kills: The end of each life; one beyond them lives on.
        life: Number of the first of them.
        term: Step after which `SIGTERM` comes, None for never.
        term_to: Whom it comes to, `"torchrun"` or `"rank"`, which is the last one.
        noise: Whether each rank drops pixels by its own random numbers.
        save_every: Steps from one checkpoint to the next.
    """

    folder: str
    steps: int
    kills: tuple[Kill, ...] = ()
    life: int = 0
    term: int | None = None
    term_to: str = "rank"
    noise: bool = True
    save_every: int = 2


def write_shards(folder: Path) -> None:
    """Two tars of pages and one of pairs, each with its pictures."""
    from PIL import Image

    def png(colour: str) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (12, 12), colour).save(file, "PNG")
        return file.getvalue()

    folder.mkdir(parents=True)
    for number in range(2):
        pages = []
        for page in range(5):
            parts: list[Any] = []
            for k in range(1 + (page + number) % 3):
                colour = COLOURS[(page + k) % len(COLOURS)]
                parts += [f"Page {number}{page} has a {colour} square. ", ImageSegment(data=png(colour))]
            document = InterleavedDocument.from_parts([*parts, "That is all."])
            pages.append(Sample(f"{page:03d}", to_members(document)))
        write_shard(folder / f"pages-{number}.tar", pages)
    pairs = [
        Sample(f"{k:03d}", {"png": png(colour), "txt": f"a {colour} square".encode()})
        for k, colour in enumerate(COLOURS)
    ]
    write_shard(folder / "pairs.tar", pairs)


def mixture_of(folder: Path, preprocess: Any, special: SpecialTokens, **place: int) -> Mixture:
    """Pages and pairs, both augmented."""
    make: dict[str, Any] = {
        "tokenizer": Bytes(), "special": special, "preprocess": preprocess,
        "augment_text": AugmentText(), "augment_images": AugmentImages(),
    }  # fmt: skip
    source = partial(DataSource, collate=partial(collate, pad_id=0), batch_size=4)
    pages, pairs = sorted(folder.glob("pages-*.tar")), folder / "pairs.tar"
    return Mixture(
        [
            source(name="pages", documents=DocumentShards(pages), make=InterleavedExamples(**make, length=32)),
            source(name="pairs", documents=DocumentShards(pairs), make=CaptionExamples(**make, length=24), weight=0.2),
        ],
        seed=7,
        **place,
    )


def make_model() -> nn.Module:
    """A tiny Flamingo with open gates, so that every part of it trains from the first step on."""
    model = build_tiny_flamingo(vocab_size=258)
    for block in model.blocks.values():
        for gate in (block.attention_gate.gate, block.feed_forward_gate.gate):
            nn.init.constant_(gate, 0.3)
    return model


class Life:
    """One life of a process of the run."""

    def __init__(self, order: Order) -> None:
        self.order, self.folder = order, Path(order.folder)
        self.rank, self.world, self.peers = 0, 1, [os.getpid()]
        if "WORLD_SIZE" in os.environ:
            self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
            self.peers = [0] * self.world
            distributed.all_gather_object(self.peers, os.getpid())
        self.number = order.life + int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        kill = order.kills[self.number] if self.number < len(order.kills) else None
        self.kill = kill if kill is not None and kill.rank == self.rank else None
        self.loop = Points(self.die, self._at("loop"))
        if self._at("save") >= 0:
            watch(Points(self.die, self._at("save")))

    def _at(self, among: str) -> int:
        return self.kill.at if self.kill is not None and self.kill.among == among else -1

    def die(self) -> None:
        """At once, and with whom the order says."""
        under_way = bool(list((self.folder / "checkpoints").glob("*.tmp")))
        self.note("killed", {"life": self.number, "rank": self.rank, "under way": under_way})
        assert self.kill is not None
        if self.kill.everyone:
            for process in (os.getppid(), *(peer for peer in self.peers if peer != os.getpid())):
                os.kill(process, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        self.loop.reach("in a step")
        if self.order.noise and batch.pixels is not None:
            batch = replace(batch, pixels=F.dropout(batch.pixels, 0.3))
        return flamingo_loss(model, batch)

    def on_step(self, report: StepReport) -> None:
        if self.rank == 0:
            self.note("steps", {"step": report.step, "losses": dict(report.losses), "grad_norm": report.grad_norm})
        self.loop.reach("after a step")
        if report.step == self.order.term and self.number == 0:
            self.terminate()

    def terminate(self) -> None:
        """Ask for the end, and go on when it is known."""
        if self.order.term_to == "rank":
            if self.rank == self.world - 1:
                signal.raise_signal(signal.SIGTERM)
        elif self.rank == 0:
            came: list[int] = []
            before: Any = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, lambda *of: (came.append(1), before(*of)))
            os.kill(os.getppid(), signal.SIGTERM)
            while not came:
                time.sleep(0.01)
            signal.signal(signal.SIGTERM, before)

    def note(self, name: str, what: dict[str, Any]) -> None:
        """A line of a file, written at once."""
        file = os.open(self.folder / f"{name}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, (json.dumps(what) + "\n").encode())
        os.close(file)


def live(order: Order) -> None:
    """One life: go on from what is there, and say what the run has come to."""
    life, model = Life(order), make_model()
    special = SpecialTokens(media=model.media_token_id, end_of_chunk=model.end_token_id, bos=256, eos=257)
    preprocess = model.vision.preprocess
    if life.world > 1:
        shard(model, mixed_precision=False)
    place = {"rank": life.rank, "world_size": life.world}
    mixture = mixture_of(life.folder.parent / "shards", preprocess, special, **place)
    objectives = [
        Objective(name=name, batches=mixture.batches(name), loss=life.loss, weight=weight)
        for name, weight in mixture.weights.items()
    ]
    result = train(
        TrainConfig(
            model=model, objectives=objectives, steps=order.steps, lr=1e-3, schedule=warmup_hold_decay(warmup=3),
            on_step=life.on_step, data=mixture, checkpointer=Checkpointer(life.folder / "checkpoints"),
            save_every=order.save_every, seed=11,
        )
    )  # fmt: skip
    weights = {name: whole(weight) for name, weight in model.trained_parameters().items()}
    if life.rank == 0:
        torch.save(weights, life.folder / "weights.pt")
        told = {
            "sha256": digest(weights), "first_step": result.first_step, "stopped_by": result.stopped_by,
            "passed_over": result.passed_over, "lives": life.number + 1,
        }  # fmt: skip
        (life.folder / "result.json").write_text(json.dumps(told))
    if life.world > 1:
        distributed.barrier()
    life.note("ended", {"rank": life.rank})


def whole(tensor: Any) -> Tensor:
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def digest(weights: dict[str, Tensor]) -> str:
    return sha256(b"".join(value.numpy().tobytes() for _, value in sorted(weights.items()))).hexdigest()


if __name__ == "__main__":
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    told = json.loads(sys.argv[1])
    with process_group("gloo") if "WORLD_SIZE" in os.environ else nullcontext():
        live(Order(**{**told, "kills": tuple(Kill(**kill) for kill in told.get("kills", ()))}))
