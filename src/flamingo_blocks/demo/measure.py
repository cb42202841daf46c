"""The demo's questions: naming episodes by number of shots, their controls, and captions, asked by the evaluation."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from flamingo_blocks.demo.demo_processor import demo_processor
from flamingo_blocks.demo.image_bank import ImageBank
from flamingo_blocks.demo.images import load_digits_images
from flamingo_blocks.demo.naming_task import captions_task, naming_task
from flamingo_blocks.demo.parts import bank_of_test
from flamingo_blocks.demo.rows import ROWS, UNSEEN_FIVE, Row
from flamingo_blocks.demo.tower import DigitTower
from flamingo_blocks.demo.words import Vocabulary
from flamingo_blocks.evaluation.results import EvaluationResult
from flamingo_blocks.evaluation.runner import EvalConfig, evaluate
from flamingo_blocks.evaluation.task import Answering, Task
from flamingo_blocks.models import Flamingo, FlamingoProcessor

Curve = dict[str, float]
_CONTROLS = {"gates_closed": "gates_closed", "permuted": "shuffle_images"}


def naming_curves(
    flamingo: Flamingo,
    bank: ImageBank,
    vocabulary: Vocabulary,
    *,
    rows: Sequence[Row] = ROWS,
    episodes: int = 400,
    on_row: Callable[[], None] = lambda: None,
) -> dict[str, Curve]:
    """Ask every kind of question with every number of shots, and its controls with the same episodes.

    Names are new ones, which never stood beside an image, and images are test images. Open answers without a shot are
    asked as in the paper, behind two shots in text alone.

    Args:
        flamingo: The model.
        bank: Test images.
        vocabulary: Words and their ids.
        rows: Kinds of questions.
        episodes: Episodes of each.
        on_row: Called after each kind of question.

    Returns:
        Accuracy by number of shots, from 0 to 1: `closed` and `open` for each row, closed alone for controls. A control
        that needs more shots to change anything has the model's own score for fewer.
    """
    processor = demo_processor(vocabulary, flamingo, bank=bank)

    def ask(row: Row, answering: Answering, controls: tuple[str, ...]) -> EvaluationResult:
        task = naming_task(row, bank, vocabulary, episodes=episodes, answering=answering)
        config = EvalConfig(
            shots=row.shots, seeds=(0,), controls=controls, control_shots=row.shots, num_beams=1, bootstrap=0
        )
        return evaluate(flamingo, processor, [task], config)

    curves: dict[str, Curve] = {}
    for row, controlled in _with_their_controls(rows):
        closed = ask(row, "closed", tuple(_CONTROLS[each.control] for each in controlled if each.control))
        if row in rows:
            curves[f"{row.key}.closed"] = _curve(closed, row, "none")
            curves[f"{row.key}.open"] = _curve(ask(row, "open", ()), row, "none")
            on_row()
        for each in controlled:
            assert each.control is not None
            curves[each.key] = _curve(closed, row, _CONTROLS[each.control])
            on_row()
    return curves


def demo_questions(
    flamingo: Flamingo, vocabulary: Vocabulary, *, seed: int = 0, episodes: int = 400
) -> tuple[list[Task], FlamingoProcessor]:
    """What the demo is about, as tasks for `evaluate`: five names for pairs that no training image showed.

    Args:
        flamingo: A model that the demo saved.
        vocabulary: Its words.
        seed: That of the run, which says which digits were kept out of training.
        episodes: How many.

    Returns:
        The task with closed and with open answers, and the processor that reads its images.
    """
    assert isinstance(flamingo.vision, DigitTower)
    _, test = load_digits_images(seed=seed)
    bank = bank_of_test(flamingo.vision, test)
    tasks = [
        naming_task(UNSEEN_FIVE, bank, vocabulary, episodes=episodes, answering=answering)
        for answering in ("closed", "open")
    ]
    return tasks, demo_processor(vocabulary, flamingo, bank=bank)


def caption_accuracy(
    flamingo: Flamingo, bank: ImageBank, vocabulary: Vocabulary, *, pairs: Sequence[int], count: int = 400
) -> float:
    """Share of test images whose greedy caption is right in full, from 0 to 1.

    Args:
        flamingo: The model.
        bank: Test images.
        vocabulary: Words and their ids.
        pairs: Pairs whose images are asked about.
        count: How many images, spread over all there are.
    """
    task = captions_task(bank, pairs=pairs, name="captions", count=count)
    config = EvalConfig(shots=(0,), seeds=(0,), controls=(), num_beams=1, bootstrap=0)
    found = evaluate(flamingo, demo_processor(vocabulary, flamingo, bank=bank), [task], config)
    return (found.cell("captions", 0).scores[0].value or 0.0) / 100


def _with_their_controls(rows: Sequence[Row]) -> Iterator[tuple[Row, list[Row]]]:
    """Each row without a control, with the rows that take something away from it; some have these alone."""
    own = {_questions(row): row for row in rows if row.control is None}
    for row in rows:
        own.setdefault(_questions(row), replace(row, control=None))
    for key, row in own.items():
        yield row, [each for each in rows if each.control is not None and _questions(each) == key]


def _questions(row: Row) -> tuple[int, tuple[int, ...], bool]:
    return row.num_names, tuple(row.pairs), row.hard


def _curve(found: EvaluationResult, row: Row, control: str) -> Curve:
    cells = {(cell.shots, cell.control): cell.scores[0].value for cell in found.cells}
    values = {shots: cells.get((shots, control), cells[shots, "none"]) for shots in row.shots}
    return {str(shots): (value or 0.0) / 100 for shots, value in values.items()}
