"""Let torchvision be imported beside a CPU build of torch, before anything else imports it."""

import contextlib

with contextlib.suppress(ModuleNotFoundError):  # these tests are deselected where it is not installed
    import tests.distribution.uses.beside_cpu  # noqa: F401
