"""The demo from end to end: train the frozen parts, train the blocks, ask the questions, write what was found."""

import copy
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.data.atomic_file import written_together
from flamingo_blocks.demo.completion import save_demo_model
from flamingo_blocks.demo.errors import DemoError
from flamingo_blocks.demo.images import SEEN_PAIRS, UNSEEN_PAIRS
from flamingo_blocks.demo.language_model import TinyDecoder
from flamingo_blocks.demo.measure import caption_accuracy, naming_curves
from flamingo_blocks.demo.model import Task, build_flamingo, train_flamingo
from flamingo_blocks.demo.parts import Parts, TowerTraining, prepare_parts, seeded
from flamingo_blocks.demo.progress import Progress, Stopwatch
from flamingo_blocks.demo.report import DemoResult, plot_curves, write_json
from flamingo_blocks.demo.rows import ROWS, UNSEEN_FIVE, Row
from flamingo_blocks.demo.samples import caption_samples, naming_samples, write_sample_images
from flamingo_blocks.models import Flamingo
from flamingo_blocks.nn import TanhGate, closed_gates
from flamingo_blocks.ops import MediaLayout
from flamingo_blocks.types import Scope


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What decides a run of the demo.

    Args:
        seed: Decides everything that is drawn.
        tasks: What the blocks are trained on.
        tower_training: What the vision encoder is trained on: `"labels"`, the digit and colour of each picture; or
            `"contrastive"`, pictures and captions that have to find each other, as in the paper.
        tower_steps: Updates of the vision encoder.
        lm_steps: Updates of the language model.
        steps: Updates of the blocks.
        lr: Learning rate of the blocks.
        episodes: Test episodes for each number of shots, and images whose captions are asked for.
        rows: Kinds of questions asked.
        min_recall: Below this recall on text the language model cannot carry the demo, and it stops.
        ablations: Whether to train again with one thing changed, twice.
        ablation_steps: Updates of the blocks in each of these.

    Example:
        >>> config = DemoConfig(seed=1, tasks=("captions",), steps=200)
        >>> config.tower_training, config.lr, len(config.rows) == len(ROWS)
        ('labels', 0.006, True)
    """

    seed: int = 0
    tasks: tuple[Task, ...] = ("naming", "captions")
    tower_training: TowerTraining = "labels"
    tower_steps: int = 300
    lm_steps: int = 350
    steps: int = 400
    lr: float = 6e-3
    episodes: int = 400
    rows: tuple[Row, ...] = ROWS
    min_recall: float = 0.9
    ablations: bool = False
    ablation_steps: int = 300


def quick_config(*, seed: int = 0) -> DemoConfig:
    """Captions only: the blocks never see an episode.

    The questions about naming then tell what the language model does by itself with what it sees. A higher learning
    rate captions as well and leaves less of that.

    Args:
        seed: Decides everything that is drawn.

    Returns:
        What `run_demo` takes.

    Example:
        >>> config = quick_config(seed=1)
        >>> config.tasks, [row.key for row in config.rows]
        (('captions',), ['5.unseen', '2.unseen'])
    """
    rows = tuple(row for row in ROWS if row.key in ("2.unseen", "5.unseen"))
    return DemoConfig(seed=seed, tasks=("captions",), steps=300, lr=2e-3, rows=rows)


def run_demo(config: DemoConfig, out: Path, *, on_progress: Progress = lambda _name, _done, _total: None) -> DemoResult:
    """Run the demo and write `results.json`, `curve.png`, sample images and the model to a folder.

    Args:
        config: What decides the run.
        out: Folder to write to; made if it is not there.
        on_progress: Called with the name of a phase, the steps done, and the steps in all.

    Returns:
        Everything that was measured.

    Raises:
        DemoError: If the folder cannot be made, or the language model's recall stays below `config.min_recall`.
        MissingDependencyError: If a package of the extra `demo` is not installed.

    Example:
        >>> a_moment = DemoConfig(tower_steps=2, lm_steps=2, steps=2, episodes=4, rows=ROWS[:1], min_recall=0.0)
        >>> result = run_demo(a_moment, Path("demo"))  # it learns nothing in two steps
        >>> list(result.curves), Path("demo/results.json").is_file(), Path("demo/model").is_dir()
        (['5.seen.closed', '5.seen.open'], True, True)
    """
    started, watch = time.process_time(), Stopwatch(on_progress)
    try:  # better now than after two minutes
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"out: the folder {out} cannot be made: {error}") from error
    parts = prepare_parts(
        watch,
        seed=config.seed,
        tower_steps=config.tower_steps,
        lm_steps=config.lm_steps,
        min_recall=config.min_recall,
        tower_training=config.tower_training,
    )
    flamingo = train_blocks(parts, watch, tasks=config.tasks, steps=config.steps, lr=config.lr, seed=config.seed)
    curves, captions = measure(flamingo, parts, watch, rows=config.rows, episodes=config.episodes)
    samples = caption_samples(flamingo, parts.test, parts.vocabulary, seed=config.seed)
    if "naming" in config.tasks:
        samples = naming_samples(flamingo, parts.test, parts.vocabulary, seed=config.seed) + samples
    cpu_seconds = round(time.process_time() - started, 2)
    result = DemoResult(
        seed=config.seed,
        seconds=watch.seconds,
        cpu_seconds=cpu_seconds,
        curves=curves,
        captions=captions,
        tower=parts.tower_accuracy,
        lm_recall=parts.lm_recall,
        gates=[float(gate.value().detach()) for gate in flamingo.modules() if isinstance(gate, TanhGate)],
        parameters=_count_parameters(flamingo, parts),
        samples=samples,
        ablations=run_ablations(config, parts, watch) if config.ablations else {},
    )
    write_outputs(result, flamingo, parts, out)
    return result


def train_blocks(
    parts: Parts,
    watch: Stopwatch,
    *,
    tasks: tuple[Task, ...],
    steps: int,
    lr: float,
    seed: int,
    scope: Scope = "last",
    name: str = "Flamingo",
) -> Flamingo:
    """Build a Flamingo around copies of the frozen parts and train it.

    What Flamingo promises is asserted: at the start it computes what the language model does, bit for bit, and at the
    end no frozen weight has moved.
    """
    tower, lm = copy.deepcopy(parts.tower), copy.deepcopy(parts.lm)
    with seeded(seed):
        flamingo = build_flamingo(tower, lm, parts.vocabulary, scope=scope)
    _assert_starts_as_the_language_model(flamingo, parts)
    with watch.phase(name, steps) as advance:
        train_flamingo(
            flamingo,
            parts.training,
            parts.vocabulary,
            tasks=tasks,
            steps=steps,
            lr=lr,
            seed=seed,
            on_step=advance,
        )
    for trained, frozen in ((tower, parts.tower), (lm, parts.lm)):
        assert _same_state(trained, frozen), f"training changed the weights of the frozen {type(frozen).__name__}"
    return flamingo


@torch.no_grad()
def _assert_starts_as_the_language_model(flamingo: Flamingo, parts: Parts) -> None:
    """With closed gates, text that sees an image gives the logits of the bare language model."""
    ids = torch.tensor([parts.vocabulary.encode("<bos> fox this is a dax . fox this is a")])
    layout = MediaLayout.from_tokens(torch.arange(ids.shape[1])[None] == 1)
    logits = flamingo(ids, features=parts.test.features[:1, None], layout=layout).logits
    bare: Tensor = parts.lm(ids)
    assert torch.equal(logits[..., : bare.shape[-1]], bare), "closed gates changed the language model's logits"


def _same_state(module: nn.Module, other: nn.Module) -> bool:
    return all(
        torch.equal(tensor, expected)
        for tensor, expected in zip(module.state_dict().values(), other.state_dict().values(), strict=True)
    )


def measure(
    flamingo: Flamingo,
    parts: Parts,
    watch: Stopwatch,
    *,
    rows: tuple[Row, ...],
    episodes: int,
    name: str = "questions",
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Curves of naming by number of shots, and accuracy of captions."""
    with watch.phase(name, len(rows) + 1) as advance:
        curves = naming_curves(flamingo, parts.test, parts.vocabulary, rows=rows, episodes=episodes, on_row=advance)

        def captions_of(pairs: tuple[int, ...]) -> float:
            return caption_accuracy(flamingo, parts.test, parts.vocabulary, pairs=pairs, count=episodes)

        captions = {"seen": captions_of(SEEN_PAIRS), "unseen": captions_of(UNSEEN_PAIRS)}
        with closed_gates(flamingo):
            captions["gates_closed"] = captions_of(SEEN_PAIRS)
        advance()
    return curves, captions


