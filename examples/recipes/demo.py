"""The few-shot demo as a run: its parts are made once, its steps are saved, and a killed run goes on.

    flamingo-blocks train examples/recipes/demo.py seed=1

`flamingo-blocks demo` does the same in one go, asks more questions and draws the curve.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from flamingo_blocks import Flamingo
from flamingo_blocks.data import FlamingoBatch
from flamingo_blocks.data.loading import data_parallel_rank
from flamingo_blocks.demo.episodes import EpisodeSource, Texts, draw_captions
from flamingo_blocks.demo.images import SEEN_PAIRS
from flamingo_blocks.demo.language_model import TinyDecoder
from flamingo_blocks.demo.measure import naming_curves
from flamingo_blocks.demo.model import build_flamingo, to_batch
from flamingo_blocks.demo.parts import Parts, prepare_parts, seeded
from flamingo_blocks.demo.progress import Stopwatch
from flamingo_blocks.demo.rows import UNSEEN_FIVE
from flamingo_blocks.demo.tower import DigitTower
from flamingo_blocks.demo.words import NAMES_BESIDE_IMAGES, demo_vocabulary
from flamingo_blocks.training import (
    BatchShape,
    Feed,
    FewShotScore,
    Objective,
    RunConfig,
    flamingo_loss,
    warmup_hold_decay,
)

ROWS = 32
SHAPES = {"naming": BatchShape(rows=ROWS, text=64, items=9), "captions": BatchShape(rows=ROWS, text=8)}


def recipe(
    *,
    folder: Path = Path("runs/demo-run"),
    steps: int = 400,
    lr: float = 6e-3,
    updates: Literal["accumulate", "round_robin"] = "accumulate",
    tower_steps: int = 300,
    lm_steps: int = 350,
    score_every: int = 100,
    episodes: int = 200,
    save_every: int = 100,
    seed: int = 0,
) -> RunConfig:
    """The few-shot demo: made-up names for images, in context; as long as `flamingo-blocks demo` takes."""
    return RunConfig(
        prepare=lambda: prepare(folder, seed=seed, tower_steps=tower_steps, lm_steps=lm_steps),
        build=lambda: build(load_parts(folder), seed=seed),
        outline=outline,
        feed=lambda model: feed(model, load_parts(folder), seed=seed, score_every=score_every, episodes=episodes),
        batches=SHAPES,
        steps=steps,
        lr=lr,
        folder=folder,
        options={
            "schedule": warmup_hold_decay(warmup=30, steps=steps, hold=0.6, floor=0.02),
            "weight_decay": 0.0,
            "gate_lr_factor": 10.0,
            "betas": (0.9, 0.98),
            "updates": updates,
        },
        seed=seed,
        save_every=save_every,
        gates_every=score_every,
    )


def prepare(folder: Path, **settings: int) -> None:
    """Train tower and language model and compute the features of all images, once: a run that goes on has them."""
    file = folder / "parts.pt"
    if file.exists():
        if (found := torch.load(file, weights_only=False)["made"]) != settings:
            raise ValueError(f"{file} was made with {found}, asked for is {settings}; take another folder")
        return
    folder.mkdir(parents=True, exist_ok=True)
    parts = prepare_parts(Stopwatch(lambda _name, _done, _total: None), **settings)
    whole = file.with_suffix(".tmp")
    torch.save({"parts": parts, "made": settings}, whole)
    whole.rename(file)


def load_parts(folder: Path) -> Parts:
    """Those of a run."""
    parts: Parts = torch.load(folder / "parts.pt", weights_only=False)["parts"]
    return parts


def outline() -> Flamingo:
    """Its sizes, for a plan."""
    vocabulary = demo_vocabulary()
    return build_flamingo(DigitTower(), TinyDecoder(vocab_size=len(vocabulary.words)), vocabulary)


def build(parts: Parts, *, seed: int) -> Flamingo:
    """Fresh blocks between the frozen parts."""
    with seeded(seed):
        return build_flamingo(parts.tower, parts.lm, parts.vocabulary)


def feed(model: Any, parts: Parts, *, seed: int, score_every: int, episodes: int) -> Feed:
    """Episodes and captions, and the demo's question of five names for pairs that no training image showed."""
    rank, world_size = data_parallel_rank()
    if ROWS % world_size:
        raise ValueError(f"{ROWS} rows cannot be shared out evenly over {world_size} processes")
    rows = ROWS // world_size
    source = EpisodeSource(
        bank=parts.training, vocabulary=parts.vocabulary, pairs=SEEN_PAIRS, names=NAMES_BESIDE_IMAGES, hard_share=0.5
    )

    def naming(generator: torch.Generator) -> Texts:
        return source.training(batch=rows, num_images=9, num_names=(2, 5), generator=generator).texts

    def captions(generator: torch.Generator) -> Texts:
        return draw_captions(parts.training, parts.vocabulary, pairs=SEEN_PAIRS, batch=rows, generator=generator)

    def score(asked: Any) -> dict[str, float]:
        curves = naming_curves(asked, parts.test, parts.vocabulary, rows=(UNSEEN_FIVE,), episodes=episodes)
        return {f"{shots} shots": accuracy for shots, accuracy in curves["5.unseen.closed"].items()}

    finish = partial(to_batch, bank=parts.training, flamingo=model)
    data = DrawnBySteps({"naming": naming, "captions": captions}, finish, seed=(seed, rank))
    return Feed(
        objectives=[Objective(name=name, batches=data.batches(name), loss=flamingo_loss) for name in data.draws],
        data=data,
        measures=[FewShotScore(score, model=model, every=score_every)],
    )


class DrawnBySteps:
    """Batches that are a function of seed, task and number, so that the numbers are all that has to be saved.

    Args:
        draws: Draw the texts of a batch by task.
        finish: Makes a batch of them.
        seed: Decides all of them.
    """

    def __init__(
        self,
        draws: Mapping[str, Callable[[torch.Generator], Texts]],
        finish: Callable[[Texts], FlamingoBatch],
        *,
        seed: tuple[int, ...],
    ) -> None:
        self.draws, self.finish, self.seed = draws, finish, seed
        self.drawn = dict.fromkeys(draws, 0)

    def batches(self, task: str) -> Iterator[FlamingoBatch]:
        """Those of a task, from where it stands."""
        while True:
            digest = hashlib.sha256(repr((self.seed, task, self.drawn[task])).encode()).digest()
            self.drawn[task] += 1
            yield self.finish(self.draws[task](torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))))

    def state_dict(self) -> dict[str, int]:
        """How many batches of each task were drawn."""
        return dict(self.drawn)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Stand there again."""
        self.drawn.update(state)
