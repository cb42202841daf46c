"""Keys and values of a resampler layer, without keeping the layer's own normed copy of the features."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx

from flamingo_blocks.ops.activated_projection import linear_dtype


def project_context(
    features: Float[Tensor, "*lead tokens dim"],
    latents: Float[Tensor, "*lead latents dim"],
    *,
    norm_weight: Float[Tensor, " dim"],
    norm_bias: Float[Tensor, " dim"] | None,
    key_weight: Float[Tensor, "inner dim"],
    value_weight: Float[Tensor, "inner dim"],
) -> tuple[Float[Tensor, "*lead context inner"], Float[Tensor, "*lead context inner"]]:
    """Project features, under a scale and offset of their own, and latents behind them to keys and values.

    Use it where many layers read one set of normalised features, each through an affine norm of its own. The scaled
    features are made again in the backward pass, so that autograd keeps `features` once for all layers.

    Args:
        features: Normalised features, without scale and offset.
        latents: Tokens that come behind them as they are.
        norm_weight: Scale of the features.
        norm_bias: Their offset; none by default.
        key_weight: Weight of the key projection.
        value_weight: Weight of the value projection.

    Returns:
        Keys and values of features and latents, in the dtype that a linear layer would give.

    Example:
        >>> weight = torch.eye(3)
        >>> one = torch.ones(3)
        >>> key, value = project_context(
        ...     torch.ones(1, 2, 3), torch.zeros(1, 1, 3),
        ...     norm_weight=2 * one, norm_bias=one, key_weight=weight, value_weight=-weight,
        ... )
        >>> key[0, :, 0], value[0, :, 0]
        (tensor([3., 3., 0.]), tensor([-3., -3., -0.]))
    """
    dtype = linear_dtype(key_weight)
    key, value = _ProjectContext.apply(features, latents, norm_weight, norm_bias, key_weight, value_weight, dtype)
    return key, value


def join_context(
    features: Float[Tensor, "*lead tokens dim"],
    latents: Float[Tensor, "*lead latents dim"],
    norm_weight: Float[Tensor, " dim"],
    norm_bias: Float[Tensor, " dim"] | None,
) -> Float[Tensor, "*lead context dim"]:
    """Scaled and offset features, then latents."""
    normed = features * norm_weight if norm_bias is None else torch.addcmul(norm_bias, features, norm_weight)
    return torch.cat([normed, latents.to(normed.dtype)], dim=-2)


class _ProjectContext(torch.autograd.Function):
    """Saves its inputs alone, parameters and tensors that other layers or operations keep too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        features: Tensor,
        latents: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor | None,
        key_weight: Tensor,
        value_weight: Tensor,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        context = join_context(features, latents, norm_weight, norm_bias).to(dtype)
        return F.linear(context, key_weight.to(dtype)), F.linear(context, value_weight.to(dtype))

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.dtype = inputs  # type: ignore[attr-defined]
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        features, latents, norm_weight, norm_bias, key_weight, value_weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        num_features = features.shape[-2]
        key_grad, value_grad = (grad.flatten(0, -2) for grad in grads)
        key_weight_grad = value_weight_grad = features_grad = norm_weight_grad = norm_bias_grad = None
        if needs[4] or needs[5]:
            context = join_context(features, latents, norm_weight, norm_bias).to(ctx.dtype).flatten(0, -2)
            key_weight_grad, value_weight_grad = key_grad.T @ context, value_grad.T @ context
        context_grad = torch.addmm(
            key_grad @ key_weight.to(ctx.dtype), value_grad, value_weight.to(ctx.dtype)
        ).unflatten(0, grads[0].shape[:-1])  # fmt: skip
        normed_grad = context_grad[..., :num_features, :].to(features.dtype)
        if needs[0]:
            features_grad = normed_grad * norm_weight
        if needs[2]:
            norm_weight_grad = (normed_grad * features).flatten(0, -2).sum(0)
        if needs[3]:
            norm_bias_grad = normed_grad.flatten(0, -2).sum(0)
        latents_grad = context_grad[..., num_features:, :]
        return features_grad, latents_grad, norm_weight_grad, norm_bias_grad, key_weight_grad, value_weight_grad, None
