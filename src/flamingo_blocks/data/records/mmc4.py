"""Rows of MMC4: sentences, images of the same page, and how well each image fits each sentence."""

import binascii
import math
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from flamingo_blocks.data.documents import ImageSegment, InterleavedDocument, Segment, TextSegment
from flamingo_blocks.data.record_error import RecordError
from flamingo_blocks.data.records.assignment import best_assignment
from flamingo_blocks.data.records.read_json import as_index, as_list, as_mapping, told

FORM = "mmc4"  # in the metadata of a document: what its row has beyond what a new row would have
MAX_CELLS = 1 << 18  # of a matrix of similarities: 512 images by 512 sentences
Matching = Literal["assignment", "stored"]


def from_mmc4(
    row: Mapping[str, Any],
    *,
    max_images: int | None = None,
    min_similarity: float | None = None,
    matching: Matching = "assignment",
) -> InterleavedDocument:
    """Read a row of MMC4, with each image before the sentence that it fits.

    Images and sentences are matched one to one, so that the sum of their similarities is greatest; images that are
    left over, where there are more of them than sentences, go to the sentence that fits them best. Images stand in the
    order of their sentences, those of one sentence in the order of the row; so image k of the document is the image of
    place k of its text, whatever the order of the row.

    Args:
        row: `text_list`, `image_info` and `similarity_matrix`, a row of it for each image. Where some of `image_info`
            have `image_base64`, as in OpenFlamingo's files, it is read to bytes, and images without it take no part.
        max_images: Keep the first so many of the document.
        min_similarity: Leave out images that fit their sentence less; the matching is made before. OpenFlamingo took
            0.24.
        matching: `"stored"` takes `matched_text_index` of the row in place of a new matching, and needs no matrix.

    Returns:
        The document; sentences without an image between are one text, with a space between. What it does not show of
        the row stands in its metadata under `"mmc4"`, so that `to_mmc4` gives the row back.

    Raises:
        RecordError: If a list is missing or of another length, an index is outside, or a similarity is no number.
        ValueError: If `matching` is neither of the two.

    Example:
        >>> row = {"text_list": ["S0.", "S1.", "S2."], "image_info": [{"raw_url": "u0"}, {"raw_url": "u1"}],
        ...        "similarity_matrix": [[0.2436, 0.3176, 0.2769], [0.2233, 0.3235, 0.2612]]}
        >>> [getattr(segment, "text", None) or segment.url for segment in from_mmc4(row).segments]
        ['S0.', 'u1', 'S1.', 'u0', 'S2.']

    Source:
        MMC4 (arXiv 2304.06939), whose README has this row. OpenFlamingo's reader gives tags in the order of sentences
        and images in the order of the row, so that this row comes out with its images swapped; ours does not.
    """
    if matching not in ("assignment", "stored"):
        raise ValueError(f"matching is {matching!r}, wanted 'assignment' or 'stored'")
    sentences = [_text(value, f"text_list[{k}]") for k, value in enumerate(as_list(row.get("text_list"), "text_list"))]
    infos = [
        as_mapping(info, f"image_info[{k}]") for k, info in enumerate(as_list(row.get("image_info"), "image_info"))
    ]
    arrived = [k for k, info in enumerate(infos) if info.get("image_base64") is not None] or range(len(infos))
    if matching == "assignment":
        places = _assigned(_matrix(row, len(infos), len(sentences)), arrived)
    else:
        places = [_stored(infos[k], k, len(sentences)) for k in arrived]
    fit = [place for place in places if min_similarity is None or place[2] >= min_similarity]
    shown = sorted(fit, key=lambda place: place[:2])[:max_images]
    segments = _segments(sentences, infos, shown)
    return InterleavedDocument(segments, _metadata(row, sentences, infos, shown))


def _assigned(matrix: Sequence[Sequence[float]], arrived: Sequence[int]) -> list[tuple[int, int, float]]:
    """Sentence, number and similarity of each image."""
    if not matrix or not matrix[0]:
        return []
    chosen = best_assignment([matrix[k] for k in arrived])
    found = []
    for k, column in zip(arrived, chosen, strict=True):
        place = matrix[k].index(max(matrix[k])) if column is None else column
        found.append((place, k, matrix[k][place]))
    return found


