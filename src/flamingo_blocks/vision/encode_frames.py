"""Run a tower over a pool of images and clips, on the frames that exist."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.vision.tower import PatchTokens, VisionTower, floating_state, pixels_fix


def encode_frames(
    tower: VisionTower,
    pixels: Float[Tensor, "items frames 3 height width"],
    frame_valid: Bool[Tensor, "items frames"] | None = None,
    *,
    max_frames_per_call: int | None = None,
) -> tuple[Float[Tensor, "items frames patches vision_dim"], Bool[Tensor, "items frames patches"] | None]:
    """Encode every frame of a media pool once.

    Clips of fewer frames than the longest are padded; the pads never reach the tower, so they cost nothing, and NaN in
    them does no harm.

    Args:
        tower: Encoder of frames.
        pixels: Images (clips of one frame) and clips, as `tower.preprocess` makes them.
        frame_valid: True for frames that exist; all do when None. Best left on the CPU, where reading it waits for
            no device.
        max_frames_per_call: Frames given to the tower at once, to bound the memory of large pools; all when None.

    Returns:
        Patch features, zeros for frames that do not exist, and which patches exist; None when all do. Without any frame
        the tower does not run, and the features are empty or zeros of the right shape.

    Raises:
        ValueError: If `pixels` or `frame_valid` has another shape or dtype, or `max_frames_per_call` is less than 1.

    Example:
        >>> from flamingo_blocks.vision import CallableTower
        >>> tower = CallableTower(torch.nn.Conv2d(3, 8, 4, stride=4), image_size=16)
        >>> features, valid = encode_frames(tower, torch.zeros(2, 3, 3, 16, 16))
        >>> features.shape  # items frames patches vision_dim
        torch.Size([2, 3, 16, 8])

    Source:
        Flamingo (arXiv 2204.14198), section 2.1: the frames of a clip are encoded independently.
    """
    _check(pixels, frame_valid, max_frames_per_call)
    items, frames = pixels.shape[:2]
    flat = pixels.flatten(0, 1)
    index = None if frame_valid is None else _existing(frame_valid, flat.device)
    if index is None or len(index) == len(flat):
        found = _run(tower, flat, max_frames_per_call)
        tokens, valid = found.tokens, found.valid
    else:
        found = _run(tower, flat[index], max_frames_per_call)
        tokens = found.tokens.new_zeros(len(flat), *found.tokens.shape[1:]).index_copy(0, index, found.tokens)
        seen = torch.ones_like(found.tokens[..., 0], dtype=torch.bool) if found.valid is None else found.valid
        valid = seen.new_zeros(len(flat), seen.shape[1]).index_copy(0, index, seen)
    shape = (items, frames, tokens.shape[1])
    return tokens.reshape(*shape, tokens.shape[2]), None if valid is None else valid.reshape(shape)


def _existing(frame_valid: Bool[Tensor, "items frames"], device: torch.device) -> Int[Tensor, " existing"]:
    """Places of the frames that exist, on the device of the pixels."""
    exists = frame_valid.flatten()
    if "meta" in (exists.device.type, device.type):
        exists = torch.ones(len(exists), dtype=torch.bool)  # shapes alone: which frames exist is unknown
    if exists.device.type == "cpu":
        index = torch.tensor([place for place, there in enumerate(exists.tolist()) if there], dtype=torch.long)
        return index.to(device, non_blocking=True)
    return exists.nonzero()[:, 0].to(device)


def _run(tower: VisionTower, pixels: Tensor, max_frames_per_call: int | None) -> PatchTokens:
    """Encode the frames in pieces; the tower is not called for none."""
    if len(pixels) == 0:
        weight = floating_state(tower)
        dtype = pixels.dtype if weight is None else weight.dtype
        return PatchTokens(tokens=pixels.new_zeros(0, tower.grid[0] * tower.grid[1], tower.dim, dtype=dtype))
    step = max_frames_per_call or len(pixels)
    found = [tower(pixels[start : start + step]) for start in range(0, len(pixels), step)]
    if len(found) == 1:
        return found[0]
    masks = [piece.valid for piece in found if piece.valid is not None]
    if masks and len(masks) < len(found):
        masks = [torch.ones_like(p.tokens[..., 0], dtype=torch.bool) if p.valid is None else p.valid for p in found]
    return PatchTokens(tokens=torch.cat([piece.tokens for piece in found]), valid=torch.cat(masks) if masks else None)


def _check(pixels: Tensor, frame_valid: Tensor | None, max_frames_per_call: int | None) -> None:
    if pixels.ndim != 5 or pixels.shape[2] != 3 or not pixels.is_floating_point():
        fix = pixels_fix(pixels) or (
            "an image is a clip of one frame: pixels[:, None]" if pixels.ndim == 4 else "make them by tower.preprocess"
        )
        raise ShapeError(
            f"pixels has shape {list(pixels.shape)} and dtype {pixels.dtype}, wanted floating "
            f"[items frames 3 height width]; {fix}"
        )
    if frame_valid is not None and (frame_valid.dtype != torch.bool or frame_valid.shape != pixels.shape[:2]):
        raise ShapeError(
            f"frame_valid has shape {list(frame_valid.shape)} and dtype {frame_valid.dtype}, wanted bool "
            f"{list(pixels.shape[:2])} (items frames), True for frames that exist"
        )
    if max_frames_per_call is not None and max_frames_per_call < 1:
        raise ValueError(f"max_frames_per_call is {max_frames_per_call}, wanted 1 or more, or None for all at once")
