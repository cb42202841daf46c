"""Where blocks sit in a language model, and what of the whole is trained."""

from docs.figures.svg import Drawing

LAYERS, EVERY = 4, 2
LEFT, WIDTH = 196, 156  # of the language model's column
BUS = 176  # where media and layout go down beside it


def draw() -> Drawing:
    """The tower and the resampler on the left, the language model with blocks on the right."""
    drawing = Drawing(
        "placement",
        title="Where the blocks sit",
        description=(
            "Images pass a frozen vision tower and the trained resampler into the media pool. Token ids pass the "
            f"frozen embedding of the language model, {LAYERS} frozen layers and the frozen head. In front of layer "
            + " and of layer ".join(str(layer) for layer in range(0, LAYERS, EVERY))
            + " stands a trained block, which reads the media pool and the layout. Rows of new tokens, such as "
            "<image> and <EOC>, are trained beside the frozen embedding and head."
        ),
        height=482,
    )
    _vision(drawing)
    middle, bottom = LEFT + WIDTH / 2, _language_model(drawing)
    drawing.arrow((middle, bottom), (middle, bottom + 16))
    drawing.text(middle, bottom + 31, "logits", bold=True)
    drawing.legend(470, [("frozen", "frozen"), ("trained", "trained"), ("data", "data")])
    return drawing


def _vision(drawing: Drawing) -> None:
    drawing.text(83, 20, "images and clips", bold=True)
    drawing.arrow((83, 26), (83, 43))
    drawing.box(12, 44, 142, 40, ("vision tower", "patch features"), fill="frozen", bold=True)
    drawing.arrow((83, 84), (83, 103))
    drawing.box(12, 104, 142, 40, ("resampler", "latents per item"), fill="trained", bold=True)
    drawing.arrow((83, 144), (83, 163))
    drawing.box(12, 164, 142, 56, ("media state", "pool of all items,", "layout of the text"), fill="data", bold=True)
    drawing.path([(154, 192), (BUS, 192)])


def _language_model(drawing: Drawing) -> float:
    """From the token ids to the head; gives where the head ends."""
    middle = LEFT + WIDTH / 2
    drawing.text(middle, 20, "token ids", bold=True)
    drawing.arrow((middle, 26), (middle, 43))
    drawing.box(LEFT, 44, WIDTH - 52, 40, "embedding", fill="frozen")
    drawing.box(LEFT + WIDTH - 52, 44, 52, 40, ("new", "rows"), fill="trained")
    below, blocks = 84.0, []
    for layer in range(LAYERS):
        if layer % EVERY == 0:
            drawing.arrow((middle, below), (middle, below + 13))
            drawing.box(LEFT, below + 14, WIDTH, 28, "gated block", fill="trained", bold=True)
            blocks.append(below + 28)
            below += 42
        drawing.arrow((middle, below), (middle, below + 13))
        drawing.box(LEFT, below + 14, WIDTH, 28, f"layer {layer}", fill="frozen")
        below += 42
    drawing.path([(BUS, min(*blocks, 192)), (BUS, max(*blocks, 192))])
    for place in blocks:
        drawing.arrow((BUS, place), (LEFT - 1, place))
    drawing.arrow((middle, below), (middle, below + 13))
    drawing.box(LEFT, below + 14, WIDTH - 52, 40, "norm, head", fill="frozen")
    drawing.box(LEFT + WIDTH - 52, below + 14, 52, 40, ("new", "rows"), fill="trained")
    return below + 54
