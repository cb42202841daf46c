"""Language models and towers that are named on the command line."""

import argparse
import ast
import math
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flamingo_blocks._optional import require
from flamingo_blocks._whole_weights import load_and_list_missing, refuse_missing
from flamingo_blocks.errors import CheckpointError, FlamingoBlocksError
from flamingo_blocks.interop import FAMILIES, ForeignCheckpoint, idefics_parts, mllama_parts
from flamingo_blocks.vision import TransformersTower
from flamingo_blocks.vision._transformers_facts import inside_vision_part

_PARTS_BY_FAMILY = {"idefics": idefics_parts, "mllama": mllama_parts}
_LM, _TOWER = "language model", "vision tower"
_OWN_LANGUAGE_MODEL = {"flamingo_pytorch": "a PaLM of its own"}


def add_family(parser: argparse.ArgumentParser) -> None:
    """The option `--family`.

    Args:
        parser: Of a command that reads a checkpoint of others.
    """
    families = sorted(FAMILIES)
    parser.add_argument(
        "--family", choices=families, metavar="FAMILY",
        help=f"found by the names of the tensors if it is not told; one of {', '.join(families)}",
    )  # fmt: skip


def option(word: str) -> tuple[str, Any]:
    """`NAME=VALUE`, the value a Python literal or else a string."""
    name, equals, value = word.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{word!r} is not of the form NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def load_language_model(name: str, *, rows: int | None = None) -> nn.Module:
    """A causal language model of transformers, with its weights.

    Args:
        name: Folder, or name on the hub.
        rows: Rows that its table is to have.

    Raises:
        CheckpointError: If it cannot be loaded, or lacks weights.
    """
    transformers = require("transformers", used_by="flamingo-blocks convert", extra="hf")
    lm, missing = _load(partial(load_and_list_missing, transformers.AutoModelForCausalLM.from_pretrained), name, _LM)
    refuse_missing(missing, name, _LM)
    if rows is not None:
        lm.resize_token_embeddings(rows, mean_resizing=False)
    model: nn.Module = lm
    return model


def outline_language_model(name: str) -> nn.Module:
    """The same without weights: only its config is read."""
    transformers = require("transformers", used_by="flamingo-blocks inspect", extra="hf")

    def outline(folder: str) -> nn.Module:
        config = transformers.AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            lm: nn.Module = transformers.AutoModelForCausalLM.from_config(config)
        return lm

    found: nn.Module = _load(outline, name, _LM)
    return found


def load_tower(name: str) -> nn.Module:
    """A vision tower of transformers, with its weights.

    Args:
        name: Folder, or name on the hub; of a two-tower model the vision part is taken.

    Raises:
        CheckpointError: If it cannot be loaded, is no tower, or its vision part lacks weights: also one that no patch
            token is made with, for the converted folder refers to a tower by the sha256 of all its weights.
    """
    transformers = require("transformers", used_by="flamingo-blocks convert", extra="hf")
    model, missing = _load(partial(load_and_list_missing, transformers.AutoModel.from_pretrained), name, _TOWER)
    refuse_missing(inside_vision_part(model, missing), name, _TOWER)
    try:
        return TransformersTower(model)
    except ValueError as error:
        raise CheckpointError(
            f"--vision names {name}, of class {type(model).__name__}, which is no tower that the command can use; "
            "wanted a folder or name of CLIP, SigLIP, ViT, DeiT, DINOv2 or DINOv3; others are for Python"
        ) from error


def may_tell_parts(family: str) -> bool:
    """Whether folders of a family have a config that tells language model and tower."""
    return family in _PARTS_BY_FAMILY


def tells_parts(family: str, checkpoint: Path) -> bool:
    """Whether a checkpoint has a config that tells its language model and tower."""
    return may_tell_parts(family) and (checkpoint / "config.json").is_file()


def parts_of_checkpoint(
    family: str, checkpoint: Path, *, dtype: torch.dtype | None = None, skip: Collection[str] = ()
) -> dict[str, Any]:
    """Language model, tower and options that a checkpoint's own config tells; nothing where it has none.

    Args:
        family: Of the checkpoint.
        checkpoint: Its folder.
        dtype: Of the weights.
        skip: Parts that are named on the command line, and not built.
    """
    if not tells_parts(family, checkpoint):
        return {}

    def build(folder: str) -> dict[str, Any]:
        return _PARTS_BY_FAMILY[family](folder, dtype=dtype, skip=skip)

    found: dict[str, Any] = _load(build, str(checkpoint), "config of")
    return found


def refuse_own_language_model(family: str, function: str) -> None:
    """Say of a family whose language model cannot be named how it is converted instead.

    Args:
        family: Its name.
        function: What to call in Python.

    Raises:
        CheckpointError: If it is such a family.
    """
    if family in _OWN_LANGUAGE_MODEL:
        raise CheckpointError(
            f"{family} is for Python alone: its language model is {_OWN_LANGUAGE_MODEL[family]}, and --lm names models "
            f"of transformers; call {function}, as the page 'Convert checkpoints' shows"
        )


def main_dtype(opened: ForeignCheckpoint) -> torch.dtype:
    """The dtype of most of a checkpoint's weights, of those that a model can be built in."""
    weights: Counter[torch.dtype] = Counter()
    for facts in opened.tensors.values():
        if facts.dtype.is_floating_point and facts.dtype.itemsize > 1:
            weights[facts.dtype] += math.prod(facts.shape)
    return max(weights, key=lambda dtype: weights[dtype], default=torch.float32)


def _load(load: Callable[[str], Any], name: str, what: str) -> Any:
    try:
        return load(name)
    except (FlamingoBlocksError, MemoryError):
        raise
    except Exception as error:  # no such folder or name, another kind, a bad value: each library has its own classes
        first, *others = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = f"{first} {others[0]}" if others and first.endswith(":") else first
        raise CheckpointError(f"the {what} {name} cannot be loaded: {reason}") from error
