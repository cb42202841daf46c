"""What the models of timm do not say of themselves in one common way."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.vision.image_preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Channels,
    Fit,
    ImagePreprocess,
    Interpolation,
)

CROP_PCT = 0.875  # timm's own value where a model names none, as ImageNet's colours are
_FITS: dict[str, Fit] = {"center": "crop", "squash": "stretch", "border": "pad"}


def check_timm_model(model: nn.Module) -> None:
    """Refuse what has no features before pooling."""
    if not hasattr(model, "forward_features"):
        raise ValueError(
            f"model is a {type(model).__name__} without forward_features, wanted a model of timm.create_model; "
            "wrap another one by CallableTower(model, image_size=...)"
        )


def native_size(model: nn.Module) -> tuple[int, int]:
    """Height and width that a model was made for: a model made with `img_size=` tells another than its tag."""
    found = getattr(getattr(model, "patch_embed", None), "img_size", None)
    if found is None:
        found = pretrained_config(model).get("input_size", (None,))[1:]
    if len(found) != 2:
        raise ValueError(f"image_size is None and {type(model).__name__} names no size of its own; pass image_size=")
    return int(found[0]), int(found[1])


def set_size(model: nn.Module, size: tuple[int, int]) -> None:
    """Interpolate the positions of a model that has such; a convolutional net takes any size as it is."""
    resize: Any = getattr(model, "set_input_size", None)
    if resize is not None and size != native_size(model):
        resize(img_size=size)


def pretrained_config(model: nn.Module) -> Mapping[str, Any]:
    """What timm knows of a model's weights."""
    found: Any = getattr(model, "pretrained_cfg", None)
    return found if isinstance(found, Mapping) else {}


def timm_preprocess(config: Mapping[str, Any], size: tuple[int, int], fit: Fit | None) -> ImagePreprocess:
    """Give what timm does to an image at evaluation, at the tower's size."""
    interpolation: Interpolation = config.get("interpolation") or "bicubic"
    if interpolation not in {"bicubic", "bilinear"}:
        raise ValueError(f"the model wants the filter {interpolation!r}, which is not built in; pass preprocess=")
    mean: Channels = tuple(config.get("mean") or IMAGENET_MEAN)
    std: Channels = tuple(config.get("std") or IMAGENET_STD)
    own = _FITS[config.get("crop_mode") or "center"]
    if fit is not None and fit != own:
        return ImagePreprocess(size, mean, std, fit, interpolation)
    rim = config.get("crop_pct") or CROP_PCT
    resized = (math.floor(size[0] / rim), math.floor(size[1] / rim))
    if own == "pad":
        return ImagePreprocess(size, mean, std, own, interpolation)
    return ImagePreprocess(size, mean, std, own, interpolation, before_crop=resized, halves="even")


def timm_features(
    model: nn.Module, pixels: Tensor, *, layer: int, final_norm: bool | None, num_prefix: int | None
) -> Tensor:
    """Features before pooling, as a map `[n rows columns dim]`."""
    model_of_timm: Any = model
    if layer == -1 and final_norm is None:
        return _as_map(model, model_of_timm.forward_features(pixels), pixels, num_prefix)
    if not hasattr(model, "forward_intermediates"):
        raise ValueError(
            f"{type(model).__name__} has no forward_intermediates, so only its own features can be had; "
            "leave layer=-1 and final_norm=None"
        )
    if final_norm and isinstance(getattr(model, "norm", None), nn.Identity | None):
        raise ValueError(f"final_norm is True, but {type(model).__name__} has no norm before its pooling; leave it out")
    (found,) = model_of_timm.forward_intermediates(
        pixels, indices=[layer], norm=bool(final_norm), stop_early=True, output_fmt="NCHW", intermediates_only=True
    )
    return _rows_first(found)


def _rows_first(found: Tensor) -> Tensor:
    """From `[n dim rows columns]` to `[n rows columns dim]`."""
    return found.permute(0, 2, 3, 1)


def _as_map(model: nn.Module, found: Any, pixels: Tensor, num_prefix: int | None) -> Tensor:
    """Bring tokens and maps of either order to `[n rows columns dim]`."""
    if not isinstance(found, Tensor) or found.ndim not in {3, 4}:
        what = f"a tensor of shape {list(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ValueError(f"forward_features gives {what}, wanted tokens or a map; wrap the model by CallableTower")
    if found.ndim == 4:
        return found if getattr(model, "output_fmt", "NCHW") == "NHWC" else _rows_first(found)
    prefix = getattr(model, "num_prefix_tokens", 0) if num_prefix is None else num_prefix
    patches = found.shape[1] - prefix
    embed: Any = getattr(model, "patch_embed", None)
    if hasattr(embed, "dynamic_feat_size"):
        rows, columns = embed.dynamic_feat_size(tuple(pixels.shape[2:]))
    else:
        rows = columns = math.isqrt(max(patches, 0))
    if rows * columns != patches:
        raise ShapeError(
            f"forward_features gives {patches} patch tokens after num_prefix={prefix}, "
            f"but the grid is {rows} x {columns}; correct num_prefix="
        )
    return found[:, prefix:].reshape(len(found), rows, columns, found.shape[2])
