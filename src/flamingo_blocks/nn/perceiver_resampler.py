"""Any number of patch features in, a fixed number of media tokens out."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.nn.feed_forward import FeedForward
from flamingo_blocks.nn.module_config import check_sizes, check_whole, constructor_arguments
from flamingo_blocks.nn.norms import apply_norm, make_norm
from flamingo_blocks.nn.plain_linear import may_recompute
from flamingo_blocks.ops._tensor_checks import check_floats
from flamingo_blocks.ops.context_projection import join_context, project_context
from flamingo_blocks.types import ActivationName, NormName


class PerceiverResampler(nn.Module):
    """Turn any number of patch features into a fixed number of media tokens.

    Use it between a vision tower and gated cross-attention, so that the cost of the latter does not grow with image
    size or clip length, or in front of any language model as a token compressor. Each item (image or clip) is resampled
    on its own; an image is a clip of one frame.

    Args:
        vision_dim: Width of the patch features; projected to `dim` where the two differ.
        dim: Width inside and of the tokens given back.
        num_latents: Tokens per item, 64 in the paper. Cross-attention cost is linear in it.
        depth: Number of attention + feed-forward layers.
        num_heads: Attention heads.
        head_dim: Width of a head; `num_heads * head_dim` need not equal `dim`. The paper's counts imply 128.
        ff_mult: Hidden width of the feed-forward layers in units of `dim`.
        max_frames: Frames with a learned embedding; longer clips interpolate it. 0: no frame embedding at all.
        activation: See `FeedForward`.
        norm: See `make_norm`.
        norm_eps: Epsilon of every norm.
        qk_norm: Norm over each head's query and key (IDEFICS: `"layer_norm"`).
        final_norm: Norm on the output, as all open implementations have and the paper does not show.
        activation_checkpointing: Recompute each layer in the backward pass instead of keeping its activations.

    Raises:
        TypeError: If a size is no whole number.
        ValueError: If a size is not positive, or a name is unknown.

    Example:
        >>> resampler = PerceiverResampler(vision_dim=48, dim=32, num_latents=4, depth=1, num_heads=2, head_dim=16)
        >>> resampler(torch.zeros(2, 3, 1, 49, 48)).shape  # *lead frames patches vision_dim -> *lead latents dim
        torch.Size([2, 3, 4, 32])

    Source:
        Flamingo (arXiv 2204.14198), section 2.1 and figure 5: latents are concatenated to the keys and values. The
        frame embeddings are interpolated linearly with both ends kept, which the paper leaves open. The input
        projection is implied by the published parameter counts.
    """

    def __init__(
        self,
        *,
        vision_dim: int,
        dim: int,
        num_latents: int = 64,
        depth: int = 6,
        num_heads: int = 16,
        head_dim: int = 128,
        ff_mult: float = 4,
        max_frames: int = 8,
        activation: ActivationName = "squared_relu",
        norm: NormName = "layer_norm",
        norm_eps: float | None = None,
        qk_norm: NormName | None = None,
        final_norm: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        arguments = constructor_arguments(locals())
        super().__init__()
        self.config = arguments
        check_sizes(
            vision_dim=vision_dim, dim=dim, num_latents=num_latents, depth=depth, num_heads=num_heads, head_dim=head_dim
        )
        check_whole(max_frames, "max_frames")
        if max_frames < 0:
            raise ValueError(f"max_frames is {max_frames}, wanted 0 (no frame embedding) or more")
        self.vision_dim, self.dim, self.num_latents, self.max_frames = vision_dim, dim, num_latents, max_frames
        self.activation_checkpointing = activation_checkpointing
        self.latents = nn.Parameter(torch.randn(num_latents, dim))
        self.frame_embeddings = nn.Parameter(torch.randn(max_frames, dim) * 0.02) if max_frames else None
        self.input_proj = nn.Linear(vision_dim, dim, bias=False) if vision_dim != dim else None
        self.layers = nn.ModuleList(
            ResamplerLayer(
                dim, num_heads=num_heads, head_dim=head_dim, ff_mult=ff_mult, activation=activation, norm=norm,
                norm_eps=norm_eps, qk_norm=qk_norm,
            )
            for _ in range(depth)
        )  # fmt: skip
        self.final_norm = make_norm(norm, dim, eps=norm_eps) if final_norm else None

    def forward(
        self,
        vision: Float[Tensor, "*lead frames patches vision_dim"],
        valid: Bool[Tensor, "*lead frames patches"] | None = None,
    ) -> Float[Tensor, "*lead latents dim"]:
        """Resample each item.

        Args:
            vision: Patch features; any axes may lead, usually `items`. Three axes are one clip, `frames patches
                vision_dim`: a batch of images without the axis of frames would be mixed into one item.
            valid: Patches that count. The others, NaN included, have no influence, nor has how many there are.

        Returns:
            `num_latents` tokens for each item.

        Raises:
            TypeError: If `vision` is no tensor.
            ValueError: If `vision` holds no floats, has another width or too few axes, or `valid` another shape.
        """
        self._check(vision, valid)
        if valid is not None:
            vision = vision.masked_fill(~valid[..., None], 0)
        vision = vision.to(self.latents.dtype)
        if self.input_proj is not None:
            vision = self.input_proj(vision)
        if self.frame_embeddings is not None:
            vision = vision + self._embed_frames(vision.shape[-3], valid)[..., None, :].to(vision.dtype)
        features = self._normalise(vision.flatten(-3, -2))  # *lead frames*patches dim
        valid = None if valid is None else valid.flatten(-2)
        latents = self.latents.expand(*features.shape[:-2], -1, -1)
        for layer in self.layers:
            if self.activation_checkpointing and torch.is_grad_enabled():
                latents = checkpoint(layer, latents, features, valid, use_reentrant=False)
            else:
                latents = layer(latents, features, valid)
        return apply_norm(self.final_norm, latents)

    def _normalise(self, features: Float[Tensor, "*lead tokens dim"]) -> Float[Tensor, "*lead tokens dim"]:
        """What the layers' norms of the features have in common; each layer adds its own scale and offset."""
        norm = self.layers[0].features_norm
        assert isinstance(norm, nn.LayerNorm | nn.RMSNorm)
        features = features.to(norm.weight.dtype)
        if isinstance(norm, nn.LayerNorm):
            return F.layer_norm(features, norm.normalized_shape, eps=norm.eps)
        return F.rms_norm(features, norm.normalized_shape, eps=norm.eps)

    def _embed_frames(self, frames: int, valid: Tensor | None) -> Float[Tensor, "*lead frames dim"]:
        """One embedding a frame; a clip of more frames than were learned is spread over the same span.

        A clip ends with its last frame that counts, so that padding it to the longest of a batch changes nothing.
        """
        table = self.frame_embeddings
        assert table is not None
        if frames <= self.max_frames:
            return table[:frames]
        frame = torch.arange(frames, device=table.device)
        # A fill, for a copy of one number from the host would wait for the device.
        everything = torch.full((), frames, device=table.device)
        num_frames = everything if valid is None else ((frame + 1) * valid.any(-1)).amax(-1, keepdim=True)
        last = self.max_frames - 1
        dtype = torch.promote_types(table.dtype, torch.float32)
        place = (frame * last).to(dtype) / (num_frames - 1).clamp(min=max(last, 1))  # at most one learned step a frame
        place = place.clamp(max=last)
        before = place.long()
        after = (before + 1).clamp(max=last)
        return torch.lerp(table[before], table[after], (place - before)[..., None].to(table.dtype))

    def _check(self, vision: Tensor, valid: Tensor | None) -> None:
        check_floats(vision, "vision", f"[*lead frames patches {self.vision_dim}]")
        if vision.ndim < 3 or vision.shape[-1] != self.vision_dim:
            hint = "; an image is a clip of one frame: add the axis with vision[..., None, :, :]"
            raise ShapeError(
                f"vision has shape {tuple(vision.shape)}, wanted [*lead frames patches {self.vision_dim}]"
                f"{hint if vision.ndim < 3 else ', the width that the resampler was made for'}"
            )
        if valid is not None and (valid.dtype != torch.bool or valid.shape != vision.shape[:-1]):
            raise ShapeError(
                f"valid is {valid.dtype} of shape {tuple(valid.shape)}, wanted bool of shape {tuple(vision.shape[:-1])}"
            )


