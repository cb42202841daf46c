"""What every test has: shape annotations that are checked, one thread, hypothesis profiles, bounds per dtype."""

import os
from collections.abc import Callable, Iterator

# Under the hook every call of the library is checked against its shape annotations. It has to be there before the
# library is imported first. `torch.compile` cannot trace the checks: tests of compiled code run with the hook off.
if os.environ.get("FLAMINGO_BLOCKS_SHAPE_CHECKS", "1") != "0":
    import sys
    from types import ModuleType

    import jaxtyping
    from beartype import BeartypeConf, beartype

    # The hook imports its checker by name; ours takes an int for a float, as every static type checker does.
    checker = ModuleType("shape_checker")
    checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
    sys.modules[checker.__name__] = checker
    jaxtyping.install_import_hook("flamingo_blocks", "shape_checker.check")

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from torch import Tensor

from tests.peers_required import pytest_runtest_makereport  # noqa: F401 - a hook

# The first call of a torch operation takes far longer than the second, so a deadline would only find machines that
# are busy; the same holds for the time to draw. Continuous integration must not fail by luck: it draws the same
# examples each time. What a developer's run finds is kept in `.hypothesis/`.
settings.register_profile("dev", deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, max_examples=50, print_blob=True)
settings.register_profile("mutation", settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate])
settings.register_profile("full", settings.get_profile("dev"), max_examples=100)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

torch.set_num_threads(1)

BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@pytest.fixture(scope="session")
def assert_close() -> Callable[[Tensor, Tensor], None]:
    """Compare two tensors within the bound of their dtype, absolute and relative alike; NaN is never close."""

    def check(actual: Tensor, expected: Tensor) -> None:
        bound = BOUNDS[expected.dtype]
        torch.testing.assert_close(actual, expected, atol=bound, rtol=bound)

    return check


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded source of random numbers, so that no test touches the global one."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def without_shape_checks() -> Iterator[None]:
    """Switch the annotations' checks off, to hear what the library itself says about a wrong shape."""
    import jaxtyping

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
