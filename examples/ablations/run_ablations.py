"""The paper's ablations in small: train the demo's Flamingo again and again, with one thing changed at a time.

    python examples/ablations/run_ablations.py --seeds 0,1,2 --out runs/ablations

Every run leaves a file, `OUT/runs/VARIANT-SEED.json`. A command that was killed goes on when it is started again: what
has its file is not run again. At the end `OUT` holds `results.json` (all runs) and `table.md`. Two commands
with different seeds may share a folder; the one that ends last tells of all runs that are there by then. The figure of
the documentation is drawn by `python -m docs.figures` from the `results.json` beside it.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from outcome_table import format_table
from variants import VARIANTS, Variant, build, count_trained

from flamingo_blocks.demo import DemoError
from flamingo_blocks.demo.images import SEEN_PAIRS, UNSEEN_PAIRS
from flamingo_blocks.demo.language_model import text_recall
from flamingo_blocks.demo.measure import caption_accuracy, naming_curves
from flamingo_blocks.demo.model import train_flamingo
from flamingo_blocks.demo.parts import Parts, prepare_parts
from flamingo_blocks.demo.progress import Stopwatch
from flamingo_blocks.demo.rows import UNSEEN_FIVE
from flamingo_blocks.models import Flamingo
from flamingo_blocks.training import StepReport

LAST = 20  # updates of each data set whose mean loss is told as that of the end


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all runs have in common; the defaults are the demo's.

    Args:
        steps: Updates of the baseline.
        lr: Learning rate at its highest.
        episodes: Test episodes for each number of shots, and images whose captions are asked for.
        tower_steps: Updates of the vision encoder.
        lm_steps: Updates of the language model on text.
        min_recall: Recall on text below which the language model cannot carry the task.
    """

    steps: int = 400
    lr: float = 6e-3
    episodes: int = 400
    tower_steps: int = 300
    lm_steps: int = 350
    min_recall: float = 0.9


def run_all(names: Sequence[str], seeds: Sequence[int], out: Path, settings: Settings) -> None:
    """Run what has no file yet; the frozen parts of a seed are trained once for all its variants.

    Args:
        names: Of the variants.
        seeds: Each decides the frozen parts, the new weights, and what is drawn.
        out: Folder to write to.
        settings: What all runs have in common.

    Raises:
        DemoError: If a file is there that was run with other settings, or a language model does not learn its task.
    """
    watch = Stopwatch(show)
    for seed in seeds:
        missing = [name for name in names if read_run(file_of(out, name, seed), settings) is None]
        if not missing:
            continue
        parts = prepare_parts(
            watch,
            seed=seed,
            tower_steps=settings.tower_steps,
            lm_steps=settings.lm_steps,
            min_recall=settings.min_recall,
        )
        for name in missing:
            found = run_one(VARIANTS[name], parts, settings, watch, seed=seed, label=f"{name}, seed {seed}")
            record = {"variant": name, "seed": seed, "settings": asdict(settings), **found}
            write_whole(file_of(out, name, seed), json.dumps(record, indent=1) + "\n")


