"""Vision encoders behind one border: frames in, patch tokens out."""

from flamingo_blocks.vision.callable_tower import CallableTower
from flamingo_blocks.vision.encode_frames import encode_frames
from flamingo_blocks.vision.image_preprocess import ImagePreprocess
from flamingo_blocks.vision.tower import PatchTokens, VisionTower
from flamingo_blocks.vision.transformers_tower import TransformersTower

__all__ = ["CallableTower", "ImagePreprocess", "PatchTokens", "TransformersTower", "VisionTower", "encode_frames"]
