"""Metrics that score nothing, where only the reading of files is tested."""

from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from flamingo_blocks.evaluation.tasks import _metrics_of_video_tasks


class _StandIn:
    def __init__(self, **options):
        self.options = options

    variant = "none"

    def score(self, items, predictions):
        raise NotImplementedError


@pytest.fixture(autouse=True, scope="session")
def stand_in_metrics():
    """Until there are metrics."""
    names = "Ndcg Cider ExactMatch IvqaAccuracy NextQaWups StarAccuracy RareActMwap ClassAccuracy RocAuc VqaAccuracy"
    stand_ins = SimpleNamespace(**{name: type(name, (_StandIn,), {}) for name in names.split()})
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("flamingo_blocks.evaluation.metrics") is None:
            patch.setattr(_metrics_of_video_tasks, "_metrics", lambda: stand_ins)
        yield
