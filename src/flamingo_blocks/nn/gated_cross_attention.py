"""GATED XATTN-DENSE: text attends to the media it sees, through gates that start closed."""

from typing import get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.nn.feed_forward import FeedForward
from flamingo_blocks.nn.media_kv import MediaKV
from flamingo_blocks.nn.module_config import check_sizes, check_whole, constructor_arguments
from flamingo_blocks.nn.norms import apply_norm, make_norm
from flamingo_blocks.nn.tanh_gate import TanhGate
from flamingo_blocks.ops._layout_checks import check_grid
from flamingo_blocks.ops._tensor_checks import check_floats
from flamingo_blocks.ops.attention import available_backends, media_attention
from flamingo_blocks.ops.media_layout import MediaLayout, check_layout
from flamingo_blocks.ops.take_seen import take_seen
from flamingo_blocks.types import ActivationName, GateShape, NormName


class GatedCrossAttention(nn.Module):
    """Cross-attention from text to the media it sees, without residual and without gate.

    The attention half of `GatedCrossAttentionBlock`, for those who gate and add in a way of their own.

    Args:
        dim: Width of the text.
        vision_dim: Width of the media tokens.
        num_heads: Heads of the query.
        head_dim: Width of a head; `dim // num_heads` by default.
        num_kv_heads: Heads of key and value, dividing `num_heads` (grouped-query attention); `num_heads` by default.
        norm: Norm on text and media; see `make_norm`.
        norm_eps: Epsilon of the norms.
        media_norm: Whether the media are normed, by one norm for keys and values, as in the paper.
        qk_norm: Norm over each head's query and key (Mllama: `"rms_norm"`).
        backend: Attention backend; see `available_backends`.

    Raises:
        TypeError: If a size is no whole number.
        ValueError: If a size is not positive, or sizes do not divide each other.

    Example:
        >>> attention = GatedCrossAttention(16, vision_dim=8, num_heads=2)
        >>> layout = MediaLayout.from_tokens(torch.tensor([[False, True, False]]))
        >>> attention(torch.randn(1, 3, 16), torch.randn(1, 4, 8), layout).shape
        torch.Size([1, 3, 16])

    Source:
        Flamingo (arXiv 2204.14198), section 2.2; the norm on keys and values is in its first version, section 3.1.2.
    """

    def __init__(
        self,
        dim: int,
        *,
        vision_dim: int,
        num_heads: int,
        head_dim: int | None = None,
        num_kv_heads: int | None = None,
        norm: NormName = "layer_norm",
        norm_eps: float | None = None,
        media_norm: bool = True,
        qk_norm: NormName | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if backend != "auto" and backend not in (known := available_backends("cpu", torch.float32)):
            raise ValueError(f"backend is {backend!r}, wanted 'auto' or one of {', '.join(map(repr, known))}")
        check_sizes(dim=dim, vision_dim=vision_dim, num_heads=num_heads, head_dim=head_dim)
        check_whole(0 if num_kv_heads is None else num_kv_heads, "num_kv_heads")
        if head_dim is None and dim % num_heads:
            raise ShapeError(f"dim is {dim}, not a multiple of num_heads {num_heads}; change one or pass head_dim")
        head_dim = dim // num_heads if head_dim is None else head_dim
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            raise ShapeError(f"num_kv_heads is {num_kv_heads}, wanted a divisor of num_heads {num_heads}")
        self.dim, self.vision_dim, self.head_dim, self.backend = dim, vision_dim, head_dim, backend
        self.norm = make_norm(norm, dim, eps=norm_eps)
        self.media_norm = make_norm(norm, vision_dim, eps=norm_eps) if media_norm else None
        self.q_proj = nn.Linear(dim, num_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(vision_dim, num_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(vision_dim, num_kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(num_heads * head_dim, dim, bias=False)
        self.q_norm = make_norm(qk_norm, head_dim, eps=norm_eps) if qk_norm else None
        self.k_norm = make_norm(qk_norm, head_dim, eps=norm_eps) if qk_norm else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections anew: unit variance in and out, so that an opened gate lets signal through."""
        for proj in (self.q_proj, self.k_proj, self.v_proj, self.o_proj):
            nn.init.normal_(proj.weight, std=proj.in_features**-0.5)

    def forward(
        self,
        text: Float[Tensor, "batch text dim"],
        media: Float[Tensor, "items latents vision_dim"] | Float[Tensor, "batch media latents vision_dim"] | MediaKV,
        layout: MediaLayout,
        *,
        valid: Bool[Tensor, "items latents"] | Bool[Tensor, "batch media latents"] | None = None,
    ) -> Float[Tensor, "batch text dim"]:
        """Compute the update of each text token.

        Args:
            text: Hidden states.
            media: The media pool, or what `project_media` made of it.
            layout: Which items each token sees.
            valid: Media tokens that count.

        Returns:
            The update; exact zeros for tokens that see nothing.

        Raises:
            TypeError: If `layout` is no `MediaLayout`, or text or media are no tensors.
            ValueError: If a shape does not fit, text or media hold no floats, or `valid` comes with a `MediaKV`,
                which has its own.
        """
        check_layout(layout)
        check_floats(text, "text", f"[batch text {self.dim}]")
        if text.shape[-1] != self.dim:
            raise ShapeError(f"text has shape {tuple(text.shape)}, wanted [batch text {self.dim}]")
        if not isinstance(media, MediaKV):
            media, valid = self._pooled(media, valid, layout)
            media, valid, layout = take_seen(media, valid, layout)
            media = self._project(media, valid)
        elif valid is not None:
            raise ValueError("valid was given beside a MediaKV; pass it to project_media instead")
        query = apply_norm(self.norm, text)
        query = self.q_proj(query).unflatten(-1, (-1, self.head_dim))
        dtype = query.dtype  # of linear layers here; media that were projected under autocast, or outside, have another
        query = apply_norm(self.q_norm, query).to(media.key.dtype)  # batch text heads head_dim
        out = media_attention(query, media.key, media.value, layout, valid=media.valid, backend=self.backend)
        update: Tensor = self.o_proj(out.flatten(-2).to(dtype))
        return update

    def project_media(
        self,
        media: Float[Tensor, "items latents vision_dim"] | Float[Tensor, "batch media latents vision_dim"],
        *,
        valid: Bool[Tensor, "items latents"] | Bool[Tensor, "batch media latents"] | None = None,
    ) -> MediaKV:
        """Project the pool once, to be used by many calls.

        Args:
            media: The media pool.
            valid: Media tokens that count.

        Returns:
            Keys (after qk-norm) and values.

        Raises:
            TypeError: If `media` is no tensor.
            ValueError: If a shape does not fit, or `media` holds no floats.
        """
        return self._project(*self._pooled(media, valid))

    def _project(self, media: Tensor, valid: Tensor | None) -> MediaKV:
        if valid is not None:
            media = media.masked_fill(~valid[..., None], 0)  # NaN in padding must not reach the weights' gradients
        media = apply_norm(self.media_norm, media.to(self.k_proj.weight.dtype))
        heads = (-1, self.head_dim)  # items latents kv_heads head_dim
        key, value = (proj(media).unflatten(-1, heads) for proj in (self.k_proj, self.v_proj))
        return MediaKV(apply_norm(self.k_norm, key).to(value.dtype), value, valid)

    def _pooled(
        self, media: Tensor, valid: Tensor | None, layout: MediaLayout | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The pool with one axis of items."""
        check_floats(media, "media", f"[items latents {self.vision_dim}]")
        if media.ndim not in (3, 4) or media.shape[-1] != self.vision_dim:
            of_one = "; a resampler gives that of one clip: its input is [items frames patches vision_dim]"
            hint = of_one if media.ndim == 2 else ""
            raise ShapeError(
                f"media has shape {tuple(media.shape)}, wanted [items latents {self.vision_dim}], "
                f"or [batch media latents {self.vision_dim}] with MediaLayout.from_grid{hint}"
            )
        if valid is not None and (valid.dtype != torch.bool or valid.shape != media.shape[:-1]):
            raise ShapeError(
                f"valid is {valid.dtype} of shape {tuple(valid.shape)}, wanted bool of shape {tuple(media.shape[:-1])}"
            )
        if media.ndim == 4:
            if layout is not None:
                check_grid(layout.item_ids, media.shape[1])
            media, valid = media.flatten(0, 1), None if valid is None else valid.flatten(0, 1)
        return media, valid


class GatedCrossAttentionBlock(nn.Module):
    """Gated cross-attention and a gated feed-forward layer, to be put before a layer of a frozen language model.

    Both gates start at 0, so a model with new blocks computes exactly what it did without them. Put it in by hand, or
    with `attach` without touching the model's code.

    Args:
        dim: Width of the text, the hidden size of the language model.
        vision_dim: Width of the media tokens.
        num_heads: Heads of the query; the paper uses the language model's.
        head_dim: Width of a head; `dim // num_heads` by default.
        num_kv_heads: Heads of key and value; `num_heads` by default.
        ff_mult: Hidden width of the feed-forward layer in units of `dim`.
        hidden_dim: That width itself, in place of `ff_mult`.
        activation: See `FeedForward`.
        norm: Norm of text, media and feed-forward input; see `make_norm`.
        norm_eps: Epsilon of the norms.
        media_norm: Whether keys and values get a norm of their own.
        qk_norm: Norm over each head's query and key.
        gate: `"scalar"`: one value a gate (the paper); `"channel"`: one for each channel (IDEFICS).
        dense_without_media: Whether the feed-forward layer runs on tokens that see no item (the paper, open_flamingo,
            IDEFICS) or leaves them alone (Mllama).
        backend: Attention backend; see `available_backends`.
        activation_checkpointing: Recompute the block in the backward pass instead of keeping its activations.

    Raises:
        TypeError: If a size is no whole number.
        ValueError: If a size is not positive, sizes do not divide each other, or a name is unknown.

    Example:
        >>> block = GatedCrossAttentionBlock(16, vision_dim=8, num_heads=2)
        >>> layout = MediaLayout.from_tokens(torch.tensor([[False, True, False]]))
        >>> text = torch.randn(1, 3, 16)
        >>> torch.equal(block(text, torch.randn(1, 4, 8), layout), text)  # the gates are closed
        True

    Source:
        Flamingo (arXiv 2204.14198), section 2.2, figure 4 and appendix A.1.2.
    """

    # One argument more than our budget of fifteen: these are the ways in which models of the family differ, and the
    # config of a saved model names each. A group of them would be one more place to look up.
    def __init__(  # noqa: PLR0913
        self,
        dim: int,
        *,
        vision_dim: int,
        num_heads: int,
        head_dim: int | None = None,
        num_kv_heads: int | None = None,
        ff_mult: float = 4,
        hidden_dim: int | None = None,
        activation: ActivationName = "squared_relu",
        norm: NormName = "layer_norm",
        norm_eps: float | None = None,
        media_norm: bool = True,
        qk_norm: NormName | None = None,
        gate: GateShape = "scalar",
        dense_without_media: bool = True,
        backend: str = "auto",
        activation_checkpointing: bool = False,
    ) -> None:
        arguments = constructor_arguments(locals())
        super().__init__()
        if gate not in get_args(GateShape):
            raise ValueError(f'gate is {gate!r}, wanted "scalar" or "channel"')
        self.config = arguments
        self.dense_without_media = dense_without_media
        self.activation_checkpointing = activation_checkpointing
        self.attention = GatedCrossAttention(
            dim, vision_dim=vision_dim, num_heads=num_heads, head_dim=head_dim, num_kv_heads=num_kv_heads, norm=norm,
            norm_eps=norm_eps, media_norm=media_norm, qk_norm=qk_norm, backend=backend,
        )  # fmt: skip
        self.attention_gate = TanhGate(gate, dim=dim)
        self.feed_forward = FeedForward(
            dim, ff_mult=ff_mult, hidden_dim=hidden_dim, activation=activation, norm=norm, norm_eps=norm_eps
        )
        self.feed_forward_gate = TanhGate(gate, dim=dim)

    def forward(
        self,
        text: Float[Tensor, "batch text dim"],
        media: Float[Tensor, "items latents vision_dim"] | Float[Tensor, "batch media latents vision_dim"] | MediaKV,
        layout: MediaLayout,
        *,
        valid: Bool[Tensor, "items latents"] | Bool[Tensor, "batch media latents"] | None = None,
    ) -> Float[Tensor, "batch text dim"]:
        """Add what the text sees in its media.

        Args:
            text: Hidden states.
            media: The media pool, or what `project_media` made of it. It may be shared, so items that the layout does
                not name are no error; they are not looked at.
            layout: Which items each token sees; its columns are those of `text`.
            valid: Media tokens that count.

        Returns:
            Hidden states in the dtype of `text`.

        Raises:
            TypeError: If `layout` is no `MediaLayout`, or text or media are no tensors.
            ValueError: If a shape does not fit, or text or media hold no floats.
        """
        if self.activation_checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(self._add, text, media, layout, valid, use_reentrant=False)
            return out
        return self._add(text, media, layout, valid)

    def project_media(
        self,
        media: Float[Tensor, "items latents vision_dim"] | Float[Tensor, "batch media latents vision_dim"],
        *,
        valid: Bool[Tensor, "items latents"] | Bool[Tensor, "batch media latents"] | None = None,
    ) -> MediaKV:
        """Project the media pool once for all later calls; see `GatedCrossAttention.project_media`."""
        kv: MediaKV = self.attention.project_media(media, valid=valid)
        return kv

    def _add(self, text: Tensor, media: Tensor | MediaKV, layout: MediaLayout, valid: Tensor | None) -> Tensor:
        # In one expression, so that without gradients no update is held while the feed-forward layer runs.
        text = text + self.attention_gate(self.attention(text, media, layout, valid=valid)).to(text.dtype)
        dense = self.feed_forward(text)
        if not self.dense_without_media:
            dense = dense.masked_fill(~layout.sees_any()[..., None], 0)
        update: Tensor = self.feed_forward_gate(dense)
        return text + update.to(text.dtype)
