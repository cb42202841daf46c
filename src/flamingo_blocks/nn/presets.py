"""The options with which our blocks compute what those of another member of the family compute."""

from typing import Any, get_args

from flamingo_blocks.types import PresetName

_BLOCKS: dict[str, dict[str, Any]] = {
    "paper": {},
    "open_flamingo": {"num_heads": 8, "head_dim": 64, "activation": "gelu", "media_norm": False},
    "idefics": {
        "norm": "rms_norm", "norm_eps": 1e-6, "media_norm": False, "activation": "swiglu",
    },
    "mllama": {
        "norm": "rms_norm", "norm_eps": 1e-5, "media_norm": False, "activation": "swiglu", "qk_norm": "rms_norm",
        "dense_without_media": False,
    },
}  # fmt: skip
_RESAMPLERS: dict[str, dict[str, Any]] = {
    "paper": {},
    "open_flamingo": {"num_heads": 8, "head_dim": 64, "activation": "gelu", "max_frames": 0, "final_norm": True},
    "idefics": {"num_heads": 16, "head_dim": 96, "activation": "relu", "max_frames": 0, "final_norm": True},
}
_FROM_THE_KTH_LAYER = ("open_flamingo", "mllama")


def block_preset(name: PresetName, **changes: Any) -> dict[str, Any]:
    """Arguments of `GatedCrossAttentionBlock` for one member of the family.

    Give them with the sizes, which belong to a model and not to a family: `dim`, `vision_dim`, and where the preset
    does not say it `num_heads`. IDEFICS and Mllama also have `hidden_dim` (the language model's own intermediate
    size), Mllama `num_kv_heads`; some IDEFICS have `qk_norm="rms_norm"` or `gate="channel"`.

    Args:
        name: `"paper"` (our defaults), `"open_flamingo"` (also flamingo-pytorch, flamingo-mini and Otter),
            `"idefics"` or `"mllama"` (Llama 3.2 Vision).
        **changes: Arguments to add or to replace.

    Returns:
        Keyword arguments.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> from flamingo_blocks.nn import GatedCrossAttentionBlock
        >>> block_preset("open_flamingo")
        {'num_heads': 8, 'head_dim': 64, 'activation': 'gelu', 'media_norm': False}
        >>> block = GatedCrossAttentionBlock(
        ...     32, vision_dim=24, **block_preset("mllama", num_heads=4, num_kv_heads=2, hidden_dim=80)
        ... )
        >>> block.dense_without_media
        False

    Source:
        The defaults of open_flamingo 2.0.1, and of IDEFICS and Mllama in transformers 5.23.
    """
    return _preset(_BLOCKS, name, "block") | changes


def resampler_preset(name: PresetName, **changes: Any) -> dict[str, Any]:
    """Arguments of `PerceiverResampler` for one member of the family.

    Give them with `vision_dim` and `dim`. Some IDEFICS have `qk_norm="layer_norm"`; flamingo-mini and Otter for
    clips have `max_frames`.

    Args:
        name: As in `block_preset`; `"mllama"` has no resampler.
        **changes: Arguments to add or to replace.

    Returns:
        Keyword arguments.

    Raises:
        ValueError: If the name is unknown, or the family has no resampler.

    Example:
        >>> from flamingo_blocks.nn import PerceiverResampler
        >>> resampler = PerceiverResampler(vision_dim=24, dim=24, **resampler_preset("idefics", num_heads=2))
        >>> resampler.num_latents, resampler.max_frames
        (64, 0)
    """
    return _preset(_RESAMPLERS, name, "resampler") | changes


def preset_layers(name: PresetName, *, num_layers: int, every: int) -> list[int]:
    """Layers of the language model that a member of the family puts a block before.

    Args:
        name: As in `block_preset`.
        num_layers: Layers of the language model, those of cross-attention not counted.
        every: One block for so many layers.

    Returns:
        Their indices: from the first layer on in the paper and in IDEFICS, from layer `every - 1` on in open_flamingo
        and Mllama.

    Raises:
        ValueError: If the name is unknown, or `every` is less than 1.

    Example:
        >>> preset_layers("idefics", num_layers=8, every=4), preset_layers("mllama", num_layers=8, every=4)
        ([0, 4], [3, 7])
    """
    _preset(_BLOCKS, name, "block")
    if every < 1:
        raise ValueError(f"every is {every}, wanted 1 or more")
    first = every - 1 if name in _FROM_THE_KTH_LAYER else 0
    return list(range(first, num_layers, every))


def _preset(presets: dict[str, dict[str, Any]], name: str, what: str) -> dict[str, Any]:
    if name not in get_args(PresetName):
        raise ValueError(f"name is {name!r}, wanted one of {', '.join(map(repr, get_args(PresetName)))}")
    if name not in presets:
        raise ValueError(f"name is {name!r}, a family without {what}; wanted one of {', '.join(map(repr, presets))}")
    return dict(presets[name])
