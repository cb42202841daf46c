"""Pictures of masks: what `MediaLayout` gives for short texts, computed when they are drawn."""

from collections.abc import Iterator, Sequence

import torch

from docs.figures.svg import Drawing
from flamingo_blocks import MediaLayout

TAG = "<image>"
TEXT = ("Hi", TAG, "a", "cat", TAG, "a", "dog")
ROW, COLUMN = 24, 26


def drawings() -> Iterator[Drawing]:
    """One for each passage of the page on masks that needs to be seen."""
    yield draw_index()
    yield draw_scopes()
    yield draw_packed()
    yield draw_unseen()


def is_media(words: Sequence[str]) -> torch.Tensor:
    """Where the tags are, of one row."""
    return torch.tensor([[word == TAG for word in words]])


def draw_index() -> Drawing:
    """Each token, the number of the image that it sees, and a line to it."""
    layout = MediaLayout.from_tokens(is_media(TEXT))
    sees = layout.last[0].tolist()
    told = ", ".join(f"{word} {'none' if item < 0 else item}" for word, item in zip(TEXT, sees, strict=True))
    drawing = Drawing(
        "index",
        title="One index per token",
        description=f"Which image each token sees: {told}. A line leads from each token to its image.",
        height=196,
    )
    places = [8 + 49 * token for token in range(len(TEXT))]
    for item, token in enumerate(i for i, word in enumerate(TEXT) if word == TAG):
        drawing.box(places[token] + 20, 10, 66, 30, f"image {item}", fill=f"item{item}", bold=True)
        for place, seen in zip(places, sees, strict=True):
            if seen == item:
                drawing.arrow((place + 23, 92), (places[token] + 30 + (place - places[token]) * 0.35, 41))
    for place, word, seen in zip(places, TEXT, sees, strict=True):
        drawing.rect(place, 93, 46, 28, fill="data" if seen < 0 else f"item{seen}", stroke="line", radius=3)
        drawing.text(place + 23, 111, word, mono=True, size=10.5)
        drawing.text(place + 23, 148, "-" if seen < 0 else str(seen), bold=True)
    drawing.text(180, 170, "layout.last: the image that the token sees", colour="soft")
    drawing.text(180, 186, "- (held as -1): none", colour="soft")
    return drawing


def draw_scopes() -> Drawing:
    """The same text by scope and direction, side by side."""
    flags = is_media(TEXT)
    panels = {
        'scope "last"': MediaLayout.from_tokens(flags),
        'scope "all"': MediaLayout.from_tokens(flags, scope="all"),
        'direction "next"': MediaLayout.from_tokens(flags, direction="next"),
    }
    drawing = Drawing(
        "scopes",
        title="The mask by scope and direction",
        description=" ".join(f"{name}: {_told(TEXT, layout)}" for name, layout in panels.items()),
        height=66 + ROW * len(TEXT),
    )
    _words(drawing, TEXT, 60, right=66)
    for place, (name, layout) in enumerate(panels.items()):
        kind, value = name.split(" ")
        left = 92 + 92 * place
        drawing.text(left + COLUMN, 16, kind, colour="soft")
        drawing.text(left + COLUMN, 32, value.strip('"'), bold=True)
        _grid(drawing, layout, left, 60)
    return drawing


def draw_packed() -> Drawing:
    """Two documents in one row, taken for one document and told apart."""
    flags, document = is_media(TEXT), torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    panels = {
        "as one document": MediaLayout.from_tokens(flags, scope="all"),
        "told apart": MediaLayout.from_tokens(flags, scope="all", document=document),
    }
    drawing = Drawing(
        "packed",
        title="Packed documents",
        description='With scope "all". ' + " ".join(f"{name}: {_told(TEXT, one)}" for name, one in panels.items()),
        height=66 + ROW * len(TEXT),
    )
    _words(drawing, TEXT, 60, right=104)
    for place, (name, layout) in enumerate(panels.items()):
        left = 146 + 130 * place
        drawing.text(left + COLUMN, 16, name, bold=True)
        drawing.text(left + COLUMN, 32, 'scope "all"', colour="soft")
        _grid(drawing, layout, left, 60)
    start = 60 + ROW * document[0].tolist().index(1)
    drawing.path([(8, start), (352, start)], stroke="ink", width=2)
    drawing.text(8, start - 6, "first", anchor="start", colour="soft")
    drawing.text(8, start + 15, "second", anchor="start", colour="soft")
    return drawing


def draw_unseen() -> Drawing:
    """Rows of a batch in which some tokens see nothing."""
    rows = {
        "text first": ("a", "cat", TAG, "on", "a", "mat"),
        "text only": ("no", "image", "in", "this", "row", "."),
        "padded left": ("pad", "pad", TAG, "a", "red", "ball"),
    }
    flags = torch.cat([is_media(words) for words in rows.values()])
    valid = torch.tensor([[word != "pad" for word in words] for words in rows.values()])
    layout = MediaLayout.from_tokens(flags, valid=valid)
    drawing = Drawing(
        "unseen",
        title="Tokens that see nothing",
        description="Three rows of a batch. " + " ".join(
            f"{name}: {_told(words, layout, row=row)}" for row, (name, words) in enumerate(rows.items())
        ),
        height=88 + ROW * flags.shape[1],
    )  # fmt: skip
    for row, (name, words) in enumerate(rows.items()):
        left = 74 + 120 * row
        drawing.text(left - 10, 18, name, bold=True)
        _words(drawing, words, 46, right=left - 6)
        _grid(drawing, layout, left, 46, row=row)
    drawing.text(180, 76 + ROW * flags.shape[1], "0: sees nothing, and is given exactly zero", colour="soft")
    return drawing


def _words(drawing: Drawing, words: Sequence[str], top: float, *, right: float) -> None:
    """Tokens one below the other, their ends at `right`."""
    for token, word in enumerate(words):
        drawing.text(
            right, top + ROW * token + 16, word, anchor="end", mono=True, bold=word == TAG, size=11.5,
            colour="soft" if word == "pad" else "ink",
        )  # fmt: skip


def _grid(drawing: Drawing, layout: MediaLayout, left: float, top: float, *, row: int = 0) -> None:
    """Tokens by images: a filled cell with a dot where the token sees the image, 0 where it sees none at all."""
    mask = layout.mask()[row]
    items = layout.item_ids[row]
    for slot, item in enumerate(items.tolist()):
        if item >= 0:
            drawing.text(left + COLUMN * (slot + 0.5), top - 8, str(slot), colour="soft")
    for token, seen in enumerate(mask.tolist()):
        y = top + ROW * token
        if not any(seen):
            drawing.rect(left, y, COLUMN * len(seen), ROW, stroke="line")
            drawing.text(left + COLUMN * len(seen) / 2, y + 16, "0", colour="soft")
            continue
        for slot, sees in enumerate(seen):
            x = left + COLUMN * slot
            drawing.rect(x, y, COLUMN, ROW, fill=f"item{slot}" if sees else None, stroke="line")
            if sees:
                drawing.add("circle", cx=x + COLUMN / 2, cy=y + ROW / 2, r=4, fill="var(--ink)")


def _told(words: Sequence[str], layout: MediaLayout, *, row: int = 0) -> str:
    """The mask in words."""
    seen = [[str(slot) for slot, sees in enumerate(each) if sees] for each in layout.mask()[row].tolist()]
    return (
        ", ".join(f"{word} sees {' and '.join(each) or 'none'}" for word, each in zip(words, seen, strict=True)) + "."
    )
