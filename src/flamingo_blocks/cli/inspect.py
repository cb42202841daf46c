"""`flamingo-blocks inspect`: what is in a checkpoint, and what it needs."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from flamingo_blocks.cli._arguments import as_typed
from flamingo_blocks.cli._ending import closing
from flamingo_blocks.cli._options import check_option_values
from flamingo_blocks.cli._parts import (
    add_family,
    option,
    outline_language_model,
    parts_of_checkpoint,
    refuse_own_language_model,
)
from flamingo_blocks.cli._progress import ProgressBars
from flamingo_blocks.cli._results import add_json, print_json
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop import (
    Inspection,
    detect_family,
    find_family,
    inspect_checkpoint,
    is_ours,
    open_checkpoint,
)
from flamingo_blocks.interop.inspect_checkpoint import refuse_beside_ours, refuse_form_of_transformers

_BAR = 16
_SIZES = ("dim", "vision_dim", "num_heads", "num_kv_heads", "head_dim", "hidden_dim", "num_latents", "depth",
          "max_frames", "activation")  # fmt: skip


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "inspect",
        help="look into a checkpoint",
        description="Say which family a checkpoint is of, its sizes, how far its gates are open, what is missing and "
        "what it needs to run. Weights are not read, but for the gates.",
        epilog=closing(
            "flamingo-blocks inspect checkpoint.pt",
            "flamingo-blocks inspect checkpoint.pt --lm facebook/opt-125m",
            statuses=[(1, "refused, or a name is missing or unknown, or a shape another")],
        ),
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="file or folder, of others or of ours")
    add_family(parser)
    parser.add_argument(
        "--lm", metavar="DIR_or_NAME", help="language model to compare names and shapes with; only its config is read"
    )
    parser.add_argument(
        "--option", type=option, action="append", default=[], metavar="NAME=VALUE", help="an option of the family"
    )
    add_json(parser, "what was found")
    parser.set_defaults(run=run, kept="nothing was to be written")


def run(arguments: argparse.Namespace) -> int:
    """Look, and print."""
    path, options = arguments.checkpoint, dict(arguments.option)
    try:
        refuse_form_of_transformers(path)
        if is_ours(path):
            words = [name for name in ("family", "lm") if getattr(arguments, name) is not None]
            refuse_beside_ours(path, words + [f"--option {name}" for name in options])
        parts = {} if is_ours(path) else _parts(arguments, options)
        with ProgressBars() as bars:
            bars("reading names", 0, 1)
            found = inspect_checkpoint(path, family=arguments.family, **(parts | options))
            bars("reading names", 1, 1)
    except ValueError as error:  # of the checkpoint, or an option that is missing or unknown
        raise CheckpointError(as_typed(str(error))) from error
    if "lm" in parts and arguments.lm is None:
        found.needs.append("no language model to be named: config.json tells it")
    if arguments.json:
        print_json(asdict(found))
    else:
        print(describe(found))
    if found.error is not None:
        raise CheckpointError(as_typed(found.error))
    if found.missing or found.unknown or found.misshapen:
        counts = f"names missing: {len(found.missing)}, unknown: {len(found.unknown)}"
        counts += f", of another shape: {len(found.misshapen)}" if found.misshapen else ""
        raise CheckpointError(f"{found.where} cannot be loaded as it is; {counts}")
    return 0


def _parts(arguments: argparse.Namespace, options: dict[str, Any]) -> dict[str, Any]:
    """Language model and tower without weights: of the checkpoint's own config, or named."""
    path, name = arguments.checkpoint, arguments.family
    family = detect_family(open_checkpoint(path).shapes) if name is None else find_family(name)
    check_option_values(family, options, family.plan)
    if arguments.lm is not None:
        refuse_own_language_model(family.name, "inspect_checkpoint")
    with torch.device("meta"):
        parts = parts_of_checkpoint(family.name, path, skip=[] if arguments.lm is None else ["lm"])
    return parts if arguments.lm is None else {**parts, "lm": outline_language_model(arguments.lm)}


def describe(found: Inspection) -> str:
    """The report, as text.

    Args:
        found: What `inspect_checkpoint` found.

    Returns:
        Lines of text, gates drawn as bars.

    Example:
        >>> from flamingo_blocks.interop.example import tiny_open_flamingo
        >>> print(describe(inspect_checkpoint(tiny_open_flamingo())).splitlines()[0])
        the checkpoint: open_flamingo, 27 tensors, 179.1 KB (float32 27)
    """
    dtypes = ", ".join(f"{dtype} {count}" for dtype, count in found.dtypes.items())
    lines = [f"{found.where}: {found.family}, {found.num_tensors} tensors, {_bytes(found.num_bytes)} ({dtypes})"]
    lines += [f"  {part:<28} {count / 1e6:>10.3f} M" for part, count in found.parts.items()]
    if found.blocks:
        lines.append(
            f"blocks before layer {', '.join(map(str, found.blocks))}: {_sizes(next(iter(found.blocks.values())))}"
        )
    if found.resampler is not None:
        lines.append(f"resampler: {_sizes(found.resampler)}")
    if found.gates:
        lines.append("gates, tanh of both:" + " " * 12 + "attention" + " " * (_BAR + 1) + "feed-forward")
        lines += [f"  block {n:>3}  {_bar(first)}  {_bar(second)}" for n, (first, second) in found.gates.items()]
    lists = {"missing": found.missing, "unknown": found.unknown}
    for word, names in (lists | ({"of another shape": found.misshapen} if found.misshapen else {})).items():
        lines.append(f"{word}: {len(names) or ('none' if found.error is None else 'not compared')}")
        lines += [f"  {name}" for name in names[:20]] + (["  ..."] if len(names) > 20 else [])
    lines += [f"needs: {need}" for need in found.needs]
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(lines)


def _sizes(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name} {arguments[name]}" for name in _SIZES if arguments.get(name) is not None)


def _bar(opening: float) -> str:
    """How far a gate is open, between 0 and 1, with its sign."""
    full = min(round(abs(opening) * _BAR), _BAR)
    return f"{opening:+.3f} |{'#' * full}{'.' * (_BAR - full)}|"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
