"""`flamingo-blocks demo`: train a small Flamingo and print its few-shot curve."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from flamingo_blocks._optional import require
from flamingo_blocks.cli._arguments import positive
from flamingo_blocks.cli._ending import closing
from flamingo_blocks.cli._progress import ProgressBars
from flamingo_blocks.cli._results import add_json, print_json
from flamingo_blocks.demo import DemoConfig, DemoResult, format_table, quick_config, run_demo
from flamingo_blocks.demo.report import to_json


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="train a small Flamingo and print its few-shot curve",
        description="Train a small Flamingo to give made-up names to images in context: about two minutes on one core, "
        "and nothing is downloaded. In OUT: results.json, the curve as a picture, sample images and the model.",
        epilog=closing("flamingo-blocks demo --quick", "flamingo-blocks demo --out runs/demo --seed 1"),
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="decides everything that is drawn (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="folder to write to (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="threads of torch (default: %(default)s)"
    )
    parser.add_argument(
        "--tower",
        choices=("labels", "contrastive"),
        default="labels",
        help="what the vision encoder is trained on: digit and colour of each picture, or pictures and their captions "
        "that have to find each other (default: %(default)s)",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="train on captions only, in under a minute")
    kind.add_argument("--ablations", action="store_true", help="train twice more, each time with one thing changed")
    add_json(parser, "what results.json holds")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo, print what it found."""
    for package in ("sklearn", "matplotlib", "PIL", "safetensors"):  # better now than after two minutes
        require(package, used_by="flamingo-blocks demo", extra="demo")
    torch.set_num_threads(arguments.threads)
    arguments.kept = f"files of {arguments.out} are those of an earlier run, or of none; the same command begins anew"
    seed = arguments.seed
    config = quick_config(seed=seed) if arguments.quick else DemoConfig(seed=seed, ablations=arguments.ablations)
    config = replace(config, tower_training=arguments.tower)
    with ProgressBars() as bars:
        result = run_demo(config, arguments.out, on_progress=bars)
    if arguments.json:
        print_json(to_json(result))
    else:
        print_result(result, arguments.out, quick=arguments.quick)
    return 0


def print_result(result: DemoResult, out: Path, *, quick: bool) -> None:
    """Print what a run found, and a command to try its model with."""
    counts = result.parameters
    print(
        f"\nTrained {counts['trained']:,} parameters between a frozen vision encoder ({counts['tower']:,}) "
        f"and a frozen language model ({counts['language_model']:,}).\n"
        f"The language model alone names {result.lm_recall:.2f} of the things its text has named.\n"
    )
    if quick:
        print("Trained on captions only, never on two images in a text. What it names in context all the same:\n")
    print(
        f"Accuracy by number of shots; test images, and names that never stood beside an image\n\n"
        f"{format_table(result.curves)}"
    )
    print("closed: the likeliest of the episode's names; open: the likeliest of all words\n")
    captions = result.captions
    print(
        f"Captions right in colour and digit: {captions['seen']:.2f} on seen pairs, {captions['unseen']:.2f} on unseen "
        f"pairs, {captions['gates_closed']:.2f} with the gates closed"
    )
    layers = zip(result.gates[::2], result.gates[1::2], strict=True)
    gates = "; ".join(
        f"layer {index}: {attention:+.2f}, {dense:+.2f}" for index, (attention, dense) in enumerate(layers)
    )
    print(f"Gates (tanh; attention, feed-forward): {gates}\n")
    for sample in result.samples:
        mark = "" if sample.written == sample.right else f"   (right: {sample.right})"
        print(f"{sample.prompt}  -->  {sample.written}{mark}")
    for name, found in result.ablations.items():
        captions = found["captions"]
        print(f"\nAblation {name}: captions {captions['seen']:.2f}\n{format_table(found['curves'])}")
    _print_what_next(result, out, quick=quick)


def _print_what_next(result: DemoResult, out: Path, *, quick: bool) -> None:
    seconds = ", ".join(f"{phase} {time:.0f}" for phase, time in result.seconds.items())
    print(f"\n{result.cpu_seconds:.0f} s of processor time; seconds by phase: {seconds}")
    print(f"Wrote {out}/results.json, {out}/curve.png, {out}/images and {out}/model. Try it yourself:\n")
    first, again, second, *_ = sorted((out / "images").glob("*.png"))
    images, prompt = [first], "<image> an"
    if not quick:
        images = [first, second, again]
        prompt = "<image> this is a kulm <EOC> <image> this is a pisk <EOC> <image> this is a"
    words = " ".join(f"--image {image}" for image in images)
    print(f'  {_this_command()} generate {out}/model {words} \\\n    --prompt "{prompt}"')


def _this_command() -> str:
    """How this very command is called from here: nox puts it where no shell looks for it."""
    called = Path(sys.argv[0])
    return os.path.relpath(called) if called.name == "flamingo-blocks" and called.is_absolute() else "flamingo-blocks"
