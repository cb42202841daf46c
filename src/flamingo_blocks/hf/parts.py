"""Between a `Flamingo` and its config: write down how it is built, and build it again with fresh weights."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING, PreTrainedModel

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.hf.configuration import FlamingoConfig, trusted_class
from flamingo_blocks.models import Flamingo
from flamingo_blocks.models.describe_module import (
    Description,
    build_module,
    build_value,
    can_build,
    describe_module,
    reading_part,
)
from flamingo_blocks.models.saving import ARGUMENTS

_PARTS = ("vision", "resampler", "projection", "blocks", "token_rows", "lm")
_SPELT_OUT = ("media_token_id", "end_token_id", "num_new_tokens", "scope")  # the arguments with a field of their own
_HALVES = (torch.bfloat16, torch.float16)


def config_of(flamingo: Flamingo) -> FlamingoConfig:
    """Write down how a model is built.

    Args:
        flamingo: The model.

    Returns:
        Its config, which shares the sub-configs with the language model and the vision model.

    Raises:
        ValueError: If the language model is none of transformers' own, or a block, resampler or projection cannot be
            built again from plain values. A tower that cannot is passed to `from_pretrained` as `vision=`.
    """
    lm: Any = flamingo.lm
    if not (isinstance(lm, PreTrainedModel) and type(lm).__module__.startswith("transformers.")):
        raise ValueError(
            f"lm is a {type(lm).__module__}.{type(lm).__name__}, wanted a causal language model of transformers itself "
            "(adapters merged); other models are saved by Flamingo.save_pretrained"
        )
    tower, vision_config = _describe_tower(flamingo.vision)
    rows, state = flamingo.token_rows, state_of_parts(flamingo)
    plain = {name: getattr(flamingo, name) for name in ARGUMENTS}
    models = {"lm": lm, "vision": getattr(flamingo.vision, "model", None)}
    return FlamingoConfig(
        text_config=lm.config,
        vision_config=vision_config,
        **{name: plain.pop(name) for name in _SPELT_OUT},
        options={name: value for name, value in plain.items() if value is not None},
        lm={"class": f"{type(lm).__module__}:{type(lm).__qualname__}"},
        tied_rows=rows is not None and rows.output is rows.input,
        tower=tower,
        resampler=_describe(flamingo.resampler, "resampler"),
        projection=_describe(flamingo.projection, "projection"),
        blocks={layer: describe_part(block, f"block {layer}") for layer, block in flamingo.blocks.items()},
        frozen=state["frozen"],
        frozen_weights=state["frozen_weights"],
        float32=state["float32"],
        base_models={part: model.name_or_path for part, model in models.items() if getattr(model, "name_or_path", "")},
    )


def build_flamingo(config: FlamingoConfig, *, lm: nn.Module | None = None, vision: nn.Module | None = None) -> Flamingo:
    """Build a model with fresh weights, each part as its own class draws them.

    Args:
        config: What `config_of` gave, or one made from two sub-configs.
        lm: The language model with its weights, in place of one that the config describes.
        vision: The tower with its weights, likewise, or where it cannot be built from the config.

    Returns:
        The model, its frozen parts frozen.

    Raises:
        CheckpointError: If a part names a class that is not trusted, or lacks its arguments.
        ValueError: If the config has no `text_config`, or blocks without a `media_token_id`; the one that is missing
            is named.
    """
    if config.text_config is None or config.media_token_id is None or config.blocks is None:
        name = next(name for name in ("text_config", "media_token_id", "blocks") if getattr(config, name) is None)
        raise ValueError(
            f"{name} of the config is None; give text_config that of a causal language model, from which the rest is "
            "filled in, or give text_config, media_token_id and blocks"
        )
    if unknown := sorted(config.options.keys() - set(ARGUMENTS)):
        raise CheckpointError(f"the config's options has {unknown}, wanted arguments of Flamingo: {ARGUMENTS}")
    if lm is None:
        with reading_part("lm"):
            lm = _build_model(config.text_config, (config.lm or {}).get("class"), MODEL_FOR_CAUSAL_LM_MAPPING)
    flamingo = Flamingo(
        lm=lm,
        vision=_build_tower(config) if vision is None else vision,  # type: ignore[arg-type]
        resampler=None if config.resampler is None else build_module(config.resampler, argument="resampler"),
        projection=None if config.projection is None else build_module(config.projection, argument="projection"),
        blocks={int(layer): build_module(block, argument="blocks") for layer, block in config.blocks.items()},
        media_token_id=config.media_token_id,
        **{name: getattr(config, name) for name in _SPELT_OUT if name != "media_token_id"},
        **config.options,
        freeze=False,
    )
    if flamingo.token_rows is not None and config.tied_rows:
        flamingo.token_rows.output = flamingo.token_rows.input  # on the meta device the table itself is not tied yet
    for name in config.float32:
        for weight in getattr(flamingo, name).parameters():
            if weight.dtype in _HALVES:
                weight.data = weight.data.float()
    freeze_parts(flamingo, config.frozen, config.frozen_weights)
    return flamingo


def state_of_parts(flamingo: Flamingo) -> dict[str, list[str]]:
    """What does not train, and which parts are in float32 beside others in half precision: both may change.

    Args:
        flamingo: The model.

    Returns:
        Values of the config's `frozen`, `frozen_weights` and `float32`.
    """
    weights = {name: list(_part(flamingo, name).parameters()) for name in _PARTS}
    half = any(weight.dtype in _HALVES for weight in flamingo.parameters())
    frozen = [name for name, own in weights.items() if own and not any(weight.requires_grad for weight in own)]
    return {
        "frozen": frozen,
        "frozen_weights": [
            name
            for name, weight in flamingo.named_parameters()
            if not weight.requires_grad and name.partition(".")[0] not in frozen
        ],
        "float32": [
            name for name, own in weights.items() if half and own and all(w.dtype == torch.float32 for w in own)
        ],
    }


def freeze_parts(flamingo: Flamingo, frozen: list[str], frozen_weights: list[str]) -> None:
    """Let the named parts and weights not train, and all others train.

    Args:
        flamingo: The model, in place.
        frozen: Names of parts.
        frozen_weights: Names of weights in parts that train otherwise.

    Raises:
        CheckpointError: If there is no such weight.
    """
    for name in _PARTS:
        _part(flamingo, name).requires_grad_(name not in frozen)
    weights = dict(flamingo.named_parameters())
    if unknown := sorted(set(frozen_weights) - weights.keys()):
        raise CheckpointError(f"the config's frozen_weights names {unknown[:5]}, which the model does not have")
    for name in frozen_weights:
        weights[name].requires_grad_(False)
    flamingo.train(flamingo.training)


def describe_part(module: nn.Module, name: str) -> Description:
    """Write down class and arguments of a part that must be built again without help.

    Args:
        module: The part.
        name: How the error calls it.

    Returns:
        The description.

    Raises:
        ValueError: If it cannot be built from plain values.
    """
    description = describe_module(module)
    if not can_build(description):
        raise ValueError(
            f"{name} is a {description['class']}, which cannot be built again from plain values; use a block or "
            "resampler of flamingo_blocks, a torch.nn.Linear, or save by Flamingo.save_pretrained"
        )
    return description


def _describe(module: nn.Module | None, name: str) -> Description | None:
    return None if module is None else describe_part(module, name)


def _describe_tower(vision: Any) -> tuple[Description | None, Any]:
    """The tower, with the config of a transformers model inside it taken out."""
    if not isinstance(vision, nn.Module):
        return None, None
    description = describe_module(vision)
    inner = description.get("arguments", {}).get("model")
    if not (isinstance(inner, dict) and "config_class" in inner):
        return description, None
    arguments = {**description["arguments"], "model": {"class": inner["class"]}}
    return {**description, "arguments": arguments}, vision.model.config  # type: ignore[union-attr]


def _build_tower(config: FlamingoConfig) -> nn.Module | None:
    if config.tower is None:
        return None
    # Built off the meta device: what a tower computes when it is made (a grid, position tables that no file holds)
    # is not in the checkpoint.
    on_meta = torch.get_default_device().type == "meta"
    with torch.device("cpu") if on_meta else nullcontext(), reading_part("vision"):
        if config.vision_config is None:
            return build_module(config.tower, argument="vision")
        arguments = dict(config.tower["arguments"])
        described = arguments.pop("model", {})
        model = _build_model(config.vision_config, described.get("class"), MODEL_MAPPING)
        rest = {key: build_value(value, argument="vision") for key, value in arguments.items()}
        tower: nn.Module = trusted_class(config.tower["class"])(model, **rest)
    return tower


def _build_model(config: Any, name: str | None, mapping: Any) -> Any:
    """A transformers model of that config and class."""
    cls = None if name is None else trusted_class(name)
    if cls is None or not issubclass(cls, PreTrainedModel):  # the inner half of one, that the tower finds again
        cls = mapping[type(config)]
    return (cls[0] if isinstance(cls, tuple) else cls)(config)


def _part(flamingo: Flamingo, name: str) -> nn.Module:
    part = getattr(flamingo, name)
    return part if isinstance(part, nn.Module) else nn.Identity()
