"""A tower around the vision transformers of the transformers library."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from flamingo_blocks._optional import require
from flamingo_blocks._whole_weights import load_and_list_missing, refuse_missing
from flamingo_blocks.vision._processor_config import colours_of
from flamingo_blocks.vision._transformers_facts import (
    Geometry,
    check_layer,
    default_preprocess,
    final_norm_of,
    read_by_tower,
    run_to_block,
    vision_part,
)
from flamingo_blocks.vision.image_preprocess import Fit, ImagePreprocess
from flamingo_blocks.vision.tower import (
    FreezableTower,
    PatchTokens,
    cast_like_weights,
    check_frame_size,
    probe_features,
)


class TransformersTower(FreezableTower):
    """Make a vision tower of a transformers model: CLIP, SigLIP, ViT, DeiT, DINOv2 and DINOv3.

    The tower gives the patch tokens alone: class, distillation and register tokens are cut off. Of a two-tower model
    such as `CLIPModel` it holds the vision part only, which it freezes in place. The SigLIP 2 of variable resolution
    has a tower of its own, `NaFlexTower`; the others of SigLIP 2 are SigLIP models.

    Args:
        model: The model; its vision part is found when it has one.
        layer: Block whose output is taken, counted as in a Python list: -1 is the last one, -2 the one before it.
        final_norm: Apply the model's final norm to it. None does as the model's own `last_hidden_state`: ViT and SigLIP
            norm their last layer, CLIP does not, and earlier layers are never normed.
        num_prefix: Tokens before the patches; known for the families above, to be said for others.
        image_size: Height and width of the frames, or one number; another size than the model's own interpolates its
            position embeddings.
        fit: How images are made to fit, as in `ImagePreprocess`; the model family's own way when None. `"pad"` is the
            paper's.
        preprocess: Turns one image into pixels, in place of the family's `ImagePreprocess`.
        frozen: Stop gradients to the model and keep it in eval mode, also through `.train()`.

    Raises:
        TypeError: If `model` is no module, or `layer` no whole number.
        ValueError: If `image_size` is no size, the model has no blocks to be found, no final norm where one is asked
            for, no such layer, or an unknown number of prefix tokens.

    Example:
        >>> from transformers import CLIPVisionConfig, CLIPVisionModel
        >>> config = CLIPVisionConfig(
        ...     image_size=32, patch_size=8, hidden_size=16, intermediate_size=32, num_attention_heads=2,
        ...     num_hidden_layers=2,
        ... )
        >>> tower = TransformersTower(CLIPVisionModel(config), layer=-2)
        >>> tower.dim, tower.grid
        (16, (4, 4))
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        layer: int = -1,
        final_norm: bool | None = None,
        num_prefix: int | None = None,
        image_size: int | tuple[int, int] | None = None,
        fit: Fit | None = None,
        preprocess: Callable[[Any], Tensor] | None = None,
        frozen: bool = True,
    ) -> None:
        options = {"layer": layer, "final_norm": final_norm, "num_prefix": num_prefix, "image_size": image_size,
                   "fit": fit, "preprocess": preprocess, "frozen": frozen}  # fmt: skip
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model is {model!r}, wanted a model of transformers; TransformersTower.from_pretrained(name) loads one"
            )
        self.model = vision_part(model)
        self.config = {"model": self.model, **options}
        self.geometry = Geometry.of(self.model, num_prefix=num_prefix, image_size=image_size)
        self.layer = layer
        self.final_norm = final_norm
        # DINO models interpolate by themselves and have no such argument.
        takes_argument = "interpolate_pos_encoding" in inspect.signature(self.model.forward).parameters
        self.interpolates = takes_argument and not self.geometry.is_native
        self.dim: int = self.geometry.dim
        self.grid = self.geometry.grid
        self.preprocess = default_preprocess(self.geometry, fit) if preprocess is None else preprocess
        self.takes_last_hidden_state = check_layer(self.model, layer) and final_norm is None
        if final_norm:
            final_norm_of(self.model)  # raises now, not in the first forward
        self._start(self.model, frozen=frozen)

    @classmethod
    def from_pretrained(cls, name: str, *, dtype: Any = None, **options: Any) -> "TransformersTower":
        """Load a model and its preprocessing by name or folder.

        Args:
            name: Name on the hub, or a folder.
            dtype: Dtype of the weights; as stored when None.
            **options: Arguments of the class. Without `image_size` frames have the size of the stored preprocessing,
                which may be another than the model's: DINOv2's is 224, not 518. With `fit` or `image_size` mean, std
                and filter stay the stored ones.

        Raises:
            CheckpointError: If a weight that patch tokens are made with is in no file; transformers would draw it.
            ValueError: If the stored preprocessing cannot be done here, as in `ImagePreprocess.from_config`, or makes
                frames of a size that the model does not take.

        Example:
            `TransformersTower.from_pretrained("openai/clip-vit-large-patch14", layer=-2)`
        """
        transformers = require("transformers", used_by="TransformersTower.from_pretrained", extra="vision")
        load = transformers.AutoModel.from_pretrained
        model, missing = load_and_list_missing(load, name, dtype="auto" if dtype is None else dtype)
        refuse_missing(read_by_tower(model, missing), name, "vision tower")
        if options.get("preprocess") is not None:
            return cls(model, **options)
        stored, _ = transformers.BaseImageProcessor.get_image_processor_dict(name)
        fit, given = options.get("fit"), options.get("image_size")
        own = ImagePreprocess.from_config(stored) if fit is None and given is None else None
        frame = given if own is None else own.size
        if frame is None:
            with suppress(ValueError):  # `fit` does without a stored frame
                frame = ImagePreprocess.from_config(stored).size
        geometry = Geometry.of(vision_part(model), num_prefix=options.get("num_prefix"), image_size=frame)
        if own is None:  # the frame is the caller's, the colours and the filter are the checkpoint's
            own = replace(default_preprocess(geometry, fit), **colours_of(stored))
        size = None if geometry.is_native else geometry.image_size
        tower = cls(model, **{**options, "image_size": size, "preprocess": own})
        if size is not None and given is None:  # a size that nobody asked for has to be one that the model takes
            native = list(geometry.native_size)
            fix = f"image_size= to the model's own {native}, for the stored preprocessing makes frames of another size"
            probe_features(tower, size, tower, fix=fix)
        return tower

    def forward(self, pixels: Float[Tensor, "n 3 height width"]) -> PatchTokens:
        """Encode frames.

        Args:
            pixels: Frames as `preprocess` makes them; cast to the dtype of the model's weights.

        Returns:
            The patch tokens of the chosen layer.

        Raises:
            ValueError: If `pixels` is no batch of RGB frames of the tower's size.
        """
        check_frame_size(pixels, self.geometry.image_size)
        tokens = self._hidden_states(cast_like_weights(pixels, self.model))
        patches = tokens.shape[1] - self.geometry.num_prefix
        if patches != self.grid[0] * self.grid[1]:
            raise ValueError(
                f"the model gives {patches} patch tokens after num_prefix={self.geometry.num_prefix}, but its grid is "
                f"{self.grid[0]} x {self.grid[1]}; correct num_prefix="
            )
        return PatchTokens(tokens=tokens[:, self.geometry.num_prefix :])

    def _hidden_states(self, pixels: Tensor) -> Tensor:
        """All tokens of the chosen layer."""
        if self.takes_last_hidden_state:
            return self._run(pixels).last_hidden_state  # type: ignore[no-any-return]
        kept = run_to_block(self.model, self.layer, lambda: self._run(pixels))
        return final_norm_of(self.model)(kept) if self.final_norm else kept

    def _run(self, pixels: Tensor) -> Any:
        if self.interpolates:
            return self.model(pixel_values=pixels, interpolate_pos_encoding=True)
        return self.model(pixel_values=pixels)
