"""The picture that `MediaLayout.explain` prints."""

from jaxtyping import Bool, Int
from torch import Tensor


def explain_layout(
    item_ids: Int[Tensor, "batch media"], mask: Bool[Tensor, "batch text media"], tokens: list[list[str]] | None
) -> str:
    """One line a token, one column an item of the row, `#` where it sees it."""
    batch, text, _ = mask.shape
    if tokens is not None and [len(row) for row in tokens] != [text] * batch:
        raise ValueError(
            f"tokens has rows of {[len(row) for row in tokens]} words, wanted {batch} rows of {text}, one word a token"
        )
    words = tokens or [[str(column) for column in range(text)] for _ in range(batch)]
    lines = []
    for row in range(batch):
        ids = [str(i) for i in item_ids[row].tolist() if i >= 0]
        title = f"row {row}  items "
        margin = max([len(title), *(len(word) + 3 for word in words[row])])
        lines.append((title.ljust(margin) + " ".join(ids)).rstrip() if ids else f"row {row}  no items")
        for column, word in enumerate(words[row]):
            marks = ["#" if seen else "." for seen in mask[row, column].tolist()]
            cells = (mark.ljust(len(name)) for mark, name in zip(marks, ids, strict=False))
            lines.append(((" " * 2 + word).ljust(margin) + " ".join(cells)).rstrip())
    return "\n".join(lines)
