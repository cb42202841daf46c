"""The parts of a Flamingo, compared before anything is attached: kinds, and widths where they are known."""

from collections.abc import Mapping
from numbers import Integral

from torch import nn

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.lm.text_config import text_config
from flamingo_blocks.models.paper_language_model import PaperLanguageModel
from flamingo_blocks.nn import GatedCrossAttention, GatedCrossAttentionBlock, PerceiverResampler

_WRAPPERS = {
    "transformers": "TransformersTower(model)",
    "timm": "TimmTower(model)",
    "open_clip": "OpenClipTower(model)",
}


def check_vision(vision: object) -> None:
    """A tower tells the width of its patch tokens, which no bare encoder does.

    Args:
        vision: What was given as the vision tower.

    Raises:
        TypeError: If it has no integer `dim`; the message names the class that wraps such a model.

    Example:
        >>> check_vision(nn.Conv2d(3, 8, 4, stride=4))
        Traceback (most recent call last):
        TypeError: vision is a Conv2d without dim, so no vision tower; wrap it: CallableTower(model, image_size=...)
    """
    if isinstance(getattr(vision, "dim", None), Integral):
        return
    raise TypeError(
        f"vision is a {type(vision).__name__} without dim, so no vision tower; wrap it: {wrapper_of(vision)}"
    )


def wrapper_of(model: object) -> str:
    """The call that makes a tower of a bare encoder, by the library that it comes from.

    Example:
        >>> wrapper_of(nn.Conv2d(3, 8, 4, stride=4))
        'CallableTower(model, image_size=...)'
    """
    return _WRAPPERS.get(type(model).__module__.partition(".")[0], "CallableTower(model, image_size=...)")


def check_tokens(media_token_id: object, **others: object) -> None:
    """Tokens are named by ids, and no other token has the media tag's.

    Args:
        media_token_id: Of the media tag.
        **others: Of other tokens of the model, `None` where it has none.

    Raises:
        TypeError: If one is no integer.
        ValueError: If another one is the media tag's.
    """
    for name, token in {"media_token_id": media_token_id, **others}.items():
        if not isinstance(token, Integral) and (token is not None or name == "media_token_id"):
            raise TypeError(
                f"{name} is {token!r}, wanted the id of a token, such as tokenizer.convert_tokens_to_ids('<image>')"
            )
    for name, token in others.items():
        if token == media_token_id:
            raise ValueError(f"{name} and media_token_id are both {token}; give each token an id of its own")


def check_apart(blocks: Mapping[int, nn.Module]) -> None:
    """Each layer has a block of its own: a saved model holds the weights of each.

    Args:
        blocks: Blocks by layer index.

    Raises:
        ValueError: If one object stands before several layers.

    Example:
        >>> block = nn.Identity()
        >>> check_apart({0: block, 2: nn.Identity()})
    """
    for block in blocks.values():
        layers = [layer for layer, other in blocks.items() if other is block]
        if len(layers) > 1:
            raise ValueError(
                f"blocks has one {type(block).__name__} for the layers {layers}, wanted a block of its own for each; "
                "every_layer(lm, make_block) makes them"
            )


def check_widths(
    *,
    lm: nn.Module,
    blocks: Mapping[int, nn.Module],
    vision: object | None = None,
    resampler: nn.Module | None = None,
    projection: nn.Module | None = None,
) -> None:
    """Each part gives the width that the next one takes, as far as they tell.

    Args:
        lm: The language model.
        blocks: Blocks by layer index.
        vision: The tower.
        resampler: From patch features to media tokens.
        projection: From there to the width of the blocks.

    Raises:
        ValueError: If two known widths differ; the message names both parts, and how the second one is to be built.

    Example:
        >>> lm = nn.Module()
        >>> block = GatedCrossAttentionBlock(8, vision_dim=4, num_heads=2)
        >>> try:
        ...     check_widths(lm=lm, blocks={0: block}, projection=nn.Linear(6, 5))
        ... except ShapeError as error:
        ...     print(error)
        projection gives width 5, the block before layer 0 wants vision_dim 4; build it with vision_dim=5
    """
    source, width = "vision", _int(getattr(vision, "dim", None))
    for name, part in (("resampler", resampler), ("projection", projection)):
        if part is None:
            continue
        wanted, word, given = _widths(part)
        _compare(source, width, name, wanted, word)
        source, width = name, given
    text = _width_of_text(lm)
    for layer, block in blocks.items():
        attention = block.attention if isinstance(block, GatedCrossAttentionBlock) else block
        if isinstance(attention, GatedCrossAttention):
            name = f"the block before layer {layer}"
            _compare(source, width, name, attention.vision_dim, "vision_dim")
            _compare("lm", text, name, attention.dim, "dim")


def _compare(source: str, given: int | None, name: str, wanted: int | None, word: str) -> None:
    if given is not None and wanted is not None and given != wanted:
        raise ShapeError(f"{source} gives width {given}, {name} wants {word} {wanted}; build it with {word}={given}")


def _widths(part: nn.Module) -> tuple[int | None, str, int | None]:
    """The width that a part takes, what the part calls it, and the width that it gives."""
    if isinstance(part, PerceiverResampler):
        return part.vision_dim, "vision_dim", part.dim
    if isinstance(part, nn.Linear):
        return part.in_features, "in_features", part.out_features
    return _int(getattr(part, "vision_dim", None)), "vision_dim", None


def _width_of_text(lm: nn.Module) -> int | None:
    """What the config of a model of transformers says; others are not asked."""
    if isinstance(lm, PaperLanguageModel):
        return lm.embedding.embedding_dim
    return _int(getattr(text_config(lm), "hidden_size", None))


def _int(width: object) -> int | None:
    return width if isinstance(width, int) else None
