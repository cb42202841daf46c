"""One small run of the demo, shared by the tests that look at what it leaves behind."""

import pytest


@pytest.fixture(scope="session")
def few_steps():
    """A config of the demo that runs in seconds and learns nothing."""
    from flamingo_blocks.demo import DemoConfig
    from flamingo_blocks.demo.rows import ROWS

    kept = ("5.unseen", "2.hard", "5.unseen.gates_closed", "5.unseen.permuted")
    return DemoConfig(
        seed=3,
        tower_steps=2,
        lm_steps=2,
        steps=2,
        episodes=4,
        rows=tuple(row for row in ROWS if row.key in kept),
        min_recall=0.0,
        ablations=True,
        ablation_steps=1,
    )


@pytest.fixture(scope="session")
def small_run(few_steps, tmp_path_factory):
    """What such a run gives, the folder it wrote, and the progress it reported."""
    from flamingo_blocks.demo import run_demo

    out = tmp_path_factory.mktemp("demo") / "not" / "there"
    progress = []
    result = run_demo(few_steps, out, on_progress=lambda *step: progress.append(step))
    return result, out, progress
