"""The Perceiver Resampler, as `flamingo_blocks.nn.PerceiverResampler` computes it."""

from docs.figures.svg import Drawing

STREAM = 326  # where the latents come down


def draw() -> Drawing:
    """Patches of some frames and learned latents in, as many media tokens as latents out."""
    drawing = Drawing(
        "resampler",
        title="The Perceiver Resampler",
        description=(
            "Patch features of the frames of one item are projected where the widths differ, get a learned embedding "
            "of their frame, and are flattened to one row of tokens. In each layer learned latents ask: queries are "
            "the normed latents, keys and values are the normed features followed by the normed latents. What "
            "attention gives is added to the latents, then what a normed feed-forward layer gives. As many tokens "
            "come out as there are latents."
        ),
        height=520,
    )
    _inputs(drawing)
    _layer(drawing)
    drawing.arrow((STREAM, 399), (STREAM, 438))
    drawing.text(12, 425, "this layer, depth times", anchor="start", colour="soft")
    _squares(drawing, 296, 442, fill="trained")
    drawing.text(284, 452, "media tokens of the item", anchor="end", bold=True)
    drawing.text(284, 468, "[latents dim], for any frames and patches", anchor="end", colour="soft")
    drawing.legend(504, [("data", "features"), ("trained", "trained")], step=92)
    drawing.rect(200, 494, 12, 12, stroke="line", radius=2, dashed=True)
    drawing.text(218, 504, "can be left out", anchor="start")
    return drawing


def _squares(drawing: Drawing, x: float, y: float, *, fill: str, count: int = 4, columns: int = 4) -> None:
    for place in range(count):
        row, column = divmod(place, columns)
        drawing.rect(x + 15 * column, y + 15 * row, 13, 13, fill=fill, stroke="line")


def _inputs(drawing: Drawing) -> None:
    """Frames of patches on the left, latents on the right."""
    drawing.text(12, 18, "one item: frames of patches", anchor="start", bold=True)
    for frame in range(3):
        _squares(drawing, 14 + 66 * frame, 28, fill="data", count=9, columns=3)
        drawing.text(36 + 66 * frame, 88, f"frame {frame}", colour="soft")
    drawing.text(348, 18, "learned latents", anchor="end", bold=True)
    _squares(drawing, 296, 28, fill="trained")
    drawing.path([(STREAM, 44), (STREAM, 190)])
    drawing.arrow((101, 94), (101, 104))
    drawing.box(14, 105, 194, 24, "linear, if widths differ", fill="trained", dashed=True)
    drawing.arrow((101, 129), (101, 138))
    drawing.box(14, 139, 194, 24, "+ one embedding per frame", fill="trained", dashed=True)
    drawing.arrow((101, 163), (101, 175))
    _squares(drawing, 14, 177, fill="data", count=13, columns=13)
    drawing.text(220, 188, "flattened", anchor="start", colour="soft")


def _layer(drawing: Drawing) -> None:
    """One layer; the latents come down on the right and get two updates from the left."""
    drawing.rect(6, 206, 348, 202, stroke="line", radius=6)
    drawing.path([(STREAM, 190), (STREAM, 399)])
    drawing.arrow((70, 191), (70, 219))
    drawing.box(20, 220, 100, 24, "norm", fill="trained")
    drawing.arrow((STREAM, 232), (291, 232))
    drawing.box(206, 220, 84, 24, "norm", fill="trained")
    drawing.arrow((70, 244), (70, 261))
    drawing.arrow((216, 244), (170, 261))
    drawing.arrow((250, 244), (250, 261))
    drawing.box(20, 262, 176, 40, ("keys, values of", "features, then latents"), fill="trained")
    drawing.box(206, 262, 84, 40, ("queries", "of latents"), fill="trained")
    drawing.arrow((108, 302), (108, 317))
    drawing.arrow((250, 302), (250, 317))
    drawing.box(20, 318, 270, 26, "attention, projected back", fill="trained", bold=True)
    drawing.arrow((290, 331), (317, 331))
    drawing.plus(STREAM, 331)
    drawing.arrow((STREAM, 354), (250, 354), (250, 365))
    drawing.box(20, 366, 270, 28, "norm, feed-forward", fill="trained", bold=True)
    drawing.arrow((290, 380), (317, 380))
    drawing.plus(STREAM, 380)
