"""GATED XATTN-DENSE, as `flamingo_blocks.GatedCrossAttentionBlock` computes it."""

from docs.figures.svg import Drawing

STREAM = 326  # where the text comes down


def draw() -> Drawing:
    """Text and media in, text with two gated updates out, in front of a frozen layer."""
    drawing = Drawing(
        "block",
        title="A gated cross-attention block",
        description=(
            "Queries are the normed text, keys and values the normed media pool; the layout says which items each "
            "token sees. What the masked cross-attention gives is multiplied by tanh of the attention gate and added "
            "to the text. Then what a normed feed-forward layer gives is multiplied by tanh of the feed-forward gate "
            "and added. The sum goes into a frozen layer of the language model. Both gates start at zero."
        ),
        height=448,
    )
    _attention(drawing)
    drawing.arrow((STREAM, 244), (250, 244), (250, 255))
    drawing.box(20, 256, 270, 26, "norm, feed-forward", fill="trained", bold=True)
    drawing.arrow((155, 282), (155, 293))
    drawing.box(20, 294, 270, 26, "x tanh(feed-forward gate), 0 at first", fill="trained")
    drawing.arrow((290, 307), (317, 307))
    drawing.plus(STREAM, 307)
    drawing.arrow((STREAM, 330), (STREAM, 351))
    drawing.text(20, 346, "the block, [batch text dim] in and out", anchor="start", colour="soft")
    drawing.box(186, 352, 166, 30, "layer of the model", fill="frozen", bold=True)
    drawing.arrow((STREAM, 382), (STREAM, 402))
    drawing.legend(432, [("trained", "trained"), ("frozen", "frozen"), ("data", "what comes in")], step=100)
    return drawing


def _attention(drawing: Drawing) -> None:
    """The first half, and the line of the text beside both."""
    drawing.box(14, 8, 106, 40, ("media pool", "of all items"), fill="data")
    drawing.box(132, 8, 96, 40, ("layout: who", "sees what"), fill="data")
    drawing.box(294, 8, 58, 40, "text", fill="data", bold=True)
    drawing.rect(6, 62, 348, 268, stroke="line", radius=6)
    drawing.path([(STREAM, 48), (STREAM, 330)])
    drawing.arrow((67, 48), (67, 73))
    drawing.box(20, 74, 106, 24, "norm", fill="trained")
    drawing.arrow((STREAM, 86), (291, 86))
    drawing.box(206, 74, 84, 24, "norm", fill="trained")
    drawing.arrow((67, 98), (67, 111))
    drawing.arrow((248, 98), (248, 111))
    drawing.box(20, 112, 106, 24, "keys, values", fill="trained")
    drawing.box(206, 112, 84, 24, "queries", fill="trained")
    drawing.arrow((67, 136), (67, 151))
    drawing.arrow((166, 48), (166, 151))
    drawing.arrow((248, 136), (248, 151))
    drawing.box(20, 152, 270, 26, "masked cross-attention, projected", fill="trained", bold=True)
    drawing.arrow((155, 178), (155, 191))
    drawing.box(20, 192, 270, 26, "x tanh(attention gate), 0 at first", fill="trained")
    drawing.arrow((290, 205), (317, 205))
    drawing.plus(STREAM, 205)
