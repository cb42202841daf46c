"""What the processors of transformers give, as the arguments of a Flamingo."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flamingo_blocks.errors import MediaMaskError
from flamingo_blocks.interop.towers import MllamaTower

if TYPE_CHECKING:
    from flamingo_blocks.models import Flamingo


def idefics_inputs(
    flamingo: "Flamingo",
    *,
    input_ids: Int[Tensor, "batch text"],
    attention_mask: Tensor | None = None,
    pixel_values: Float[Tensor, "batch media 3 height width"] | None = None,
    image_attention_mask: Tensor | None = None,
) -> dict[str, Any]:
    """Turn what `IdeficsProcessor` gives into arguments of `Flamingo.forward` and `generate`.

    Images are taken out of their padding, so that no empty one is encoded. The mask is not needed: the model reads who
    sees what off the text. Where it is given it is compared, so that no other meaning is lost unseen.

    Args:
        flamingo: The model.
        input_ids: Token ids.
        attention_mask: 1 at real tokens.
        pixel_values: The images of each row, padded.
        image_attention_mask: [batch text media], 1 where a token sees an image.

    Returns:
        `input_ids`, `attention_mask` and `pixels`.

    Raises:
        ValueError: If a row has more tags than images, or the mask says something else than the text.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()  # a converted IDEFICS in its place
        >>> tag = flamingo.media_token_id
        >>> given = idefics_inputs(
        ...     flamingo,
        ...     input_ids=torch.tensor([[tag, 5, tag, 6], [0, 0, tag, 7]]),
        ...     attention_mask=torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]]),
        ...     pixel_values=torch.zeros(2, 2, 3, 8, 8),
        ... )
        >>> given["pixels"].shape  # the second image of the second row was padding
        torch.Size([3, 1, 3, 8, 8])
        >>> flamingo(**given).logits.shape
        torch.Size([2, 4, 34])
    """
    layout = flamingo.make_layout(input_ids, attention_mask=attention_mask)
    if image_attention_mask is not None:
        _compare(layout.mask(), image_attention_mask.bool(), input_ids, attention_mask, name="image_attention_mask")
    arguments = {"input_ids": input_ids, "attention_mask": attention_mask}
    if pixel_values is not None:
        exists = _existing(flamingo, input_ids, pixel_values.shape[1])
        arguments["pixels"] = pixel_values[exists][:, None]
    return arguments


def mllama_inputs(
    flamingo: "Flamingo",
    *,
    input_ids: Int[Tensor, "batch text"],
    attention_mask: Tensor | None = None,
    pixel_values: Float[Tensor, "batch media tiles 3 height width"] | None = None,
    aspect_ratio_ids: Int[Tensor, "batch media"] | None = None,
    aspect_ratio_mask: Tensor | None = None,
    cross_attention_mask: Tensor | None = None,
) -> dict[str, Any]:
    """Turn what `MllamaProcessor` gives into arguments of `Flamingo.forward` and `generate`.

    An image is one item, its tiles are frames; the tower runs here, for it needs to know how the tiles lie.

    Args:
        flamingo: The model, with a `MllamaTower`.
        input_ids: Token ids.
        attention_mask: 1 at real tokens.
        pixel_values: Tiles of the images of each row, padded.
        aspect_ratio_ids: How the tiles of each image lie.
        aspect_ratio_mask: [batch media tiles], 1 at tiles that exist.
        cross_attention_mask: [batch text media tiles], 1 where a token sees a tile; compared, as in `idefics_inputs`.

    Returns:
        `input_ids`, `attention_mask`, `features` and `patch_valid`.

    Raises:
        ValueError: If a row has more tags than images, the mask says something else than the text, or the images come
            without their ratios.
        TypeError: If the tower is another one.

    Example:
        >>> from transformers import MllamaVisionConfig, MllamaVisionModel
        >>> from flamingo_blocks import Flamingo, GatedCrossAttentionBlock
        >>> from flamingo_blocks.models import PaperLanguageModel
        >>> config = MllamaVisionConfig(
        ...     image_size=16, patch_size=8, hidden_size=8, intermediate_size=8, attention_heads=2,
        ...     num_hidden_layers=1, num_global_layers=1, intermediate_layers_indices=[0], vision_output_dim=16,
        ... )
        >>> flamingo = Flamingo(  # a converted Llama 3.2 Vision in its place
        ...     lm=PaperLanguageModel(vocab_size=30, dim=16, depth=2, num_heads=2),
        ...     vision=MllamaTower(MllamaVisionModel(config)),
        ...     blocks={1: GatedCrossAttentionBlock(16, vision_dim=16, num_heads=2)},
        ...     media_token_id=29,
        ...     scope="grouped",
        ... )
        >>> given = mllama_inputs(
        ...     flamingo,
        ...     input_ids=torch.tensor([[29, 5]]),
        ...     pixel_values=torch.zeros(1, 1, 4, 3, 16, 16),
        ...     aspect_ratio_ids=torch.ones(1, 1, dtype=torch.long),
        ...     aspect_ratio_mask=torch.tensor([[[1, 0, 0, 0]]]),
        ... )
        >>> given["features"].shape, int(given["patch_valid"].sum())  # five tokens of the one tile that exists
        (torch.Size([1, 4, 5, 16]), 5)
        >>> flamingo(**given).logits.shape
        torch.Size([1, 2, 30])
    """
    arguments: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
    if pixel_values is None:
        return arguments
    if aspect_ratio_ids is None or aspect_ratio_mask is None:
        raise ValueError("pixel_values come without aspect_ratio_ids or aspect_ratio_mask; pass all the processor gave")
    tower = flamingo.vision
    if not isinstance(tower, MllamaTower):
        raise TypeError(f"vision is a {type(tower).__name__}, wanted a MllamaTower, which encodes tiles")
    layout = flamingo.make_layout(input_ids, attention_mask=attention_mask)
    exists = _existing(flamingo, input_ids, pixel_values.shape[1])
    tiles = aspect_ratio_mask.bool()
    if cross_attention_mask is not None:
        seen = layout.mask()
        seen = torch.nn.functional.pad(seen, (0, exists.shape[1] - seen.shape[2]))[..., None] & tiles[:, None]
        found = cross_attention_mask.bool()
        _compare(seen.flatten(2), found.flatten(2), input_ids, attention_mask, name="cross_attention_mask")
    features = tower.encode_tiles(pixel_values[exists], aspect_ratio_ids[exists], tiles[exists])
    arguments["features"] = features
    arguments["patch_valid"] = tiles[exists][..., None].expand(features.shape[:-1])
    return arguments


def _existing(flamingo: "Flamingo", input_ids: Tensor, num_media: int) -> Bool[Tensor, "batch media"]:
    """Which of the padded images there are: as many a row as it has tags."""
    counts = (input_ids == flamingo.media_token_id).sum(1)
    if int(counts.max()) > num_media:
        row = int(counts.argmax())
        raise MediaMaskError(
            f"row {row} has {int(counts[row])} media tags (id {flamingo.media_token_id}), but pixel_values hold "
            f"{num_media} images a row"
        )
    return torch.arange(num_media, device=counts.device) < counts[:, None]


def _compare(ours: Tensor, theirs: Tensor, input_ids: Tensor, attention_mask: Tensor | None, *, name: str) -> None:
    """Both masks, over real tokens; slots that only one of them has must be empty."""
    if theirs.shape[:2] != input_ids.shape:
        raise MediaMaskError(
            f"{name} covers text {tuple(theirs.shape[:2])}, wanted that of input_ids {tuple(input_ids.shape)}"
        )
    width = max(ours.shape[2], theirs.shape[2])
    ours, theirs = (torch.nn.functional.pad(mask, (0, width - mask.shape[2])) for mask in (ours, theirs))
    wrong = (ours != theirs).any(2)
    if attention_mask is not None:
        wrong = wrong & attention_mask.bool()
    if wrong.any():
        row, token = (int(place) for place in wrong.nonzero()[0])
        raise MediaMaskError(
            f"{name} shows token {token} of row {row} other images than the text says; pass a layout of your own: "
            "flamingo(input_ids, pixels=..., layout=...)"
        )
