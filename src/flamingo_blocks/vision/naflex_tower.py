"""A tower around the SigLIP 2 that takes images of any size: frames of one batch differ in their patches."""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flamingo_blocks._optional import require
from flamingo_blocks._whole_weights import load_and_list_missing, refuse_missing
from flamingo_blocks.errors import ShapeError
from flamingo_blocks.vision._processor_config import colours_of
from flamingo_blocks.vision._transformers_facts import (
    NAFLEX,
    check_layer,
    final_norm_of,
    read_by_tower,
    run_to_block,
    vision_part,
)
from flamingo_blocks.vision.naflex_preprocess import NaFlexPreprocess
from flamingo_blocks.vision.tower import FreezableTower, PatchTokens, cast_like_weights, check_pixels


class NaFlexTower(FreezableTower):
    """Make a vision tower of `Siglip2VisionModel`, which keeps the aspect ratio of every image.

    Frames come as `preprocess` makes them, each of its own size, padded by NaN on the right and below to the size of
    the batch. A patch that is NaN throughout is no patch: it never reaches the weights, as `PatchTokens.valid` says.
    Tokens are always `max_num_patches` a frame, the frame's own first, row by row, then zeros.

    Args:
        model: A `Siglip2VisionModel`, or a `Siglip2Model`, of which the vision part is taken and frozen in place.
        layer: Block whose output is taken, counted as in a Python list.
        final_norm: Apply the model's final norm to it. None does as the model's own `last_hidden_state`: the last
            layer is normed, earlier ones are not.
        max_num_patches: Most patches of a frame; by default the model's own number. Positions are interpolated for
            every frame in any case, so more patches are possible, at a cost that grows faster than their number.
        preprocess: Turns one image into pixels; its patches must be the model's.
        frozen: Stop gradients to the model and keep it in eval mode, also through `.train()`.

    Attributes:
        grid: Rows and columns of a square image; other images have their own.

    Raises:
        ValueError: If the model is another one, or has no such layer.
        TypeError: If `layer` is no whole number.

    Example:
        >>> from transformers import Siglip2VisionConfig, Siglip2VisionModel
        >>> config = Siglip2VisionConfig(
        ...     patch_size=4, num_patches=16, hidden_size=16, intermediate_size=32, num_attention_heads=2,
        ...     num_hidden_layers=2,
        ... )
        >>> tower = NaFlexTower(Siglip2VisionModel(config))
        >>> pixels = tower.preprocess(torch.zeros(3, 10, 40, dtype=torch.uint8))
        >>> pixels.shape  # 2 x 8 patches
        torch.Size([3, 8, 32])
        >>> tower(pixels[None]).tokens.shape
        torch.Size([1, 16, 16])

    Source:
        SigLIP 2 (arXiv 2502.14786), section 2.4.2.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        layer: int = -1,
        final_norm: bool | None = None,
        max_num_patches: int | None = None,
        preprocess: NaFlexPreprocess | None = None,
        frozen: bool = True,
    ) -> None:
        options = {"layer": layer, "final_norm": final_norm, "max_num_patches": max_num_patches,
                   "preprocess": preprocess, "frozen": frozen}  # fmt: skip
        super().__init__()
        self.model = vision_part(model)
        self.config = {"model": self.model, **options}
        config: Any = self.model.config
        if config.model_type != NAFLEX:
            raise ValueError(
                f"model is of the family {config.model_type!r}, wanted {NAFLEX!r}; make it a TransformersTower"
            )
        self.layer, self.final_norm = layer, final_norm
        self.dim: int = config.hidden_size
        self.patch_size: int = config.patch_size
        self.max_num_patches: int = config.num_patches if max_num_patches is None else max_num_patches
        if preprocess is None:
            preprocess = NaFlexPreprocess(patch_size=self.patch_size, max_num_patches=self.max_num_patches)
        self.preprocess = preprocess
        height, width = preprocess.size_of(1024, 1024)
        self.grid = (height // self.patch_size, width // self.patch_size)
        self.takes_last_hidden_state = check_layer(self.model, layer) and final_norm is None
        self._start(self.model, frozen=frozen)

    @classmethod
    def from_pretrained(cls, name: str, *, dtype: Any = None, **options: Any) -> "NaFlexTower":
        """Load a model and its preprocessing by name or folder.

        Args:
            name: Name on the hub, or a folder.
            dtype: Dtype of the weights; as stored when None.
            **options: Arguments of the class.

        Raises:
            CheckpointError: If a weight that patch tokens are made with is in no file; transformers would draw it.

        Example:
            `NaFlexTower.from_pretrained("google/siglip2-base-patch16-naflex", max_num_patches=576)`
        """
        transformers = require("transformers", used_by="NaFlexTower.from_pretrained", extra="vision")
        load = transformers.AutoModel.from_pretrained
        model, missing = load_and_list_missing(load, name, dtype="auto" if dtype is None else dtype)
        refuse_missing(read_by_tower(model, missing), name, "vision tower")
        if options.get("preprocess") is None:
            stored, _ = transformers.BaseImageProcessor.get_image_processor_dict(name)
            most = options.get("max_num_patches") or stored.get("max_num_patches", 256)
            options |= {"max_num_patches": most, "preprocess": _stored_preprocess(stored, most)}
        return cls(model, **options)

    def forward(self, pixels: Float[Tensor, "n 3 height width"]) -> PatchTokens:
        """Encode frames.

        Args:
            pixels: Frames as `preprocess` makes them, padded by NaN on the right and below.

        Returns:
            The patch tokens of the chosen layer, and which of them there are.

        Raises:
            ValueError: If `pixels` is no batch of RGB frames of whole patches, or a frame has no patch, more than
                `max_num_patches`, or patches that make no rectangle.
        """
        check_pixels(pixels)
        if pixels.shape[2] % self.patch_size or pixels.shape[3] % self.patch_size:
            raise ShapeError(
                f"pixels has frames of {list(pixels.shape[2:])}, wanted multiples of {self.patch_size}; "
                "make them by tower.preprocess"
            )
        patches, exists = _cut(pixels, self.patch_size)
        shapes = _shapes(exists, self.max_num_patches)
        patches, valid = _front(patches, exists.flatten(1), self.max_num_patches)
        mask = None if valid.is_meta else valid.long()  # which the model reads
        tokens = self._hidden_states(cast_like_weights(patches, self.model), mask, shapes)
        return PatchTokens(tokens=tokens.masked_fill(~valid[..., None], 0.0), valid=valid)

    def _hidden_states(self, *arguments: Tensor | None) -> Tensor:
        # By position: the name of the mask changed within transformers 5.
        if self.takes_last_hidden_state:
            return self.model(*arguments).last_hidden_state  # type: ignore[no-any-return]
        kept = run_to_block(self.model, self.layer, lambda: self.model(*arguments))
        return final_norm_of(self.model)(kept) if self.final_norm else kept


def _cut(
    pixels: Float[Tensor, "n 3 height width"], side: int
) -> tuple[Float[Tensor, "n patches values"], Bool[Tensor, "n rows columns"]]:
    """Patches row by row, their values in the order of the model, and which of them show something."""
    cut = rearrange(pixels, "n c (rows h) (columns w) -> n rows columns (h w c)", h=side, w=side)
    return cut.flatten(1, 2), ~cut.isnan().all(-1)


def _shapes(exists: Bool[Tensor, "n rows columns"], most: int) -> Tensor:
    """Rows and columns of each frame, on the host, where the model reads them."""
    if exists.device.type == "meta":  # shapes alone: all patches are there
        return torch.tensor(exists.shape[1:]).expand(len(exists), 2)
    rows, columns, number = exists[:, :, 0].sum(1), exists[:, 0].sum(1), exists.sum((1, 2))
    shapes = torch.stack([rows, columns, number], 1).cpu()
    for frame, (height, width, patches) in enumerate(shapes.tolist()):
        if not 0 < height * width == patches <= most:
            raise ShapeError(
                f"frame {frame} has {patches} patches with an image in them, {height} in its first column and {width} "
                f"in its first row, wanted a rectangle of 1 to {most}; make frames by tower.preprocess, and pad them "
                "by NaN on the right and below"
            )
    return shapes[:, :2]


def _front(
    patches: Float[Tensor, "n patches values"], exists: Bool[Tensor, "n patches"], most: int
) -> tuple[Float[Tensor, "n most values"], Bool[Tensor, "n most"]]:
    """Bring each frame's own patches to the front, in their order; zeros after them."""
    order = exists.long().argsort(dim=1, descending=True, stable=True)[:, :most]
    taken, valid = patches.gather(1, order[..., None].expand(-1, -1, patches.shape[2])), exists.gather(1, order)
    taken = taken.masked_fill(~valid[..., None], 0.0)
    missing = most - taken.shape[1]
    return nn.functional.pad(taken, (0, 0, 0, missing)), nn.functional.pad(valid, (0, missing))


def _stored_preprocess(stored: dict[str, Any], most: int) -> NaFlexPreprocess:
    return NaFlexPreprocess(stored.get("patch_size", 16), most, **colours_of({"resample": 2, **stored}))
