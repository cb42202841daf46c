"""The plain language model and the tower inside a model of transformers, with fresh weights, from its config alone."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from flamingo_blocks._optional import require
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.towers import IdeficsTower, MllamaTower

_LLAMA = (
    "hidden_size", "intermediate_size", "num_attention_heads", "hidden_act", "rms_norm_eps", "initializer_range",
    "max_position_embeddings", "rope_parameters", "vocab_size", "bos_token_id", "eos_token_id", "tie_word_embeddings",
    "use_cache",
)  # fmt: skip


def idefics_parts(config: Any, *, dtype: torch.dtype | None = None, skip: Collection[str] = ()) -> dict[str, Any]:
    """Arguments of `load_foreign` for an IDEFICS of that config.

    Args:
        config: An `IdeficsConfig`, its values, or the folder that holds `config.json`.
        dtype: Of the weights; float32 by default.
        skip: `"lm"`, `"vision"` or both, where you bring your own: they are not built, and not among what is returned.

    Returns:
        `lm`, a plain `LlamaForCausalLM`; `vision`, an `IdeficsTower`; and options that no shape tells.

    Raises:
        CheckpointError: If the config is of another kind of model, or cannot be read.
        MissingDependencyError: If transformers is not installed.

    Example:
        >>> parts = idefics_parts({
        ...     "vocab_size": 30, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4,
        ...     "num_attention_heads": 2, "cross_layer_interval": 2,
        ...     "vision_config": {"embed_dim": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 8,
        ...                       "patch_size": 4, "intermediate_size": 8},
        ... })
        >>> type(parts["lm"]).__name__, parts["vision"].dim, parts["every"]
        ('LlamaForCausalLM', 8, 2)
    """
    transformers = require("transformers", used_by="idefics_parts", extra="hf")
    config = _as_config(config, {"idefics": transformers.IdeficsConfig})
    values = {name: getattr(config, name) for name in _LLAMA if hasattr(config, name)}  # 5.0 tells no rope_parameters
    vision, perceiver = config.vision_config, config.perceiver_config
    names = ("num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size", "hidden_act",
             "layer_norm_eps", "num_channels")  # fmt: skip
    clip = transformers.CLIPVisionConfig(
        hidden_size=vision.embed_dim, **{name: getattr(vision, name) for name in names}
    )
    parts: dict[str, Any] = {}
    if "lm" not in skip:
        parts["lm"] = _llama(transformers, values, config, config.num_hidden_layers, dtype)
    if "vision" not in skip:
        parts["vision"] = IdeficsTower(transformers.CLIPVisionModel(clip).to(dtype))
    return parts | {
        "every": config.cross_layer_interval,
        "resampler_num_heads": perceiver.resampler_n_heads,
        "resampler_depth": perceiver.resampler_depth if config.use_resampler else 0,
    }


def mllama_parts(config: Any, *, dtype: torch.dtype | None = None, skip: Collection[str] = ()) -> dict[str, Any]:
    """Arguments of `load_foreign` for a Llama 3.2 Vision of that config.

    Args:
        config: A `MllamaConfig` or `MllamaTextConfig`, its values, or the folder that holds `config.json`.
        dtype: Of the weights; float32 by default.
        skip: `"lm"`, `"vision"` or both, where you bring your own: they are not built, and not among what is returned.

    Returns:
        `lm`, a plain `LlamaForCausalLM` of the self-attention layers; `vision`, a `MllamaTower`, or `None` for a text
        config; and options that no shape tells.

    Raises:
        CheckpointError: If the config is of another kind of model, or cannot be read.
        MissingDependencyError: If transformers is not installed.

    Example:
        >>> parts = mllama_parts({
        ...     "text_config": {"vocab_size": 30, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 5,
        ...                     "num_attention_heads": 4, "num_key_value_heads": 2, "cross_attention_layers": [1, 3],
        ...                     "pad_token_id": 0},
        ...     "vision_config": {"hidden_size": 8, "attention_heads": 2, "num_hidden_layers": 1, "image_size": 8,
        ...                       "num_global_layers": 1, "patch_size": 4, "intermediate_size": 8,
        ...                       "intermediate_layers_indices": [0], "vision_output_dim": 16},
        ...     "image_token_index": 30,
        ... })
        >>> parts["lm"].config.num_hidden_layers, parts["media_token_id"]
        (3, 30)
    """
    transformers = require("transformers", used_by="mllama_parts", extra="hf")
    own = transformers.MllamaConfig  # 5.0 does not name its text config at the top
    config = _as_config(config, {"mllama": own, "mllama_text_model": own.sub_configs["text_config"]})
    text = config.get_text_config()
    names = (*_LLAMA, "num_key_value_heads")
    values = {name: getattr(text, name) for name in names if hasattr(text, name)}
    parts: dict[str, Any] = {}
    if "lm" not in skip:
        num_layers = text.num_hidden_layers - len(text.cross_attention_layers)
        parts["lm"] = _llama(transformers, values, text, num_layers, dtype)
    if "vision" not in skip:
        parts["vision"] = None
        if text is not config:
            parts["vision"] = MllamaTower(transformers.MllamaVisionModel(config.vision_config).to(dtype))
    parts["cross_attention_layers"] = list(text.cross_attention_layers)
    return parts if text is config else parts | {"media_token_id": config.image_token_index}


def _llama(transformers: Any, values: dict[str, Any], config: Any, num_layers: int, dtype: Any) -> Any:
    pad = config.pad_token_id
    inside = pad is not None and pad < config.vocab_size
    llama = transformers.LlamaConfig(**values, num_hidden_layers=num_layers, pad_token_id=pad if inside else None)
    # Not `.to(dtype)`, which would round the rotary frequencies too: positions far into a text would be off.
    return transformers.AutoModelForCausalLM.from_config(llama, dtype=dtype or torch.float32).eval()


def _read_config(cls: Any, folder: str | Path) -> Any:
    """The values that a folder, or a name on the hub, has in its `config.json`."""
    try:
        values = dict(cls.get_config_dict(folder)[0].items())  # a list has none
    except (OSError, ValueError, TypeError, AttributeError) as error:  # none, no text, no JSON, no mapping
        path = Path(folder) / "config.json"
        if not path.is_file():
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{path} cannot be read: {reason}") from error
        raise CheckpointError(
            f"{path} is damaged: it holds no mapping in JSON; get it again, for it tells the parts of the model"
        ) from error
    return values


def _as_config(config: Any, classes: Mapping[str, Any]) -> Any:
    """The config, by the class of its kind: the values of another one would leave all sizes at their huge defaults."""
    first = next(iter(classes.values()))
    if isinstance(config, str | Path):
        values = _read_config(first, config)
    else:
        values = config
    told = values.get("model_type") if isinstance(values, Mapping) else getattr(values, "model_type", None)
    if told not in (None, *classes):
        raise CheckpointError(
            f"config is of model_type {told!r}, wanted {' or '.join(map(repr, classes))}; idefics_parts is for "
            "IDEFICS, mllama_parts for Llama 3.2 Vision"
        )
    cls = first if told is None else classes[told]
    return cls.from_dict(dict(values)) if isinstance(values, Mapping) else values
