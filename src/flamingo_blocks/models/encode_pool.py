"""Pixels or patch features in, the media pool out."""

import inspect

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.lm.media_state import MediaState
from flamingo_blocks.models.check_arguments import check_flags, refuse_idle_flags
from flamingo_blocks.ops.media_layout import MediaLayout
from flamingo_blocks.ops.take_seen import hide_unseen
from flamingo_blocks.vision import VisionTower, encode_frames


def encode_pool(
    *,
    vision: VisionTower | None = None,
    resampler: nn.Module | None = None,
    projection: nn.Module | None = None,
    pixels: Float[Tensor, "items frames 3 height width"] | None = None,
    features: Float[Tensor, "items frames patches vision_dim"] | None = None,
    frame_valid: Bool[Tensor, "items frames"] | None = None,
    patch_valid: Bool[Tensor, "items frames patches"] | None = None,
    layout: MediaLayout | None = None,
    width: int | None = None,
) -> MediaState:
    """Run tower, resampler and projection one after the other; any of them may be missing.

    Args:
        vision: Encodes frames; needed for `pixels`.
        resampler: Turns patch features into media tokens. A projector gives as many tokens as there are patches.
        projection: Brings the tokens to another width.
        pixels: Images and clips.
        features: Patch features instead.
        frame_valid: Frames that exist.
        patch_valid: Patches that count, beside `features`; of `pixels` the tower tells it.
        layout: Items that no token of it sees are zeroed first, so that NaN in them reaches no gradient.
        width: Width of the media tokens, for an empty pool when nothing else tells.

    Returns:
        Media tokens; without pixels and features an empty pool, through which gradients still flow.

    Raises:
        ValueError: If both or an ill-shaped one is given, pixels without a tower, flags beside nothing that they are
            about, or flags with a resampler that takes none.

    Example:
        >>> from flamingo_blocks import PerceiverResampler
        >>> resampler = PerceiverResampler(vision_dim=8, dim=8, num_latents=2, depth=1, num_heads=1, head_dim=8)
        >>> encode_pool(resampler=resampler, features=torch.zeros(3, 1, 16, 8)).media.shape
        torch.Size([3, 2, 8])
    """
    if pixels is not None and features is not None:
        raise ValueError("pixels and features were given; wanted one of them")
    refuse_idle_flags({"pixels": pixels, "features": features}, frame_valid=frame_valid, patch_valid=patch_valid)
    valid = patch_valid
    if pixels is not None:
        features, valid = _run_tower(vision, pixels, frame_valid, layout)
    elif features is None:
        features = _no_features(vision, resampler, projection, width) + _nothing_of(vision)
    elif features.ndim != 4:
        raise ShapeError(f"features has shape {tuple(features.shape)}, wanted [items frames patches vision_dim]")
    else:
        check_flags(features, frame_valid=frame_valid, patch_valid=patch_valid)
        if frame_valid is not None:
            frames = frame_valid.to(features.device, non_blocking=True)[..., None].expand(features.shape[:-1])
            valid = frames if patch_valid is None else frames & patch_valid
    features = hide_unseen(features, layout)
    media, valid = _resample(resampler, features, valid)
    return MediaState(media=media if projection is None else projection(media), valid=valid)


def _run_tower(
    vision: VisionTower | None, pixels: Tensor, frame_valid: Tensor | None, layout: MediaLayout | None
) -> tuple[Tensor, Tensor | None]:
    if vision is None:
        raise ValueError("pixels were given, but this model has no vision tower; pass vision=, or give features")
    trained = torch.is_grad_enabled() and bool(_trained_weights(vision))
    if trained:
        pixels = hide_unseen(pixels, layout)
    with torch.set_grad_enabled(trained):
        features, valid = encode_frames(vision, pixels, frame_valid)
        return features + _nothing_of(vision) if trained else features, valid


def _trained_weights(vision: object) -> list[Tensor]:
    return [p for p in vision.parameters() if p.requires_grad] if isinstance(vision, nn.Module) else []


def _nothing_of(vision: object) -> Tensor | float:
    """A zero that holds the weights of a tower that trains, so that a batch without frames gives them gradients too."""
    # Sums of empty slices: 0 times a sum would turn a NaN among the weights into a NaN of the features.
    return sum(weight.flatten()[:0].sum() for weight in _trained_weights(vision))


def _resample(resampler: nn.Module | None, features: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
    taken = resampler is not None and "valid" in inspect.signature(resampler.forward).parameters
    if resampler is None:
        media = features
    else:
        media = resampler(features, valid) if taken else resampler(features)
    if media.ndim == 3:  # items latents dim
        if valid is not None and not taken:
            raise ValueError(
                f"{type(resampler).__name__} takes no valid=, but some frames or patches may not exist, and it would "
                "read their padding; give its forward an argument valid: bool [items frames patches]"
            )
        return media, None
    return media.flatten(1, 2), None if valid is None else valid.flatten(1, 2)


def _no_features(
    vision: VisionTower | None, resampler: nn.Module | None, projection: nn.Module | None, width: int | None
) -> Float[Tensor, "0 1 1 vision_dim"]:
    """The features of a pool without items."""
    modules = [module for module in (resampler, projection, vision) if isinstance(module, nn.Module)]
    weights = (p for module in modules for p in module.parameters() if p.is_floating_point())
    parameter = next(weights, torch.empty(0))
    sources = [(vision, "dim"), (resampler, "vision_dim"), (resampler, "in_features")]
    dims = [getattr(source, name, None) for source, name in sources]
    if resampler is None:
        dims += [getattr(projection, "in_features", None), width]
    for dim in dims:
        if isinstance(dim, int):
            return torch.zeros(0, 1, 1, dim, device=parameter.device, dtype=parameter.dtype)
    raise ValueError(
        "a text without media needs the width of the features, which neither vision nor resampler tells; give the "
        "resampler an attribute vision_dim, or pass features of shape [0 1 1 vision_dim]"
    )