def run_ablations(config: DemoConfig, parts: Parts, watch: Stopwatch) -> dict[str, dict[str, Any]]:
    """Train the blocks again on a language model that never read, and with tokens that see all images so far."""
    with seeded(config.seed + 1):
        never_read = TinyDecoder(vocab_size=len(parts.vocabulary.words)).eval().requires_grad_(requires_grad=False)
    changed: dict[str, tuple[Parts, Scope]] = {
        "lm_never_trained": (replace(parts, lm=never_read), "last"),
        "all_previous_images": (parts, "all"),
    }
    found: dict[str, dict[str, Any]] = {}
    for name, (used, scope) in changed.items():
        flamingo = train_blocks(
            used,
            watch,
            tasks=config.tasks,
            steps=config.ablation_steps,
            lr=config.lr,
            seed=config.seed,
            scope=scope,
            name=name,
        )
        curves, captions = measure(
            flamingo,
            used,
            watch,
            rows=(UNSEEN_FIVE,),
            episodes=config.episodes,
            name=f"{name}, questions",
        )
        found[name] = {"curves": curves, "captions": captions}
    return found


def write_outputs(result: DemoResult, flamingo: Flamingo, parts: Parts, out: Path) -> None:
    """Write `results.json`, `curve.png`, the folder `images` and the folder `model`, together: all of them or none."""
    with written_together(out) as beside:
        write_json(result, beside / "results.json")
        plot_curves(result.curves, beside / "curve.png")
        write_sample_images(parts.test_digits, beside / "images")
        save_demo_model(flamingo, parts.vocabulary, beside / "model")


def _count_parameters(flamingo: Flamingo, parts: Parts) -> dict[str, int]:
    def count(module: nn.Module, *, trained: bool) -> int:
        return sum(p.numel() for p in module.parameters() if p.requires_grad is trained)

    return {
        "trained": count(flamingo, trained=True),
        "language_model": count(parts.lm, trained=False),
        "tower": count(parts.tower, trained=False),
    }
