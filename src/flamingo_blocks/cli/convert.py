"""`flamingo-blocks convert`: checkpoints of others to ours, and back."""

import argparse
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flamingo_blocks.cli._arguments import as_typed, natural, positive
from flamingo_blocks.cli._ending import closing
from flamingo_blocks.cli._options import check_option_values
from flamingo_blocks.cli._parts import (
    add_family,
    load_language_model,
    load_tower,
    main_dtype,
    may_tell_parts,
    option,
    parts_of_checkpoint,
    refuse_own_language_model,
    tells_parts,
)
from flamingo_blocks.cli._progress import ProgressBars
from flamingo_blocks.cli._results import add_json, print_json
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop import (
    FAMILIES,
    ForeignCheckpoint,
    detect_family,
    export_foreign,
    find_family,
    is_ours,
    load_foreign,
    open_checkpoint,
    plan_foreign,
    read_record,
    write_checkpoint,
    write_record,
    written_whole,
)
from flamingo_blocks.interop.inspect_checkpoint import refuse_form_of_transformers
from flamingo_blocks.interop.rounded_weights import rounded_names
from flamingo_blocks.models import Flamingo

# Words of the way in, with their defaults.
_WAY_IN: dict[str, Any] = dict.fromkeys(("family", "media_token_id", "end_token_id"))
_WAY_IN |= {"leave_out": [], "frozen": "auto", "dtype": "auto"}
_STAGES = 4  # names, parts, tensors, files
Stage = Callable[[str, int], None]
Written = tuple[dict[str, Any], list[str]]  # facts, and lines that say more
_PARTS = {"lm": "language model", "vision": "vision tower"}


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "convert",
        help="convert checkpoints of other implementations, and back",
        description="Make a folder for Flamingo.from_pretrained of a checkpoint of another implementation; with --to "
        "the other way round. Either all is written or nothing.",
        epilog=closing(
            "flamingo-blocks convert checkpoint.pt --family open_flamingo --lm facebook/opt-125m "
            "--vision openai/clip-vit-large-patch14 --out flamingo",
            "flamingo-blocks convert flamingo --to open_flamingo --lm facebook/opt-125m "
            "--vision openai/clip-vit-large-patch14 --out checkpoint.pt",
        ),
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="file or folder to convert")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="new folder; with --to also a new file")
    parser.add_argument(
        "--to", choices=sorted(FAMILIES), metavar="FAMILY", help="convert a folder of ours to this family"
    )
    add_family(parser)
    _add_parts(parser)
    add_json(parser, "what was written")
    parser.set_defaults(run=run, kept="nothing is written, and the same command begins anew")


