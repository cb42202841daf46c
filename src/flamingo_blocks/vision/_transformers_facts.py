"""What the models of the transformers library do not say of themselves in one common way."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from torch import Tensor, nn

from flamingo_blocks.vision.image_preprocess import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Channels,
    Fit,
    ImagePreprocess,
)
from flamingo_blocks.vision.tower import frame_size

HALF: Channels = (0.5, 0.5, 0.5)

NAFLEX = "siglip2_vision_model"
_POOLING = ("pooler.", "head.")  # behind the patch tokens, which do not pass through it
_SIZE, _WITH_RIM = (224, 224), (256, 256)
# Tokens before the patches, registers not counted; and what the image processor of the family's published checkpoints
# does at their usual size. DeiT's makes every image a square, DINOv2's keeps its shape, and both then drop the rim.
_FAMILIES: dict[str, tuple[int, ImagePreprocess]] = {
    "clip_vision_model": (1, ImagePreprocess(_SIZE, CLIP_MEAN, CLIP_STD, "crop")),
    "siglip_vision_model": (0, ImagePreprocess(_SIZE, HALF, HALF, "stretch")),
    "vit": (1, ImagePreprocess(_SIZE, HALF, HALF, "stretch", "bilinear")),
    "deit": (2, ImagePreprocess(_SIZE, IMAGENET_MEAN, IMAGENET_STD, "stretch", before_crop=_WITH_RIM)),
    "dinov2": (1, ImagePreprocess(_SIZE, IMAGENET_MEAN, IMAGENET_STD, "crop", before_crop=_WITH_RIM)),
    "dinov2_with_registers": (1, ImagePreprocess(_SIZE, IMAGENET_MEAN, IMAGENET_STD, "crop", before_crop=_WITH_RIM)),
    "dinov3_vit": (1, ImagePreprocess(_SIZE, IMAGENET_MEAN, IMAGENET_STD, "stretch", "bilinear")),
}


@dataclass(frozen=True)
class Geometry:
    """Sizes of a model's frames and tokens."""

    family: str
    dim: int
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    num_prefix: int
    native_size: tuple[int, int]

    @property
    def is_native(self) -> bool:
        """Whether frames have the size that the model was made for, so that positions are not interpolated."""
        return self.image_size == self.native_size

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @classmethod
    def of(cls, model: nn.Module, *, num_prefix: int | None, image_size: int | tuple[int, int] | None) -> "Geometry":
        """Read the sizes off the model's config."""
        config: Any = model.config
        if config.model_type == NAFLEX:
            raise ValueError(
                f"model is a {type(model).__name__}, which takes images of any size; make it a NaFlexTower(model)"
            )
        missing = [name for name in ("hidden_size", "image_size", "patch_size") if not hasattr(config, name)]
        if missing:
            raise ValueError(
                f"model is a {type(model).__name__} whose config has no {', '.join(missing)}; "
                "wrap it by CallableTower(model, image_size=..., output='last_hidden_state')"
            )
        if num_prefix is None and config.model_type not in _FAMILIES:
            raise ValueError(
                f"model is of the family {config.model_type!r}, not one of {sorted(_FAMILIES)}; "
                "say how many tokens stand before the patches by num_prefix="
            )
        if num_prefix is None:
            num_prefix = _FAMILIES[config.model_type][0] + getattr(config, "num_register_tokens", 0)
        native = _pair(config.image_size)
        size = native if image_size is None else frame_size(image_size)
        return cls(config.model_type, config.hidden_size, size, _pair(config.patch_size), num_prefix, native)


def default_preprocess(geometry: Geometry, fit: Fit | None) -> ImagePreprocess:
    """Give the preprocessing of the model's family, at the tower's size."""
    _, values = _FAMILIES.get(geometry.family, (0, ImagePreprocess(_SIZE, HALF, HALF, "stretch")))
    size, before = geometry.image_size, None
    if values.before_crop is not None and fit in {None, values.fit}:
        before = (size[0] * _WITH_RIM[0] // _SIZE[0], size[1] * _WITH_RIM[1] // _SIZE[1])
    return replace(values, size=size, fit=values.fit if fit is None else fit, before_crop=before)


def vision_part(model: nn.Module) -> nn.Module:
    """Find the vision transformer inside a classifier or a two-tower model; the model itself when it is one."""
    base = getattr(model, "base_model", None)
    if isinstance(base, nn.Module) and hasattr(base, "embeddings"):  # DINOv3's "base model" is its encoder alone
        model = base
    while isinstance(inner := getattr(model, "vision_model", None), nn.Module):
        model = inner
    return model


def inside_vision_part(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Of the names of weights those in the vision part: the rest is not in the tower."""
    prefix = _prefix_of(model, vision_part(model))
    return [name for name in names if name.startswith(prefix)]


def read_by_tower(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Of the names of weights those that patch tokens are made with: a classifier's file has no pooler, say."""
    prefix = _prefix_of(model, vision_part(model))
    return [name for name in names if name.startswith(prefix) and not name.startswith(_POOLING, len(prefix))]


def _prefix_of(model: nn.Module, part: nn.Module) -> str:
    return next(f"{name}." if name else "" for name, module in model.named_modules() if module is part)


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """Find the transformer blocks: the one list as long as the config says."""
    config: Any = model.config
    depth = getattr(config, "num_hidden_layers", None)
    lists = {name: part for name, part in model.named_modules() if isinstance(part, nn.ModuleList)}
    found = [part for part in lists.values() if len(part) == depth]
    if len(found) != 1:
        sizes = {name: len(part) for name, part in lists.items()}
        raise ValueError(
            f"model is a {type(model).__name__} with {len(found)} lists of {depth} blocks among {sizes}, wanted one; "
            "wrap it by CallableTower(model, image_size=..., output='last_hidden_state')"
        )
    return found[0]


def run_to_block(model: nn.Module, layer: int, run: Callable[[], Any]) -> Tensor:
    """Output of one block, by a hook: `output_hidden_states` would keep the output of every layer."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    handle = blocks_of(model)[layer].register_forward_hook(keep)
    try:
        run()
    finally:
        handle.remove()
    return kept[0]


def check_layer(model: nn.Module, layer: Any) -> bool:
    """Refuse blocks that are not there; True for the last one."""
    if isinstance(layer, bool) or not isinstance(layer, Integral):
        raise TypeError(f"layer is {layer!r}, wanted a whole number; use -1 for the last one")
    num_blocks = len(blocks_of(model))
    if not -num_blocks <= int(layer) < num_blocks:
        raise ValueError(f"layer is {layer}, but the model has {num_blocks} blocks; use -1 for the last one")
    return layer in {-1, num_blocks - 1}


def final_norm_of(model: nn.Module) -> nn.Module:
    """Find the norm after the last block."""
    for name in ("post_layernorm", "layernorm", "norm"):
        found = getattr(model, name, None)
        if isinstance(found, nn.Module):
            return found
    raise ValueError(
        f"final_norm is True, but {type(model).__name__} has none of post_layernorm, layernorm and norm; "
        "pass final_norm=None"
    )


def _pair(size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
