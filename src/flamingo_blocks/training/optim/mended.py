"""The classes of torch-optimizer 0.3.0 with what is wrong in them put right, so that a name means what it says.

The package has not moved since 2021. What was found by running all of it on torch 2.13 is mended here, where it is
little, and nothing of its mathematics is written anew.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from flamingo_blocks._optional import require

_Closure = Callable[[], Any] | None  # gives a loss, as a number or as a tensor
_OLD_CALLS = ("AdaBelief", "Ranger", "RangerQH", "RangerVA", "SGDW")  # sums with the factor before the tensor


@cache
def mended(class_name: str) -> type[torch.optim.Optimizer]:
    """A class of torch-optimizer, with our corrections.

    Args:
        class_name: Its name in the package.

    Returns:
        A subclass of the package's class.

    Raises:
        MissingDependencyError: If the package is not installed.

    Example:
        >>> mended("Yogi").__name__
        'Yogi'
    """
    package = require("torch_optimizer", used_by="make_optimizer", extra="optim")
    mends = {"Lamb": _without_norms, "Lookahead": _with_state, "RAdam": _with_buffers, "SGDW": _with_decay}
    base = mends.get(class_name, _as_it_is)(getattr(package, class_name))
    if class_name in _OLD_CALLS:
        _warn_unheard()

    class Mended(base):  # type: ignore[misc, valid-type] # a class that is chosen as the program runs
        """Steps without recording gradients: Apollo keeps a graph of all its steps otherwise."""

        def step(self, closure: _Closure = None) -> Any:
            loss = closure() if closure is not None else None
            with torch.no_grad():
                super().step()
            return loss

    Mended.__name__ = Mended.__qualname__ = class_name
    return Mended


def _warn_unheard() -> None:
    """Have torch warn of sums with the factor first, which it does once in a process, where nobody hears it.

    To filter the warnings at each step instead would make Python forget, at each step, which warnings of other code it
    has shown already.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*This overload of add_ is deprecated", category=UserWarning)
        torch.zeros(1).add_(1, torch.zeros(1))  # type: ignore[call-arg, arg-type]


def _as_it_is(base: Any) -> Any:
    return base


def _without_norms(base: Any) -> Any:
    class Normless(base):  # type: ignore[misc] # as above
        """Lamb without the norms of its last step in its state: of sharded parameters they cannot be saved."""

        def step(self) -> None:
            super().step()
            for state in self.state.values():
                for name in ("weight_norm", "adam_norm", "trust_ratio"):
                    state.pop(name, None)

    return Normless


def _with_decay(base: Any) -> Any:
    class Decaying(base):  # type: ignore[misc] # as above
        """SGDW that decays: the package's takes `lr * weight_decay` off every weight, whatever the weight is."""

        def step(self) -> None:
            decays = [group["weight_decay"] for group in self.param_groups]
            try:
                for group in self.param_groups:
                    for parameter in group["params"]:
                        if parameter.grad is not None:
                            parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    group["weight_decay"] = 0.0
                super().step()
            finally:
                for group, decay in zip(self.param_groups, decays, strict=True):
                    group["weight_decay"] = decay

    return Decaying


def _with_buffers(base: Any) -> Any:
    class Buffered(base):  # type: ignore[misc] # as above
        """RAdam whose groups each have a learning rate: the package's keep one step size for all of them."""

        def add_param_group(self, param_group: dict[str, Any]) -> None:
            super().add_param_group({**param_group, "buffer": [[None, None, None] for _ in range(10)]})

    return Buffered


def _with_state(base: Any) -> Any:
    class Stated(base):  # type: ignore[misc] # as above
        """Lookahead that can be saved: its slow weights lie in the state of the optimiser that it wraps."""

        def __init__(self, optimizer: torch.optim.Optimizer, k: int = 5, alpha: float = 0.5) -> None:
            torch.optim.Optimizer.__init__(self, optimizer.param_groups, {})  # which the package leaves out
            super().__init__(optimizer, k=k, alpha=alpha)
            self.state = self.optimizer.state

        def _update(self, group: dict[str, Any]) -> None:
            # A state without moments would pass for one that has them.
            super()._update({**group, "params": [each for each in group["params"] if each.grad is not None]})

        def state_dict(self) -> Any:
            return self.optimizer.state_dict()

        def load_state_dict(self, state_dict: Any) -> None:
            self.optimizer.load_state_dict(state_dict)
            # Loading makes new objects; a schedule that writes into old groups would move nothing.
            self.param_groups, self.state = self.optimizer.param_groups, self.optimizer.state

    return Stated
