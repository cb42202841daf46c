"""Tasks of VL-ICL Bench from its files: `query.json` and `support.json` of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.read_rows import Row, read_list, refuse_twice
from flamingo_blocks.evaluation.synthetic.cut_exact_match import CutExactMatch, CutRule
from flamingo_blocks.evaluation.synthetic.episode import naming_episode, with_facts, with_shots_in_order
from flamingo_blocks.evaluation.synthetic.matching import ANSWERS
from flamingo_blocks.evaluation.synthetic.operator_induction import OPERATORS, as_shot, most_frequent
from flamingo_blocks.evaluation.synthetic.setting import check_one_of
from flamingo_blocks.evaluation.task import Answering, Task

VL_ICL: Mapping[str, CutRule] = {
    "open_mi": "exact",
    "matching_mi": "contains_yes",
    "operator_induction": "first_integer",
    "operator_induction_interleaved": "first_integer",
    "clevr": "exact",
    "textocr": "exact",
}
QUERY_FILE, SUPPORT_FILE = "query.json", "support.json"


def read_vl_icl(folder: Path | str, task: str, *, names: int = 2, answering: Answering = "open", seed: int = 0) -> Task:
    """A task of VL-ICL Bench, or one in its layout, from its files.

    Args:
        folder: Holds a folder for each task. Pictures are named from here, or from the task's folder.
        task: `"open_mi"`, `"matching_mi"`, `"operator_induction"`, `"operator_induction_interleaved"`, `"clevr"` or
            `"textocr"`.
        names: Names in play in `"open_mi"`: the answer and others of its row; two in the benchmark.
        answering: `"closed"`, of `"open_mi"` and `"matching_mi"`: the model chooses among names, or yes and no.
        seed: Decides the order of shots that belong to a query, and which names are in play.

    Returns:
        The task. Shots of `"open_mi"`, `"matching_mi"` and both operator tasks stand in `support` of each query, in
        order: a shot of the benchmark is one picture for each name, or a pair that matches and one that does not, so
        that its n shots are the first 2n of these.

    Raises:
        EvaluationError: If a file is missing or a row is wrong; the message names file, row and key.
        ValueError: If the task is unknown, or closed answers are asked of one that has no list of them.

    Example:
        >>> from flamingo_blocks.evaluation.synthetic import synthetic_task, write_vl_icl
        >>> _ = write_vl_icl("bench", synthetic_task("counting", queries=3, support=4, size=32))
        >>> task = read_vl_icl("bench", "clevr")
        >>> task.kind, len(task.queries), len(task.support)
        ('continue', 3, 4)

    Source:
        VL-ICL Bench (arXiv 2403.13164). It draws shots from one stream of random numbers over all queries; here each
        query has a hash of its own.
    """
    check_one_of("task", task, tuple(VL_ICL))
    check_one_of("answering", answering, ("open", "closed"))
    if answering == "closed" and task not in {"open_mi", "matching_mi"}:
        raise ValueError(f"answering is 'closed', but {task!r} has no list of answers; leave it open")
    root = Path(folder)
    rows = read_list(root / task / QUERY_FILE)
    support = read_list(root / task / SUPPORT_FILE) if task != "open_mi" else []  # there each query has its own
    refuse_twice(((_id(row, place), row.place) for place, row in enumerate(rows)), "id")
    reader = _Reader(root=root, task=task, seed=seed, names=names, answering=answering)
    pool: tuple[TaskItem, ...] = ()
    if task == "open_mi":
        queries = [reader.binding(row, place) for place, row in enumerate(rows)]
    elif task == "matching_mi":
        queries = reader.matching(rows, support)
    elif task.startswith("operator_induction"):
        queries = reader.operator(rows, support)
    else:
        refuse_twice(((_id(row, place), row.place) for place, row in enumerate(support)), "id")
        pool = tuple(reader.plain(row, place) for place, row in enumerate(support))
        queries = _with_chance([reader.plain(row, place) for place, row in enumerate(rows)])
    return Task(
        name=task
        + (f"_{names}_names" if task == "open_mi" and names != 2 else "")
        + "_closed" * (answering == "closed"),
        kind="continue",
        answering=answering,
        metrics=(CutExactMatch(VL_ICL[task]),),
        queries=tuple(queries),
        support=pool,
        candidates=ANSWERS if task == "matching_mi" and answering == "closed" else (),
        max_new_tokens=15,
    )


class _Reader:
    def __init__(self, *, root: Path, task: str, seed: int, names: int, answering: Answering) -> None:
        self.root, self.task, self.seed = root, task, seed
        self.names: int = names
        self.answering: Answering = answering

    def plain(self, row: Row, place: int) -> TaskItem:
        return TaskItem(
            id=_id(row, place),
            media=self.images(row, "image"),
            texts={"question": row.take("question", str)},
            answers=(row.text("answer"),),
        )

    def binding(self, row: Row, place: int) -> TaskItem:
        query, named = self.plain(row, place), row.take("support", dict)
        if missing := [name for name in (*row.texts("classes"), *query.answers) if name not in named]:
            raise row.wrong("support", f"wanted pictures of {missing[0]!r} too, which is a class or the answer")
        if not 2 <= self.names <= len(named):
            raise row.wrong("classes", f"wanted {self.names} of them, as many as names=, and at least 2")
        pictures = {}
        for name, content in named.items():
            at = f"{row.place}, support[{name!r}]"
            if not isinstance(content, dict):
                raise row.wrong("support", f"wanted an object with 'images' for {name!r}")
            pictures[name] = self.images(Row(content, at), "images")
        return naming_episode(query, pictures, names=self.names, answering=self.answering, seed=self.seed)

    def matching(self, rows: Sequence[Row], support: Sequence[Row]) -> list[TaskItem]:
        pairs: dict[str | None, list[list[TaskItem]]] = {}
        for place, row in enumerate(support):
            base, pair = _id(row, place), []
            for kind, answer in (("same", "yes"), ("diff", "no")):
                inner = Row(row.take(kind, dict), f"{row.place}, {kind}")
                pair.append(self.plain(Row({**inner, "id": f"{base}-{answer}"}, inner.place), place))
            pairs.setdefault(_optional(row, "rule"), []).append(pair)
        queries = []
        for place, row in enumerate(rows):
            query, rule = with_facts(self.plain(row, place), chance=50.0, rule=_optional(row, "rule")), row.get("rule")
            if query.answers[0].lower() not in ANSWERS:
                raise row.wrong("answer", "wanted yes or no")
            if rule not in pairs:
                raise row.wrong("rule", f"wanted one that {SUPPORT_FILE} has: {', '.join(map(str, pairs)) or 'none'}")
            queries.append(with_shots_in_order(query, pairs[rule], seed=self.seed))
        return queries

    def operator(self, rows: Sequence[Row], support: Sequence[Row]) -> list[TaskItem]:
        refuse_twice(((_id(row, place), row.place) for place, row in enumerate(support)), "id")
        shots: dict[str, list[list[TaskItem]]] = {operator: [] for operator in OPERATORS}
        for place, row in enumerate(support):
            results = row.take("answer", list)
            if len(results) != len(OPERATORS) or not all(type(result) is int for result in results):
                raise row.wrong("answer", "wanted three whole numbers: sum, difference, product")
            read = self.plain(Row({**row, "answer": ""}, row.place), place)
            known = with_facts(read, results=dict(zip(OPERATORS, results, strict=True)))
            for operator in OPERATORS:
                shots[operator].append([as_shot(known, operator)])
        queries = []
        for place, row in enumerate(rows):
            operator = row.take("operator", str)
            if operator not in OPERATORS:
                raise row.wrong("operator", f"wanted one of {', '.join(OPERATORS)}")
            query = with_facts(self.plain(row, place), operator=operator)
            queries.append(with_shots_in_order(query, shots[operator], seed=self.seed))
        return _with_chance(queries)

    def images(self, row: Row, key: str) -> tuple[ImageSegment, ...]:
        # The benchmark takes one picture without a list as well.
        paths = (row.take(key, str),) if isinstance(row.get(key), str) else row.texts(key)
        if not paths:
            raise row.wrong(key, "wanted one picture at least")
        return tuple(ImageSegment(url=self._url(path), data=self.root / self._url(path)) for path in paths)

    def _url(self, path: str) -> str:
        inside = f"{self.task}/{path}"
        return inside if not (self.root / path).is_file() and (self.root / inside).is_file() else path


def _with_chance(queries: list[TaskItem]) -> list[TaskItem]:
    share = most_frequent([query.answers[0] for query in queries]) if queries else 0.0
    return [with_facts(query, chance=share) for query in queries]


def _id(row: Row, place: int) -> str:
    return row.text("id") if "id" in row else str(place)


def _optional(row: Row, key: str) -> str | None:
    return row.take(key, str) if key in row else None
