"""Vision encoders behind one border: frames in, patch tokens out."""

from flamingo_blocks.vision.callable_tower import CallableTower
from flamingo_blocks.vision.encode_frames import encode_frames
from flamingo_blocks.vision.feature_store import FeatureStore, save_features
from flamingo_blocks.vision.image_preprocess import ImagePreprocess
from flamingo_blocks.vision.naflex_preprocess import NaFlexPreprocess
from flamingo_blocks.vision.naflex_tower import NaFlexTower
from flamingo_blocks.vision.open_clip_tower import OpenClipTower
from flamingo_blocks.vision.timm_tower import TimmTower
from flamingo_blocks.vision.tower import PatchTokens, VisionTower
from flamingo_blocks.vision.transformers_tower import TransformersTower

__all__ = [
    "CallableTower",
    "FeatureStore",
    "ImagePreprocess",
    "NaFlexPreprocess",
    "NaFlexTower",
    "OpenClipTower",
    "PatchTokens",
    "TimmTower",
    "TransformersTower",
    "VisionTower",
    "encode_frames",
    "save_features",
]
