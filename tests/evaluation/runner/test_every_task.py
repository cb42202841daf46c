"""Every task of the paper from its official files to a score, by a model of random weights."""

import pytest

from flamingo_blocks.evaluation import EvalConfig, evaluate
from flamingo_blocks.evaluation.tasks import TASKS, read_task
from tests.evaluation.metrics.small_wordnet import write_small_wordnet
from tests.evaluation.subjects import make_subject
from tests.evaluation.tasks.official_files import WRITERS
from tests.evaluation.tasks.official_video_files import VIDEO_WRITERS
from tests.language_models import make_language_model

EVERY = {**WRITERS, **VIDEO_WRITERS}


def test_every_task_has_files_to_be_tested_with():
    """No task is listed that is not run here."""
    assert EVERY.keys() == TASKS.keys()


@pytest.mark.parametrize("name", TASKS)
def test_a_task_runs_from_its_files_to_a_report(name, tmp_path, monkeypatch):
    """Files in the official layout are read, asked with and without a shot, scored and reported."""
    monkeypatch.setenv("WNSEARCHDIR", str(write_small_wordnet(tmp_path / "wordnet")))
    EVERY[name](tmp_path / "data" / name)
    flamingo, processor = make_subject(lm=make_language_model("llama", max_position_embeddings=4096))
    task = read_task(name, tmp_path / "data")
    shots = (0, 1) if task.support else (0,)
    config = EvalConfig(
        shots=shots, seeds=(0,), controls=("gates_closed",), bootstrap=20, num_queries=4, max_new_tokens=3, num_beams=2
    )
    result = evaluate(flamingo, processor, [task], config, folder=tmp_path / "run")
    for number in shots:
        cell = result.cell(name, number)
        assert cell.counts["asked"] == min(4, len(task.queries))
        assert cell.scores[0].value is not None
        assert cell.scores[0].value >= 0
    assert TASKS[name].title in (tmp_path / "run" / "report.html").read_text()
