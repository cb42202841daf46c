"""Which parts of a Flamingo train."""

from typing import Literal, get_args

from torch import nn

from flamingo_blocks.models import Flamingo
from flamingo_blocks.models.adapters import adapter_weights
from flamingo_blocks.training.ranks.check_shardable import is_quantised

Part = Literal["blocks", "resampler", "new_tokens", "lm", "tower", "lora"]
PARTS: tuple[Part, ...] = get_args(Part)
_PAPER: tuple[Part, ...] = ("blocks", "resampler", "new_tokens")
_HOLDERS: dict[str, Part] = {
    "blocks": "blocks", "resampler": "resampler", "projection": "resampler", "token_rows": "new_tokens", "lm": "lm",
    "vision": "tower",
}  # fmt: skip
_MISSING: dict[Part, str] = {
    "blocks": "it has no block with weights",
    "resampler": "it has none, nor a projection",
    "new_tokens": "it has no new tokens: make it with num_new_tokens=",
    "lm": "its language model has no weights",
    "tower": "it has none with weights: make it with vision=",
    "lora": "it has no adapters: put some in before, by peft.inject_adapter_in_model(config, model.lm)",
}


def train_only(model: Flamingo, *parts: Part) -> dict[str, nn.Parameter]:
    """Choose what trains: the named parts and nothing else.

    Call it when the model is built and has its adapters, and before `prepare_precision`, `shard` and the optimiser.
    What is frozen goes into eval mode and stays there, adapters apart; what trains follows `model.train()`.

    Args:
        model: The model; its parameters' `requires_grad` is changed in place.
        *parts: Of `"blocks"`, `"resampler"` (with the projection), `"new_tokens"`, `"tower"`, `"lm"` and `"lora"`. The
            last are the active adapters of PEFT in language model and tower, which are no part of `"lm"` and `"tower"`.
            By default blocks, resampler and new tokens, those that there are.

    Returns:
        The parameters that train, by name.

    Raises:
        TypeError: If the model is no `Flamingo`.
        ValueError: If a part is unknown, the model has not got it, its weights are quantised, or the model is sharded.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> list(train_only(build_tiny_flamingo(), "new_tokens"))
        ['token_rows.input']
        >>> "vision.encoder.weight" in train_only(build_tiny_flamingo(), "blocks", "resampler", "new_tokens", "tower")
        True

    Source:
        Flamingo (arXiv 2204.14198), section 2.4 for the default; appendix B.2.2: blocks, resampler and tower train when
        it is fine-tuned.
    """
    if not isinstance(model, Flamingo):
        raise TypeError(f"model is a {type(model).__name__}, wanted a Flamingo, such as that in model.flamingo")
    if any(hasattr(module, "set_requires_gradient_sync") for module in model.modules()):
        raise ValueError("model is sharded already, by what trained before; call train_only before shard")
    members, idle = _members(model)
    chosen = parts or tuple(part for part in _PAPER if members[part])
    for part in chosen:
        _check(part, members)
    for part, weights in members.items():
        for weight in weights.values():
            weight.requires_grad_(part in chosen)
            if part not in chosen:
                weight.grad = None
    for weight in idle:
        weight.requires_grad_(False)
    model.train(model.training)
    return model.trained_parameters()


def _members(model: Flamingo) -> tuple[dict[Part, dict[str, nn.Parameter]], set[nn.Parameter]]:
    """The parameters of each part, each in one of them; and of adapters that are not in use, in none of them."""
    adapters = adapter_weights(model)
    idle = adapters - adapter_weights(model, active=True)
    members: dict[Part, dict[str, nn.Parameter]] = {part: {} for part in PARTS}
    for name, weight in model.named_parameters():
        if weight not in idle:
            members["lora" if weight in adapters else _HOLDERS[name.partition(".")[0]]][name] = weight
    return members, idle


def _check(part: Part, members: dict[Part, dict[str, nn.Parameter]]) -> None:
    if part not in members:
        raise ValueError(f"parts has {part!r}, wanted of {', '.join(map(repr, PARTS))}")
    if not members[part]:
        raise ValueError(f"parts has {part!r}, but the model cannot train it: {_MISSING[part]}")
    for name, weight in members[part].items():
        if is_quantised(weight):
            raise ValueError(
                f"parts has {part!r}, but {name!r} is quantised ({type(weight).__name__}, {weight.dtype}), and rounded "
                'weights have no gradient; train adapters beside them, which "lora" is, or load the weights whole'
            )
