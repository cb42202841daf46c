"""The vision towers of IDEFICS and Mllama, whose text attends to class tokens and tiles too."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_blocks.vision import PatchTokens
from flamingo_blocks.vision.image_preprocess import CLIP_MEAN, CLIP_STD, Fit, ImagePreprocess
from flamingo_blocks.vision.tower import FreezableTower, cast_like_weights, check_pixels


class IdeficsTower(FreezableTower):
    """IDEFICS' encoder: a CLIP that gives its class token before the patches, for the resampler reads that as well.

    Args:
        model: A `CLIPVisionModel` of transformers, or another model whose `last_hidden_state` holds a class token and
            patches; `idefics_parts` builds it from a config.
        frozen: Stop gradients to the model and keep it in eval mode, also through `.train()`.

    Example:
        >>> from transformers import CLIPVisionConfig, CLIPVisionModel
        >>> config = CLIPVisionConfig(
        ...     image_size=32, patch_size=8, hidden_size=16, intermediate_size=32, num_attention_heads=2,
        ...     num_hidden_layers=1,
        ... )
        >>> IdeficsTower(CLIPVisionModel(config))(torch.zeros(2, 3, 32, 32)).tokens.shape
        torch.Size([2, 17, 16])

    Source:
        `IdeficsVisionTransformer` of transformers 5.23: the last layer, without its final norm.
    """

    def __init__(self, model: nn.Module, *, frozen: bool = True) -> None:
        super().__init__()
        self.config = {"model": model, "frozen": frozen}
        self.model = model
        self.dim, self.grid, self.preprocess = _facts(model, "hidden_size", "stretch", "bicubic")
        self._start(model, frozen=frozen)

    def forward(self, pixels: Float[Tensor, "n 3 height width"]) -> PatchTokens:
        """Encode frames.

        Args:
            pixels: Frames as `preprocess` makes them.

        Returns:
            Class token and patches of each.

        Raises:
            ValueError: If `pixels` is no batch of RGB frames.
        """
        check_pixels(pixels)
        model: Any = self.model
        return PatchTokens(tokens=model(pixel_values=cast_like_weights(pixels, model)).last_hidden_state)


class MllamaTower(FreezableTower):
    """The encoder of Llama 3.2 Vision: an image is cut into tiles, which see each other.

    As a tower of single frames it takes each for an image of one tile (`preprocess` keeps its ratio and pads). Images
    of several tiles go through `encode_tiles`, or `mllama_inputs` for what transformers' processor gives.

    Args:
        model: A `MllamaVisionModel` of transformers; `mllama_parts` builds it from a config.
        frozen: Stop gradients to the model and keep it in eval mode, also through `.train()`.

    Example:
        >>> from transformers import MllamaVisionConfig, MllamaVisionModel
        >>> config = MllamaVisionConfig(
        ...     image_size=16, patch_size=8, hidden_size=8, intermediate_size=8, attention_heads=2,
        ...     num_hidden_layers=1, num_global_layers=1, intermediate_layers_indices=[0], vision_output_dim=16,
        ... )
        >>> tower = MllamaTower(MllamaVisionModel(config))
        >>> tower(torch.zeros(2, 3, 16, 16)).tokens.shape
        torch.Size([2, 5, 16])

    Source:
        `MllamaVisionModel` of transformers 5.23.
    """

    def __init__(self, model: nn.Module, *, frozen: bool = True) -> None:
        super().__init__()
        self.config = {"model": model, "frozen": frozen}
        self.model = model
        self.dim, self.grid, self.preprocess = _facts(model, "vision_output_dim", "pad", "bilinear")
        self._start(model, frozen=frozen)

    def forward(self, pixels: Float[Tensor, "n 3 height width"]) -> PatchTokens:
        """Encode frames, each as an image of one tile.

        Args:
            pixels: Frames as `preprocess` makes them.

        Returns:
            Class token and patches of each.

        Raises:
            ValueError: If `pixels` is no batch of RGB frames.
        """
        check_pixels(pixels)
        model: Any = self.model
        tiles = pixels.new_zeros(len(pixels), model.config.max_num_tiles, *pixels.shape[1:])
        tiles[:, 0] = pixels  # the others are zeros, which transformers' processor gives too
        exists = torch.zeros(tiles.shape[:2], dtype=torch.bool, device=pixels.device)
        exists[:, 0] = True
        ratio = model.config.supported_aspect_ratios.index([1, 1]) + 1
        ratios = torch.full((len(pixels),), ratio, device=pixels.device)
        return PatchTokens(tokens=self.encode_tiles(tiles, ratios, exists)[:, 0])

    def encode_tiles(
        self,
        pixels: Float[Tensor, "items tiles 3 height width"],
        aspect_ratio_ids: Int[Tensor, " items"],
        tile_valid: Bool[Tensor, "items tiles"],
    ) -> Float[Tensor, "items tiles patches vision_dim"]:
        """Encode images that were cut into tiles.

        Args:
            pixels: The tiles; zeros where there are fewer.
            aspect_ratio_ids: How the tiles lie: place in the config's `supported_aspect_ratios`, from 1 on.
            tile_valid: Tiles that exist.

        Returns:
            Class token and patches of each tile: the `features` of a Flamingo, whose `patch_valid` is `tile_valid`
            repeated for each patch.
        """
        model: Any = self.model
        if len(pixels) == 0:
            return pixels.new_zeros(0, pixels.shape[1], self.grid[0] * self.grid[1] + 1, self.dim)
        found = model(
            pixel_values=cast_like_weights(pixels, model)[:, None],
            aspect_ratio_ids=aspect_ratio_ids[:, None],
            aspect_ratio_mask=tile_valid[:, None].long(),
        )
        tokens: Tensor = found.last_hidden_state
        return tokens[:, 0]


def _facts(
    model: Any, width: str, fit: Fit, interpolation: Literal["bicubic", "bilinear"]
) -> tuple[int, tuple[int, int], ImagePreprocess]:
    """Width, grid and preprocessing, off the model's config."""
    config = model.config
    side = config.image_size // config.patch_size
    size = (config.image_size, config.image_size)
    preprocess = ImagePreprocess(size, CLIP_MEAN, CLIP_STD, fit, interpolation)
    return int(getattr(config, width)), (side, side), preprocess
