"""The reference Flamingo: a frozen vision tower, a resampler, gated blocks in a frozen language model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_blocks.lm.attach import attach
from flamingo_blocks.lm.media_state import MediaState
from flamingo_blocks.lm.token_rows import attach_token_rows
from flamingo_blocks.models import generation, saving
from flamingo_blocks.models.call_language_model import caches, call_language_model
from flamingo_blocks.models.encode_pool import encode_pool
from flamingo_blocks.models.packing import packed_mask, packed_positions, refuse_if_leaking, refuse_long_documents
from flamingo_blocks.models.prompt import PromptState, next_logits
from flamingo_blocks.ops.media_layout import MediaLayout
from flamingo_blocks.ops.next_token_loss import IGNORED, next_token_loss
from flamingo_blocks.types import Scope
from flamingo_blocks.vision import VisionTower


@dataclass(frozen=True, eq=False)
class FlamingoOutput:
    """What a forward pass gives.

    Args:
        logits: Scores over the vocabulary; the last columns are the new tokens'.
        loss: Mean cross-entropy over the labels, when there were any.
    """

    logits: Float[Tensor, "batch text vocab"]
    loss: Float[Tensor, ""] | None = None


class Flamingo(nn.Module):
    """A language model that sees: tower and language model are frozen, resampler, blocks and new-token rows train.

    Args:
        lm: Any decoder language model; attached to by hooks, never changed.
        blocks: Gated blocks by layer index; `every_layer` makes them for each k-th layer, as in the paper.
        media_token_id: Id of the media tag in `input_ids`; an id of the model's own vocabulary, or a new one.
        vision: The vision tower; may be left out when only `features` or `media` are given.
        resampler: A `PerceiverResampler`, any projector from patch features to media tokens, or `None`.
        projection: Brings the resampler's tokens to the width of the blocks, where the two differ.
        layers: Dotted name of the decoder layers, where `attach` cannot find them.
        embedding: Dotted name of the token embedding, where `attach_token_rows` cannot find it.
        head: Dotted name of the output projection, likewise.
        num_new_tokens: Trained rows for new tokens beside the frozen table; ids follow the table.
        end_token_id: The `<EOC>` token, at which generation stops besides the model's own end.
        scope: `"last"`: text sees the latest image only (the paper); `"all"`: all so far.
        freeze: Whether the tower and the language model are frozen.

    Raises:
        LayersNotFoundError: If the decoder layers cannot be found.
        ValueError: If a block's layer does not exist, or a token's id. The language model is left as it was.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> ids = torch.tensor([[1, flamingo.media_token_id, 5, 6]])
        >>> flamingo(ids, pixels=torch.zeros(1, 1, 3, 8, 8), labels=ids).logits.shape
        torch.Size([1, 4, 34])

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
        end_token_id: int | None = None,
        scope: Scope = "last",
        freeze: bool = True,
    ) -> None:
        super().__init__()
        self.media_token_id, self.end_token_id, self.scope = media_token_id, end_token_id, scope
        self.layers, self.embedding, self.head, self.num_new_tokens = layers, embedding, head, num_new_tokens
        self.attachment = attach(lm, blocks, layers=layers)
        self.vision, self.resampler, self.projection, self.lm = vision, resampler, projection, lm
        self.blocks = self.attachment.blocks
        self.token_rows = None
        try:
            if num_new_tokens:
                self.token_rows = attach_token_rows(lm, num_new_tokens, embedding=embedding, head=head)
            self._check_id("media_token_id", media_token_id)
            self._check_id("end_token_id", end_token_id)
        except Exception:
            self.detach()
            raise
        for part in self._frozen_parts() if freeze else ():
            part.requires_grad_(False)
        self._width = _media_width(blocks)
        self._keeps_documents_apart = False
        self.train(self.training)

    def train(self, mode: bool = True) -> "Flamingo":  # noqa: FBT001, FBT002 - the signature of nn.Module
        """Set training mode; parts without a trained parameter stay in eval mode, so no dropout runs in them."""
        super().train(mode)
        for part in self._frozen_parts():
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()
        return self

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
    ) -> FlamingoOutput:
        """Run the model on text and its media.

        Args:
            input_ids: Token ids, with one media tag for each item.
            pixels: The media pool as the tower's `preprocess` makes it; an image is a clip of one frame.
            features: The tower's patch features instead, computed before.
            media: Media tokens instead, or what `encode_media` gave.
            frame_valid: Frames that exist, for clips of different lengths.
            patch_valid: Patches that count, beside `features`.
            layout: Which token sees which item; read off the media tags by default.
            document: Which document each token of a packed row belongs to.
            attention_mask: 1 at real tokens; pads may stand left or right.
            labels: Token ids to predict, as in Hugging Face: not shifted, -100 where nothing counts. Media tags never
                count, nor does the first token of a packed document.
            prompt: Text and media run before; it is not changed.
            logits_to_keep: Last columns whose logits are wanted; 0 for all.

        Returns:
            Logits, and the loss when there are labels.

        Raises:
            ValueError: If tags and items differ in number, several kinds of media are given, `labels` come with
                `logits_to_keep`, or the language model cannot keep packed documents apart.
        """
        if labels is not None and logits_to_keep:
            raise ValueError(f"labels need all logits, but logits_to_keep is {logits_to_keep}; leave one of them out")
        if prompt is not None and input_ids.shape[1] == 0:
            raise ValueError("input_ids has no column; the scores of what follows a prompt are prompt.logits")
        if document is not None and prompt is not None:
            raise ValueError("document and prompt exclude each other: a prompt is one document; leave one of them out")
        given = {"pixels": pixels, "features": features, "media": media}
        state = self._state(input_ids, given, frame_valid, patch_valid, layout, document, attention_mask, prompt)
        keep = logits_to_keep or input_ids.shape[1]
        if prompt is not None:
            prompt = prompt.for_rows(input_ids.shape[0])
            attention_mask = prompt.extended_mask(attention_mask, input_ids.shape[1])
        run_ids, cache = (input_ids, None) if prompt is None else self._after(prompt, input_ids)
        position_ids = None
        if document is not None:
            attention_mask, position_ids = self._keep_apart(document, attention_mask)
        with self.attachment.media(state):
            output = call_language_model(
                self.lm, run_ids, attention_mask=attention_mask, position_ids=position_ids, cache=cache,
                use_cache=cache is not None, logits_to_keep=keep if keep < run_ids.shape[1] else 0,
            )  # fmt: skip
        loss = None if labels is None else self._loss(output.logits, labels, input_ids, document)
        return FlamingoOutput(output.logits, loss)

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
            patch_valid: Patches that count.
            layout: Which token sees which item, if known: it travels with the media, and what no token sees is kept
                from the gradients.

        Returns:
            The media tokens.
        """
        given = {"pixels": pixels, "features": features, "frame_valid": frame_valid, "patch_valid": patch_valid}
        state = self._encode(**given, layout=layout)
        return state if layout is None else state.with_layout(layout)

    @torch.no_grad()
    def prefill(
        self,
        input_ids: Int[Tensor, "batch text"],
        *,
        prompt: PromptState | None = None,
        pixels: Float[Tensor, "items frames 3 height width"] | None = None,
        features: Float[Tensor, "items frames patches vision_dim"] | None = None,
        media: MediaState | Float[Tensor, "items latents dim"] | None = None,
        frame_valid: Bool[Tensor, "items frames"] | None = None,
        patch_valid: Bool[Tensor, "items frames patches"] | None = None,
        layout: MediaLayout | None = None,
        attention_mask: Tensor | None = None,
    ) -> PromptState:
        """Run text and media once, to be continued by many queries.

        Chunks of a long prompt and chat turns are repeated prefills: pass the last result as `prompt`. No gradient
        flows into a prompt.

        Args:
            input_ids: The new tokens.
            prompt: What was run before; it is not changed.
            pixels: Media of the new tokens.
            features: Likewise.
            media: Likewise.
            frame_valid: Frames that exist.
            patch_valid: Patches that count.
            layout: The layout of the whole text, prompt included; read off the media tags by default.
            attention_mask: 1 at real tokens of the new text.

        Returns:
            The prompt with the new tokens.

        Raises:
            ValueError: As `forward`.
        """
        given = {"pixels": pixels, "features": features, "media": media}
        if prompt is not None:
            prompt = prompt.for_rows(input_ids.shape[0])
            if input_ids.shape[1] == 0:
                return prompt
        state = self._state(input_ids, given, frame_valid, patch_valid, layout, None, attention_mask, prompt)
        mask = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        return self._run_prompt(input_ids, self.attachment.project(state), mask, prompt)

    generate = generation.generate
    score = generation.score
    save_pretrained = saving.save_pretrained
    from_pretrained = classmethod(saving.from_pretrained)

    def detach(self) -> nn.Module:
        """Take blocks and token rows off the language model and give it back; what was frozen stays frozen."""
        if self.token_rows is not None:
            self.token_rows.detach()
        return self.attachment.detach()

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that train, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def make_layout(
        self,
        input_ids: Int[Tensor, "batch text"],
        *,
        attention_mask: Tensor | None = None,
        document: Int[Tensor, "batch text"] | None = None,
        prompt: PromptState | None = None,
    ) -> MediaLayout:
        """Read the layout off the media tags, behind a prompt if there is one."""
        is_media = input_ids == self.media_token_id
        valid = None if attention_mask is None else attention_mask.bool()
        if prompt is None:
            return MediaLayout.from_tokens(is_media, scope=self.scope, document=document, valid=valid)
        assert prompt.state.layout is not None
        return prompt.state.layout.append(is_media, scope=self.scope, valid=valid, num_items=prompt.state.num_items)

    def _encode(self, **given: Any) -> MediaState:
        parts = {"vision": self.vision, "resampler": self.resampler, "projection": self.projection}
        return encode_pool(**parts, **given, width=self._width)  # type: ignore[arg-type]

    def _frozen_parts(self) -> list[nn.Module]:
        return [part for part in (self.lm, self.vision) if isinstance(part, nn.Module)]

    def _run_prompt(
        self, input_ids: Tensor, state: MediaState, mask: Tensor, prompt: PromptState | None
    ) -> PromptState:
        """Run new tokens behind a prompt; the state's layout covers both."""
        run_ids, whole_ids, cache, new = input_ids, input_ids, None, mask
        if prompt is not None:
            mask = prompt.extended_mask(mask, input_ids.shape[1])
            run_ids, cache = self._after(prompt, input_ids)
            whole_ids = torch.cat([prompt.input_ids, input_ids], dim=1)
        with self.attachment.media(state):
            output = call_language_model(
                self.lm, run_ids, attention_mask=mask, cache=cache, use_cache=caches(self.lm),
                logits_to_keep=1 if new[:, -1].all() else input_ids.shape[1],
            )  # fmt: skip
        logits = next_logits(output.logits, new, None if prompt is None else prompt.logits)
        return PromptState(whole_ids, mask, state, output.cache, logits)

    def _state(
        self,
        input_ids: Tensor,
        given: dict[str, Any],
        frame_valid: Tensor | None,
        patch_valid: Tensor | None,
        layout: MediaLayout | None,
        document: Tensor | None,
        attention_mask: Tensor | None,
        prompt: PromptState | None,
    ) -> MediaState:
        """Encode the media and place them in the text."""
        if input_ids.ndim != 2 or input_ids.is_floating_point():
            raise ValueError(
                f"input_ids is {input_ids.dtype} of shape {tuple(input_ids.shape)}, wanted ids [batch text]"
            )
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} were given; wanted one of pixels, features and media")
        if prompt is not None:
            prompt = prompt.for_rows(input_ids.shape[0])
        media = given.pop("media", None)
        if isinstance(media, MediaState) and media.layout is not None:
            if layout is not None and layout is not media.layout:
                raise ValueError("layout was given, and media has a layout of its own; give one of them")
            layout = media.layout
        if layout is None:
            self._compare_counts(input_ids, media, **given)
            layout = self.make_layout(input_ids, attention_mask=attention_mask, document=document, prompt=prompt)
        if media is None:
            seen_by = layout if prompt is None else None
            new = self._encode(**given, frame_valid=frame_valid, patch_valid=patch_valid, layout=seen_by)
        else:
            new = MediaState(media=media) if isinstance(media, Tensor) else media
        if prompt is None:
            return new.with_layout(layout)
        return prompt.state.append(new.media, layout, valid=new.valid)

    def _check_id(self, name: str, token_id: int | None) -> None:
        """A token of ours must have a row, where the model tells how many its table has."""
        get = getattr(self.lm, "get_input_embeddings", None)
        table = get() if callable(get) else None
        if token_id is None or not isinstance(table, nn.Embedding):
            return
        known = table.num_embeddings + self.num_new_tokens
        if not 0 <= token_id < known:
            raise ValueError(
                f"{name} is {token_id}, but the table has {table.num_embeddings} ids and num_new_tokens is "
                f"{self.num_new_tokens}; new ids follow the table, so raise num_new_tokens to have it"
            )

    def _compare_counts(self, input_ids: Tensor, media: MediaState | Tensor | None, **given: Tensor) -> None:
        """Every tag needs an item and every item a tag."""
        pool = media.media if isinstance(media, MediaState) else next(iter(given.values()), media)
        tags, items = int((input_ids == self.media_token_id).sum()), 0 if pool is None else pool.shape[0]
        if tags != items:
            raise ValueError(
                f"input_ids hold {tags} media tags (id {self.media_token_id}), but {items} items were given; "
                "give one item a tag, in the order of the text, or pass layout= to share items"
            )

    def _after(self, prompt: PromptState, input_ids: Tensor) -> tuple[Tensor, Any | None]:
        """What to run behind a prompt: the new tokens with a copy of its cache, or all of them for want of a cache."""
        if prompt.cache is None:
            return torch.cat([prompt.input_ids, input_ids], dim=1), None
        return input_ids, prompt.fork_cache()

    def _keep_apart(self, document: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        valid = None if attention_mask is None else attention_mask.bool()
        positions = packed_positions(document, valid)
        refuse_long_documents(self.lm, int(positions.max()) + 1 if positions.numel() else 0)
        if not self._keeps_documents_apart:
            with self.attachment.without_media():
                refuse_if_leaking(self.lm)
            self._keeps_documents_apart = True
        dtype = next(p.dtype for p in self.lm.parameters() if p.is_floating_point())
        return packed_mask(document, valid, dtype), positions

    def _loss(self, logits: Tensor, labels: Tensor, input_ids: Tensor, document: Tensor | None) -> Tensor:
        """Mean cross-entropy over the labels that count; 0 when none does."""
        labels = labels.masked_fill(input_ids == self.media_token_id, IGNORED)
        if document is not None:
            starts = document[:, 1:] != document[:, :-1]
            labels = labels.masked_fill(F.pad(starts, (1, 0)), IGNORED)
        return next_token_loss(logits, labels)


def _media_width(blocks: Mapping[int, nn.Module]) -> int | None:
    """Width of the media tokens that the blocks take, where they tell."""
    attentions = (getattr(block, "attention", block) for block in blocks.values())
    widths = (getattr(attention, "vision_dim", None) for attention in attentions)
    return next((width for width in widths if isinstance(width, int)), None)
