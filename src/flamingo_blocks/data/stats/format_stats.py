"""Stats as a table for people."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from flamingo_blocks.data.stats.document_stats import QUANTILES, TOP, DocumentStats

_BAR = 30
_NAMES = ("least", "10 %", "25 %", "half", "75 %", "90 %", "most")
assert len(_NAMES) == len(QUANTILES)


def format_stats(stats: DocumentStats) -> str:
    """Stats as text for a terminal.

    Args:
        stats: What `document_stats` counted.

    Returns:
        Lines of text; histograms as bars. What documents say of themselves is written without control characters.

    Example:
        >>> from flamingo_blocks.data.documents import InterleavedDocument
        >>> from flamingo_blocks.data.stats.document_stats import document_stats
        >>> print(format_stats(document_stats([InterleavedDocument.from_parts(["two words"])])).splitlines()[0])
        documents   1
    """
    lines = list(_totals(stats))
    rows = {
        "words": stats.words.quantiles(QUANTILES), "characters": stats.characters.quantiles(QUANTILES),
        "width, px": stats.widths.quantiles(QUANTILES), "height, px": stats.heights.quantiles(QUANTILES),
        "bytes of a file": stats.file_bytes.quantiles(QUANTILES),
    }  # fmt: skip
    lines += _table({name: row for name, row in rows.items() if row})
    parts = {
        "images and clips of a document": _without_end(stats.items_per_document) if stats.documents else {},
        "formats of images": dict(stats.formats.most_common()),
        "languages": dict(stats.languages.most_common(TOP)),
        "hosts": dict(stats.domains.most_common(TOP)),
        "dropped": dict(stats.dropped.most_common()),
    }
    for title, counts in parts.items():
        if counts:
            lines += ["", title, *_bars(counts)]
    if stats.domains.max_missed:
        lines.append(f"  there were too many hosts: counts may miss {stats.domains.max_missed:,}")
    return "\n".join(lines)


def _totals(stats: DocumentStats) -> Iterable[str]:
    about = "" if stats.hashes.is_exact else "about "
    media = stats.images + stats.clips
    rows = {
        "documents": f"{stats.documents:,}"
        + (f", {about}{stats.duplicates:,} of them repeats" if stats.duplicates else ""),
        "texts": f"{stats.texts:,}, {stats.words.total:,} words, {stats.characters.total:,} characters",
        "images": f"{stats.images:,}",
        "clips": f"{stats.clips:,}",
        "files": f"{_bytes(stats.file_bytes.total)}",
        "with alt": f"{stats.with_alt:,}, {stats.with_alt / media:.0%}" if media else "",
        "dropped": f"{sum(stats.dropped.values()):,}" if stats.dropped else "",
    }
    return (f"{name:<12}{told}" for name, told in rows.items() if told)


def _table(rows: Mapping[str, Sequence[int]]) -> Iterable[str]:
    if not rows:
        return
    yield ""
    yield " " * 18 + "".join(f"{name:>12}" for name in _NAMES)
    for name, numbers in rows.items():
        yield f"{name:<18}" + "".join(f"{number:>12,}" for number in numbers)


def _bars(counts: Mapping[str, int]) -> Iterable[str]:
    most = max(counts.values())
    names: Counter[str] = Counter()
    for name, count in counts.items():
        names[_plain(name)] += count
    width = max(16, *map(len, names))
    for name, count in names.items():
        yield f"  {name:<{width}}{count:>12,}  {'#' * round(_BAR * count / most) if most else ''}".rstrip()


def _without_end(counts: Mapping[str, int]) -> dict[str, int]:
    """Up to the last bar that is not empty."""
    names = [name for name, count in counts.items() if count]
    end = list(counts).index(names[-1]) + 1
    return dict(list(counts.items())[:end])


def _plain(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:60]


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