def _stored(info: Mapping[str, Any], k: int, count: int) -> tuple[int, int, float]:
    place = as_index(info.get("matched_text_index"), count, f"image_info[{k}].matched_text_index")
    similarity = info.get("matched_sim")
    return place, k, -math.inf if similarity is None else _number(similarity, f"image_info[{k}].matched_sim")


def _matrix(row: Mapping[str, Any], images: int, sentences: int) -> list[list[float]]:
    if images * sentences > MAX_CELLS:
        problem = f"has {images} images and {sentences} sentences, wanted {MAX_CELLS} pairs of them at most"
        raise RecordError(problem, reason="too_large", field="similarity_matrix")
    matrix = as_list(row.get("similarity_matrix"), "similarity_matrix")
    if len(matrix) != images:
        problem = f"has {len(matrix)} rows, image_info {images}"
        raise RecordError(problem, reason="lists", field="similarity_matrix")
    found = []
    for k, values in enumerate(matrix):
        line = as_list(values, f"similarity_matrix[{k}]")
        if len(line) != sentences:
            problem = f"has {len(line)} values, text_list {sentences}"
            raise RecordError(problem, reason="lists", field=f"similarity_matrix[{k}]")
        found.append([_number(value, f"similarity_matrix[{k}]") for value in line])
    return found


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
        raise RecordError(f"is {told(value)}, wanted a similarity", reason="field", field=field)
    return float(value)


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise RecordError(f"is {told(value)}, wanted a text", reason="field", field=field)
    return value


def _segments(
    sentences: Sequence[str], infos: Sequence[Mapping[str, Any]], shown: Sequence[tuple[int, int, float]]
) -> tuple[Segment, ...]:
    before: dict[int, list[int]] = {}
    for place, k, _ in shown:
        before.setdefault(place, []).append(k)
    segments: list[Segment] = []
    waiting: list[str] = []
    for place, sentence in enumerate(sentences):
        if place in before:
            if waiting:
                segments.append(TextSegment(" ".join(waiting)))
            waiting = []
            segments += [_image(infos[k], k, place) for k in before[place]]
        waiting.append(sentence)
    return (*segments, TextSegment(" ".join(waiting))) if waiting else tuple(segments)


def _image(info: Mapping[str, Any], k: int, place: int) -> ImageSegment:
    rest = dict(info)
    url = rest.pop("raw_url") if isinstance(rest.get("raw_url"), str) else None
    alt = rest.pop("alt_text") if isinstance(rest.get("alt_text"), str) else None
    if type(rest.get("matched_text_index")) is int and rest["matched_text_index"] == place:
        del rest["matched_text_index"]
    data = None
    if rest.get("image_base64") is not None:
        written = _text(rest["image_base64"], f"image_info[{k}].image_base64")
        try:
            data = b64decode(written, validate=True)
        except (binascii.Error, ValueError) as error:
            field = f"image_info[{k}].image_base64"
            raise RecordError(f"is no base64: {error}", reason="base64", field=field) from error
        if b64encode(data).decode() == written:
            del rest["image_base64"]
    return ImageSegment(url=url, data=data, alt=alt, metadata=rest)


def _metadata(
    row: Mapping[str, Any],
    sentences: Sequence[str],
    infos: Sequence[Mapping[str, Any]],
    shown: Sequence[tuple[int, int, float]],
) -> dict[str, Any]:
    rest = {name: value for name, value in row.items() if name not in ("text_list", "image_info")}
    order = [k for _, k, _ in shown]
    form: dict[str, Any] = {name: rest.pop(name) for name in (FORM, "similarity_matrix") if name in rest}
    if unmatched := [k for k in order if "matched_text_index" not in infos[k]]:
        form["unmatched"] = unmatched
    if len(order) < len(infos):
        form["left_out"] = [[k, dict(info)] for k, info in enumerate(infos) if k not in set(order)]
    if order != sorted(order) or "left_out" in form:
        form["shown"] = order
    places = {place for place, _, _ in shown} | {0}
    if form or len(places) < len(sentences):
        form["sentences"] = [len(sentence) for sentence in sentences]
    return {**rest, FORM: form} if form else rest


