"""A task of your own: one file that says what it is, and where in your rows its parts stand."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast, get_args

from flamingo_blocks._optional import require
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.check_candidates import check_candidates
from flamingo_blocks.evaluation.read_rows import Row, read_csv, read_lines, read_list, read_text
from flamingo_blocks.evaluation.score import Metric
from flamingo_blocks.evaluation.task import Answering, Kind, Task
from flamingo_blocks.evaluation.tasks._custom_fields import Fields
from flamingo_blocks.evaluation.tasks.check_items import Placed, distinct
from flamingo_blocks.evaluation.tasks.clip_files import whole_number_of
from flamingo_blocks.evaluation.tasks.named_metrics import NAMED

_NEEDED = ("name", "kind", "answering", "metric", "rows", "fields")
_TEXTS_OF = {
    "question": ("question",),
    "continue": ("question",),
    "memes": ("ocr",),
    "dialogue": ("caption", "question"),
}
_OPTIONAL = ("support", "media_folder", "candidates", "demo_answer", "num_support", "max_new_tokens")


def read_custom_task(file: Path) -> Task:
    """Read a task of your own.

    A task that this file cannot describe is a `Task` that is built in Python.

    Args:
        file: YAML, or JSON if its name ends in `.json`. Paths in it are looked for from its folder. Its keys:

            - `name`, `kind`, `answering`: as in `Task`.
            - `metric`: the name of a metric, or a list of them, headline first.
            - `rows`: the file of the queries: a row a line in `.jsonl`, a list in `.json`, or `.csv` with a head.
            - `fields`: which key of a row each part of an item stands under: `id`, one of `image`, `images` and
              `clip`, `start` and `end` of a clip in seconds, the texts `question`, `caption` and `ocr`, `answers`,
              `candidates`, `cluster`, `class`, and `facts`, an object of such keys; of a CSV, numbers and lists in
              them are read as JSON. `answers` and `candidates` may be a list of keys; a key holds a text or a list of
              texts.
            - `support`: the file that shots are drawn from, with the same fields.
            - `media_folder`: what the names of images and clips are looked for from, `.` if not given.
            - `candidates`: a list for all items of a closed task; the place of its answer among them is the
              `class_index` of an item's `facts`. A list of each item stands in `fields`.
            - `demo_answer`, `num_support`, `max_new_tokens`: as in `Task`.

            The template of a kind wants some of the texts: `question` for questions and for texts to continue, `ocr`
            for memes, `caption` and `question` for dialogues.

    Returns:
        The task.

    Raises:
        EvaluationError: If something in the files is missing, wrong or not known.
        MissingDependencyError: If the file is YAML, and PyYAML is not installed.

    Example:
        >>> import json
        >>> fields = {"id": "number", "image": "file", "question": "asked", "answers": "said"}
        >>> rows = [{"number": 1, "file": "1.png", "asked": "Which sign is it?", "said": ["stop"]}]
        >>> _ = Path("test.json").write_text(json.dumps(rows))
        >>> _ = Path("signs.json").write_text(json.dumps({
        ...     "name": "signs", "kind": "question", "answering": "open", "metric": "exact_match",
        ...     "rows": "test.json", "fields": fields,
        ... }))
        >>> task = read_custom_task(Path("signs.json"))
        >>> task.name, task.queries[0].texts["question"], task.queries[0].answers
        ('signs', 'Which sign is it?', ('stop',))
    """
    file = Path(file)
    spec = _read_spec(file)
    _refuse_unknown(spec, (*_NEEDED, *_OPTIONAL))
    answering = cast(Answering, _choice(spec, "answering", get_args(Answering)))
    kind = cast(Kind, _choice(spec, "kind", get_args(Kind)))
    candidates = spec.texts("candidates") if "candidates" in spec else ()
    check_candidates(candidates, of=spec.place)
    fields = Fields(
        Row(spec.take("fields", dict), f"{spec.place}, fields"),
        folder=file.parent / (spec.take("media_folder", str) if "media_folder" in spec else "."),
        candidates=candidates,
    )
    if missing := [text for text in _TEXTS_OF.get(kind, ()) if text not in fields.known]:
        raise EvaluationError(f"{spec.place}, fields: has no {missing[0]!r}, which a task of kind {kind!r} is asked by")
    _check_candidates(spec, answering, for_all=bool(candidates), own="candidates" in fields.known)
    rows = file.parent / spec.take("rows", str)
    asked = _items(rows, fields)
    shown = _items(file.parent / spec.take("support", str), fields) if "support" in spec else []
    queries, support = distinct(asked, shown, file=rows)
    return Task(
        name=spec.take("name", str),
        kind=kind,
        answering=answering,
        metrics=_metrics(spec, candidates),
        queries=queries,
        support=support,
        candidates=candidates,
        classes=fields.class_of if "class" in fields.known else None,
        **_settings(spec),
    )


def _read_spec(file: Path) -> Row:
    text = read_text(file)
    if file.suffix.lower() == ".json":
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise EvaluationError(f"{file}: is no JSON: {error}") from error
    else:
        yaml = require("yaml", used_by="read_custom_task", extra="eval")
        try:
            # All values as text, as they are written: `yes` is the answer "yes", and no truth value.
            value = yaml.load(text, Loader=yaml.BaseLoader)
        except yaml.YAMLError as error:
            raise EvaluationError(f"{file}: is no YAML: {error}") from error
    if not isinstance(value, dict):
        raise EvaluationError(f"{file}: holds {value!r:.60}, wanted an object with {', '.join(_NEEDED)}")
    return Row(value, str(file))


def _refuse_unknown(spec: Row, known: Iterable[str]) -> None:
    names = tuple(known)
    for key in spec:
        if key not in names:
            raise EvaluationError(f"{spec.place}: {key!r} is no key of a task; the keys are {', '.join(names)}")


def _choice(spec: Row, key: str, known: Iterable[str]) -> str:
    names = tuple(known)
    if spec.take(key, str) not in names:
        raise spec.wrong(key, f"wanted one of {', '.join(names)}")
    return str(spec[key])


def _metrics(spec: Row, candidates: tuple[str, ...]) -> tuple[Metric, ...]:
    names = spec.texts("metric") if isinstance(spec.get("metric"), list) else (spec.take("metric", str),)
    if not names or any(name not in NAMED for name in names):
        raise spec.wrong("metric", f"wanted one or some of {', '.join(NAMED)}")
    try:
        return tuple(NAMED[name](candidates) for name in names)
    except ValueError as error:
        raise EvaluationError(f"{spec.place}: {error}") from error


def _check_candidates(spec: Row, answering: Answering, *, for_all: bool, own: bool) -> None:
    if answering == "closed" and for_all == own:
        found = "both" if own else "neither"
        raise EvaluationError(
            f"{spec.place}: a closed task takes its candidates from 'candidates' or from 'fields', found {found}"
        )
    if answering == "open" and (for_all or own):
        raise spec.wrong("answering", "wanted 'closed', since there are candidates")


def _settings(spec: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in ("num_support", "max_new_tokens"):
        if key in spec:
            found[key] = whole_number_of(spec, key)
            if found[key] < 1:
                raise spec.wrong(key, "wanted 1 or more")
    if "demo_answer" in spec:
        found["demo_answer"] = _choice(spec, "demo_answer", ("first", "majority"))
    return found


def _items(file: Path, fields: Fields) -> list[Placed]:
    suffix = file.suffix.lower()
    if suffix == ".csv":
        rows = read_csv(file, ())
    elif suffix == ".jsonl":
        rows = read_lines(file)
    elif suffix == ".json":
        rows = read_list(file)
    else:
        raise EvaluationError(f"{file}: wanted a file of rows that ends in .jsonl, .json or .csv")
    return [(fields.item(row, of_csv=suffix == ".csv"), row.place) for row in rows]
