"""A model of open_clip as a tower."""

import beside_cpu  # noqa: F401 - torchvision beside a CPU build of torch
import torch
from open_clip.model import CLIP

from flamingo_blocks.vision import OpenClipTower

vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8}
text = {"context_length": 4, "vocab_size": 8, "width": 16, "heads": 2, "layers": 1}
tower = OpenClipTower(CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text))
assert tower(torch.rand(1, 3, 32, 32)).tokens.shape == (1, 16, 32)
