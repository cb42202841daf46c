"""A tower around any model of timm: NFNets as in the paper, ViT, SigLIP, DINO, and the rest."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from flamingo_blocks._optional import require
from flamingo_blocks.vision._timm_facts import (
    check_timm_model,
    native_size,
    pretrained_config,
    set_size,
    timm_features,
    timm_preprocess,
)
from flamingo_blocks.vision.image_preprocess import Fit
from flamingo_blocks.vision.tower import (
    FreezableTower,
    PatchTokens,
    cast_like_weights,
    check_frame_size,
    probe_features,
)


class TimmTower(FreezableTower):
    """Make a vision tower of a timm model: convolutional nets such as the paper's NFNet, ViT, SigLIP, DINOv2, DINOv3.

    The tower gives the features before pooling, one token a place of the grid: of a transformer the patch tokens
    without class and register tokens, of a convolutional net its last feature map. The model is frozen in place, its
    classifier never used. It is run once on a black frame when the tower is made, to learn width and grid.

    Args:
        model: What `timm.create_model` gives.
        layer: Which features to take. -1 is the last; other numbers count the blocks of a transformer, or the stages
            of a convolutional net with its stem, as `forward_intermediates` does.
        final_norm: Apply the model's final norm to them. None does as the model's own `forward_features`: the last
            features are normed and activated as the model has it, earlier ones are not.
        num_prefix: Tokens before the patches, where the model's `num_prefix_tokens` does not tell.
        image_size: Height and width of the frames, or one number. A transformer's position embeddings are interpolated
            in place, a convolutional net takes any size. By default the size the model was made for.
        fit: How images are made to fit, as in `ImagePreprocess`; the way of timm's evaluation when None. `"pad"` is the
            paper's.
        preprocess: Turns one image into pixels, in place of timm's.
        frozen: Stop gradients to the model and keep it in eval mode, also through `.train()`.

    Raises:
        ValueError: If the model has no such layer or norm, does not take such frames, or gives no grid of features.

    Example:
        >>> import timm  # doctest: +SKIP
        >>> nfnet = timm.create_model("dm_nfnet_f0", num_classes=0)  # doctest: +SKIP
        >>> tower = TimmTower(nfnet, image_size=64, fit="pad")  # doctest: +SKIP
        >>> tower.dim, tower.grid  # doctest: +SKIP
        (3072, (2, 2))

    Source:
        NFNet-F6 at 320 x 320 pixels, last feature map: Flamingo (arXiv 2204.14198), section 2.1 and appendix B.1.
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
        check_timm_model(model)
        self.model = model
        self.config = {"model": model, **options}
        self.layer, self.final_norm, self.num_prefix = layer, final_norm, num_prefix
        if image_size is None:
            self.image_size = native_size(model)
        else:
            self.image_size = (image_size, image_size) if isinstance(image_size, int) else image_size
            set_size(model, self.image_size)
        if preprocess is None:
            preprocess = timm_preprocess(pretrained_config(model), self.image_size, fit)
        self.preprocess = preprocess
        self._start(model, frozen=frozen)
        _, rows, columns, self.dim = probe_features(self, self.image_size, self._features).shape
        self.grid: tuple[int, int] = (rows, columns)

    @classmethod
    def from_pretrained(cls, name: str, *, pretrained: bool = True, **options: Any) -> "TimmTower":
        """Load a model by the name that timm knows it by, weights and preprocessing included.

        Args:
            name: Such as `"dm_nfnet_f6"`, `"vit_so400m_patch14_siglip_384"`, `"hf-hub:timm/..."` or `"local-dir:..."`.
            pretrained: False for random weights.
            **options: Arguments of the class.

        Raises:
            ValueError: If the weights of that tag were trained with QuickGELU and the named model computes GELU.

        Example:
            The paper's encoder: `TimmTower.from_pretrained("dm_nfnet_f6", image_size=320, fit="pad")`
        """
        timm = require("timm", used_by="TimmTower.from_pretrained", extra="timm")
        if pretrained:
            _refuse_other_gelu(timm, name)
        return cls(timm.create_model(name, pretrained=pretrained, num_classes=0), **options)

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
        return timm_features(
            self.model, pixels, layer=self.layer, final_norm=self.final_norm, num_prefix=self.num_prefix
        )


def _refuse_other_gelu(timm: Any, name: str) -> None:
    """Refuse weights of which timm keeps a second model, with the activation that they were trained with."""
    architecture, _, tag = name.rpartition("/")[2].partition(".")
    quick = architecture.replace("_clip_", "_clip_quickgelu_")
    if quick == architecture or "_quickgelu_" in architecture:
        return
    if not tag:
        default = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
        tag = "" if default is None else default.tag
    if f"{quick}.{tag}" in timm.list_pretrained(f"{quick}.*"):
        raise ValueError(
            f"name is {name!r}: the weights {tag!r} were trained with QuickGELU, and {architecture} computes GELU, "
            f"which changes every feature; take {quick}.{tag!s}"
        )
