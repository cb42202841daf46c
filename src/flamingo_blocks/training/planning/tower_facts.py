"""What a vision tower costs: given, or counted on a frame without computing it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, kw_only=True)
class TowerFacts:
    """What a plan has to know of a vision tower.

    Args:
        parameters: How many it has.
        flops_per_frame: Operations of its forward pass on a frame; a product and a sum are two.
        patches: Patch features of a frame.
        trained: Whether it is trained too.

    Example:
        >>> stored = TowerFacts(parameters=0, flops_per_frame=0, patches=256)  # features were computed before
    """

    parameters: int
    flops_per_frame: float
    patches: float
    trained: bool = False


# Brock et al., High-performance large-scale image recognition without normalization (arXiv 2102.06171). Flamingo counts
# 435 million parameters without the classifier. The operations are an estimate: timm counts 229.7e9 products for a
# frame of 448 pixels, and the 320 of Flamingo's pretraining have 0.51 times the area. The grid at that size is 10 x 10.
NFNET_F6 = TowerFacts(parameters=435_000_000, flops_per_frame=2 * 117.2e9, patches=100)


def count_tower(tower: Any) -> TowerFacts:
    """Count what a tower costs, on the meta device: nothing is computed and no memory is used.

    Args:
        tower: A `VisionTower`.

    Returns:
        Its facts.

    Raises:
        ValueError: If it does not run on the meta device.

    Example:
        >>> from flamingo_blocks.vision import CallableTower
        >>> count_tower(CallableTower(nn.Conv2d(3, 16, 4, 4), image_size=8))
        TowerFacts(parameters=784, flops_per_frame=6144, patches=4, trained=False)
    """
    parameters = list(tower.parameters()) if isinstance(tower, nn.Module) else []
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        try:
            pixels = tower.preprocess(torch.zeros(3, 32, 32, dtype=torch.uint8)).to("meta")[None]
            state = dict(tower.state_dict(keep_vars=True)) | dict(tower.named_buffers())
            functional_call(tower, {name: value.to("meta") for name, value in state.items()}, (pixels,))
        except Exception as error:
            raise ValueError(
                f"the vision tower, a {type(tower).__name__}, does not run on the meta device ({error}); give "
                "tower=TowerFacts(parameters=, flops_per_frame=, patches=)"
            ) from error
    rows, columns = tower.grid
    return TowerFacts(
        parameters=sum(p.numel() for p in parameters),
        flops_per_frame=counter.get_total_flops(),
        patches=rows * columns,
        trained=any(p.requires_grad for p in parameters),
    )
