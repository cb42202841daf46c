"""Keys and values of a resampler layer, without keeping the layer's own normed copy of the features."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.ops.activated_projection import linear_dtype

_Inputs = tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor]


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
        >>> key[0, :, 0]
        tensor([3., 3., 0.])
    """
    dtype = linear_dtype(key_weight)
    key, value = _ProjectContext.apply(features, latents, norm_weight, norm_bias, key_weight, value_weight, dtype)  # type: ignore[no-untyped-call]
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
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ARG004 -- torch's signature
        *tensors, ctx.dtype = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        backward = _backward_to_features if ctx.needs_input_grad[0] else _backward_past_features
        return *backward(ctx.saved_tensors, grads, ctx.dtype), None


def _backward_to_features(inputs: _Inputs, grads: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor | None, ...]:
    """Gradients of all inputs, by way of the context's."""
    features, latents, norm_weight, norm_bias, key_weight, value_weight = inputs
    context = join_context(features, latents, norm_weight, norm_bias).to(dtype).flatten(0, -2)
    key_grad, value_grad = (grad.flatten(0, -2) for grad in grads)
    context_grad = torch.addmm(key_grad @ key_weight.to(dtype), value_grad, value_weight.to(dtype))
    context_grad = context_grad.view(*grads[0].shape[:-1], features.shape[-1]).to(features.dtype)
    normed_grad, latents_grad = context_grad.split_with_sizes([features.shape[-2], latents.shape[-2]], dim=-2)
    norm_weight_grad = (normed_grad * features).flatten(0, -2).sum(0)
    norm_bias_grad = None if norm_bias is None else normed_grad.flatten(0, -2).sum(0)
    features_grad = normed_grad * norm_weight
    return features_grad, latents_grad, norm_weight_grad, norm_bias_grad, key_grad.T @ context, value_grad.T @ context


def _backward_past_features(inputs: _Inputs, grads: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor | None, ...]:
    """Gradients of all but the features: those of scale and offset follow from the weights', which saves a product."""
    features, latents, norm_weight, norm_bias, *weights = inputs
    plain, own = features.to(dtype).flatten(0, -2), latents.to(dtype).flatten(0, -2)
    offset = [] if norm_bias is None else [norm_bias.to(dtype)[None]]  # one more token, which all features hold
    latents_grad = torch.zeros_like(own)
    norm_weight_grad = torch.zeros_like(norm_weight)
    norm_bias_grad = None if norm_bias is None else torch.zeros_like(norm_bias)
    weight_grads = []
    for grad, weight in zip(grads, weights, strict=True):
        split = grad.split_with_sizes([features.shape[-2], latents.shape[-2]], dim=-2)
        from_features, from_latents = (part.flatten(0, -2) for part in split)
        totals = [from_features.sum(0, keepdim=True) for _ in offset]
        folded_grad = from_features.T @ plain  # of the weight times the scale
        rest_grad = torch.cat([from_latents, *totals]).T @ torch.cat([own, *offset])
        weight_grads.append(torch.addcmul(rest_grad, folded_grad, norm_weight.to(dtype)))
        norm_weight_grad = norm_weight_grad + (folded_grad * weight).sum(0)
        latents_grad = latents_grad + from_latents @ weight.to(dtype)
        if norm_bias_grad is not None:
            norm_bias_grad = norm_bias_grad + (totals[0] @ weight.to(dtype))[0]
    return None, latents_grad.view(latents.shape), norm_weight_grad, norm_bias_grad, *weight_grads
