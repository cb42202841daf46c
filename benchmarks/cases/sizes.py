"""The sizes of a case in the words of the glossary, and the same case at sizes that a test can afford."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Sizes:
    """Text with images in it: each row is `media` times an image and `tokens` tokens that see it.

    Args:
        media: Items of a row.
        tokens: Tokens of an item, its tag included; the text of a row is `media * tokens` long.
        batch: Rows.
        latents: Media tokens of an item.
        dim: Width of the text.
        vision_dim: Width of the media tokens; that of the text by default.
        heads: Heads.
        head_dim: Width of a head.
    """

    media: int
    tokens: int = 32
    batch: int = 1
    latents: int = 64
    dim: int = 512
    vision_dim: int = 512
    heads: int = 8
    head_dim: int = 64

    @property
    def text(self) -> int:
        """Tokens of a row."""
        return self.media * self.tokens

    @property
    def items(self) -> int:
        """Items of the pool."""
        return self.batch * self.media

    @property
    def inner(self) -> int:
        """Width of all heads together."""
        return self.heads * self.head_dim

    @property
    def gated_hidden(self) -> int:
        """Width of a gated feed-forward layer with as many weights as a plain one of four times `dim`."""
        return 8 * self.dim // 3

    def words(self) -> dict[str, int]:
        """Axis words to sizes, for `Case.sizes`."""
        names = ("batch", "text", "items", "media", "latents", "dim", "vision_dim", "heads", "head_dim")
        return {name: getattr(self, name) for name in names}

    def tiny(self) -> "Sizes":
        """As small as it gets without losing what the case is about: several items, heads and latents."""
        same_width = self.vision_dim == self.dim
        return replace(
            self, media=min(self.media, 3), tokens=min(self.tokens, 4), batch=min(self.batch, 2), latents=3, dim=16,
            vision_dim=16 if same_width else 12, heads=2, head_dim=8,
        )  # fmt: skip
