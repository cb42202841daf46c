"""A tower of transformers on an image file, and features kept in files."""

from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel

from flamingo_blocks.vision import TransformersTower, save_features

config = CLIPVisionConfig(
    image_size=32, patch_size=8, hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=2
)
tower = TransformersTower(CLIPVisionModel(config))
Image.new("RGB", (40, 30), "red").save("red.png")
pixels = tower.preprocess(Image.open("red.png"))
assert tower(pixels[None]).tokens.shape == (1, 16, 16)
assert save_features("features", [("red", Image.open("red.png"))], tower=tower)["red"].shape == (1, 16, 16)
