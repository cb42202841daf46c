"""Compile a whole Flamingo region by region: its blocks, its resampler, the layers of its language model."""

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import torch
from torch import nn

from flamingo_blocks.lm.find_layers import find_decoder_layers
from flamingo_blocks.lm.replaced_forwards import ReplacedForwards, refuse_replaced
from flamingo_blocks.models.flamingo import Flamingo


class CompiledRegions:
    """What `compile_regions` has compiled, and the way back; as a context manager it takes the way back at its end.

    Args:
        flamingo: The model.
        forwards: The compiled `forward` of each region, by the region's name in the model.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> with compile_regions(flamingo, backend="eager") as compiled:
        ...     compiled.names
        ('blocks.0', 'blocks.1', 'resampler', 'lm.layers.0', 'lm.layers.1')
    """

    def __init__(self, flamingo: nn.Module, forwards: dict[str, Callable[..., Any]]) -> None:
        self.names = tuple(forwards)
        modules = {name: flamingo.get_submodule(name) for name in forwards}
        self._replaced = ReplacedForwards(modules, forwards, by="compile_regions")

    def remove(self) -> None:
        """Run everything eagerly again; nothing of the compilation stays on the model. A second call does nothing.

        Raises:
            RuntimeError: If something has replaced the `forward` of a region since; nothing is removed then.
        """
        self._replaced.remove()

    def __enter__(self) -> "CompiledRegions":  # noqa: PYI034 - beartype knows Self on whole classes only
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def compile_regions(
    flamingo: Flamingo,
    *,
    backend: str | Callable[..., Any] = "inductor",
    dynamic: bool | None = True,
    fullgraph: bool = True,
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    recompile_limit: int | None = None,
    language_model: bool = True,
) -> CompiledRegions:
    """Compile each block, the resampler and each layer of the language model on its own.

    Regions of one kind share their compiled code, so a model of 32 layers compiles in the time of a few, where one
    graph of the whole model would break where the hooks run. Only `forward` is replaced, on the
    instance: no key is renamed, hooks stay outside, and training, `generate` and `score` go on as before. Hand layouts
    in that are prepared (`collate` gives them so): what kernels need as integers cannot be planned in compiled code.

    Args:
        flamingo: The model. Call this before sharding it, and after `checkpoint_layers`.
        backend: As in `torch.compile`; `"aot_eager"` finds what cannot be compiled without compiling it.
        dynamic: One graph for all text lengths and numbers of items. Torch still compiles anew for 0 and for 1 of them.
        fullgraph: Raise where a region cannot be one graph. `False` runs the rest of such a region eagerly.
        mode: As in `torch.compile`.
        options: As in `torch.compile`.
        recompile_limit: Graphs that regions of one kind may have together. By default 64, and 8 for each layer of the
            language model: with a cache its layers of transformers get graphs of their own, for each names its slot.
        language_model: Whether the layers of the language model are compiled too.

    Returns:
        A handle, to undo it with `remove()` or by `with`.

    Raises:
        ValueError: If a region is compiled already.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> compiled = compile_regions(flamingo, backend="eager")
        >>> ids = torch.tensor([[1, flamingo.media_token_id, 5, 6]])
        >>> flamingo(ids, pixels=torch.zeros(1, 1, 3, 8, 8), labels=ids).loss.backward()
        >>> compiled.remove()
    """
    regions: dict[str, nn.Module] = {}
    for name, region in _regions(flamingo, language_model=language_model):
        refuse_replaced(region, name, kind=_Compiled, done="compiled", by="compile_regions")
        if region not in regions.values():  # one module may stand in several places
            regions[name] = region
    limit = 64 + 8 * sum(name.startswith("lm.") for name in regions) if recompile_limit is None else recompile_limit
    arguments = {"backend": backend, "dynamic": dynamic, "fullgraph": fullgraph, "mode": mode, "options": options}
    return CompiledRegions(
        flamingo, {name: _Compiled(region.forward, limit, arguments) for name, region in regions.items()}
    )


def _regions(flamingo: Flamingo, *, language_model: bool) -> Iterator[tuple[str, nn.Module]]:
    """What is compiled, each by its name in the model."""
    for name, block in flamingo.blocks.items():
        yield f"blocks.{name}", block
    if flamingo.resampler is not None:
        yield "resampler", flamingo.resampler
    if language_model:
        decoder = find_decoder_layers(flamingo.lm, flamingo.layers)
        for name, layer in decoder.layers.named_children():
            yield f"lm.{decoder.name}.{name}", layer


class _Compiled:
    """A compiled `forward`; an object, so that a deep copy of the model compiles its own regions."""

    def __init__(self, forward: Any, limit: int, arguments: dict[str, Any]) -> None:
        self.forward = self.__wrapped__ = forward  # the second is where `inspect.signature` looks
        self.limit, self.arguments = limit, arguments
        # A method is traced under code that all layers share; any other object would get graphs of its own.
        method = forward if inspect.isroutine(forward) else forward.__call__
        self.run = _compile(method, limit, arguments)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Compiled":
        return _Compiled(copy.deepcopy(self.forward, memo), self.limit, self.arguments)


def _compile(forward: Any, limit: int, arguments: dict[str, Any]) -> Any:
    """Compile, with limits of graphs that hold for its calls alone; torch gives up at 256 whatever else is asked."""
    compiled: Any = torch.compile(forward, **arguments)
    limits = {"recompile_limit": limit, "accumulated_recompile_limit": limit}

    @functools.wraps(compiled)
    def run(*args: Any, **kwargs: Any) -> Any:
        with torch._dynamo.config.patch(limits):
            return compiled(*args, **kwargs)

    return run
