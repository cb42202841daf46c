"""A model to be measured, by the name that the command line has for it."""

from pathlib import Path
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.demo import load_demo_model
from flamingo_blocks.demo.completion import is_demo_model
from flamingo_blocks.demo.demo_processor import demo_processor
from flamingo_blocks.errors import EvaluationError, RecipeError
from flamingo_blocks.models import Flamingo, FlamingoProcessor
from flamingo_blocks.models.saving import is_of_transformers
from flamingo_blocks.training import load_recipe

_WANTED = (
    "wanted a folder that Flamingo.save_pretrained, the demo or transformers' save_pretrained wrote, or "
    "FILE.py:FUNCTION that returns (flamingo, processor)"
)


def load_evaluated(name: str, *, tokenizer: Path | None = None) -> tuple[Flamingo, FlamingoProcessor]:
    """A model and what makes its prompts.

    Args:
        name: A folder, or a function of a file or module.
        tokenizer: Folder of the tokenizer, for a folder that `Flamingo.save_pretrained` wrote.

    Raises:
        EvaluationError: If there is no such model, or it comes without a tokenizer.
    """
    folder = Path(name)
    if not folder.is_dir():
        return _from_function(name)
    if is_demo_model(folder):
        flamingo, vocabulary = load_demo_model(folder)
        return flamingo, demo_processor(vocabulary, flamingo)
    if is_of_transformers(folder):
        return _from_transformers(folder)
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


def _from_transformers(folder: Path) -> tuple[Flamingo, FlamingoProcessor]:
    from flamingo_blocks import hf  # noqa: PLC0415 - registers with transformers

    auto = require("transformers", used_by="flamingo-blocks eval", extra="hf")
    model = auto.AutoModelForImageTextToText.from_pretrained(folder)
    if not isinstance(model, hf.FlamingoForConditionalGeneration):
        raise EvaluationError(f"{folder} holds a {type(model).__name__}; {_WANTED}")
    processor: hf.FlamingoProcessor = auto.AutoProcessor.from_pretrained(folder)
    return model.flamingo.eval(), processor.rows


def _from_function(name: str) -> tuple[Flamingo, FlamingoProcessor]:
    if ":" not in name:
        raise EvaluationError(f"--model names {name}, which is no folder; {_WANTED}")
    try:
        found: Any = load_recipe(name)()
    except RecipeError as error:
        raise EvaluationError(f"--model names {name}: {str(error).removeprefix('RECIPE is ')}; {_WANTED}") from error
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Flamingo)):
        raise EvaluationError(f"{name} returned a {type(found).__name__}; {_WANTED}")
    if not isinstance(found[1], FlamingoProcessor):
        raise EvaluationError(f"{name} returned a {type(found[1]).__name__} beside the model; {_WANTED}")
    return found[0].eval(), found[1]
