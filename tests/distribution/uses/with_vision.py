"""A tower of transformers on an image file, and features kept in files."""

import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel

from flamingo_blocks.vision import FeatureStore, ImagePreprocess, TransformersTower, save_features

config = CLIPVisionConfig(
    image_size=32, patch_size=8, hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=2
)
tower = TransformersTower(CLIPVisionModel(config))
Image.new("RGB", (40, 30), "red").save("red.png")
pixels = ImagePreprocess(image_size=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))(Image.open("red.png"))
assert tower(pixels[None]).shape == (1, 16, 16)
save_features("features", tower, [("red", pixels)])
assert FeatureStore("features")["red"].shape[-1] == 16
assert torch.is_tensor(pixels)
