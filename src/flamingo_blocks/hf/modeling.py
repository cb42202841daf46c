"""The reference Flamingo as a `PreTrainedModel`: a front, which holds one and computes nothing of its own."""

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.hf.configuration import FlamingoConfig
from flamingo_blocks.hf.forward import forward
from flamingo_blocks.hf.generation import generate, with_frames
from flamingo_blocks.hf.model_card import write_model_card
from flamingo_blocks.hf.parts import build_flamingo, config_of, freeze_parts, state_of_parts
from flamingo_blocks.models import Flamingo


class FlamingoForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """A `Flamingo` for the Auto classes, `Trainer` and `pipeline` of transformers.

    `model.flamingo` is the model itself, and `from_flamingo` makes a front for one: both share every weight. Names in
    the checkpoint are those of `Flamingo.state_dict()` with `flamingo.` before them. New tokens are rows of their own
    behind the table (`flamingo.token_rows`), so the table is never resized.

    Args:
        config: How it is built. The weights are fresh; frozen parts too, so use `from_parts` or `from_pretrained`.
        vision: The tower, where the config cannot build it.
        flamingo: A model that the config was written from, in place of a new one.

    Raises:
        CheckpointError: If a part cannot be built from the config.

    Example:
        >>> import torch
        >>> from transformers import CLIPVisionConfig, LlamaConfig
        >>> text = LlamaConfig(
        ...     vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
        ... )
        >>> vision = CLIPVisionConfig(
        ...     hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=16,
        ...     patch_size=8,
        ... )
        >>> config = FlamingoConfig(text_config=text, vision_config=vision, num_latents=4)
        >>> model = FlamingoForConditionalGeneration(config).eval()
        >>> ids = torch.tensor([[1, config.media_token_id, 5]])
        >>> model(ids, pixel_values=torch.zeros(1, 1, 3, 16, 16)).logits.shape
        torch.Size([1, 3, 52])
    """

    config_class = FlamingoConfig
    base_model_prefix = "flamingo"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _no_split_modules = ["GatedCrossAttentionBlock", "PerceiverResampler"]
    _skip_keys_device_placement = ["past_key_values", "media", "layout"]
    # Whether the language model and the vision model take a kind of attention is asked from them.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(
        self, config: FlamingoConfig, *, vision: nn.Module | None = None, flamingo: Flamingo | None = None
    ) -> None:
        super().__init__(config)
        self.flamingo = build_flamingo(config, vision=vision) if flamingo is None else flamingo
        self._unsaved = _unsaved_buffers(self.flamingo)
        rows = self.flamingo.token_rows
        if rows is not None and rows.output is rows.input:
            self._tied_weights_keys = {"flamingo.token_rows.output": "flamingo.token_rows.input"}
        for part in (self.flamingo.lm, self.flamingo.vision, getattr(self.flamingo.vision, "model", None)):
            self._no_split_modules = [*self._no_split_modules, *(getattr(part, "_no_split_modules", None) or ())]
        self.post_init()
        self.train(self.flamingo.training)

    @classmethod
    def from_flamingo(cls, flamingo: Flamingo) -> "FlamingoForConditionalGeneration":
        """Put a front before a model.

        Args:
            flamingo: The model, whose language model is one of transformers. Its weights are shared.

        Returns:
            The front.

        Raises:
            ValueError: If a part cannot be built again from a config.
        """
        return cls(config_of(flamingo), flamingo=flamingo)

    @classmethod
    def from_parts(
        cls, lm: nn.Module, vision: Any = None, *, blocks: Mapping[int, nn.Module], media_token_id: int, **parts: Any
    ) -> "FlamingoForConditionalGeneration":
        """Compose a model from its parts, as `Flamingo` does.

        Args:
            lm: A causal language model of transformers.
            vision: The vision tower.
            blocks: Gated blocks by layer index; `every_layer` makes them.
            media_token_id: Id of the media tag.
            **parts: Further arguments of `Flamingo`: `resampler`, `num_new_tokens`, `end_token_id`, ...

        Returns:
            The model.

        Raises:
            ValueError: As `Flamingo`, or if a part cannot be built again from a config; the language model is left as
                it was.
        """
        flamingo = Flamingo(lm=lm, vision=vision, blocks=blocks, media_token_id=media_token_id, **parts)
        try:
            return cls.from_flamingo(flamingo)
        except Exception:
            flamingo.detach()
            raise

    @classmethod
    def from_pretrained(cls, *arguments: Any, output_loading_info: bool = False, **keywords: Any) -> Any:
        """Load a model, as every `PreTrainedModel` does, and strictly: no weight may be missing or left over.

        Args:
            *arguments: Folder or name.
            output_loading_info: Also give what was found.
            **keywords: `dtype`, `device_map`, ...; `vision` for a tower that cannot be built from the config.

        Returns:
            The model in eval mode, its frozen parts frozen.

        Raises:
            CheckpointError: If names or shapes in the checkpoint are not those of the model.
        """
        model, info = super().from_pretrained(*arguments, output_loading_info=True, **keywords)
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if info.get(kind):
                keys = sorted(map(str, info[kind]))
                raise CheckpointError(f"{kind} in {arguments[0]}: {keys[:5]}{' and more' if len(keys) > 5 else ''}")
        freeze_parts(model.flamingo, model.config.frozen, model.config.frozen_weights)
        return (model, info) if output_loading_info else model

    def save_pretrained(self, save_directory: str | os.PathLike[str], **keywords: Any) -> None:
        """Save config, weights (frozen ones too) and a model card.

        Args:
            save_directory: Where to. A `README.md` of your own there is kept.
            **keywords: `max_shard_size`, ..., as of every `PreTrainedModel`.
        """
        for name, parts in state_of_parts(self.flamingo).items():
            setattr(self.config, name, parts)
        super().save_pretrained(save_directory, **keywords)
        if keywords.get("is_main_process", True):
            write_model_card(self, save_directory)

    forward = forward
    generate = generate

    @property
    def generation_config(self) -> Any:
        """The language model's own; `<EOC>` ends a text besides what it names."""
        return self.flamingo.lm.generation_config

    @generation_config.setter
    def generation_config(self, value: Any) -> None:
        if "flamingo" in self._modules:  # transformers makes one before there is a language model
            self.flamingo.lm.generation_config = value

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: Any = None, **keywords: Any) -> None:
        """Recompute activations in the backward pass, as `Flamingo.checkpoint_activations` does.

        Args:
            gradient_checkpointing_kwargs: Taken and left alone: there is one way to do it.
            **keywords: Likewise.
        """
        self.flamingo.checkpoint_activations()

    def gradient_checkpointing_disable(self) -> None:
        """Keep activations again."""
        self.flamingo.checkpoint_activations(enabled=False)

    activation_checkpointing_enable = gradient_checkpointing_enable
    activation_checkpointing_disable = gradient_checkpointing_disable

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed."""
        return self.flamingo._checkpointed is not None  # noqa: SLF001

    is_activation_checkpointing = is_gradient_checkpointing

    def get_input_embeddings(self) -> nn.Module:
        """The language model's table; rows of new tokens are `model.flamingo.token_rows.input`."""
        return self.flamingo.lm.get_input_embeddings()  # type: ignore[operator, no-any-return]

    def get_output_embeddings(self) -> nn.Module | None:
        """The language model's head; rows of new tokens are `model.flamingo.token_rows.output`."""
        return self.flamingo.lm.get_output_embeddings()  # type: ignore[operator, no-any-return]

    def get_decoder(self) -> Any:
        """The language model without its head."""
        return self.flamingo.lm.get_decoder()  # type: ignore[operator]

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *_: Any, **__: Any) -> nn.Module:
        """Give the table back, if it has the size that is asked for.

        Args:
            new_num_tokens: As many as the model knows.

        Returns:
            The table.

        Raises:
            ValueError: If it is another number: new tokens are rows beside the frozen table.
        """
        if new_num_tokens not in (None, self.config.vocab_size):
            raise ValueError(
                f"new_num_tokens is {new_num_tokens}, but the model knows {self.config.vocab_size} ids. New tokens are "
                "trained rows behind the frozen table, made with the model: pass num_new_tokens= to from_parts"
            )
        return self.get_input_embeddings()

    def get_image_features(self, pixel_values: Tensor, *, frame_valid: Tensor | None = None) -> Tensor:
        """Media tokens of a pool.

        Args:
            pixel_values: As in `forward`.
            frame_valid: Frames that exist.

        Returns:
            Tokens [items latents dim].
        """
        return self.flamingo.encode_media(with_frames(pixel_values), frame_valid=frame_valid).media

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Weights that are one, by name; those of the language model too, which is no direct child."""
        if all_submodels:
            return dict(super().get_expanded_tied_weights_keys(all_submodels=True))
        tied = dict(self._tied_weights_keys or {})
        for name, part in self.named_modules():
            if isinstance(part, PreTrainedModel) and part is not self:
                pairs = part.get_expanded_tied_weights_keys(all_submodels=False)
                tied |= {f"{name}.{target}": f"{name}.{source}" for target, source in pairs.items()}
        return tied

    def init_weights(self) -> None:
        """Tie weights. The parts have drawn theirs, or were trained before they came here: nothing is drawn again."""
        self.tie_weights(recompute_mapping=False)

    def initialize_weights(self) -> None:
        """After loading: let transformers' models fill in buffers that no file holds, and put back those of others."""
        super().initialize_weights()
        for name, value in self._unsaved.items():
            module, _, buffer = name.rpartition(".")
            part = self.flamingo.get_submodule(module)
            setattr(part, buffer, value.to(getattr(part, buffer).device))

    @classmethod
    def is_custom_code(cls) -> bool:
        """False: the models inside are transformers' own, and fill in all of their buffers as such only."""
        return False

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: weights that a checkpoint lacks are refused, not drawn."""


def _unsaved_buffers(flamingo: Flamingo) -> dict[str, Tensor]:
    """Buffers of tower and blocks that no checkpoint holds and loading empties; on the meta device they are empty."""
    saved = flamingo.state_dict(keep_vars=True)
    return {
        name: buffer.clone()
        for name, buffer in flamingo.named_buffers()
        if name not in saved and not name.startswith("lm.") and not buffer.is_meta
    }
