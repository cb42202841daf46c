"""Call any decoder language model: give it what its `forward` takes, read logits and cache from what it returns."""

import inspect
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from flamingo_blocks.models.check_arguments import refuse_where

_names: "WeakKeyDictionary[Any, frozenset[str]]" = WeakKeyDictionary()  # of arguments, by function


class LanguageModelOutput(NamedTuple):
    """Logits of a call, and the cache when the model keeps one."""

    logits: Float[Tensor, "batch text vocab"]
    cache: Any | None


def accepts(lm: nn.Module, name: str) -> bool:
    """Whether the model's `forward` names an argument."""
    lm = getattr(lm, "_orig_mod", lm)  # compiled models and adapters hide the names
    if callable(base := getattr(lm, "get_base_model", None)):
        lm = base()
    function = getattr(lm.forward, "__func__", None)
    if torch.compiler.is_compiling() or not inspect.isfunction(function):
        return name in inspect.signature(lm.forward).parameters
    if function not in _names:  # reading a signature takes as long as ten small operations, each call asks six times
        _names[function] = frozenset(inspect.signature(lm.forward).parameters)
    return name in _names[function]


def caches(lm: nn.Module) -> bool:
    """Whether the model keeps keys and values between calls, as transformers' models do."""
    return accepts(lm, "past_key_values") and accepts(lm, "use_cache")


def call_language_model(
    lm: nn.Module,
    input_ids: Int[Tensor, "batch text"],
    *,
    attention_mask: Tensor | None = None,
    position_ids: Int[Tensor, "batch text"] | None = None,
    cache: Any | None = None,
    use_cache: bool = False,
    logits_to_keep: int = 0,
) -> LanguageModelOutput:
    """Run a language model on token ids.

    Args:
        lm: Any decoder, called as `lm(input_ids, ...)`; gives logits, or an object with `logits`.
        input_ids: The tokens that the cache does not hold yet.
        attention_mask: [batch past+text], 1 or True at real tokens; or [batch 1 text text], added to the scores.
        position_ids: Positions; derived from a two-axis `attention_mask` where the model takes them.
        cache: The model's own cache; it is changed by the call.
        use_cache: Whether to make or fill a cache.
        logits_to_keep: Last columns whose logits are wanted; 0 for all.

    Returns:
        Logits, and the cache if the model returned one.

    Raises:
        ValueError: If the text is padded on the left and the model takes no `attention_mask`, or gives no logits.
    """
    wanted: dict[str, Any] = {}
    if attention_mask is not None and accepts(lm, "attention_mask"):
        wanted["attention_mask"] = attention_mask.long() if attention_mask.dtype == torch.bool else attention_mask
    elif attention_mask is not None:
        _refuse_left_pads(lm, attention_mask)
    if position_ids is None and attention_mask is not None and attention_mask.ndim == 2:
        position_ids = (attention_mask.long().cumsum(1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]
    if position_ids is not None and accepts(lm, "position_ids"):
        wanted["position_ids"] = position_ids
    if caches(lm):
        wanted |= {"past_key_values": cache, "use_cache": use_cache}
    elif accepts(lm, "use_cache"):
        wanted["use_cache"] = False  # its states could not be handed back
    if logits_to_keep and accepts(lm, "logits_to_keep"):
        wanted["logits_to_keep"] = logits_to_keep
    output = lm(input_ids, **wanted)
    logits = logits_of(output, lm)
    if logits_to_keep:
        logits = logits[:, -logits_to_keep:]
    return LanguageModelOutput(logits, getattr(output, "past_key_values", None) if use_cache else None)


def logits_of(output: object, lm: nn.Module) -> Tensor:
    """The logits in what a language model gave.

    Args:
        output: What it gave.
        lm: The model, for the message.

    Raises:
        ValueError: If there are none.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 3:
        given = (
            f"a tensor of shape {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(output).__name__}"
        )
        raise ValueError(
            f"{type(lm).__name__} gives {given}, wanted logits [batch text vocab], or an object with logits and "
            "past_key_values; wrap the model in a module whose forward returns that"
        )
    return logits


def _refuse_left_pads(lm: nn.Module, attention_mask: Shaped[Tensor, "batch text"]) -> None:
    real = attention_mask.bool()
    refuse_where(
        (~real[:, :-1] & real[:, 1:]).any(),
        lambda: (
            f"attention_mask has pads before real tokens, but {type(lm).__name__}.forward takes no attention_mask; "
            "pad on the right, or give rows of one length"
        ),
    )