class ResamplerLayer(nn.Module):
    """One layer: the latents attend to the features and to themselves, then a feed-forward layer."""

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        head_dim: int,
        ff_mult: float,
        activation: ActivationName,
        norm: NormName,
        norm_eps: float | None,
        qk_norm: NormName | None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.latents_norm = make_norm(norm, dim, eps=norm_eps)
        self.features_norm = make_norm(norm, dim, eps=norm_eps)
        self.q_proj = nn.Linear(dim, num_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(dim, num_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(dim, num_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(num_heads * head_dim, dim, bias=False)
        self.q_norm = make_norm(qk_norm, head_dim, eps=norm_eps) if qk_norm else None
        self.k_norm = make_norm(qk_norm, head_dim, eps=norm_eps) if qk_norm else None
        self.feed_forward = FeedForward(dim, ff_mult=ff_mult, activation=activation, norm=norm, norm_eps=norm_eps)

    def forward(
        self,
        latents: Float[Tensor, "*lead latents dim"],
        features: Float[Tensor, "*lead tokens dim"],
        valid: Bool[Tensor, "*lead tokens"] | None,
    ) -> Float[Tensor, "*lead latents dim"]:
        """Update the latents; see `PerceiverResampler.forward` for the shapes."""
        latents = latents + self._attend(latents, features, valid)
        update: Tensor = self.feed_forward(latents)
        return latents + update

    def _attend(self, latents: Tensor, features: Tensor, valid: Tensor | None) -> Tensor:
        own = apply_norm(self.latents_norm, latents)
        items = math.prod(latents.shape[:-2])  # fused kernels take one leading axis only, and there may be none
        query, key, value = (
            rearrange(
                x.reshape(items, x.shape[-2], self.q_proj.out_features),
                "items tokens (heads dim) -> items heads tokens dim",
                heads=self.num_heads,
            )
            for x in (self.q_proj(own), *self._project(features, own))
        )
        query, key = (apply_norm(norm, x).to(value.dtype) for norm, x in ((self.q_norm, query), (self.k_norm, key)))
        mask = None
        if valid is not None:  # the latents always count, so no row is without anything to attend to
            mask = F.pad(valid, (0, latents.shape[-2]), value=True).reshape(items, 1, 1, key.shape[-2])
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out = rearrange(out, "items heads tokens dim -> items tokens (heads dim)")
        update: Tensor = self.o_proj(out)
        return update.view(latents.shape)

    def _project(self, features: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the features first, then of the latents."""
        norm = self.features_norm
        assert isinstance(norm, nn.LayerNorm | nn.RMSNorm)
        scale, offset = norm.weight, norm.bias if isinstance(norm, nn.LayerNorm) else None
        if may_recompute(self.k_proj, self.v_proj):
            return project_context(
                features, own, norm_weight=scale, norm_bias=offset, key_weight=self.k_proj.weight,
                value_weight=self.v_proj.weight,
            )  # fmt: skip
        context = join_context(features, own, scale, offset)
        return self.k_proj(context), self.v_proj(context)
