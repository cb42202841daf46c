"""Replace the `forward` of modules on the instance, and give back what stood there."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn


class ReplacedForwards:
    """Modules that run another `forward` for a while: hooks stay outside, no class is swapped, no key renamed.

    Make the new ones objects with the old one in an attribute, not closures, so that a deep copy of a model runs its
    own modules.

    Args:
        modules: What to change, by the name that messages tell.
        forwards: The new `forward` of each.
        by: The function that does it, for messages.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> replaced = ReplacedForwards({"layer": layer}, {"layer": lambda x: x}, by="a_function")
        >>> layer(3)
        3
        >>> replaced.remove()
        >>> "forward" in vars(layer)
        False
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], forwards: Mapping[str, Callable[..., Any]], *, by: str
    ) -> None:
        self.names, self.by = tuple(modules), by
        # What stood on the instance before: nothing, as a rule; or the `forward` of a tool that wraps layers.
        self._replaced = [
            (name, module, vars(module).get("forward"), forwards[name]) for name, module in modules.items()
        ]
        for _, module, _, forward in self._replaced:
            module.__dict__["forward"] = forward

    def remove(self) -> None:
        """Give every module its `forward` back, so that nothing is left behind. A second call does nothing.

        Raises:
            RuntimeError: If something has replaced a `forward` since; nothing is removed then.
        """
        for name, module, _, forward in self._replaced:
            if vars(module).get("forward") is not forward:
                raise RuntimeError(
                    f"the forward of {name!r} was replaced after {self.by}; undo that first, the latest change before "
                    "the earlier ones"
                )
        for _, module, before, _ in self._replaced:
            if before is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = before
        self._replaced = []


def refuse_replaced(module: nn.Module, name: str, *, kind: type, done: str, by: str) -> None:
    """Raise if the `forward` on this instance is of a kind: what was done once is not done again."""
    if type(vars(module).get("forward")) is kind:
        raise ValueError(f"{name!r} is {done} already; call remove() on what {by} returned before")