def run_one(
    variant: Variant, parts: Parts, settings: Settings, watch: Stopwatch, *, seed: int, label: str
) -> dict[str, Any]:
    """Train a variant and ask it the demo's questions."""
    flamingo = build(variant, parts, seed=seed)
    trained, steps = count_trained(flamingo), settings.steps * variant.steps
    reports: list[StepReport] = []
    with watch.phase(label, steps) as advance:

        def on_step(report: StepReport) -> None:
            reports.append(report)
            advance()

        started = time.process_time()
        train_flamingo(
            flamingo,
            parts.training,
            parts.vocabulary,
            tasks=("naming", "captions"),
            steps=steps,
            lr=settings.lr,
            seed=seed,
            updates=variant.updates,
            on_step=on_step,
        )
        seconds = (time.process_time() - started) / steps
    return {
        "trained": trained,
        "updates": steps,
        "batches": sum(len(report.losses) for report in reports),
        "seconds_per_update": seconds,
        # The first tenth is the rise of the learning rate, where gradients are large in every run.
        "largest_gradient": max(report.grad_norm for report in reports[steps // 10 :]),
        "loss": losses_of(reports),
        **measure(flamingo, parts, settings, seed=seed),
    }


def losses_of(reports: Sequence[StepReport]) -> dict[str, dict[str, float]]:
    """Loss of each data set at its first update, and its mean over the last ones."""
    losses: dict[str, list[float]] = {}
    for report in reports:
        for task, loss in report.losses.items():
            losses.setdefault(task, []).append(loss)
    return {
        "first": {task: values[0] for task, values in losses.items()},
        "last": {task: mean(values[-LAST:]) for task, values in losses.items()},
    }


def measure(flamingo: Flamingo, parts: Parts, settings: Settings, *, seed: int) -> dict[str, Any]:
    """Naming by number of shots, captions, and what the language model by itself still recalls of text."""
    bank, vocabulary = parts.test, parts.vocabulary
    naming = naming_curves(flamingo, bank, vocabulary, rows=(UNSEEN_FIVE,), episodes=settings.episodes)
    captions = {
        name: caption_accuracy(flamingo, bank, vocabulary, pairs=pairs, count=settings.episodes)
        for name, pairs in (("seen", SEEN_PAIRS), ("unseen", UNSEEN_PAIRS))
    }
    return {
        "naming": {answer: naming[f"{UNSEEN_FIVE.key}.{answer}"] for answer in ("closed", "open")},
        "captions": captions,
        "text_recall": text_recall(flamingo.detach(), vocabulary, seed=seed + 1),
    }


def file_of(out: Path, name: str, seed: int) -> Path:
    """Where a run is kept."""
    return out / "runs" / f"{name}-{seed}.json"


def read_run(file: Path, settings: Settings) -> dict[str, Any] | None:
    """What a run found; None if it has not come to its end."""
    if not file.is_file():
        return None
    found: dict[str, Any] = json.loads(file.read_text())
    if found["settings"] != asdict(settings):
        raise DemoError(
            f"{file} was run with {found['settings']}, wanted {asdict(settings)}: runs of different settings do not "
            "belong into one table; give another --out, or remove the file"
        )
    return found


def write_whole(file: Path, text: str) -> None:
    """Write a file that is there in whole or not at all, whenever the command is killed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(file)


def all_runs(out: Path, settings: Settings) -> Iterator[dict[str, Any]]:
    """Every run that a folder holds, variants in their order and then seeds."""
    for name in VARIANTS:
        files = (out / "runs").glob(f"{name}-*.json")
        for file in sorted(files, key=lambda file: int(file.stem.rpartition("-")[2])):
            found = read_run(file, settings)
            assert found is not None
            yield found


def write_outcome(out: Path, settings: Settings) -> str:
    """Write `results.json` and `table.md`.

    Args:
        out: Folder that holds the runs.
        settings: With which they were run.

    Returns:
        The table.
    """
    runs = list(all_runs(out, settings))
    table = format_table(runs)
    write_whole(out / "results.json", json.dumps(runs, indent=1) + "\n")
    write_whole(out / "table.md", table + "\n")
    return table


def show(phase: str, done: int, total: int) -> None:
    """One line on standard error for each phase."""
    print(f"\r{phase}: {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2", help="separated by commas (default: %(default)s)")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="separated by commas (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"), help="folder (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=400, help="updates of the baseline (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=400, help="test episodes a number (default: %(default)s)")
    arguments = parser.parse_args(words)
    names = arguments.variants.split(",")
    if unknown := [name for name in names if name not in VARIANTS]:
        parser.error(f"--variants: there is no {', '.join(unknown)}; there are {', '.join(VARIANTS)}")
    if min(arguments.steps, arguments.episodes) < 1:
        parser.error(f"--steps is {arguments.steps} and --episodes {arguments.episodes}, wanted 1 or more of each")
    if not all(seed.isdecimal() for seed in arguments.seeds.split(",")):
        parser.error(f"--seeds is {arguments.seeds!r}, wanted whole numbers, separated by commas")
    torch.set_num_threads(1)  # more wait for each other at these sizes
    settings = Settings(steps=arguments.steps, episodes=arguments.episodes)
    try:
        run_all(names, [int(seed) for seed in arguments.seeds.split(",")], arguments.out, settings)
        print(write_outcome(arguments.out, settings))
    except DemoError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
