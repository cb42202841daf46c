"""The reference Flamingo: a frozen vision tower, a resampler, gated blocks in a frozen language model."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_blocks.errors import MediaMaskError
from flamingo_blocks.lm.attach import attach
from flamingo_blocks.lm.checkpoint_layers import CheckpointedLayers, checkpoint_layers
from flamingo_blocks.lm.media_state import MediaState
from flamingo_blocks.lm.token_rows import attach_token_rows
from flamingo_blocks.models import abilities, generation, place_media, prefill, saving
from flamingo_blocks.models.abilities import Abilities, refuse_lost_gradients, refuse_misread_pads
from flamingo_blocks.models.call_language_model import call_language_model
from flamingo_blocks.models.check_arguments import check_token_id, refuse_other_names, refuse_pairs
from flamingo_blocks.models.check_parts import check_apart, check_tokens, check_vision, check_widths
from flamingo_blocks.models.encode_pool import encode_pool
from flamingo_blocks.models.eval_mode import keep_frozen_in_eval
from flamingo_blocks.models.output_head import counted_labels, proven_head
from flamingo_blocks.models.packing import keep_apart
from flamingo_blocks.models.prompt import PromptState
from flamingo_blocks.ops._layout_checks import check_scope
from flamingo_blocks.ops.media_layout import MediaLayout
from flamingo_blocks.ops.next_token_loss import next_token_loss, number_counted, shifted_labels
from flamingo_blocks.types import Scope
from flamingo_blocks.vision import VisionTower


@dataclass(frozen=True, eq=False)
class FlamingoOutput:
    """What a forward pass gives.

    Args:
        logits: Scores over the vocabulary; the last columns are the new tokens'. `None` beside a loss, unless they
            were asked for.
        loss: Mean cross-entropy over the labels, when there were any.
        num_labels: How many labels that is the mean of.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> ids, pixels = torch.tensor([[1, flamingo.media_token_id, 5, 6]]), torch.zeros(1, 1, 3, 8, 8)
        >>> output = flamingo(ids, pixels=pixels, labels=ids)
        >>> output.loss.shape, output.num_labels, output.logits is None
        (torch.Size([]), tensor(2), True)
    """

    logits: Float[Tensor, "batch text vocab"] | None
    loss: Float[Tensor, ""] | None = None
    num_labels: Int[Tensor, ""] | None = None


class Flamingo(nn.Module):
    """A language model that sees: tower and language model are frozen, resampler, blocks and new-token rows train.

    Args:
        lm: Any decoder language model; attached to by hooks, never changed.
        blocks: Gated blocks by layer index, one of its own for each; `every_layer` makes them for each k-th layer, as
            in the paper.
        media_token_id: Id of the media tag in `input_ids`; an id of the model's own vocabulary, or a new one.
        vision: The vision tower; may be left out when only `features` or `media` are given.
        resampler: A `PerceiverResampler`, any projector from patch features to media tokens, or `None`.
        projection: Brings the resampler's tokens to the width of the blocks, where the two differ.
        layers: Dotted name of the decoder layers, where `attach` cannot find them.
        embedding: Dotted name of the token embedding, where `attach_token_rows` cannot find it.
        head: Dotted name of the output projection, likewise.
        num_new_tokens: Trained rows for new tokens beside the frozen table; ids follow the table.
        predict_new_tokens: Whether they are predicted too, or only read (Llama 3.2 Vision).
        end_token_id: The `<EOC>` token, at which generation stops besides the model's own end.
        document_end_id: A token behind which text sees none of the earlier items, up to the next tag (IDEFICS: its
            `</s>`). The language model still reads the text before it.
        scope: `"last"`: text sees the latest image only (the paper); `"all"`: all so far; `"grouped"`: the latest group
            of images that stand side by side (Llama 3.2 Vision).
        freeze: Whether the tower and the language model are frozen.

    Raises:
        LayersNotFoundError: If the decoder layers cannot be found.
        TypeError: If `vision` is a bare encoder, which a tower has to wrap, or a token's id is no number.
        ValueError: If `scope` is unknown, one block stands before two layers, a block's layer or a token's id does not
            exist, a part gives another width than the next one takes (where both tell), or `document_end_id` comes with
            scope `"all"`. The language model is left as it was.

    Example:
        >>> import torch
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> ids, pixels = torch.tensor([[1, flamingo.media_token_id, 5, 6]]), torch.zeros(1, 1, 3, 8, 8)
        >>> flamingo(ids, pixels=pixels).logits.shape
        torch.Size([1, 4, 34])
        >>> flamingo(ids, pixels=pixels, labels=ids).loss.backward()

    Source:
        Flamingo (arXiv 2204.14198), section 2.
    """

    def __init__(
        self,
        *,
        lm: nn.Module,
        blocks: Mapping[int, nn.Module],
        media_token_id: int,
        vision: VisionTower | None = None,
        resampler: nn.Module | None = None,
        projection: nn.Module | None = None,
        layers: str | None = None,
        embedding: str | None = None,
        head: str | None = None,
        num_new_tokens: int = 0,
        predict_new_tokens: bool = True,
        end_token_id: int | None = None,
        document_end_id: int | None = None,
        scope: Scope = "last",
        freeze: bool = True,
    ) -> None:
        super().__init__()
        if document_end_id is not None and scope == "all":
            raise MediaMaskError(f'document_end_id is {document_end_id}, which scope "all" cannot have; pass document=')
        check_scope(scope, "previous", group_consecutive=False)
        check_tokens(media_token_id, end_token_id=end_token_id, document_end_id=document_end_id)
        if vision is not None:
            check_vision(vision)
        self.media_token_id, self.end_token_id, self.scope = media_token_id, end_token_id, scope
        self.layers, self.embedding, self.head, self.num_new_tokens = layers, embedding, head, num_new_tokens
        self.predict_new_tokens, self.document_end_id = predict_new_tokens, document_end_id
        self.attachment = attach(lm, blocks, layers=layers)
        self.vision, self.resampler, self.projection, self.lm = vision, resampler, projection, lm
        self.blocks = self.attachment.blocks
        self.token_rows = None
        self._abilities = Abilities()
        self._shown_head: tuple[str | None, nn.Module, bool] | None = None  # see `proven_head`
        self._checkpointed: CheckpointedLayers | None = None
        try:
            check_apart(blocks)
            check_widths(lm=lm, blocks=blocks, vision=vision, resampler=resampler, projection=projection)
            if num_new_tokens:
                self.token_rows = attach_token_rows(
                    lm, num_new_tokens, embedding=embedding, head=head, predicted=predict_new_tokens
                )
            check_token_id(lm, num_new_tokens, media_token_id, name="media_token_id")
            check_token_id(lm, num_new_tokens, end_token_id, name="end_token_id")
            check_token_id(lm, num_new_tokens, document_end_id, name="document_end_id")
        except Exception:
            self.detach()
            raise
        for part in self._frozen_parts() if freeze else ():
            part.requires_grad_(False)
        self._width = _media_width(blocks)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Flamingo":  # noqa: FBT001, FBT002 - the signature of nn.Module
        """Set training mode; what is frozen stays in eval mode, so no dropout runs in it, but in its adapters."""
        super().train(mode)
        ours = (self.blocks, self.resampler, self.projection, self.token_rows)
        # One of ours without weights is no more frozen than not.
        with_weights = (part for part in ours if part is not None and next(part.parameters(), None) is not None)
        for part in (*self._frozen_parts(), *with_weights):
            keep_frozen_in_eval(part)
        return self

    def __call__(self, *args: Any, **arguments: Any) -> Any:
        """Call `forward`, as every `nn.Module` does."""
        refuse_other_names(arguments)
        return super().__call__(*args, **arguments)

    def forward(
        self,
        input_ids: Int[Tensor, "batch text"],
        *,
        pixels: Float[Tensor, "items frames 3 height width"] | None = None,
        features: Float[Tensor, "items frames patches vision_dim"] | None = None,
        media: MediaState | Float[Tensor, "items latents dim"] | None = None,
        frame_valid: Bool[Tensor, "items frames"] | None = None,
        patch_valid: Bool[Tensor, "items frames patches"] | None = None,
        layout: MediaLayout | None = None,
        document: Int[Tensor, "batch text"] | None = None,
        attention_mask: Tensor | None = None,
        labels: Int[Tensor, "batch text"] | None = None,
        prompt: PromptState | None = None,
        logits_to_keep: int = 0,
        return_logits: bool | None = None,
        z_loss: float = 0.0,
    ) -> FlamingoOutput:
        """Run the model on text and its media.

        With labels the logits are made for a few tokens at a time, where the head of the language model is a plain
        matrix (found by a short text at the first such call): all of them would take more memory than the model.

        Args:
            input_ids: Token ids, with one media tag for each item.
            pixels: The media pool as the tower's `preprocess` makes it; an image is a clip of one frame.
            features: The tower's patch features instead, computed before.
            media: Media tokens instead, or what `encode_media` gave.
            frame_valid: Frames that exist, for clips of different lengths.
            patch_valid: Patches that count, beside `features` alone: of `pixels` the tower tells it.
            layout: Which token sees which item; read off the media tags by default.
            document: Which document each token of a packed row belongs to. Beside `layout` it parts the text alone, and
                the layout the media: make that with the same documents, as `make_layout` and `collate` do. A layout
                made without is taken as it is, for it may show an item to several documents on purpose.
            attention_mask: 1 at real tokens; pads may stand left or right.
            labels: Token ids to predict, as in Hugging Face: not shifted, -100 where nothing counts. Media tags never
                count, nor does the first token of a packed document.
            prompt: Text and media run before; it is not changed.
            logits_to_keep: Last columns whose logits are wanted; 0 for all.
            return_logits: Whether the output holds logits; by default where there are no labels.
            z_loss: As in `linear_cross_entropy`; added to the loss.

        Returns:
            Logits, or the loss when there are labels, or both on request.

        Raises:
            TypeError: If ids, labels or media are no tensors, `prompt` is no `PromptState`, or an argument is called as
                in Hugging Face.
            ValueError: If tags and items differ in number, several kinds of media are given, ids are negative, labels
                are no integers or come with `logits_to_keep`, neither labels nor logits are wanted, `z_loss` is
                negative, a mask, flags or documents have another shape or nothing that they are about, or the language
                model cannot keep packed documents apart.
            RuntimeError: If the model was detached.
        """
        with_logits = labels is None if return_logits is None else return_logits
        refuse_pairs(input_ids, document, labels, prompt, logits_to_keep, with_logits=with_logits)
        prompt = None if prompt is None else prompt.for_rows(input_ids.shape[0])
        state = place_media.place_media(
            self, input_ids, pixels=pixels, features=features, media=media, frame_valid=frame_valid,
            patch_valid=patch_valid, layout=layout, document=document, attention_mask=attention_mask, prompt=prompt,
        )  # fmt: skip
        run_ids, cache, position_ids = input_ids, None, None
        if prompt is not None:
            attention_mask = prompt.extended_mask(attention_mask, input_ids.shape[1])
            run_ids, cache = prefill.behind_prompt(prompt, input_ids, kept=torch.is_grad_enabled())
        if document is None:
            refuse_misread_pads(self, attention_mask)
        else:
            attention_mask, position_ids = keep_apart(self, document, attention_mask)
        keep = logits_to_keep or input_ids.shape[1]
        head = None if labels is None or with_logits else proven_head(self)
        hidden: list[Tensor] = []
        with self.attachment.media(state), nullcontext() if head is None else head.shown(hidden):
            output = call_language_model(
                self.lm, run_ids, attention_mask=attention_mask, position_ids=position_ids, cache=cache,
                use_cache=cache is not None, logits_to_keep=keep if keep < run_ids.shape[1] else 0,
            )  # fmt: skip
        if labels is None:
            return FlamingoOutput(output.logits)
        refuse_lost_gradients(self)
        labels = counted_labels(self.media_token_id, labels, input_ids, document)
        if head is None:
            loss = next_token_loss(output.logits, labels, z_loss=z_loss)
        else:
            loss = head.loss(hidden[0][:, -keep:], labels, z_loss=z_loss)
        return FlamingoOutput(output.logits if with_logits else None, loss, number_counted(shifted_labels(labels)))

    def encode_media(
        self,
        pixels: Float[Tensor, "items frames 3 height width"] | None = None,
        *,
        features: Float[Tensor, "items frames patches vision_dim"] | None = None,
        frame_valid: Bool[Tensor, "items frames"] | None = None,
        patch_valid: Bool[Tensor, "items frames patches"] | None = None,
        layout: MediaLayout | None = None,
    ) -> MediaState:
        """Encode a media pool once; hand the result to `forward`, `prefill`, `generate` or `score` as `media`.

        Args:
            pixels: Images and clips; the tower runs on the frames that exist only.
            features: Patch features instead.
            frame_valid: Frames that exist.
            patch_valid: Patches that count, beside `features` alone.
            layout: Which token sees which item, if known: it travels with the media, and what no token sees is kept
                from the gradients.

        Returns:
            The media tokens.

        Raises:
            ValueError: If both pixels and features are given or one is ill-shaped, pixels come without a tower, or
                flags have another shape or nothing that they are about.

        Example:
            >>> from flamingo_blocks.models import build_tiny_flamingo
            >>> flamingo = build_tiny_flamingo()
            >>> media = flamingo.encode_media(torch.zeros(1, 1, 3, 8, 8))
            >>> media.num_items
            1
            >>> ids = torch.tensor([[1, flamingo.media_token_id, 5]])  # no tower runs in either of the calls
            >>> flamingo(ids, media=media).logits.shape, flamingo.prefill(ids, media=media).num_rows
            (torch.Size([1, 3, 34]), 1)
        """
        given = {"pixels": pixels, "features": features, "frame_valid": frame_valid, "patch_valid": patch_valid}
        state = self._encode(**given, layout=layout)
        return state if layout is None else state.with_layout(layout)

    prefill = prefill.prefill
    make_layout = place_media.make_layout
    generate = generation.generate
    score = generation.score
    look_at_language_model = abilities.look_at_language_model
    save_pretrained = saving.save_pretrained
    from_pretrained = classmethod(saving.from_pretrained)

    def detach(self) -> nn.Module:
        """Take blocks and token rows off the language model and give it back; what was frozen stays frozen."""
        self.checkpoint_activations(enabled=False)
        if self.token_rows is not None:
            self.token_rows.detach()
        return self.attachment.detach()

    def checkpoint_activations(self, *, enabled: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them: more time, far less memory.

        Layers of the language model (frozen and in eval mode or not), blocks and resampler are all switched; for some
        of them alone there are `checkpoint_layers` and the attribute `activation_checkpointing` of block and
        resampler. It is no part of a saved model.

        Args:
            enabled: False to keep activations again.

        Raises:
            ValueError: If the layers of the language model are checkpointed by something else.
        """
        if enabled and self._checkpointed is None:
            self._checkpointed = checkpoint_layers(self.lm, layers=self.layers)
        elif not enabled and self._checkpointed is not None:
            self._checkpointed.remove()
            self._checkpointed = None
        parts: list[Any] = [*self.blocks.values(), self.resampler]
        for part in parts:
            if hasattr(part, "activation_checkpointing"):
                part.activation_checkpointing = enabled

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that train, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def _encode(self, **given: Any) -> MediaState:
        parts = {"vision": self.vision, "resampler": self.resampler, "projection": self.projection}
        return encode_pool(**parts, **given, width=self._width)  # type: ignore[arg-type]

    def _frozen_parts(self) -> list[nn.Module]:
        return [part for part in (self.lm, self.vision) if isinstance(part, nn.Module)]


def _media_width(blocks: Mapping[int, nn.Module]) -> int | None:
    """Width of the media tokens that the blocks take, where they tell."""
    attentions = (getattr(block, "attention", block) for block in blocks.values())
    widths = (getattr(attention, "vision_dim", None) for attention in attentions)
    return next((width for width in widths if isinstance(width, int)), None)
