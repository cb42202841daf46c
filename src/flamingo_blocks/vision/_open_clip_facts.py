"""What the vision parts of open_clip do not say of themselves in one common way."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from flamingo_blocks.vision import _timm_facts
from flamingo_blocks.vision.image_preprocess import CLIP_MEAN, CLIP_STD, Channels, Fit, ImagePreprocess, Interpolation

_FITS: dict[str, Fit] = {"shortest": "crop", "longest": "pad", "squash": "stretch"}


def visual_part(model: nn.Module) -> nn.Module:
    """Give the vision part of a CLIP; the model itself when it is one."""
    visual: Any = getattr(model, "visual", model)
    if not hasattr(visual, "forward_intermediates"):
        raise ValueError(
            f"model is a {type(model).__name__} without visual and without forward_intermediates, wanted what "
            "open_clip.create_model gives; wrap another one by CallableTower(model, image_size=...)"
        )
    return visual  # type: ignore[no-any-return]


def check_activation(visual: nn.Module, *, quick_gelu: bool) -> None:
    """Refuse a model that computes the other kind of GELU than its weights were trained with."""
    found = {type(module).__name__ for module in visual.modules() if "GELU" in type(module).__name__}
    if found and ("QuickGELU" in found) != quick_gelu:
        raise ValueError(
            f"quick_gelu is {quick_gelu}, but the blocks of this model compute {' and '.join(sorted(found))}, which "
            "changes every feature; create the model by its other name (with or without '-quickgelu')"
        )


def native_size(visual: nn.Module) -> tuple[int, int]:
    """Height and width that a model was made for."""
    found: Any = visual.image_size
    return (found, found) if isinstance(found, int) else (int(found[0]), int(found[1]))


def set_size(visual: nn.Module, size: tuple[int, int]) -> None:
    """Interpolate the position embeddings in place, as open_clip does when it loads weights of another size."""
    model: Any = visual
    if size == native_size(visual):
        return
    if hasattr(model, "trunk"):
        _timm_facts.set_size(model.trunk, size)
    elif hasattr(model, "positional_embedding"):
        rows, columns = size[0] // model.patch_size[0], size[1] // model.patch_size[1]
        table = model.positional_embedding
        old = rearrange(table.detach()[1:], "(rows columns) dim -> 1 dim rows columns", rows=model.grid_size[0])
        new = F.interpolate(old.float(), (rows, columns), mode="bicubic", antialias=True, align_corners=False)
        patches = rearrange(new.to(table.dtype), "1 dim rows columns -> (rows columns) dim")
        joined = torch.cat([table.detach()[:1], patches])
        model.positional_embedding = nn.Parameter(joined, requires_grad=table.requires_grad)
        model.grid_size = (rows, columns)
    model.image_size = size


def open_clip_preprocess(visual: nn.Module, size: tuple[int, int], fit: Fit | None) -> ImagePreprocess:
    """Give what open_clip does to an image at evaluation, at the tower's size."""
    config: dict[str, Any] = getattr(visual, "preprocess_cfg", None) or {}
    mean: Channels = tuple(config.get("mean") or getattr(visual, "image_mean", None) or CLIP_MEAN)
    std: Channels = tuple(config.get("std") or getattr(visual, "image_std", None) or CLIP_STD)
    interpolation: Interpolation = "bilinear" if config.get("interpolation") == "bilinear" else "bicubic"
    own = _FITS[config.get("resize_mode") or "shortest"]
    return ImagePreprocess(size, mean, std, own if fit is None else fit, interpolation, halves="even")


def open_clip_features(visual: nn.Module, pixels: Tensor, *, layer: int, final_norm: bool | None) -> Tensor:
    """Features before pooling and projection, as a map `[n rows columns dim]`."""
    model: Any = visual
    if hasattr(model, "trunk"):
        return _timm_facts.timm_features(model.trunk, pixels, layer=layer, final_norm=final_norm, num_prefix=None)
    norm = getattr(model, "ln_post", None)
    # CoCa pools by attention: its norm has the width of what is pooled, and is none for patches.
    norms_patches = norm is not None and getattr(model, "attn_pool", None) is None
    if final_norm is None:
        final_norm = norms_patches and layer == -1 and not model.final_ln_after_pool
    if final_norm and not norms_patches:
        raise ValueError(
            f"final_norm is True, but this {type(model).__name__} has no norm for its patches; leave it out"
        )
    found: Tensor
    (found,) = model.forward_intermediates(
        pixels, indices=[layer], normalize_intermediates=final_norm, stop_early=True, intermediates_only=True
    )["image_intermediates"]
    return found.permute(0, 2, 3, 1)  # n dim rows columns -> n rows columns dim
