"""A drawing as SVG that is read in light and in dark mode, on a page and alone, and is the same bytes everywhere.

Colours are names of `LIGHT` and `DARK`. A drawing carries both: alone, as a picture of a README, it follows the
reader's system; inside a page of the site it follows the page's own switch, which an `<img>` cannot see.
"""

from collections.abc import Iterable, Sequence
from html import escape

LIGHT = {
    "ink": "#1f2328", "soft": "#57606a", "line": "#6e7781", "faint": "#d5d9de",
    "frozen": "#deebf7", "trained": "#fde8d3", "data": "#eceff2", "ground": "#ffffff",
    "a": "#b4500b", "b": "#2467a8", "c": "#2b7548", "d": "#7547c0", "e": "#ad3a78", "f": "#5f6670",
    "item0": "#bcdcf5", "item1": "#ffd79b", "item2": "#cbe8b0",
}  # fmt: skip
DARK = {
    "ink": "#e8eaf0", "soft": "#b2b8c6", "line": "#949cab", "faint": "#3b404c",
    "frozen": "#24415f", "trained": "#5a3717", "data": "#333846", "ground": "#1e2129",
    "a": "#f3a467", "b": "#7fb4ea", "c": "#76c796", "d": "#bfa3f3", "e": "#ee98c6", "f": "#a9b0bd",
    "item0": "#1f5583", "item1": "#7a4f10", "item2": "#3f6322",
}  # fmt: skip
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,sans-serif"
MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,monospace"
SHOWN = 1.3  # pixels a unit on a wide page
Point = tuple[float, float]


def number(value: float) -> str:
    """A coordinate: one digit behind the point, so that the last bits of a machine's logarithms do not show."""
    return f"{value:.1f}".removesuffix(".0").replace("-0", "0", 1 if abs(value) < 0.05 else 0)


