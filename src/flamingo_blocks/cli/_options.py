"""Values of `--option NAME=VALUE`, held to what a family's function says it takes."""

import inspect
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop import Family

# Ids and counts, and the depth of a resampler that may be absent; sizes are from 1.
_FROM_ZERO = ("media_token_id", "end_token_id", "document_end_id", "num_new_tokens", "resampler_depth")
_PARTS = ("shapes", "lm", "vision", "flamingo")  # no options: what the command passes by itself


def check_option_values(family: Family, options: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Refuse options that a family does not have, and values that cannot be meant, before anything is read or written.

    Args:
        family: Whose options they are.
        options: By name.
        function: Its `plan` for the way in, its `entries` for the way out.

    Raises:
        CheckpointError: Naming the option, the value and what is wanted.

    Example:
        >>> from flamingo_blocks.interop import find_family
        >>> family = find_family("open_flamingo")
        >>> check_option_values(family, {"every": 4, "layers": "model.layers"}, family.plan)
        >>> try:
        ...     check_option_values(family, {"head_dim": 0}, family.plan)
        ... except CheckpointError as error:
        ...     print(error)
        --option head_dim=0 of open_flamingo: wanted a whole number above 0
    """
    known = {name: given for name, given in inspect.signature(function).parameters.items() if name not in _PARTS}
    for name, value in options.items():
        if name not in known:
            its = f"its options are {', '.join(known)}" if known else "it has none here"
            raise CheckpointError(f"{family.name} has no option {name!r}; {its}")
        kinds = _kinds(known[name].annotation)
        if not any(_fits(name, value, kind) for kind in kinds):
            wanted = " or ".join(dict.fromkeys(_words(name, kind) for kind in kinds))
            raise CheckpointError(f"--option {name}={value!r} of {family.name}: wanted {wanted}")


def _kinds(annotation: Any) -> list[Any]:
    """The parts of a union; the values of a `Literal` each for itself."""
    if get_origin(annotation) in (types.UnionType, Union, Literal):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    return [annotation]


def _fits(name: str, value: Any, kind: Any) -> bool:
    if kind is int:
        return type(value) is int and value >= (0 if name in _FROM_ZERO else 1)
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value) and value > 0
    if isinstance(kind, type):
        return type(value) is kind
    return bool(value == kind)


def _words(name: str, kind: Any) -> str:
    words = {
        int: "a whole number, 0 or more" if name in _FROM_ZERO else "a whole number above 0",
        float: "a number above 0", bool: "True or False", str: "a name", types.NoneType: "None",
    }  # fmt: skip
    return words[kind] if isinstance(kind, type) else repr(kind)
