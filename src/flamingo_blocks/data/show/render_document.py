"""A document as a card of the page."""

from collections.abc import Iterable
from itertools import groupby

from flamingo_blocks.data.documents import ClipSegment, InterleavedDocument, MediaSegment
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.show.page_style import HUES
from flamingo_blocks.data.show.preview_media import preview_media
from flamingo_blocks.data.show.see_document import SeenDocument, SeenRun
from flamingo_blocks.data.show.write_html import as_link, as_list, as_text

TOKENS = {"bos": "<BOS>", "eos": "<EOS>", "end_of_chunk": "<EOC>", "media": "<image>"}
REASONS = ("reasons", "reason", "dropped")  # names of metadata that say why a step did what it did
MAX_ALT = 500  # characters of a description within a picture; the whole of it stands below


def render_document(
    document: InterleavedDocument, seen: SeenDocument | str, *, number: int, unit: str, side_px: int
) -> str:
    """A document as the model sees it.

    Args:
        document: Whose metadata are shown.
        seen: Its tokens in runs, or why there are none.
        number: Its number on the page.
        unit: What a token of text is called.
        side_px: Longest side of a picture.
    """
    parts = [_header(document, number)]
    if isinstance(seen, str):
        parts.append(f'<p class="wrong">Cannot be tokenised: {as_text(seen)}</p>')
        parts.append(f'<p class="line">{as_text(document.text)}</p>')
    else:
        parts.append(f'<p class="muted">{as_text(_counts(seen, unit))}</p>')
        parts.append(f'<div class="flow">{"".join(_flow(seen, number, unit, side_px))}</div>')
    if document.metadata:
        parts.append(f"<details><summary>Metadata</summary>{as_list(document.metadata)}</details>")
    return _card(number, "".join(parts))


def render_dropped(dropped: Dropped, *, number: int) -> str:
    """A record that a step did not keep."""
    title = f'<h2 id="h{number}">{number}. Dropped</h2>'
    reason = f'<p><span class="reason"><bdi>{as_text(dropped.reason)}</bdi></span></p>'
    return _card(number, f"{title}{reason}<p><bdi>{as_text(dropped.detail)}</bdi></p>")


def _card(number: int, inside: str) -> str:
    return f'<article class="doc" id="d{number}" aria-labelledby="h{number}">{inside}</article>\n'


def _header(document: InterleavedDocument, number: int) -> str:
    metadata = document.metadata
    title = metadata.get("title")
    titled = f" <bdi>{as_text(title)}</bdi>" if isinstance(title, str) and title.strip() else ""
    parts = [f'<h2 id="h{number}">{number}.{titled or " Document"}</h2>']
    if isinstance(url := metadata.get("url"), str):
        parts.append(f'<p class="muted">{as_link(url)}</p>')
    reasons = [reason for name in REASONS for reason in _several(metadata.get(name))]
    if reasons:
        chips = (f'<span class="reason"><bdi>{as_text(reason)}</bdi></span>' for reason in reasons)
        parts.append(f"<p>{' '.join(chips)}</p>")
    return "".join(parts)


def _several(value: object) -> Iterable[str]:
    if isinstance(value, str):
        return [value]
    return [str(part) for part in value if isinstance(part, str)] if isinstance(value, list | tuple) else []


def _counts(seen: SeenDocument, unit: str) -> str:
    clips = sum(isinstance(item, ClipSegment) for item in seen.media)
    text = seen.count("text")
    counted = ((text, unit), (seen.count() - text, "special tokens"), (len(seen.media) - clips, "images"),
               (clips, "clips"))  # fmt: skip
    parts = [f"{count:,} {name.removesuffix('s') if count == 1 else name}" for count, name in counted if count]
    return " · ".join([*parts, f"loss on {seen.num_predicted:,} of {seen.count():,}"])


def _flow(seen: SeenDocument, number: int, unit: str, side_px: int) -> Iterable[str]:
    """Blocks of what sees the same, within a group for all that begins to see at the same image.

    So all that sees an image is the block that its tag is in and those behind it in its group, which a sheet of style
    can say.
    """
    item = 0
    for _, group in groupby(seen.runs, key=lambda run: run.first if run.sees else None):
        yield '<div class="group">'
        for _, block in groupby(group, key=lambda run: run.last):
            runs = list(block)
            yield _opened(runs[0])
            for in_line, together in groupby(runs, key=lambda run: run.kind != "media"):
                if in_line:
                    yield f'<p class="line">{"".join(_inline(run, unit) for run in together)}</p>'
                    continue
                for run in together:
                    yield _figure(run, seen.media[item], f"d{number}m{item + 1}", item + 1, side_px)
                    item += 1
            yield "</div>"
        yield "</div>"


def _opened(run: SeenRun) -> str:
    """Begin of a block: its number in the margin says what it sees, its colour repeats it."""
    if not run.sees:
        return '<div class="see none" role="group" aria-label="sees no image"><span class="num">none</span>'
    first, last = run.first + 1, run.last + 1
    shown = str(last) if first == last else f"{first}-{last}"
    hue, label = run.last % len(HUES), f"sees image {shown}" if first == last else f"sees images {shown}"
    return (
        f'<div class="see hue{hue}" role="group" aria-label="{label}"><span class="num" title="{label}">{shown}</span>'
    )


def _inline(run: SeenRun, unit: str) -> str:
    marked, loss = (" ignored", "no loss") if run.ignored else ("", "loss")
    if run.kind != "text":
        return f'<span class="token{marked}" title="{loss}">{as_text(TOKENS[run.kind])}</span>'
    return f'<span class="text{marked}" title="{run.num_tokens} {unit}, {loss}">{as_text(run.text)}</span>'


def _figure(run: SeenRun, item: MediaSegment, anchor: str, number: int, side_px: int) -> str:
    kind = "clip" if isinstance(item, ClipSegment) else "image"
    preview = preview_media(item, side_px=side_px if kind == "image" else max(1, side_px // 2))
    alt = as_text(item.alt[:MAX_ALT] if item.alt else f"{kind} {number}, without a description")
    if preview.pictures:
        others = (f'<img src="{picture}" alt="">' for picture in preview.pictures[1:])
        pictures = f'<img src="{preview.pictures[0]}" alt="{alt}">{"".join(others)}'
    else:
        pictures = f'<span class="gone">{kind} {number}: {as_text(preview.reason)}</span>'
    loss = ("token ignored", "no loss") if run.ignored else ("token", "loss")
    tag = f'<span class="{loss[0]}" title="{loss[1]}">{as_text(TOKENS["media"])}</span>'
    lines = [f"{tag} {kind} {number}"]
    lines += [as_text(preview.facts)] if preview.facts else []
    lines += [f"alt: <bdi>{as_text(item.alt)}</bdi>"] if item.alt else []
    lines += [as_link(item.url)] if item.url else []
    caption = "".join(f"<p>{line}</p>" for line in lines)
    if item.metadata:
        caption += f"<details><summary>Metadata</summary>{as_list(item.metadata)}</details>"
    return (
        f'<figure id="{anchor}" tabindex="0"><span class="strip">{pictures}</span>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
