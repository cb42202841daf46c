"""How large the batches of a data set are."""

from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, kw_only=True)
class BatchShape:
    """The size of what one data set gives to an update, all ranks together.

    Args:
        rows: Rows of text.
        text: Tokens of a row.
        items: Images and clips of a row; a mean, where rows differ.
        frames: Frames of an item; 1 for images.
        weight: Factor on the loss. A data set of weight 0 is not drawn from, so it costs nothing.
        parts: How many parts the batch comes in, one after the other: memory is that of one.

    Raises:
        ValueError: If `rows`, `text` or `parts` is less than 1, or another number is negative or not finite.

    Example:
        >>> pages = BatchShape(rows=256, text=256, items=5)
        >>> pages.tokens, pages.num_items
        (65536, 1280)
    """

    rows: int
    text: int
    items: float = 1
    frames: float = 1
    weight: float = 1.0
    parts: int = 1

    def __post_init__(self) -> None:
        for name in ("rows", "text", "parts"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}, wanted 1 or more")
        for name in ("items", "frames", "weight"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise ValueError(f"{name} is {value}, wanted a finite number of 0 or more")

    @property
    def tokens(self) -> int:
        """Text tokens of the batch."""
        return self.rows * self.text

    @property
    def num_items(self) -> float:
        """Items of the batch."""
        return self.rows * self.items

    @property
    def num_frames(self) -> float:
        """Frames of the batch."""
        return self.num_items * self.frames

    @property
    def labels(self) -> float:
        """Tokens that are predicted: neither the first of a row nor, at one tag an item, the tags."""
        return self.rows * max(self.text - 1 - self.items, 0)
