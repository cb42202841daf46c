"""A model of timm as a tower."""

import beside_cpu  # noqa: F401 - torchvision beside a CPU build of torch
import timm
import torch

from flamingo_blocks.vision import TimmTower

tower = TimmTower(timm.create_model("test_vit", num_classes=0))
assert tower(torch.rand(1, 3, *tower.image_size)).tokens.shape[-1] == tower.dim
