"""`flamingo-blocks train`: do what a recipe says, or tell what that will need."""

import argparse
import logging
from dataclasses import replace
from typing import Any

from flamingo_blocks.cli._arguments import positive
from flamingo_blocks.cli._device import DEVICE_HELP, device_of
from flamingo_blocks.cli._own_errors import is_ours
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
from flamingo_blocks.training.ranks.rank_of_process import rank_of_process


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train a Flamingo by a recipe",
        description="Do the run that a recipe describes, or go on with it: the same command after a kill, or SIGTERM, "
        "takes it up where its newest checkpoint is. Under torchrun each process is a rank of it.",
        epilog="example: flamingo-blocks train examples/recipes/corpus.py data=corpus steps=300",
    )
    parser.add_argument(
        "recipe", metavar="RECIPE", help="FILE.py, FILE.py:FUNCTION or package.module:FUNCTION; its code runs"
    )
    parser.add_argument("settings", nargs="*", default=[], metavar="KEY=VALUE", help="arguments of the recipe")
    parser.add_argument("--settings", action="store_true", dest="tell", help="print what the recipe takes, and end")
    parser.add_argument(
        "--dry-run", action="store_true", help="print sizes, memory, operations and days; nothing is read or computed"
    )
    parser.add_argument("--ranks", type=positive, default=1, help="devices of the dry run (default: %(default)s)")
    parser.add_argument(
        "--on", choices=sorted(DEVICES), default="h200", help="device of the dry run (default: %(default)s)"
    )
    parser.add_argument(
        "--device", help=f"{DEVICE_HELP}, in place of the recipe's; default: cuda where there is one, each rank its own"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, or plan."""
    recipe = load_recipe(arguments.recipe)
    if arguments.tell:
        print(describe_recipe(recipe))
        return 0
    try:
        config = call_recipe(recipe, arguments.settings)
        if arguments.dry_run:
            print(plan_config(config, world_size=arguments.ranks, device=arguments.on))
            if config.precision == "float32":
                print("counted in bfloat16: with precision=float32 frozen weights and activations take twice as much")
            return 0
        if arguments.device is not None:
            device_of(arguments.device, error=RecipeError)
            config = replace(config, device=arguments.device)
        logging.basicConfig(level=logging.INFO if rank_of_process() == 0 else logging.WARNING, format="%(message)s")
        result = start_run(config)
    except (ValueError, TypeError, FloatingPointError) as error:
        if isinstance(error, FlamingoBlocksError) or not is_ours(error):
            raise
        raise RecipeError(str(error)) from error
    if rank_of_process() == 0:
        print_result(config, result)
    return 0


def print_result(config: RunConfig, result: TrainResult) -> None:
    """Print what a run did, and where its results are."""
    last = result.reports[-1].step + 1 if result.reports else result.first_step
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
    for name, what in (("model", "trained model"), ("checkpoints", "checkpoints"), ("metrics.jsonl", "a line a step")):
        if (config.folder / name).exists():
            print(f"  {config.folder / name}: {what}")
