"""What a `preprocessor_config.json` of Hugging Face says, as arguments of `ImagePreprocess`."""

import math
import re
from collections.abc import Mapping
from typing import Any

_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # PIL's numbers of its filters
# What a `size` that is one number means to the image processors of transformers: the shorter side, or a square
_SHORTEST_EDGE = {"Bit", "ChineseCLIP", "CLIP", "MobileNetV1", "MobileNetV2", "Siglip", "VideoMAE"}
_SQUARE = {"Beit", "DeiT", "Flava", "ViT"}
# Settings that are read here, or that move no pixel; and those of single families that do
_KNOWN_STEPS = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_reduce_labels"}
_OTHER_WAYS = ("crop_pct", "include_top", "keep_aspect_ratio", "rescale_offset", "size_divisor")


def arguments_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """All that makes the pixels which the image processor of that config makes."""
    colours = colours_of(config)
    _check_steps(config)
    crop = _crop(config)
    size = _size(config, is_cropped=crop is not None)
    if crop is None:
        return {**colours, "size": _sides(size, "size"), "fit": "stretch"}
    if isinstance(size, Mapping) and size.keys() == {"shortest_edge"}:
        edge = int(size["shortest_edge"])
        _check_covers((edge, edge), crop)
        return {**colours, "size": crop, "fit": "crop", "shortest_edge_px": edge}
    before = _sides(size, "size")
    _check_covers(before, crop)
    return {**colours, "size": crop, "fit": "stretch", "before_crop": before}


def colours_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Mean, std and filter, whatever the frame."""
    factor = config.get("rescale_factor")
    if config.get("do_rescale") is False:
        raise ValueError(
            "do_rescale is False, wanted pixels on the scale 0 to 1; use ImagePreprocess(size=, mean=, std=), with "
            "mean and std on that scale"
        )
    if factor is not None and not math.isclose(factor, 1 / 255, rel_tol=1e-4):
        raise ValueError(
            f"rescale_factor is {factor!r}, wanted 1/255, which brings pixels to the scale 0 to 1; use "
            "ImagePreprocess(size=, mean=, std=), with mean and std on that scale"
        )
    interpolation = _INTERPOLATIONS.get(config.get("resample", 3))
    if interpolation is None:
        raise ValueError(f"resample is {config['resample']!r}, wanted 2 (bilinear) or 3 (bicubic)")
    mean, std = _channels(config.get("image_mean"), 0.0), _channels(config.get("image_std"), 1.0)
    if config.get("do_normalize") is False:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return {"mean": mean, "std": std, "interpolation": interpolation}


def _check_steps(config: Mapping[str, Any]) -> None:
    """Refuse what an image processor would do besides, or would leave out."""
    if config.get("do_resize") is False:
        raise ValueError("do_resize is False, wanted images made one size; use ImagePreprocess(size=)")
    further = [key for key in config if key.startswith("do_") and key not in _KNOWN_STEPS]
    for key in (*further, *_OTHER_WAYS):
        if config.get(key):
            raise ValueError(
                f"{key} is {config[key]!r}, wanted none, for it is not done here; use "
                "ImagePreprocess(size=, mean=, std=, fit=) if it may be left out, or a function of your own"
            )


def _crop(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of what is cut out of the middle."""
    crop, is_cropped = config.get("crop_size"), config.get("do_center_crop")
    if crop is not None and is_cropped is None:
        raise ValueError(f"do_center_crop is missing beside crop_size {crop!r}, wanted true or false; add it")
    if not is_cropped:
        return None
    return _sides({"height": crop, "width": crop} if isinstance(crop, int) else crop, "crop_size")


def _size(config: Mapping[str, Any], *, is_cropped: bool) -> Any:
    """The size in words; a bare number means what the class of the image processor takes it for."""
    size = config.get("size")
    if isinstance(size, Mapping):
        return {word: value for word, value in size.items() if value is not None}
    if not isinstance(size, int):
        return size
    name = config.get("image_processor_type") or config.get("feature_extractor_type")
    family = re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", name or "")
    if family in _SHORTEST_EDGE:
        return {"shortest_edge": size}
    if is_cropped and family not in _SQUARE:
        raise ValueError(
            f"size is {size} before a crop, which image_processor_type {name!r} may take for the shorter side or for "
            f"a square; write {{'shortest_edge': {size}}} or {{'height': {size}, 'width': {size}}}"
        )
    return {"height": size, "width": size}  # without a crop nothing else makes frames of one size


def _sides(size: Any, key: str) -> tuple[int, int]:
    if not isinstance(size, Mapping) or size.keys() != {"height", "width"}:
        wanted = "height and width" if key == "crop_size" else "height and width, or shortest_edge and a crop"
        raise ValueError(
            f"{key} is {size!r}, wanted an int, or {wanted}, which make frames of one size; use ImagePreprocess(size=)"
        )
    return int(size["height"]), int(size["width"])


def _check_covers(before: tuple[int, int], crop: tuple[int, int]) -> None:
    if before[0] < crop[0] or before[1] < crop[1]:
        raise ValueError(
            f"crop_size is {list(crop)}, wanted at most the {list(before)} that size leaves of every image: the rest "
            "would be black; use ImagePreprocess(size=)"
        )


def _channels(values: Any, default: float) -> tuple[float, float, float]:
    red, green, blue = (default,) * 3 if values is None else (values,) * 3 if isinstance(values, float) else values
    return float(red), float(green), float(blue)
