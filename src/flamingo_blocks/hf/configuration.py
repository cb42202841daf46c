"""The config of a Flamingo in transformers' form: two sub-configs, and how the parts between them are built."""

from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from flamingo_blocks.models.describe_module import Description, find_class, reading_part, refuse_fetching
from flamingo_blocks.types import Scope


class FlamingoConfig(PreTrainedConfig):  # type: ignore[misc]
    """All that `FlamingoForConditionalGeneration` needs to be built again.

    `FlamingoForConditionalGeneration.from_flamingo` and `from_parts` write it. Make one yourself for a model with fresh
    weights: two sub-configs are enough, and the parts between them get the paper's form.

    Args:
        text_config: Config of the language model, or its values with a `model_type`.
        vision_config: Config of the vision model inside the tower; `None` for other towers, and for none.
        media_token_id: Id of the media tag; by default the first id behind the language model's table that is not
            `end_token_id`.
        end_token_id: Id of `<EOC>`, at which generation stops; by default the first id behind the table that is not the
            media tag, `None` where no row is left for it. These three are filled in where `blocks` is `None`.
        num_new_tokens: Trained rows behind the table; by default as many as these ids take, none where a media tag
            inside the table is all that is said. `vocab_size` counts them, `text_config.vocab_size` does not.
        scope: `"last"`, `"all"` or `"grouped"`, as in `Flamingo`.
        every: A block before each layer `i` with `i % every == 0`; used where `blocks` is `None`.
        num_latents: Media tokens of an item; used where `blocks` is `None`.
        options: Further plain arguments of `Flamingo`: `layers`, `embedding`, `head`, `predict_new_tokens`, ...
        lm: Class of the language model; that of `AutoModelForCausalLM` by default.
        tied_rows: Whether one parameter serves new tokens in both table and head, as it does where these are tied.
        tower: Class and arguments of the vision tower, without the vision model's own config.
        resampler: Class and arguments of the resampler.
        projection: Class and arguments of the projection.
        blocks: Class and arguments of each block, by layer index. All four of these are made when `blocks` is `None`.
        frozen: Parts that do not train: `"lm"`, `"vision"`, or any other part of a `Flamingo`.
        frozen_weights: Weights that do not train in parts that do, by their names in a `Flamingo`.
        float32: Parts that stay in float32 where the rest is loaded in half precision, as trained parts beside a
            frozen bfloat16 language model are.
        base_models: Where the frozen parts came from, for the model card.
        **kwargs: What every `PreTrainedConfig` takes.

    Raises:
        ValueError: If `every` is below 1.

    Example:
        >>> from transformers import CLIPVisionConfig, LlamaConfig
        >>> text = LlamaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=4, num_attention_heads=2)
        >>> vision = CLIPVisionConfig(hidden_size=16, image_size=32, patch_size=8, num_attention_heads=2)
        >>> config = FlamingoConfig(text_config=text, vision_config=vision, every=2)
        >>> config.media_token_id, config.vocab_size, sorted(config.blocks)
        (50, 52, ['0', '2'])
    """

    model_type = "flamingo_blocks"
    sub_configs = {"text_config": AutoConfig, "vision_config": AutoConfig}
    attribute_map = {"image_token_id": "media_token_id", "image_token_index": "media_token_id"}
    keys_to_ignore_at_inference = ["past_key_values", "media"]
    has_no_defaults_at_init = True

    # Each is a key of the saved config, whose form is transformers' and flat.
    def __init__(  # noqa: PLR0913
        self,
        *,
        text_config: Any = None,
        vision_config: Any = None,
        media_token_id: int | None = None,
        end_token_id: int | None = None,
        num_new_tokens: int | None = None,
        scope: Scope = "last",
        every: int = 1,
        num_latents: int = 64,
        options: dict[str, Any] | None = None,
        lm: Description | None = None,
        tied_rows: bool | None = None,
        tower: Description | None = None,
        resampler: Description | None = None,
        projection: Description | None = None,
        blocks: dict[str, Description] | None = None,
        frozen: tuple[str, ...] | list[str] = ("lm", "vision"),
        frozen_weights: tuple[str, ...] | list[str] = (),
        float32: tuple[str, ...] | list[str] = (),
        base_models: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.text_config = _as_config(text_config, lm or {})
        self.vision_config = _as_config(vision_config, (tower or {}).get("arguments", {}).get("model") or {})
        self.media_token_id, self.end_token_id, self.scope = media_token_id, end_token_id, scope
        self.num_new_tokens = 0 if num_new_tokens is None else num_new_tokens
        self.lm, self.tower, self.resampler, self.projection, self.blocks = lm, tower, resampler, projection, blocks
        self.frozen, self.frozen_weights, self.float32 = list(frozen), list(frozen_weights), list(float32)
        tied = bool(getattr(self.text_config, "tie_word_embeddings", False))
        self.tied_rows = tied if tied_rows is None else tied_rows
        self.options, self.base_models = options or {}, base_models or {}
        if blocks is None and self.text_config is not None:
            self._fill_in_tokens(num_new_tokens)
            self._fill_in(every, num_latents)
        kwargs.setdefault("tie_word_embeddings", tied)
        # How the two models compute is theirs to say: unsaid here, it would be wiped out there.
        parts = {"text_config": self.text_config, "vision_config": self.vision_config}
        for choice in ("attn_implementation", "experts_implementation"):
            own = {name: getattr(part, f"_{choice}", None) for name, part in parts.items() if part is not None}
            kwargs = {choice: own, **kwargs}
        super().__init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a config of what a file holds.

        Args:
            config_dict: The values.
            **kwargs: The caller's own, in place of these.

        Returns:
            The config.

        Raises:
            CheckpointError: If a value makes transformers fetch code or weights; the caller's own may.
        """
        refuse_fetching(config_dict)
        return super().from_dict(config_dict, **kwargs)

    @property
    def vocab_size(self) -> int:
        """Ids that the model predicts, new tokens included."""
        predicted = self.num_new_tokens if self.options.get("predict_new_tokens", True) else 0
        return int(self.text_config.vocab_size) + predicted

    @property
    def hidden_size(self) -> int:
        """Width of the language model."""
        return int(self.text_config.hidden_size)

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the language model."""
        return int(self.text_config.num_hidden_layers)

    @property
    def num_attention_heads(self) -> int:
        """Heads of the language model."""
        return int(self.text_config.num_attention_heads)

    def _fill_in_tokens(self, num_new_tokens: int | None) -> None:
        """Each of the two ids, and the rows for them, that is not said."""
        first = int(self.text_config.vocab_size)
        if self.media_token_id is None:
            self.media_token_id = first + (self.end_token_id == first)
        media, end = self.media_token_id, self.end_token_id
        if num_new_tokens is None:
            other = end if end is not None else first + 1 if media >= first else -1  # an end needs a row of its own
            num_new_tokens = max(0, media + 1 - first, other + 1 - first)
        self.num_new_tokens = num_new_tokens
        if end is None:
            self.end_token_id = next((new for new in range(first, first + num_new_tokens) if new != media), None)

    def _fill_in(self, every: int, num_latents: int) -> None:
        """Write down the parts of the paper's form, at the widths of the two models."""
        if every < 1:
            raise ValueError(f"every is {every}, wanted 1 or more")
        dim, heads = self.hidden_size, self.num_attention_heads
        width = dim if self.vision_config is None else self.vision_config.hidden_size
        if self.vision_config is not None:
            self.tower = {"class": "flamingo_blocks.vision.transformers_tower:TransformersTower", "arguments": {}}
            vision_heads = self.vision_config.num_attention_heads
            arguments = {"vision_dim": width, "dim": width, "num_latents": num_latents, "num_heads": vision_heads,
                         "head_dim": width // vision_heads}  # fmt: skip
            self.resampler = {
                "class": "flamingo_blocks.nn.perceiver_resampler:PerceiverResampler", "arguments": arguments,
            }  # fmt: skip
        block = {
            "class": "flamingo_blocks.nn.gated_cross_attention:GatedCrossAttentionBlock",
            "arguments": {"dim": dim, "vision_dim": width, "num_heads": heads},
        }
        self.blocks = {str(layer): block for layer in range(0, self.num_hidden_layers, every)}


def trusted_class(name: str) -> Any:
    """The class that a config names: a file from elsewhere must not import anything but what we know.

    Args:
        name: `package.module:Class`.

    Returns:
        The class.

    Raises:
        CheckpointError: If it is no module of transformers' models or of this library.
    """
    with reading_part("a class of the config"):
        return find_class(name)


def _as_config(given: Any, model: Description) -> Any:
    """A sub-config from its values, as a saved file holds them; not every part of a model has a type of its own."""
    if not isinstance(given, dict):
        return given
    kind = getattr(trusted_class(model["class"]), "config_class", None) if "class" in model else None
    if kind is None and given.get("model_type") not in CONFIG_MAPPING:
        raise ValueError(
            f"model_type is {given.get('model_type')!r}, which transformers does not know; give a config object, or "
            "its values with a known model_type"
        )
    return (kind or CONFIG_MAPPING[given["model_type"]]).from_dict(given)
