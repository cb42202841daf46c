"""A tower around the vision part of an open_clip model."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from flamingo_blocks._optional import require
from flamingo_blocks.vision._open_clip_facts import (
    check_activation,
    native_size,
    open_clip_features,
    open_clip_preprocess,
    set_size,
    visual_part,
)
from flamingo_blocks.vision.image_preprocess import Fit
from flamingo_blocks.vision.tower import (
    FreezableTower,
    PatchTokens,
    cast_like_weights,
    check_frame_size,
    probe_features,
)


class OpenClipTower(FreezableTower):
    """Make a vision tower of an open_clip model: its vision transformers, ResNets, and timm models.

    The tower gives the patch tokens alone: the class token is cut off, pooling and projection are not applied. It holds
    `model.visual`, which it freezes in place, and not the text part. By default the tokens are those that open_flamingo
    takes: the second output of `visual` under `output_tokens=True`, which is normed in the open_clip of today. The
    released weights of OpenFlamingo were trained on tokens that were not: pass `final_norm=False` for those.

    Args:
        model: What `open_clip.create_model` gives, or its `visual`.
        layer: Which features to take. -1 is the last; other numbers count blocks, of a ResNet its stem and stages.
        final_norm: Apply `ln_post` to them. None does as the model itself: the last block is normed unless the model
            norms after pooling, earlier ones are not. The class CLIP of transformers does not norm its last block.
        image_size: Height and width of the frames, or one number; position embeddings are interpolated in place.
        fit: How images are made to fit, as in `ImagePreprocess`; the model's own way when None. `"pad"` is the paper's.
        preprocess: Turns one image into pixels, in place of what the model's `preprocess_cfg` says.
        quick_gelu: Whether the weights were trained with QuickGELU, as those of OpenAI and DFN were; a model built
            with the other activation is refused. None asks nothing. `from_pretrained` knows and always asks.
        frozen: Stop gradients to the model and keep it in eval mode, also through `.train()`.

    Raises:
        ValueError: If the model has no such layer or norm, does not take such frames, or has the other activation.

    Example:
        >>> import open_clip  # doctest: +SKIP
        >>> clip = open_clip.create_model("ViT-B-32")  # doctest: +SKIP
        >>> tower = OpenClipTower(clip, image_size=64)  # doctest: +SKIP
        >>> tower.dim, tower.grid  # doctest: +SKIP
        (768, (2, 2))
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        layer: int = -1,
        final_norm: bool | None = None,
        image_size: int | tuple[int, int] | None = None,
        fit: Fit | None = None,
        preprocess: Callable[[Any], Tensor] | None = None,
        quick_gelu: bool | None = None,
        frozen: bool = True,
    ) -> None:
        options = {"layer": layer, "final_norm": final_norm, "image_size": image_size, "fit": fit,
                   "preprocess": preprocess, "quick_gelu": quick_gelu, "frozen": frozen}  # fmt: skip
        super().__init__()
        self.model = visual_part(model)
        self.config = {"model": self.model, **options}
        self.layer, self.final_norm = layer, final_norm
        if quick_gelu is not None:
            check_activation(self.model, quick_gelu=quick_gelu)
        if image_size is None:
            self.image_size = native_size(self.model)
        else:
            self.image_size = (image_size, image_size) if isinstance(image_size, int) else image_size
            set_size(self.model, self.image_size)
        if preprocess is None:
            preprocess = open_clip_preprocess(self.model, self.image_size, fit)
        self.preprocess = preprocess
        self._start(self.model, frozen=frozen)
        _, rows, columns, self.dim = probe_features(self, self.image_size, self._features).shape
        self.grid: tuple[int, int] = (rows, columns)

    @classmethod
    def from_pretrained(
        cls, name: str, pretrained: str | None = None, *, force_quick_gelu: bool = False, **options: Any
    ) -> "OpenClipTower":
        """Load a model by the names that open_clip knows it by, weights and preprocessing included.

        Args:
            name: Such as `"ViT-L-14-quickgelu"`, or `"hf-hub:..."`.
            pretrained: Tag of the weights, such as `"openai"`, or a file. None needs a name that brings its weights.
            force_quick_gelu: Build the model with QuickGELU, whatever its name says.
            **options: Arguments of the class.

        Raises:
            ValueError: If the weights of that tag were trained with the other kind of GELU.

        Example:
            open_flamingo's encoder: `OpenClipTower.from_pretrained("ViT-L-14-quickgelu", "openai")`
        """
        open_clip = require("open_clip", used_by="OpenClipTower.from_pretrained", extra="open-clip")
        plain = name.replace("/", "-")  # as open_clip reads it
        known = open_clip.get_pretrained_cfg(plain, pretrained) if pretrained else {}
        wanted = bool(known.get("quick_gelu"))
        built = bool((open_clip.get_model_config(plain) or {}).get("quick_gelu")) or force_quick_gelu
        if known and wanted != built:
            other = f"{plain}-quickgelu" if wanted else plain.removesuffix("-quickgelu")
            raise ValueError(
                f"name is {name!r}: the weights {pretrained!r} were trained with {_gelu(quick=wanted)}, and that model "
                f"computes {_gelu(quick=built)}, which changes every feature; take {other!r}"
            )
        model = open_clip.create_model(name, pretrained=pretrained, force_quick_gelu=force_quick_gelu)
        return cls(model, **options)

    def forward(self, pixels: Float[Tensor, "n 3 height width"]) -> PatchTokens:
        """Encode frames.

        Args:
            pixels: Frames as `preprocess` makes them; cast to the dtype of the model's weights.

        Returns:
            One token for each place of the grid, row by row.

        Raises:
            ValueError: If `pixels` is no batch of RGB frames of the tower's size.
        """
        check_frame_size(pixels, self.image_size)
        return PatchTokens(tokens=self._features(cast_like_weights(pixels, self.model)).flatten(1, 2))

    def _features(self, pixels: Tensor) -> Tensor:
        return open_clip_features(self.model, pixels, layer=self.layer, final_norm=self.final_norm)


def _gelu(*, quick: bool) -> str:
    return "QuickGELU" if quick else "GELU"