def _add_parts(parser: argparse.ArgumentParser) -> None:
    """What is said of language model, tower, tokens and names."""
    parser.add_argument("--lm", metavar="DIR_or_NAME", help="language model of transformers, plain")
    parser.add_argument("--lm-rows", type=positive, metavar="N", help="rows that its table is to have")
    parser.add_argument("--vision", metavar="DIR_or_NAME", help="vision tower of transformers")
    parser.add_argument(
        "--media-token-id", type=natural, metavar="ID", help="id of the media tag, where it is not told"
    )
    parser.add_argument("--end-token-id", type=natural, metavar="ID", help="id of the end of a chunk")
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="PREFIX", help="beginning of names that are not wanted"
    )
    parser.add_argument(
        "--option", type=option, action="append", default=[], metavar="NAME=VALUE", help="an option of the family"
    )
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of language model and tower of an IDEFICS or Llama 3.2 Vision; the checkpoint's own by default",
    )
    parser.add_argument(
        "--frozen",
        choices=("auto", "reference", "include"),
        default="auto",
        help="weights of language model and tower: included where the checkpoint changed them (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert one way or the other."""
    if arguments.out.exists() and not (arguments.out.is_dir() and not any(arguments.out.iterdir())):
        raise CheckpointError(f"{arguments.out} is there already; name another, or take it away first")
    refuse_form_of_transformers(arguments.checkpoint)
    if arguments.to is None and is_ours(arguments.checkpoint):
        raise CheckpointError(f"{arguments.checkpoint} is a folder of ours already; say with --to what it is to become")
    if arguments.to is not None:
        for name, default in _WAY_IN.items():
            if getattr(arguments, name) != default:
                word = f"--{name.replace('_', '-')}"
                raise CheckpointError(f"{word} is for the way to a folder of ours, and does nothing with --to; omit it")
        _check_ours(arguments.checkpoint, arguments.to)
    if arguments.lm_rows is not None and arguments.lm is None:
        raise CheckpointError("--lm-rows is of the language model that --lm names; name it, or omit --lm-rows")
    try:
        with ProgressBars() as bars:
            written, lines = (_to_others if arguments.to else _from_others)(arguments, partial(bars, total=_STAGES))
    except ValueError as error:  # of the checkpoint, or an option that is missing or unknown
        raise CheckpointError(as_typed(str(error))) from error
    if arguments.json:
        print_json({"out": arguments.out, **written, "notes": lines})
    else:
        print(f"{arguments.out}: {'' if arguments.to else 'from '}{written['family']}, {written['tensors']} tensors")
        for line in lines:
            print(f"  {line}")
    return 0


def _check_ours(path: Path, family: str) -> None:
    if not path.exists():
        raise CheckpointError(f"there is no {path}")
    if not is_ours(path):
        raise CheckpointError(
            f"{path} is no folder of ours (flamingo_config.json is missing), and --to begins at one; convert to a "
            f"folder of ours first, without --to, then that folder with --to {family}"
        )


def _from_others(arguments: argparse.Namespace, stage: Stage) -> Written:
    stage("reading names", 0)
    opened = open_checkpoint(arguments.checkpoint)
    kind = detect_family(opened.shapes) if arguments.family is None else find_family(arguments.family)
    options, family = dict(arguments.option), kind.name
    refuse_own_language_model(family, "load_foreign and save_pretrained")
    check_option_values(kind, options, kind.plan)
    options |= _tokens(arguments, options)
    stage("loading parts", 1)
    parts = _parts(arguments, family, main_dtype(opened))
    lm, vision = parts.pop("lm"), parts.pop("vision", None)
    options = parts | options
    plan = plan_foreign(opened, family=family, lm=lm, vision=vision, leave_out=arguments.leave_out, **options)
    stage("converting", 2)
    before = _fingerprint(lm, vision)
    flamingo = load_foreign(
        opened, family=family, lm=lm, vision=vision, leave_out=arguments.leave_out, **options
    )  # fmt: skip
    frozen = arguments.frozen
    if frozen == "auto":
        frozen = "reference" if before == _fingerprint(lm, vision) else "include"
    stage("writing", 3)
    with written_whole(arguments.out) as folder:
        flamingo.save_pretrained(folder, frozen=frozen)
        write_record(
            folder, opened, family=family, options=options, leave_out=arguments.leave_out, kept=list(plan.kept)
        )  # fmt: skip
    stage("writing", _STAGES)
    lines = _parts_inside(vision, frozen) + _rounded(opened, rounded_names(opened, plan, flamingo))
    return {"family": family, "tensors": len(opened.tensors), "frozen": frozen}, lines


def _tokens(arguments: argparse.Namespace, options: dict[str, Any]) -> dict[str, int]:
    """Ids that have a word of their own."""
    told = {name: getattr(arguments, name) for name in ("media_token_id", "end_token_id")}
    told = {name: token for name, token in told.items() if token is not None}
    if twice := next((name for name in told if name in options), None):
        word = f"--{twice.replace('_', '-')}"
        raise CheckpointError(f"{word} and --option {twice}= are one option, and both were given; omit one of them")
    return told


def _parts(arguments: argparse.Namespace, family: str, dtype: torch.dtype) -> dict[str, Any]:
    """Language model and tower, named or of the checkpoint's own config, and the options that this tells."""
    named = [name for name in ("lm", "vision") if getattr(arguments, name) is not None]
    if arguments.dtype != "auto":
        if not tells_parts(family, arguments.checkpoint):
            raise CheckpointError("--dtype is for folders of IDEFICS and Llama 3.2 Vision; others keep what --lm has")
        if named:
            raise CheckpointError(
                f"--dtype is of parts that config.json tells, and --{named[0]} names another, which has a dtype of its "
                "own; omit one of them"
            )
        dtype = getattr(torch, arguments.dtype)
    parts = parts_of_checkpoint(family, arguments.checkpoint, dtype=dtype, skip=named)
    if arguments.lm is not None:
        parts["lm"] = load_language_model(arguments.lm, rows=arguments.lm_rows)
    if arguments.vision is not None:
        parts["vision"] = load_tower(arguments.vision)
    if "lm" not in parts and may_tell_parts(family):
        raise CheckpointError(
            f"{arguments.checkpoint} has no config.json, which tells language model and tower of {family}; name the "
            "folder that holds it, put it there, or name a language model with --lm"
        )
    if "lm" not in parts:
        raise CheckpointError("a language model is needed; name it with --lm")
    return parts


def _parts_inside(vision: nn.Module | None, frozen: str) -> list[str]:
    """Which frozen weights the folder holds, and what is to be passed on loading."""
    included = frozen == "include"
    lines = [
        f"{part}: weights inside" if included else f"{part}: as it was, so not inside; pass {argument}= on loading"
        for argument, part in _PARTS.items()
        if argument == "lm" or vision is not None
    ]
    return lines + ["no vision tower inside: pass vision= on loading, or features"] * (vision is None)


def _rounded(opened: ForeignCheckpoint, rounded: dict[str, list[str]]) -> list[str]:
    """What the way back cannot give as it was."""
    lines = []
    for part, names in rounded.items():
        dtypes = sorted({str(opened.tensors[name].dtype).removeprefix("torch.") for name in names})
        kinds = " and ".join(dtypes)
        lines.append(
            f"{_PARTS[part]}: of fewer digits than the checkpoint, so tensors of {kinds} are rounded and come back so: "
            f"{names[0]}{', ...' * (len(names) > 1)} ({len(names)} in all); for all digits use one in {kinds}"
        )
    return lines


def _to_others(arguments: argparse.Namespace, stage: Stage) -> Written:
    stage("reading names", 0)
    family = find_family(arguments.to)
    refuse_own_language_model(family.name, "export_foreign and write_checkpoint")
    record = read_record(arguments.checkpoint)
    like = None if record is None or record.family != family.name else record
    check_option_values(family, dict(arguments.option), family.entries if like is None else family.plan)
    stage("loading parts", 1)
    lm = None if arguments.lm is None else load_language_model(arguments.lm, rows=arguments.lm_rows)
    vision = None if arguments.vision is None else load_tower(arguments.vision)
    flamingo = Flamingo.from_pretrained(arguments.checkpoint, lm=lm, vision=vision)
    stage("converting", 2)
    if like is not None:
        options = {**like.options, **dict(arguments.option)}
        tensors = export_foreign(
            flamingo, family=family.name, like=like.like, leave_out=like.leave_out, **options
        )  # fmt: skip
        stage("writing", 3)
        write_checkpoint(tensors, arguments.out, like=like.like)
    else:
        tensors = export_foreign(flamingo, family=family.name, **dict(arguments.option))
        stage("writing", 3)
        write_checkpoint(tensors, arguments.out)
    stage("writing", _STAGES)
    return {"family": family.name, "tensors": len(tensors)}, []


def _fingerprint(*parts: nn.Module | None) -> str:
    """Tells whether the frozen weights are those that were there before."""
    digest = hashlib.sha256()
    for part in parts:
        for name, tensor in () if part is None else part.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
