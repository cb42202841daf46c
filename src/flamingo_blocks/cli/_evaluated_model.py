"""A model to be measured, by the name that the command line has for it."""

import ast
import json
from pathlib import Path
from typing import Any

import torch

from flamingo_blocks._optional import require
from flamingo_blocks.demo import load_demo_model
from flamingo_blocks.demo.completion import is_demo_model
from flamingo_blocks.demo.demo_processor import demo_processor
from flamingo_blocks.errors import EvaluationError, RecipeError
from flamingo_blocks.evaluation.answering import EvaluatedModel, FlamingoModel, TransformersModel
from flamingo_blocks.evaluation.tasks.task_files import held
from flamingo_blocks.models import Flamingo, FlamingoProcessor
from flamingo_blocks.training import load_recipe

_WANTED = (
    "wanted a folder that Flamingo.save_pretrained, the demo or transformers' save_pretrained wrote, or "
    "FILE.py:FUNCTION that returns (flamingo, processor) or an EvaluatedModel"
)
_PROCESSORS = ("processor_config.json", "preprocessor_config.json")


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
        EvaluationError: If there is no such model, it comes without a tokenizer or a processor, or `chat` is asked of
            another model.
    """
    folder = Path(name)
    if tokenizer is not None and ((folder / "config.json").is_file() or not folder.is_dir() or is_demo_model(folder)):
        raise EvaluationError(
            f"--tokenizer is for folders of Flamingo.save_pretrained; {name} comes with its own, leave it out"
        )
    if chat and not folder.is_dir():
        raise EvaluationError(
            f"--chat is for folders of transformers; have {name} return TransformersModel(..., chat=True), and leave "
            "--chat out"
        )
    found = _from_folder(folder, tokenizer, chat=chat) if folder.is_dir() else _from_function(name)
    if isinstance(found, tuple):
        found[0].to(device)
        return FlamingoModel(*found)
    if folder.is_dir() and isinstance(found, TransformersModel):
        found.model.to(device)
    return found


def _from_folder(
    folder: Path, tokenizer: Path | None, *, chat: bool
) -> tuple[Flamingo, FlamingoProcessor] | TransformersModel:
    if (folder / "config.json").is_file():
        return _from_transformers(folder, _model_type(folder), chat=chat)
    if not (folder / "flamingo_config.json").is_file():
        raise EvaluationError(
            f"{folder} holds no model: neither config.json nor flamingo_config.json is there, and {held(folder)}; "
            f"{_WANTED}"
        )
    if chat:
        raise EvaluationError(_no_chat(folder))
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


def _no_chat(folder: Path) -> str:
    return f"--chat is for other models of transformers; {folder} holds a Flamingo, leave --chat out"


def _model_type(folder: Path) -> str:
    file = folder / "config.json"
    try:
        values = json.loads(file.read_text())
    except (OSError, ValueError) as error:  # no text, or no JSON
        raise EvaluationError(f"{file} is no JSON: {error}; save the model into the folder again") from error
    found = values.get("model_type") if isinstance(values, dict) else None
    if not isinstance(found, str):
        raise EvaluationError(f"{file} has no model_type, so it is of no model of transformers; {_WANTED}")
    return found


def _from_transformers(
    folder: Path, model_type: str, *, chat: bool
) -> tuple[Flamingo, FlamingoProcessor] | TransformersModel:
    from flamingo_blocks import hf  # noqa: PLC0415 - registers with transformers

    if chat and model_type == hf.FlamingoConfig.model_type:
        raise EvaluationError(_no_chat(folder))
    auto = require("transformers", used_by="flamingo-blocks eval", extra="hf")
    try:
        _check_kind(folder, model_type, auto)
        model = auto.AutoModelForImageTextToText.from_pretrained(folder)
        processor = auto.AutoProcessor.from_pretrained(folder)
    except (OSError, ValueError) as error:  # of a kind that this transformers does not know, or files are not there
        if isinstance(error, EvaluationError):
            raise
        said = str(error).strip().partition("\n")[0]
        raise EvaluationError(f"{folder} is not read as a vision-language model: {said}") from error
    if not isinstance(model, hf.FlamingoForConditionalGeneration):
        return TransformersModel(model.eval(), processor, chat=chat)
    rows: FlamingoProcessor = processor.rows
    return model.flamingo.eval(), rows


def _check_kind(folder: Path, model_type: str, auto: Any) -> None:
    """Refuse what reads no images or has no processor, before any weights are read."""
    config = type(auto.AutoConfig.from_pretrained(folder))
    if config not in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        alone = config in auto.MODEL_FOR_CAUSAL_LM_MAPPING
        why = "reads no images: a language model alone" if alone else "is no model that writes of images and text"
        raise EvaluationError(
            f"{folder} holds a model of type {model_type!r}, which {why}; name a vision-language model"
        )
    if not any((folder / name).is_file() for name in _PROCESSORS):
        raise EvaluationError(
            f"{folder} holds a model of type {model_type!r} without its processor: neither {' nor '.join(_PROCESSORS)} "
            "is there; save its processor into the folder too"
        )


def _from_function(name: str) -> tuple[Flamingo, FlamingoProcessor] | EvaluatedModel:
    if ":" not in name and Path(name).suffix == ".py" and Path(name).is_file():
        raise EvaluationError(f"--model names the file {name}; add :FUNCTION; it has {_functions(Path(name))}")
    if ":" not in name:
        raise EvaluationError(f"--model names {name}, which is no folder; {_WANTED}")
    try:
        found: Any = load_recipe(name)()
    except RecipeError as error:
        raise EvaluationError(f"--model names {name}: {str(error).removeprefix('RECIPE is ')}; {_WANTED}") from error
    if isinstance(found, type):  # it has the methods, so that it would pass for a model
        raise EvaluationError(f"{name} returned a class, {found.__name__}; return an instance of it")
    if isinstance(found, EvaluatedModel):
        return found
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Flamingo)):
        raise EvaluationError(f"{name} returned a {type(found).__name__}; {_WANTED}")
    if not isinstance(found[1], FlamingoProcessor):
        raise EvaluationError(f"{name} returned a {type(found[1]).__name__} beside the model; {_WANTED}")
    return found[0].eval(), found[1]


def _functions(file: Path) -> str:
    """Names of the functions of a file, which is not run for that."""
    try:
        parts = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError):
        return "none that can be read"
    public = [part.name for part in parts if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")]
    return ", ".join(public) or "none"
