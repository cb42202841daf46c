"""What a language model can be trusted with beyond plain text: seen once, on a few tokens, and remembered."""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from flamingo_blocks.lm.text_config import text_config
from flamingo_blocks.models.call_language_model import accepts, caches, call_language_model
from flamingo_blocks.models.check_arguments import refuse_where
from flamingo_blocks.models.eval_mode import eval_mode
from flamingo_blocks.ops._host_reads import on_host

if TYPE_CHECKING:
    from flamingo_blocks.models.flamingo import Flamingo


@dataclass
class Abilities:
    """What was seen of a language model; `None` where nobody has looked yet.

    Args:
        of: The make of the model that was looked at, see `make_of`.
        left_pads: Whether pads left of a text change nothing.
        inner_pads: Whether pads between the words of a text change nothing.
        cache: Whether its cache goes on with several tokens at once, and for several rows.
        gradients: Whether no module is of a kind that computes without a graph.
        documents: Whether it has been seen to keep packed documents apart.
    """

    of: int | None = None
    left_pads: bool | None = None
    inner_pads: bool | None = None
    cache: bool | None = None
    gradients: bool | None = None
    documents: bool | None = None


_IDS = [2, 1, 3, 3, 1]  # words that any vocabulary has
_PADS = [3, 2, 1]  # what a pad holds must not matter, so it is no pad token


def look_at_language_model(flamingo: "Flamingo") -> None:
    """Find out what the language model does with pads and caches, and remember it in place of what was seen before.

    One process looks by itself when a call needs it. Of several, where a call of one may take part of the others, none
    does: a model that nobody looked at is trusted. Call this in all of them at once, before the model is sharded, and
    again after another attention implementation, adapter or quantisation was set. It runs some ten short texts.

    Args:
        flamingo: The model.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> build_tiny_flamingo().look_at_language_model()  # a method of the model
    """
    lm = flamingo.lm
    seen = flamingo._abilities = Abilities(of=make_of(lm))
    if accepts(lm, "attention_mask"):
        seen.left_pads, seen.inner_pads = _shown(flamingo, _left_error), _shown(flamingo, _inner_error)
    if caches(lm):
        seen.cache = _shown(flamingo, _cache_error)


def remembered(flamingo: "Flamingo") -> Abilities:
    """What was seen of the language model as it is now; nothing, once attention, adapters or weights are others."""
    if not torch.compiler.is_compiling():
        make = make_of(flamingo.lm)
        if flamingo._abilities.of != make and (flamingo._abilities.of is None or _can_be_shown(flamingo.lm)):
            flamingo._abilities = Abilities(of=make)
    return flamingo._abilities


def refuse_misread_pads(flamingo: "Flamingo", attention_mask: Tensor | None) -> None:
    """Refuse pads where the language model has been seen to read them, as recurrent models and some ALiBi do.

    Args:
        flamingo: The model.
        attention_mask: [batch text], that of the whole text; pads right of it harm nobody.

    Raises:
        ValueError: If the mask has pads that the model does not skip.
    """
    lm = flamingo.lm
    if attention_mask is None or attention_mask.ndim != 2 or not accepts(lm, "attention_mask"):
        return  # who takes no mask at all is refused where it is called
    real = attention_mask.bool()
    begun, goes_on = real.long().cumsum(1) > 0, real.long().flip(1).cumsum(1).flip(1) > 0
    _refuse(flamingo, "left_pads", (~begun & goes_on).any(), "left of", "pad on the right, or give rows of one length")
    _refuse(
        flamingo, "inner_pads", (~real & begun & goes_on).any(), "between the words of",
        "give the turns behind a prompt one length in all rows, or run each row alone",
    )  # fmt: skip


def refuse_lost_gradients(flamingo: "Flamingo") -> None:
    """Refuse to train through torch's own quantised layers: only what passes beside them would have a gradient.

    Raises:
        ValueError: If the language model has one, and gradients are wanted.
    """
    seen = remembered(flamingo)
    if seen.gradients is None:
        kinds = (type(module).__module__ for module in flamingo.lm.modules())
        seen.gradients = not any(kind.startswith("torch.ao.nn.quantized") for kind in kinds)
    if not seen.gradients and torch.is_grad_enabled():
        raise ValueError(
            f"labels were given, but {type(flamingo.lm).__name__} has quantised layers of torch.ao, which pass no "
            "gradient on; quantise the weights alone to train (torchao's Int8WeightOnlyConfig), or use torch.no_grad()"
        )


def goes_on_from_cache(flamingo: "Flamingo") -> bool:
    """Whether a prompt may keep the cache of the language model; without, the text of the prompt is run again."""
    lm, seen = flamingo.lm, remembered(flamingo)
    if seen.cache is None and caches(lm) and _can_be_shown(lm):
        seen.cache = _shown(flamingo, _cache_error)
    return caches(lm) and seen.cache is not False


def leaves_states_behind(lm: nn.Module) -> bool:
    """Whether a model's states stay where they are when beams change places: state-space ones of transformers 5.0."""
    return accepts(lm, "cache_params") and accepts(lm, "cache_position")


def begins_states_wrongly(lm: nn.Module, num_text: int) -> bool:
    """Whether a text is too short for a model's states: Mamba of transformers 5.0 shifts those of its convolution."""
    return leaves_states_behind(lm) and num_text + 1 < getattr(text_config(lm), "conv_kernel", 0)


