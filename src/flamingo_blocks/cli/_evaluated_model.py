"""A model to be measured, by the name that the command line has for it."""

import json
from pathlib import Path
from typing import Any

import torch

from flamingo_blocks._optional import require
from flamingo_blocks.data.one_line import one_line
from flamingo_blocks.demo import load_demo_model
from flamingo_blocks.demo.completion import is_demo_model
from flamingo_blocks.demo.demo_processor import demo_processor
from flamingo_blocks.errors import EvaluationError, RecipeError
from flamingo_blocks.evaluation.answering import EvaluatedModel, FlamingoModel, TransformersModel
from flamingo_blocks.models import Flamingo, FlamingoProcessor
from flamingo_blocks.training import load_recipe

_WANTED = (
    "wanted a folder that Flamingo.save_pretrained, the demo or transformers' save_pretrained wrote, or "
    "FILE.py:FUNCTION that returns (flamingo, processor) or an EvaluatedModel"
)


def load_evaluated(
    name: str, *, device: torch.device, tokenizer: Path | None = None, chat: bool = False
) -> EvaluatedModel:
    """A model with what makes its prompts.

    Args:
        name: A folder, or a function of a file or module.
        device: Where it is to run; a model of one's own class is where its function has put it.
        tokenizer: Folder of the tokenizer, for a folder that `Flamingo.save_pretrained` wrote.
        chat: Whether a model of transformers that is no Flamingo is asked in its chat template.

    Raises:
        EvaluationError: If there is no such model, it comes without a tokenizer, or `chat` is not for it.
    """
    folder = Path(name)
    found = _from_folder(folder, tokenizer, chat=chat) if folder.is_dir() else _from_function(name)
    if chat and not (folder.is_dir() and isinstance(found, TransformersModel)):
        what = "a Flamingo" if isinstance(found, tuple) else "what a function has made"
        raise EvaluationError(f"--chat is for other models that transformers saved; {name} is {what}, leave --chat out")
    if isinstance(found, tuple):
        found[0].to(device)
        return FlamingoModel(*found)
    if folder.is_dir() and isinstance(found, TransformersModel):
        found.model.to(device)
    return found


def _from_folder(
    folder: Path, tokenizer: Path | None, *, chat: bool
) -> tuple[Flamingo, FlamingoProcessor] | TransformersModel:
    if _has_model_type(folder):
        return _from_transformers(folder, chat=chat)
    if is_demo_model(folder):
        flamingo, vocabulary = load_demo_model(folder)
        return flamingo, demo_processor(vocabulary, flamingo)
    places = (folder / "tokenizer", folder.parent / "tokenizer")
    beside = tokenizer or next((each for each in places if each.is_dir()), None)
    flamingo = Flamingo.from_pretrained(folder)
    if beside is None:
        raise EvaluationError(f"{folder} has no tokenizer beside it; name one with --tokenizer")
    auto = require("transformers", used_by="flamingo-blocks eval", extra="hf").AutoTokenizer
    return flamingo, FlamingoProcessor(
        tokenizer=auto.from_pretrained(beside),
        preprocess=None if flamingo.vision is None else flamingo.vision.preprocess,
        media_token_id=flamingo.media_token_id,
        end_token_id=flamingo.end_token_id,
    )


def _has_model_type(folder: Path) -> bool:
    """Whether a folder holds a model of transformers, ours or another."""
    try:
        values = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):  # none, no text, or no JSON
        return False
    return isinstance(values, dict) and isinstance(values.get("model_type"), str)


def _from_transformers(folder: Path, *, chat: bool) -> tuple[Flamingo, FlamingoProcessor] | TransformersModel:
    from flamingo_blocks import hf  # noqa: PLC0415 - registers with transformers

    auto = require("transformers", used_by="flamingo-blocks eval", extra="hf")
    try:
        model = auto.AutoModelForImageTextToText.from_pretrained(folder)
        processor = auto.AutoProcessor.from_pretrained(folder)
    except (OSError, ValueError) as error:  # of another kind, or files that are not there
        raise EvaluationError(
            f"{folder} is not read as a vision-language model: {one_line(error)}; {_WANTED}"
        ) from error
    if not isinstance(model, hf.FlamingoForConditionalGeneration):
        return TransformersModel(model.eval(), processor, chat=chat)
    rows: FlamingoProcessor = processor.rows
    return model.flamingo.eval(), rows


def _from_function(name: str) -> tuple[Flamingo, FlamingoProcessor] | EvaluatedModel:
    if ":" not in name:
        raise EvaluationError(f"--model names {name}, which is no folder; {_WANTED}")
    try:
        found: Any = load_recipe(name)()
    except RecipeError as error:
        raise EvaluationError(f"--model names {name}: {str(error).removeprefix('RECIPE is ')}; {_WANTED}") from error
    if isinstance(found, EvaluatedModel):
        return found
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Flamingo)):
        raise EvaluationError(f"{name} returned a {type(found).__name__}; {_WANTED}")
    if not isinstance(found[1], FlamingoProcessor):
        raise EvaluationError(f"{name} returned a {type(found[1]).__name__} beside the model; {_WANTED}")
    return found[0].eval(), found[1]
