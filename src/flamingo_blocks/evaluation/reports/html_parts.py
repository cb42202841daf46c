"""Pieces of the page that hold texts: tables, lists, and the key to the pictures."""

from collections.abc import Iterable

from flamingo_blocks.data.show.write_html import as_text
from flamingo_blocks.evaluation.reports.tables import Table


def table(found: Table, kind: str, label: str) -> str:
    """A table that scrolls by itself where it is wider than the page.

    Args:
        found: Its texts.
        kind: Its class.
        label: What it holds, for who cannot see it.
    """
    head = "".join(f'<th scope="col">{as_text(name)}</th>' for name in found.head)
    rows = "".join(f"<tr>{''.join(f'<td>{as_text(text)}</td>' for text in row)}</tr>" for row in found.rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{as_text(label)}"><table class="{kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def said(texts: Iterable[str]) -> str:
    """Sentences as a list.

    Args:
        texts: The sentences.
    """
    return f'<ul class="said">{"".join(f"<li>{as_text(text)}</li>" for text in texts)}</ul>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values.

    Args:
        rows: The pairs.
    """
    pairs = (f"<dt>{as_text(name)}</dt><dd>{as_text(value)}</dd>" for name, value in rows)
    return f'<dl class="facts">{"".join(pairs)}</dl>'


def key(name: str) -> str:
    """What the lines of the curves mean.

    Args:
        name: What the model is called.
    """
    line = '<path class="line" d="M2 8H42"/>'
    band = '<polygon class="band" points="2,2 42,2 42,14 2,14"/>'
    bar = '<path class="bar" d="M19 2h6M19 14h6M22 2V14"/>'
    entries = (
        ("own", line, f"{name}: mean over seeds"),
        ("own", band + line, "± 1 standard deviation over seeds; none with one seed"),
        ("own", bar, "95 % interval of a bootstrap over images or videos"),
        ("control hue0", line, "control"),
        ("baseline", line, "baseline without a model"),
        ("published", line, "published"),
    )
    drawn = (
        f'<li><svg viewBox="0 0 44 16" aria-hidden="true"><g class="{kind}">{inside}</g></svg>{as_text(text)}</li>'
        for kind, inside, text in entries
    )
    return f'<ul class="key">{"".join(drawn)}</ul>'
