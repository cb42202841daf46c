"""What torch says of its own compiler's doing: nothing in our code brings it about."""

import pytest

SAID_TO_THE_COMPILER = [
    "The .grad attribute of a Tensor that is not a leaf",
    ".*torch.autograd.function.Function.* should not be instantiated",
    ".torch.jit.script_method. is deprecated",
]


def let_the_compiler_warn(item: pytest.Item) -> None:
    """Warnings are errors in our tests; these are none."""
    for said in SAID_TO_THE_COMPILER:
        item.add_marker(pytest.mark.filterwarnings(f"ignore:{said}"))