class Drawing:
    """What is drawn, part by part, from the top left.

    Args:
        name: Of the file; ids of the drawing begin with it, so a page may hold several drawings.
        title: A few words, read out as the name of the picture.
        description: What it shows, for those who do not see it.
        height: In units; one is a pixel where the drawing is as wide as a phone.
        width: In units.
    """

    def __init__(self, name: str, *, title: str, description: str, height: float, width: float = 360) -> None:
        self.id = f"fig-{name}"
        self.title, self.description, self.width, self.height = title, description, width, height
        self.parts: list[str] = []

    def add(self, tag: str, content: str | None = None, **attributes: str | float | None) -> None:
        """One element; an attribute that is `None` is left out, and `_` stands for `-`."""
        told = "".join(
            f' {key.rstrip("_").replace("_", "-")}="{number(value) if isinstance(value, int | float) else value}"'
            for key, value in attributes.items() if value is not None
        )  # fmt: skip
        self.parts.append(f"<{tag}{told}/>" if content is None else f"<{tag}{told}>{content}</{tag}>")

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "middle", colour: str = "ink", bold: bool = False,
        mono: bool = False, size: float = 12, turned: bool = False,
    ) -> None:  # fmt: skip
        """Words, their middle (or `anchor`) at x, on the line y."""
        self.add(
            "text", escape(words, quote=False), x=x, y=y, fill=paint(colour), text_anchor=anchor,
            font_weight="600" if bold else None, font_family=MONO if mono else None,
            font_size=None if size == 12 else size,
            transform=f"rotate(-90 {number(x)} {number(y)})" if turned else None,
        )  # fmt: skip

    def box(
        self, x: float, y: float, width: float, height: float, words: str | Sequence[str] = "", *, fill: str = "data",
        dashed: bool = False, bold: bool = False, mono: bool = False,
    ) -> None:  # fmt: skip
        """A box with lines of words in its middle; dashed where it may be left out."""
        self.rect(x, y, width, height, fill=fill, stroke="line", radius=4, dashed=dashed)
        lines = [words] if isinstance(words, str) else list(words)
        for row, line in enumerate(lines if words else ()):
            place = y + height / 2 + 4.2 + 15 * (row - (len(lines) - 1) / 2)
            self.text(x + width / 2, place, line, bold=bold and row == 0, mono=mono)

    def rect(
        self, x: float, y: float, width: float, height: float, *, fill: str | None = None, stroke: str | None = None,
        radius: float | None = None, dashed: bool = False,
    ) -> None:  # fmt: skip
        """A rectangle."""
        self.add(
            "rect", x=x, y=y, width=width, height=height, rx=radius, fill=paint(fill), stroke=paint(stroke),
            stroke_dasharray="4 3" if dashed else None,
        )  # fmt: skip

    def path(
        self, points: Iterable[Point], *, stroke: str = "line", width: float = 1.4, dash: str | None = None,
        arrow: bool = False,
    ) -> None:  # fmt: skip
        """A line from point to point, with a head at its end if it is an arrow."""
        self.add(
            "polyline", points=" ".join(f"{number(x)},{number(y)}" for x, y in points), fill="none",
            stroke=paint(stroke), stroke_width=width, stroke_dasharray=dash,
            marker_end=f"url(#{self.id}-head)" if arrow else None,
        )  # fmt: skip

    def arrow(self, *points: Point, dash: str | None = None) -> None:
        """A line that ends in a head."""
        self.path(points, arrow=True, dash=dash)

    def plus(self, x: float, y: float) -> None:
        """The sum of what comes in."""
        self.add("circle", cx=x, cy=y, r=8, fill=paint("ground"), stroke=paint("line"))
        self.path([(x - 4, y), (x + 4, y)], stroke="ink")
        self.path([(x, y - 4), (x, y + 4)], stroke="ink")

    def legend(self, y: float, entries: Sequence[tuple[str, str]], *, left: float = 12, step: float = 110) -> None:
        """Swatches with what they mean."""
        for place, (fill, words) in enumerate(entries):
            self.rect(left + step * place, y - 10, 12, 12, fill=fill, stroke="line", radius=2)
            self.text(left + step * place + 18, y, words, anchor="start")

    def render(self) -> str:
        """The content of the file: no empty line, since that would end the block of a Markdown page."""
        title, description = (escape(words, quote=False) for words in (self.title, self.description))
        size = f'viewBox="0 0 {number(self.width)} {number(self.height)}" width="{number(self.width * SHOWN)}"'
        named = f'role="img" aria-labelledby="{self.id}-title {self.id}-desc"'
        look = f'style="max-width:100%;height:auto" font-family="{FONT}" font-size="12"'
        head = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto"'
        tip = f'<path d="M0 0 8 4 0 8z" fill="{paint("line")}"/>'
        lines = (
            f'<svg xmlns="http://www.w3.org/2000/svg" id="{self.id}" {named} {size} {look}>',
            f'<title id="{self.id}-title">{title}</title>',
            f'<desc id="{self.id}-desc">{description}</desc>',
            f"<style>{self._colours()}</style>",
            f'<defs><marker id="{self.id}-head" {head}>{tip}</marker></defs>',
            *self.parts,
            "</svg>",
        )
        return "\n".join(lines) + "\n"

    def _colours(self) -> str:
        """Those that are used, for a reader in light and in dark mode."""
        used = [name for name in LIGHT if any(f"var(--{name})" in part for part in self.parts)] + ["line"]
        light, dark = (";".join(f"--{name}:{table[name]}" for name in dict.fromkeys(used)) for table in (LIGHT, DARK))
        return (
            f"#{self.id}{{{light}}}@media (prefers-color-scheme:dark){{#{self.id}{{{dark}}}}}"
            f"[data-md-color-scheme=default] #{self.id}{{{light}}}[data-md-color-scheme=slate] #{self.id}{{{dark}}}"
        )


def paint(colour: str | None) -> str | None:
    """The value of an attribute for a colour's name."""
    return "none" if colour is None else f"var(--{colour})"