def _refuse(flamingo: "Flamingo", ability: str, wrong: Tensor, where: str, advice: str) -> None:
    if torch.compiler.is_compiling() and getattr(flamingo._abilities, ability) is not False:
        return
    if wrong.device.type == "cpu" and not on_host(wrong):
        return  # nothing is asked that would have to be shown
    seen, lm = remembered(flamingo), flamingo.lm
    if getattr(seen, ability) is None and _can_be_shown(lm):
        error = _left_error if ability == "left_pads" else _inner_error
        setattr(seen, ability, _shown(flamingo, error))
    if getattr(seen, ability) is False:
        refuse_where(
            wrong,
            lambda: (
                f"attention_mask has pads {where} a text, and {type(lm).__name__} does not skip those: the logits of a "
                f"short text change with them; {advice}"
            ),
        )


def _can_be_shown(lm: nn.Module) -> bool:
    """Not in compiled code, nor where a call may take part of other processes, which may have nothing to show."""
    if torch.compiler.is_compiling():
        return False
    if (
        torch.distributed.is_available()
        and torch.distributed.is_initialized()
        and torch.distributed.get_world_size() > 1
    ):
        return False
    # Shards of torch, and of DeepSpeed
    sharded = any(hasattr(weight, "device_mesh") or hasattr(weight, "ds_id") for weight in lm.parameters())
    return not sharded and not any(type(module).__name__ == "FullyShardedDataParallel" for module in lm.modules())


def make_of(lm: nn.Module) -> int:
    """A number that changes with the attention implementation, with adapters and with quantisation."""
    found: list[Any] = []
    waiting = [lm]
    for module in waiting:  # `lm.modules()` would take several times as long, at each call
        waiting += [child for child in module._modules.values() if child is not None]
        found += [type(module), len(module._buffers), *map(type, module._parameters.values())]
        found.append(getattr(vars(module).get("config"), "_attn_implementation", None))
    return hash(tuple(found))


@torch.no_grad()
def _shown(flamingo: "Flamingo", error: Any) -> bool:
    lm = flamingo.lm
    dtype, device = dtype_and_device(lm)
    with eval_mode(lm), flamingo.attachment.without_media():
        call_language_model(lm, torch.tensor([_IDS], device=device))  # a model that runs no plain text says why itself
        try:
            found = float(error(lm, device))
        except torch.OutOfMemoryError:
            raise  # it says nothing of the model, and the answer is remembered
        except Exception:  # noqa: BLE001 - whatever a model does with what it was not made for
            return False
    return found <= rounding_error(dtype)  # NaN is no small error


def dtype_and_device(lm: nn.Module) -> tuple[torch.dtype, torch.device]:
    """The dtype that a language model computes in, and the device that it is called on."""
    weight = next(p for p in lm.parameters() if p.is_floating_point())
    return weight.dtype, torch.device("cpu") if weight.is_meta else weight.device  # of an offloaded model


def rounding_error(dtype: torch.dtype) -> float:
    """How far apart, by `relative_error`, the same logits may be when they are computed in two ways."""
    return 1e-3 if dtype in (torch.float32, torch.float64) else 5e-2


def relative_error(actual: Tensor, expected: Tensor) -> Tensor:
    """The largest difference between logits, relative to the largest that is expected."""
    return (actual.float() - expected.float()).abs().max() / expected.float().abs().max().clamp(min=1e-6)


def _left_error(lm: nn.Module, device: torch.device) -> Tensor:
    ids = torch.tensor([_PADS + _IDS], device=device)
    mask = (torch.arange(ids.shape[1], device=device) >= len(_PADS))[None]
    padded = call_language_model(lm, ids, attention_mask=mask).logits[:, len(_PADS) :]
    return relative_error(padded, call_language_model(lm, ids[:, len(_PADS) :]).logits)


def _inner_error(lm: nn.Module, device: torch.device) -> Tensor:
    ids = torch.tensor([_IDS[:2] + _PADS + _IDS[2:]], device=device)
    columns = torch.arange(ids.shape[1], device=device)
    real = (columns < 2) | (columns >= 2 + len(_PADS))
    padded = call_language_model(lm, ids, attention_mask=real[None]).logits[:, real]
    return relative_error(padded, call_language_model(lm, ids[:, real]).logits)


def _cache_error(lm: nn.Module, device: torch.device) -> Tensor:
    """A text in three pieces, of which the second and the third run in two rows behind a copy of the cache."""
    ids = torch.tensor([_IDS], device=device)
    whole = call_language_model(lm, ids).logits
    first = call_language_model(lm, ids[:, :2], attention_mask=torch.ones_like(ids[:, :2]), use_cache=True)
    cache = copy.deepcopy(first.cache)
    assert cache is not None
    cache.batch_repeat_interleave(2)
    pieces, two = [first.logits.repeat_interleave(2, 0)], ids.repeat(2, 1)
    for start, stop in ((2, 4), (4, 5)):
        output = call_language_model(
            lm, two[:, start:stop], attention_mask=torch.ones_like(two[:, :stop]), cache=cache, use_cache=True
        )
        cache = copy.deepcopy(output.cache)
        pieces.append(output.logits)
    return relative_error(torch.cat(pieces, 1), whole)
