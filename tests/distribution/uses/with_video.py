"""A clip is encoded and decoded."""

import torch

from flamingo_blocks.data.video import decode_clip, encode_clip

clip = decode_clip(encode_clip(torch.zeros(30, 3, 64, 64, dtype=torch.uint8), fps=10))
assert clip.times_s == (0.0, 1.0, 2.0), clip
