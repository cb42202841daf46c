"""`flamingo-blocks train`: do what a recipe says, or tell what that will need."""

import argparse
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flamingo_blocks.cli._arguments import positive
from flamingo_blocks.cli._device import DEVICE_HELP, device_of
from flamingo_blocks.cli._ending import INTERRUPTED, Terminated, closing
from flamingo_blocks.cli._interrupts import SIGINT, saved_at_interrupt
from flamingo_blocks.cli._own_errors import is_ours
from flamingo_blocks.cli._results import add_json, print_json
from flamingo_blocks.errors import FlamingoBlocksError, RecipeError
from flamingo_blocks.training import (
    DEVICES,
    RunConfig,
    TrainResult,
    call_recipe,
    describe_recipe,
    load_recipe,
    plan_config,
    start_run,
)
from flamingo_blocks.training.checkpoints.step_folders import all_steps
from flamingo_blocks.training.ranks.rank_of_process import rank_of_process

_PLANNED_DEVICE = "h200"


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train a Flamingo by a recipe",
        description="Do the run that a recipe describes, or go on with it: the same command takes it up where its "
        "newest checkpoint is. Ctrl-C and SIGTERM save first; a second Ctrl-C does not wait for that. Under torchrun "
        "each process is a rank of it.",
        epilog=closing(
            "flamingo-blocks train examples/recipes/corpus.py --settings",
            "flamingo-blocks train examples/recipes/corpus.py data=corpus steps=300",
            "flamingo-blocks train examples/recipes/flamingo_9b.py --dry-run --ranks 64 --on h100",
            statuses=[(0, "done, or saved and ended by SIGTERM"), (130, "stopped by Ctrl-C, saved if it had begun")],
        ),
    )
    parser.add_argument(
        "recipe", metavar="RECIPE", help="FILE.py, FILE.py:FUNCTION or package.module:FUNCTION; its code runs"
    )
    parser.add_argument("settings", nargs="*", default=[], metavar="KEY=VALUE", help="arguments of the recipe")
    parser.add_argument("--settings", action="store_true", dest="tell", help="print what the recipe takes, and end")
    parser.add_argument(
        "--dry-run", action="store_true", help="print sizes, memory, operations and days; nothing is read or computed"
    )
    parser.add_argument("--ranks", type=positive, metavar="N", help="devices of the dry run (default: 1)")
    parser.add_argument(
        "--on", choices=sorted(DEVICES), metavar="DEVICE",
        help=f"device of the dry run, one of {', '.join(sorted(DEVICES))} (default: {_PLANNED_DEVICE})",
    )  # fmt: skip
    parser.add_argument(
        "--device", help=f"{DEVICE_HELP}, in place of the recipe's; default: cuda where there is one, each rank its own"
    )
    add_json(parser, "the plan, or what the run did,")
    parser.set_defaults(run=run, kept="checkpoints are whole, and the same command goes on from the newest")


def run(arguments: argparse.Namespace) -> int:
    """Train, or plan."""
    _refuse_words_without_use(arguments)
    if arguments.tell and arguments.json:
        raise RecipeError("--json prints a plan or what a run did, and --settings has neither; leave --json out")
    recipe = load_recipe(arguments.recipe)
    if arguments.tell:
        print(describe_recipe(recipe))
        return 0
    try:
        config = call_recipe(recipe, arguments.settings)
        if arguments.dry_run:
            _plan(config, arguments)
            return 0
        if arguments.device is not None:
            device_of(arguments.device, error=RecipeError)
            config = replace(config, device=arguments.device)  # "cuda" is each rank's own there too
        logging.basicConfig(level=logging.INFO if rank_of_process() == 0 else logging.WARNING, format="%(message)s")
        try:
            with saved_at_interrupt():
                result = start_run(config)
        except (KeyboardInterrupt, Terminated):
            if not all_steps(config.folder / "checkpoints"):
                arguments.kept = "no step is saved yet, and the same command begins anew"
            raise
    except (ValueError, TypeError, FloatingPointError) as error:
        if isinstance(error, FlamingoBlocksError) or not is_ours(error):
            raise
        raise RecipeError(str(error)) from error
    if rank_of_process() == 0:
        if arguments.json:
            print_json(_as_values(config, result))
        else:
            print_result(config, result)
    return INTERRUPTED if result.stopped_by == SIGINT else 0


def _refuse_words_without_use(arguments: argparse.Namespace) -> None:
    """A plan is of devices that need not be here, and a run is on the one that it is started on."""
    if arguments.dry_run and arguments.device is not None:
        raise RecipeError("--device is where a run trains, and does nothing with --dry-run; say --on, or omit it")
    for word, given in (("--ranks", arguments.ranks), ("--on", arguments.on)):
        if given is not None and not arguments.dry_run:
            raise RecipeError(f"{word} is of the plan that --dry-run prints, and does nothing without it; omit {word}")


def _plan(config: RunConfig, arguments: argparse.Namespace) -> None:
    """Print what a run will need."""
    plan = plan_config(config, world_size=arguments.ranks or 1, device=arguments.on or _PLANNED_DEVICE)
    note = "counted in bfloat16: with precision=float32 frozen weights and activations take twice as much"
    notes = [note] if config.precision == "float32" else []
    if arguments.json:
        found = ("memory_bytes", "fits", "seconds_per_update", "days")
        print_json({**asdict(plan), **{name: getattr(plan, name) for name in found}, "notes": notes})
    else:
        print("\n".join([str(plan), *notes]))


def _as_values(config: RunConfig, result: TrainResult) -> dict[str, Any]:
    last = result.reports[-1] if result.reports else None
    return {
        "steps": config.steps, "first_step": result.first_step, "done": _done(result), "skipped": result.skipped,
        "losses": None if last is None else dict(last.losses), "stopped_by": result.stopped_by,
        "passed_over": result.passed_over, "differences": result.differences,
        "folder": config.folder, "written": [path for path, _ in _written(config)],
    }  # fmt: skip


def _done(result: TrainResult) -> int:
    """Steps that are done, those of earlier calls too."""
    return result.reports[-1].step + 1 if result.reports else result.first_step


def _written(config: RunConfig) -> list[tuple[Path, str]]:
    names = {"model": "trained model", "checkpoints": "checkpoints", "metrics.jsonl": "a line a step"}
    return [(config.folder / name, what) for name, what in names.items() if (config.folder / name).exists()]


def print_result(config: RunConfig, result: TrainResult) -> None:
    """Print what a run did, and where its results are."""
    last = _done(result)
    for message in result.passed_over:
        print(f"passed over: {message}")
    if result.stopped_by is not None:
        print(
            f"stopped by {result.stopped_by} after step {last} of {config.steps}; the same command goes on from there"
        )
    elif not result.reports:
        behind = "" if last == config.steps else f": the run is at step {last}; more steps, or another folder"
        print(f"all {config.steps} steps were done already{behind}")
    else:
        losses = ", ".join(f"{name} {loss:.3f}" for name, loss in result.reports[-1].losses.items())
        print(f"{last} steps done, {result.skipped} skipped; last losses: {losses}")
    for path, what in _written(config):
        print(f"  {path}: {what}")
