"""Metrics for tests of readers, where only their names matter."""

import pytest

from flamingo_blocks.evaluation import metrics
from flamingo_blocks.evaluation.tasks import _metrics_of_tasks


class _StandIn:
    def __init__(self, variant, **options):
        self.variant, self.options = variant, options

    def score(self, items, predictions):
        raise NotImplementedError


@pytest.fixture(autouse=True, scope="session")
def _metrics_of_any_kind():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_metrics_of_tasks, "_metric", lambda name: getattr(metrics, name, None) or _stand_in(name))
        yield


def _stand_in(name):
    def make(**options):
        return _StandIn(name, **options)

    make.learn = list
    return make