def to_mmc4(document: InterleavedDocument) -> dict[str, Any]:
    """Write a document as a row of MMC4.

    A document that `from_mmc4` made gives its row back. Any other becomes a new row: each text is a sentence, and the
    `matched_text_index` of an image is the text that follows; it has no similarities, so it is read with
    `matching="stored"`.

    Args:
        document: Texts and images, the last a text. Data of images are bytes.

    Raises:
        ValueError: If it has clips, an image after the last text, data that are no bytes, or data of some images
            only; or if it was read from a row and has changed since.

    Example:
        >>> to_mmc4(InterleavedDocument.from_parts([ImageSegment(url="u"), "A cat."]))
        {'text_list': ['A cat.'], 'image_info': [{'raw_url': 'u', 'matched_text_index': 0}]}
    """
    rest = dict(document.metadata)
    form = _form_of(rest)
    sentences, places = _sentences(document, form.get("sentences"))
    images = [segment for segment in document.segments if isinstance(segment, ImageSegment)]
    with_data = sum(image.data is not None for image in images)
    if 0 < with_data < len(images) and not form:
        raise ValueError(f"{with_data} of {len(images)} images have data; the others would be read as not arrived")
    order = form.get("shown", range(len(images)))
    if len(order) != len(images):
        raise _changed(f"{len(order)} images, and has {len(images)}")
    unmatched = set(form.get("unmatched", ()))
    infos = {k: dict(info) for k, info in form.get("left_out", ())}
    for k, image, place in zip(order, images, places, strict=True):
        infos[k] = {**_info(image), **({} if k in unmatched else {"matched_text_index": place}), **image.metadata}
    kept = {name: form[name] for name in (FORM, "similarity_matrix") if name in form}
    return {"text_list": sentences, "image_info": [infos[k] for k in sorted(infos)], **kept, **rest}


def _form_of(metadata: dict[str, Any]) -> Mapping[str, Any]:
    """Take out what a row had beyond what a new row would have, if it is what `from_mmc4` wrote."""
    form = as_mapping(metadata.pop(FORM, {}), FORM)
    names: tuple[str, ...] = ("sentences", "shown", "unmatched")
    lists = {name: as_list(form[name], f"{FORM}.{name}") for name in names if name in form}
    pairs = [as_list(pair, f"{FORM}.left_out") for pair in as_list(form.get("left_out", []), f"{FORM}.left_out")]
    if any(len(pair) != 2 or not isinstance(pair[1], Mapping) for pair in pairs):
        raise RecordError("holds what is no number and image", reason="field", field=f"{FORM}.left_out")
    lists["left_out"] = [pair[0] for pair in pairs]
    for name, numbers in lists.items():
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise RecordError("holds what is no number", reason="field", field=f"{FORM}.{name}")
    return form


def _info(image: ImageSegment) -> dict[str, Any]:
    info = {}
    if image.url is not None:
        info["raw_url"] = image.url
    if image.alt is not None:
        info["alt_text"] = image.alt
    if image.data is not None:
        if not isinstance(image.data, bytes):
            raise ValueError(f"data of an image is of type {type(image.data).__name__}, wanted the bytes of a file")
        info["image_base64"] = b64encode(image.data).decode()
    return info


def _sentences(document: InterleavedDocument, lengths: Sequence[int] | None) -> tuple[list[str], list[int]]:
    """The sentences, and for each image the number of the one that follows it."""
    sentences: list[str] = []
    places: list[int] = []
    for segment in document.segments:
        if isinstance(segment, ImageSegment):
            places.append(len(sentences))
        elif not isinstance(segment, TextSegment):
            told = "document has a clip, which a row of MMC4 has no place for; a shard of to_members keeps it"
            raise ValueError(told)  # noqa: TRY004 - a document that cannot be written
        elif lengths is None:
            sentences.append(segment.text)
        else:
            sentences += _cut(segment.text, lengths[len(sentences) :])
    if lengths is not None and len(sentences) != len(lengths):
        raise _changed(f"{len(lengths)} sentences, and has {len(sentences)}")
    if places and places[-1] == len(sentences):
        raise ValueError("an image stands after the last text, and a row of MMC4 has images before sentences only")
    return sentences, places


def _cut(text: str, lengths: Sequence[int]) -> list[str]:
    """A text into its sentences, which have a space between."""
    found, start = [], 0
    for length in lengths:
        found.append(text[start : start + length])
        if start + length >= len(text):
            if start + length == len(text):
                return found
            break
        if text[start + length] != " ":
            break
        start += length + 1
    raise _changed(f"sentences that are not those of {text[:40]!r}")


def _changed(what: str) -> ValueError:
    return ValueError(
        f"document was read from a row with {what}: it has changed since. Leave {FORM!r} out of its metadata to write "
        "it as a new row"
    )
