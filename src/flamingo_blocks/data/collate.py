"""Examples of any length and any number of media become one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import nan
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from flamingo_blocks.data.batch import FlamingoBatch
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.errors import MediaMaskError, ShapeError
from flamingo_blocks.ops.media_layout import MediaLayout
from flamingo_blocks.ops.next_token_loss import IGNORED
from flamingo_blocks.types import Direction, Scope


@dataclass(frozen=True, eq=False)
class FlamingoExample:
    """One row of a batch to be.

    Args:
        input_ids: Token ids.
        tags: Position of the first token of each media tag; tag k belongs to item k.
        pixels: An image or clip for each tag.
        features: Patch features for each tag, in place of pixels.
        labels: One label a token, -100 where no loss is taken.
        document: Which document each token belongs to, in a packed row.
        source: Name of the data set.
        direction: Whether text sees the item before it or the one that follows; what the batch says when None.

    Example:
        >>> row = FlamingoExample([1, 9, 5, 6], tags=[1], pixels=[torch.zeros(1, 3, 8, 8)])
        >>> row.num_items  # frames 3 height width each
        1
        >>> collate([row, FlamingoExample([1, 4])], pad_id=0).input_ids  # a row of text alone needs no more
        tensor([[1, 9, 5, 6],
                [1, 4, 0, 0]])
    """

    input_ids: Sequence[int]
    tags: Sequence[int] = ()
    pixels: Sequence[Float[Tensor, "_ 3 _ _"]] | None = None
    features: Sequence[Float[Tensor, "_ _ _"]] | None = None
    labels: Sequence[int] | None = None
    document: Sequence[int] | None = None
    source: str | None = None
    direction: Direction | None = None

    @property
    def num_items(self) -> int:
        """Images and clips of the row."""
        return len(self.pixels or ()) + len(self.features or ())


def collate(
    examples: Sequence[FlamingoExample],
    *,
    pad_id: int,
    padding_side: Literal["left", "right"] = "right",
    scope: Scope = "last",
    direction: Direction = "previous",
    group_consecutive: bool = False,
    variable_size: bool = False,
) -> FlamingoBatch:
    """Make a batch of examples: pad the text, pack the media into a pool, and lay out who sees what.

    Rows may have any number of items, none included, and a batch may have none at all. Clips of fewer frames than the
    longest are padded by zeros that `frame_valid` names, features of fewer patches by zeros that `patch_valid` names.

    Args:
        examples: The rows.
        pad_id: Token id of pads.
        padding_side: `"right"` for training, `"left"` for generation.
        scope: As in `MediaLayout.from_tokens`.
        direction: As in `MediaLayout.from_tokens`, for the rows that do not say it themselves.
        group_consecutive: As in `MediaLayout.from_tokens`.
        variable_size: Whether pixels of items may differ in height and width, for encoders of variable resolution:
            smaller ones are padded by NaN on the right and below. Otherwise another size is an error.

    Returns:
        The batch, with a prepared layout, on the CPU.

    Raises:
        ValueError: If there are no examples, one of them is something else, such as a `Dropped`, a row's tags and items
            differ in number, a tag has no token, labels or documents are given for some rows only, or items differ in
            size or kind.

    Example:
        >>> examples = [FlamingoExample([1, 9, 5], tags=[1], pixels=[torch.zeros(1, 3, 8, 8)]), FlamingoExample([1, 4])]
        >>> batch = collate(examples, pad_id=0)
        >>> batch.input_ids
        tensor([[1, 9, 5],
                [1, 4, 0]])
        >>> batch.layout.last
        tensor([[-1,  0,  0],
                [-1, -1, -1]])
    """
    if padding_side not in {"left", "right"}:
        raise ValueError(f'padding_side is {padding_side!r}, wanted "left" or "right"')
    _check(examples)
    left = padding_side == "left"
    valid = _rows([[1] * len(example.input_ids) for example in examples], fill=0, left=left).bool()
    document = _optional_rows(examples, "document", fill=0, left=left)
    is_media = torch.zeros_like(valid)
    for row, example in enumerate(examples):
        pads = valid.shape[1] - len(example.input_ids) if left else 0
        is_media[row, [pads + tag for tag in example.tags]] = True
    layout = MediaLayout.from_tokens(
        is_media,
        valid=valid,
        document=document,
        scope=scope,
        direction=[example.direction or direction for example in examples],
        group_consecutive=group_consecutive,
    )
    images = [item for example in examples for item in example.pixels or ()]
    pixels, pixel_frames, _ = _pool(_as_large(images) if variable_size else images, "pixels")
    patches = [item for example in examples for item in example.features or ()]
    features, feature_frames, patch_valid = _pool(patches, "features")
    sources = tuple(example.source for example in examples)
    return FlamingoBatch(
        input_ids=_rows([example.input_ids for example in examples], fill=pad_id, left=left),
        attention_mask=valid,
        layout=layout.prepare("cpu"),
        labels=_optional_rows(examples, "labels", fill=IGNORED, left=left),
        document=document,
        pixels=pixels,
        features=features,
        frame_valid=feature_frames if pixels is None else pixel_frames,
        patch_valid=patch_valid,
        source=None if set(sources) == {None} else sources,
    )


def _rows(rows: Sequence[Sequence[int]], *, fill: int, left: bool) -> Tensor:
    """Ragged rows as one tensor."""
    width = max(len(row) for row in rows)
    pads = [[fill] * (width - len(row)) for row in rows]
    padded = [pad + list(row) if left else list(row) + pad for row, pad in zip(rows, pads, strict=True)]
    return torch.tensor(padded, dtype=torch.long).reshape(len(rows), width)


def _optional_rows(
    examples: Sequence[FlamingoExample], name: Literal["labels", "document"], *, fill: int, left: bool
) -> Tensor | None:
    rows = [example.labels if name == "labels" else example.document for example in examples]
    given = [row for row in rows if row is not None]
    if not given:
        return None
    for index, (row, example) in enumerate(zip(rows, examples, strict=True)):
        if row is None or len(row) != len(example.input_ids):
            raise ShapeError(
                f"{name} of row {index} has {'none' if row is None else len(row)} for {len(example.input_ids)} tokens; "
                "give every row one a token, or give no row any"
            )
    return _rows(given, fill=fill, left=left)


def _as_large(images: Sequence[Tensor]) -> list[Tensor]:
    """Pad images to the height and width of the largest by NaN: a zero would be an image to whoever encodes it."""
    height = max((image.shape[-2] for image in images), default=0)
    width = max((image.shape[-1] for image in images), default=0)
    pads = [(0, width - image.shape[-1], 0, height - image.shape[-2]) for image in images]
    return [F.pad(image, pad, value=nan) if any(pad) else image for image, pad in zip(images, pads, strict=True)]


def _pool(
    items: Sequence[Tensor], name: Literal["pixels", "features"]
) -> tuple[Tensor | None, Bool[Tensor, "items frames"] | None, Bool[Tensor, "items frames patches"] | None]:
    """Stack items along a new axis, padded by zeros in frames (and features in patches), with masks where needed."""
    if not items:
        return None, None, None
    ragged = 1 if name == "pixels" else 2  # leading axes that may differ
    _check_items(items, name, ragged)
    if len({item.shape for item in items}) == 1:
        return torch.stack(list(items)), None, None
    sizes = [max(item.shape[axis] for item in items) for axis in range(ragged)]
    pool = items[0].new_zeros(len(items), *sizes, *items[0].shape[ragged:])
    exists = torch.zeros(pool.shape[: 1 + ragged], dtype=torch.bool)
    for index, item in enumerate(items):
        place = tuple(slice(size) for size in item.shape[:ragged])
        pool[index][place] = item
        exists[index][place] = True
    frames = exists.flatten(2).any(2) if ragged == 2 else exists
    # A frame that does not exist is said once, by `frame_valid`; `patch_valid` is about frames that do.
    all_patches = ragged == 1 or bool((exists.all(2) | ~frames).all())
    return pool, None if frames.all() else frames, None if all_patches else exists


def _check_items(items: Sequence[Tensor], name: str, ragged: int) -> None:
    goal = items[0]
    for index, item in enumerate(items):
        if item.ndim != goal.ndim or item.shape[ragged:] != goal.shape[ragged:] or item.dtype != goal.dtype:
            raise ShapeError(
                f"{name} of item {index} has shape {list(item.shape)} and dtype {item.dtype}, item 0 has "
                f"{list(goal.shape)} and {goal.dtype}; only frames{' and patches' * (ragged == 2)} may differ"
                f"{', or height and width with variable_size=True' * (ragged == 1)}"
            )


def _check(examples: Sequence[Any]) -> None:
    if not examples:
        raise ValueError("examples is empty, wanted one row at least")
    for row, example in enumerate(examples):
        if not isinstance(example, FlamingoExample):
            hint = "; leave it out, as the loader does, or count it" if isinstance(example, Dropped) else ""
            told = f"examples[{row}] is {example!r:.200}, wanted a FlamingoExample{hint}"
            raise ValueError(told)  # noqa: TRY004 - a row that cannot be used, like those below
    kinds = {"pixels" if example.pixels else "features" for example in examples if example.num_items}
    if len(kinds) > 1 or any(example.pixels and example.features for example in examples):
        raise ValueError("examples have pixels and features; give all items of a batch as one of them")
    for row, example in enumerate(examples):
        if len(example.tags) != example.num_items:
            raise MediaMaskError(
                f"row {row} has {len(example.tags)} tags for {example.num_items} items; "
                "every item needs a tag and every tag an item"
            )
        width = len(example.input_ids)
        if not all(before < after for before, after in pairwise((-1, *example.tags, width))):
            raise MediaMaskError(
                f"tags of row {row} are {list(example.tags)}, wanted rising positions among its {width} tokens"
            )
