"""Where the parts of an item stand in the rows of a task of one's own."""

from collections.abc import Sequence
from pathlib import Path

from flamingo_blocks.data import ClipSegment, ImageSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.read_rows import Row
from flamingo_blocks.evaluation.tasks.clip_files import cut_of, cut_segment

TEXTS = ("question", "caption", "ocr")
_MEDIA = ("image", "images", "clip")
_KNOWN = ("id", *_MEDIA, "start", "end", *TEXTS, "answers", "candidates", "cluster", "class", "facts")


class Fields:
    """Makes items of rows.

    Args:
        names: Keys of rows by the part of an item.
        folder: What names of media are looked for from.
        candidates: What may be answered to all items, if they have it in common.

    Raises:
        EvaluationError: If a part is not known or lacks another.
    """

    def __init__(self, names: Row, *, folder: Path, candidates: Sequence[str] = ()) -> None:
        self._names, self._folder, self.known = names, folder, frozenset(names)
        self._candidates = candidates
        for key in names:
            if key not in _KNOWN:
                raise EvaluationError(f"{names.place}: {key!r} is no part of an item; those are {', '.join(_KNOWN)}")
        if sum(key in names for key in _MEDIA) != 1:
            raise EvaluationError(f"{names.place}: wanted one of {', '.join(_MEDIA)}; found {', '.join(names)}")
        if len({"start", "end"} & self.known) == 1 or ("start" in names and "clip" not in names):
            raise EvaluationError(f"{names.place}: 'start' and 'end' are wanted together, of a clip")
        names.take("id", str)
        self._facts = Row(names.take("facts", dict) if "facts" in names else {}, f"{names.place}, facts")

    def item(self, row: Row) -> TaskItem:
        """The item of a row.

        Args:
            row: A row of the queries or of the support.

        Raises:
            EvaluationError: Naming file, row and key of what is missing or wrong.
        """
        facts = {name: self._fact(row, name) for name in self._facts}
        if "class" in self._names:
            facts["class"] = row.text(self._key("class"))
        answers = self._many(row, "answers")
        if self._candidates and answers:
            if answers[0] not in self._candidates:
                raise EvaluationError(
                    f"{row.place}: the answer is {answers[0]!r}, wanted one of {', '.join(map(repr, self._candidates))}"
                )
            facts["class_index"] = self._candidates.index(answers[0])
        return TaskItem(
            id=row.text(self._key("id")),
            media=self._media(row),
            texts={name: row.take(self._key(name), str) for name in TEXTS if name in self._names},
            answers=answers,
            candidates=self._many(row, "candidates"),
            cluster=row.text(self._key("cluster")) if "cluster" in self._names else "",
            facts=facts,
        )

    @staticmethod
    def class_of(item: TaskItem) -> str:
        """The class of an item, for draws that are balanced."""
        return str(item.facts["class"])

    def _key(self, part: str) -> str:
        return self._names.take(part, str)

    def _fact(self, row: Row, name: str) -> object:
        key = self._facts.take(name, str)
        if key not in row:
            raise EvaluationError(f"{row.place}: has no {key!r}; its keys are {', '.join(row)}")
        return row[key]

    def _media(self, row: Row) -> tuple[ImageSegment | ClipSegment, ...]:
        if "clip" in self._names:
            return (self._clip(row),)
        if "images" in self._names:
            names = row.texts(self._key("images"))
        else:
            names = (row.take(self._key("image"), str),)
        return tuple(ImageSegment(url=name, data=self._folder / name) for name in names)

    def _clip(self, row: Row) -> ClipSegment:
        name = row.take(self._key("clip"), str)
        if "start" not in self._names:
            return ClipSegment(url=name, data=self._folder / name)
        return cut_segment(name, self._folder / name, cut_of(row, self._key("start"), self._key("end")))

    def _many(self, row: Row, part: str) -> tuple[str, ...]:
        """A text or several, under one key or under several, of which empty ones do not count."""
        if part not in self._names:
            return ()
        if isinstance(self._names[part], list):
            return tuple(text for key in self._names.texts(part) if (text := row.take(key, str)).strip())
        key = self._key(part)
        return row.texts(key) if isinstance(row.get(key), list) else (row.take(key, str),)
