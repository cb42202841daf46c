"""The demo from end to end, in a few steps that learn nothing."""

import json
from dataclasses import replace

import pytest
import torch

from flamingo_blocks.demo import DemoError, format_table, load_demo_model, run_demo
from flamingo_blocks.demo.measure import naming_curves
from flamingo_blocks.demo.parts import prepare_parts
from flamingo_blocks.demo.progress import Stopwatch
from flamingo_blocks.demo.report import plot_curves
from flamingo_blocks.demo.rows import UNSEEN_FIVE
from flamingo_blocks.demo.run import quick_config, train_blocks

SILENT = Stopwatch(lambda *_: None)


def test_the_results_file_has_its_keys(small_run, few_steps):
    """`results.json` holds seed, versions, times, curves by kind and shots, captions, recall and gates."""
    _, out, _ = small_run
    found = json.loads((out / "results.json").read_text())
    assert found["seed"] == few_steps.seed
    assert found["versions"]["torch"] == torch.__version__
    assert {"vision encoder", "language model", "Flamingo", "questions"} <= set(found["seconds"])
    assert found["cpu_seconds"] > 0
    assert set(found["curves"]) == {
        "5.unseen.closed",
        "5.unseen.open",
        "2.hard.closed",
        "2.hard.open",
        "5.unseen.gates_closed",
        "5.unseen.permuted",
    }
    assert list(found["curves"]["5.unseen.closed"]) == ["0", "1", "2", "4", "8", "16"]
    assert all(0 <= value <= 1 for curve in found["curves"].values() for value in curve.values())
    assert {"seen", "unseen"} <= set(found["captions"])
    assert 0 <= found["lm_recall"] <= 1
    assert len(found["gates"]) == 4
    assert set(found["ablations"]) == {"lm_never_trained", "all_previous_images"}


def test_a_run_leaves_a_picture_images_and_a_model(small_run):
    """The curve and the sample images are PNG files, and the model loads from its folder alone."""
    _, out, _ = small_run
    pictures = [out / "curve.png", *sorted((out / "images").iterdir())]
    assert len(pictures) == 7
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    flamingo, vocabulary = load_demo_model(out / "model")
    assert not flamingo.training
    assert vocabulary.words


def test_progress_counts_each_phase_to_its_end(small_run, few_steps):
    """Each phase is reported from 0 to its total in steps of one."""
    _, _, progress = small_run
    for phase, total in (("vision encoder", few_steps.tower_steps), ("Flamingo", few_steps.steps), ("questions", 5)):
        assert [step[1:] for step in progress if step[0] == phase] == [(done, total) for done in range(total + 1)]


def test_gates_open_and_samples_are_written(small_run):
    """Training moves the gates from 0, and each sample says what was asked, written and right."""
    result, _, _ = small_run
    assert any(gate != 0 for gate in result.gates)
    assert len(result.samples) == 6
    assert all(sample.prompt.count("[") and sample.right.endswith("<EOC>") for sample in result.samples)


def test_a_language_model_that_cannot_recall_stops_the_demo(few_steps, tmp_path):
    """The error says what was reached and what is needed, and nothing is written."""
    with pytest.raises(DemoError, match=r"names 0\.0\d of the things .* wanted 0\.90 after 2 steps"):
        run_demo(replace(few_steps, min_recall=0.9), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_that_cannot_be_made_is_said_before_the_work(few_steps, tmp_path):
    """A file in the place of the folder is an error that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DemoError, match=r"the folder .*file cannot be made"):
        run_demo(few_steps, tmp_path / "file")


def test_the_same_seed_gives_the_same_run(few_steps):
    """Two runs of one seed agree bit for bit in all weights and answers; another seed differs."""
    states, curves = [], []
    for _ in range(2):
        parts = prepare_parts(SILENT, seed=5, tower_steps=1, lm_steps=1)
        flamingo = train_blocks(parts, SILENT, tasks=("naming", "captions"), steps=2, lr=0.01, seed=5)
        states.append(flamingo.state_dict())
        curves.append(naming_curves(flamingo, parts.test, parts.vocabulary, rows=(UNSEEN_FIVE,), episodes=5))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert curves[0] == curves[1]
    other = train_blocks(parts, SILENT, tasks=("captions",), steps=1, lr=0.01, seed=6)
    assert not torch.equal(states[0]["resampler.latents"], other.state_dict()["resampler.latents"])


def test_the_quick_run_trains_on_captions_alone():
    """`--quick` has no naming episodes, and asks about naming all the same."""
    config = quick_config(seed=4)
    assert config.tasks == ("captions",)
    assert UNSEEN_FIVE in config.rows
    assert config.seed == 4


def test_the_table_shows_what_was_measured_and_leaves_out_the_rest():
    """A row for each curve, a cell for each number of shots, chance beside it."""
    table = format_table({"2.hard.open": {"0": 0.0, "8": 0.94}, "5.unseen.gates_closed": {"0": 0.2}})
    head, *rows = table.splitlines()
    assert head.split() == ["shots", "0", "1", "2", "4", "8", "16", "chance"]
    assert [row.split()[-2:] for row in rows] == [["0.00", "0.94"], ["0.20", "0.20"]]


def test_a_plot_is_drawn_from_whatever_curves_there_are(tmp_path):
    """Missing curves are left out of the picture."""
    plot_curves({"5.unseen.closed": {"0": 0.2, "8": 0.9}}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
