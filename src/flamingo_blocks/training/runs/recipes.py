"""Recipes: functions that return the config of a run, found by name, with settings by word."""

import ast
import difflib
import importlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from flamingo_blocks.errors import RecipeError
from flamingo_blocks.training.runs.run_config import RunConfig

Recipe = Callable[..., RunConfig]
_WORDS = {"true": True, "false": False, "none": None}


def load_recipe(name: str) -> Recipe:
    """Find a recipe.

    Args:
        name: `path/to/file.py`, whose function `recipe` is taken, or `path/to/file.py:function`; or
            `package.module:function` of what is installed. The code of the file runs.

    Returns:
        The function.

    Raises:
        RecipeError: If there is no such file, module or function.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("tiny.py").write_text("def recipe(*, steps: int = 3): ...")
        >>> load_recipe("tiny.py").__name__
        'recipe'
    """
    where, _, function = name.partition(":")
    if where.endswith(".py") or "/" in where:
        module = _module_of_file(Path(where))
    else:
        try:
            module = importlib.import_module(where)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{where}.".startswith(f"{error.name}."):
                raise  # it is there, and imports what is not
            raise RecipeError(f"RECIPE is {name!r}, and there is no file or module of that name: {error}") from error
    found = getattr(module, function or "recipe", None)
    if not callable(found):
        public = [key for key, value in vars(module).items() if inspect.isfunction(value) and not key.startswith("_")]
        raise RecipeError(f"{where} has no function {function or 'recipe'!r}; it has {', '.join(public) or 'none'}")
    result: Recipe = found
    return result


def call_recipe(recipe: Recipe, words: Sequence[str] = ()) -> RunConfig:
    """Call a recipe with settings that are words.

    Args:
        recipe: Takes its settings by name, each with an annotation and a default.
        words: `key=value` each. A value is read as what the annotation says: `int`, `float`, `bool`, `str`, `Path`, a
            `Literal`, a tuple of these in Python's form or with commas, or any of them `| None`.

    Returns:
        The config.

    Raises:
        RecipeError: If a word is no `key=value`, a setting is unknown or said twice, a value is of another kind, a
            setting without a default is missing, or the recipe returns something else.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> from flamingo_blocks.training import Feed
        >>> def recipe(*, steps: int = 3, folder: Path = Path("run")):
        ...     return RunConfig(
        ...         build=build_tiny_flamingo, feed=lambda model: Feed(objectives=[]), batches={}, steps=steps, lr=1e-3,
        ...         folder=folder,
        ...     )
        >>> config = call_recipe(recipe, ["steps=1_000"])
        >>> config.steps, str(config.folder)
        (1000, 'run')
    """
    known = inspect.signature(recipe).parameters
    hints = get_type_hints(recipe)
    given: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise RecipeError(f"{word!r} is no setting; settings are of the form key=value")
        if key not in known:
            close = difflib.get_close_matches(key, known)
            meant = f"did you mean {' or '.join(close)}" if close else f"its settings are {', '.join(known)}"
            raise RecipeError(f"the recipe has no setting {key!r}; {meant}")
        if key in given:
            raise RecipeError(f"{key} is said twice, as {given[key]!r} and as {value!r}")
        given[key] = _read(key, value, hints.get(key, str))
    missing = [key for key, what in known.items() if what.default is inspect.Parameter.empty and key not in given]
    if missing:
        raise RecipeError(f"the recipe needs {', '.join(f'{key}=...' for key in missing)}")
    config: Any = recipe(**given)
    if not isinstance(config, RunConfig):
        name = getattr(recipe, "__name__", "the recipe")
        raise RecipeError(f"{name} returned a {type(config).__name__}, wanted a RunConfig")
    return config


def describe_recipe(recipe: Recipe) -> str:
    """What a recipe is, and its settings with their defaults, a line each.

    Args:
        recipe: As for `call_recipe`.

    Returns:
        The text.

    Example:
        >>> def recipe(*, steps: int = 3):
        ...     "A short run."
        >>> print(describe_recipe(recipe))
        A short run.
        <BLANKLINE>
          steps=3    int
    """
    known = inspect.signature(recipe).parameters
    shown = {key: f"{key}={_default(what)}" for key, what in known.items()}
    width = max(map(len, shown.values()), default=0)
    hints = get_type_hints(recipe)
    lines = [f"  {text:<{width}}    {_name(hints.get(key, str))}" for key, text in shown.items()]
    return "\n".join([inspect.getdoc(recipe) or "A recipe.", "", *lines])


def _module_of_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise RecipeError(f"RECIPE is {str(path)!r}, and there is no such file")
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"RECIPE is {str(path)!r}, wanted a file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for what looks a class's module up, and for workers
    sys.path.insert(0, str(path.parent))  # as for a script: a recipe may share a file with its neighbours
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def _read(key: str, word: str, kind: Any) -> Any:
    """The value of a word, as one of the kinds that an annotation allows."""
    for one in _kinds(kind):
        try:
            return _as(word, one)
        except (ValueError, SyntaxError, KeyError):
            continue
    raise RecipeError(f"{key}={word}: wanted {_name(kind)}")


def _kinds(kind: Any) -> list[Any]:
    """The parts of a union, `None` and numbers before words, which any word is."""
    parts = list(get_args(kind)) if get_origin(kind) in (types.UnionType, Union) else [kind]
    return sorted(parts, key=lambda part: part in (str, Path))


def _as(word: str, kind: Any) -> Any:
    if kind in (str, Path):
        return kind(word)
    if get_origin(kind) is Literal:
        return {str(choice): choice for choice in get_args(kind)}[word]
    if get_origin(kind) is tuple:
        each, *_ = get_args(kind)
        return tuple(_as(part.strip().strip("'\""), each) for part in word.strip("()").split(",") if part.strip())
    value: Any = _WORDS[word.lower()] if word.lower() in _WORDS else ast.literal_eval(word)
    if kind is float and type(value) in (int, float):
        return float(value)
    if type(value) is not kind:
        raise ValueError
    return value


def _default(setting: inspect.Parameter) -> str:
    return "..." if setting.default is inspect.Parameter.empty else str(setting.default)


def _name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(str(choice) for choice in get_args(kind))
    if get_origin(kind) in (types.UnionType, Union):
        return " or ".join(_name(part) for part in get_args(kind))
    if get_origin(kind) is tuple:
        return f"{_name(get_args(kind)[0])}s with commas between them"
    if kind is bool:
        return "true or false"
    return "None" if kind is type(None) else str(getattr(kind, "__name__", kind))
