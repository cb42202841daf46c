"""Rows of questions and of their annotations, as VQA wrote them first and several datasets since."""

import sys
from pathlib import Path

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.read_rows import Row, read_object, refuse_twice

NUM_ANSWERS = 10  # of each question, by as many people


def pair_rows(questions: Path, annotations: Path | None) -> list[tuple[Row, Row | None]]:
    """Questions, each with its annotation.

    Args:
        questions: File with a list `questions`.
        annotations: File with a list `annotations`; None of a split whose answers are not public.

    Returns:
        Each question with its annotation, in the order of the questions.

    Raises:
        EvaluationError: If a file or row is wrong, an id comes twice, a question has no annotation or the reverse, or
            the two are about different images.
    """
    asked = _by_id(read_object(questions).rows("questions"))
    if annotations is None:
        return [(question, None) for question in asked.values()]
    answered = _by_id(read_object(annotations).rows("annotations"))
    lacking = [
        f"{len(ids)} {what} (first: {', '.join(ids[:3])})"
        for what, ids in (
            (f"of {len(asked)} questions have no annotation", [key for key in asked if key not in answered]),
            (f"of {len(answered)} annotations have no question", [key for key in answered if key not in asked]),
        )
        if ids
    ]
    if lacking:
        raise EvaluationError(f"{questions} and {annotations} do not fit: {'; '.join(lacking)}")
    for key, question in asked.items():
        if "image_id" in answered[key] and answered[key].text("image_id") != question.text("image_id"):
            raise answered[key].wrong("image_id", f"wanted that of its question, {question['image_id']!r}")
    return [(question, answered[key]) for key, question in asked.items()]


def ten_answers(row: Row, key: str = "answer") -> tuple[str, ...]:
    """The answers of a row, which has ten.

    Args:
        row: A row with a list `answers` of objects.
        key: Which text of each.

    Raises:
        EvaluationError: If there are not ten, or one lacks the text.
    """
    answers = row.take("answers", list)
    check_number(row, len(answers))
    if all(isinstance(answer, dict) and isinstance(answer.get(key), str) for answer in answers):
        return tuple(sys.intern(answer[key]) for answer in answers)  # few are different among a dataset's millions
    return tuple(answer.take(key, str) for answer in row.rows("answers"))  # raises, and says where


def check_number(row: Row, number: int) -> None:
    """Refuse a row that has not ten answers.

    Args:
        row: The row.
        number: How many it has.

    Raises:
        EvaluationError: If there are not ten.
    """
    if number != NUM_ANSWERS:
        raise EvaluationError(f"{row.place}: answers has {number} of them, wanted {NUM_ANSWERS}")


def _by_id(rows: list[Row]) -> dict[str, Row]:
    keys = [row.text("question_id") for row in rows]
    refuse_twice(zip(keys, (row.place for row in rows), strict=True), "question_id")
    return dict(zip(keys, rows, strict=True))
