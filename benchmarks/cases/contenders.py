"""Contenders whose outputs and gradients can be compared, and the comparison that comes before any time."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.case import HALF, Contender

WAYS = ("forward", "forward+backward")
CHECK_SEED = 1
# What the largest error may be in units of the largest value; the half types round at every step of a peer.
TOLERANCE = {"float64": 1e-9, "float32": 2e-4, "float16": 2e-2, "bfloat16": 8e-2}
VALUES = frozenset({"out", "loss", "log_probs", "ids"})  # results under other names are gradients
MOST_OTHER_IDS = 0.25  # of the tokens generated in half precision, where the two likeliest may be equal


@dataclass(frozen=True)
class Checked(Contender):
    """A contender that tells what it computes.

    Args:
        function: Contenders of one word compute the same function with the same weights; empty: comparable to none.
        module: Holds its weights.
        oracle: Attention backend to hold ours against.
    """

    function: str = ""
    module: nn.Module | None = None
    oracle: str | None = None


class Inputs:
    """Tensors that are refilled in place, so that no call sees values that a call before it has seen.

    Args:
        device: Where they live.
        dtype: Their dtype.
        way: With a backward pass in it, all of them but the frozen ones get a gradient.
        frozen: Names of those that get none.
        **shapes: Name and shape of each.
    """

    def __init__(
        self, device: str, dtype: str, *, way: str, frozen: tuple[str, ...] = (), **shapes: tuple[int, ...]
    ) -> None:
        self.device, self.dtype = device, getattr(torch, dtype)
        self.tensors = {name: torch.empty(s, device=device, dtype=self.dtype) for name, s in shapes.items()}
        for name, tensor in self.tensors.items():
            tensor.requires_grad_("backward" in way and name not in frozen)
        self.fresh(0)

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    @torch.no_grad()
    def fresh(self, seed: int) -> None:
        """Draw all values anew."""
        noise = torch.Generator(self.device).manual_seed(seed)
        for tensor in self.tensors.values():
            tensor.normal_(generator=noise)

    def leaves(self) -> dict[str, Tensor]:
        """Those that get a gradient."""
        return {name: tensor for name, tensor in self.tensors.items() if tensor.requires_grad}


def contender(
    name: str,
    call: Callable[[], Tensor | tuple[Tensor, ...]],
    *,
    inputs: Inputs,
    module: nn.Module,
    way: str,
    shapes: Sequence[tuple[int, ...]],
    function: str = "",
    oracle: str | None = None,
) -> Checked:
    """Make a contender of a call on shared inputs.

    Args:
        name: As in `Contender`.
        call: Computes the output, or several.
        shapes: Shape of each output.
        inputs: What it works on.
        module: Whose parameters get gradients.
        way: `forward` runs without autograd; `forward+backward` adds the gradients of inputs and parameters;
            `backward` is those alone, the forward pass belonging to the set-up.
        function: As in `Checked`.
        oracle: As in `Checked`.
    """
    leaves = {**inputs.leaves(), **{name: p for name, p in module.named_parameters() if p.requires_grad}}
    noise = torch.Generator(inputs.device).manual_seed(0)
    cotangents = [torch.randn(shape, generator=noise, device=inputs.device, dtype=inputs.dtype) for shape in shapes]
    graph: list[tuple[Tensor, ...]] = []

    def forward() -> dict[str, Tensor]:
        with torch.no_grad():
            return {"out": _several(call())[0]}

    def gradients(outputs: tuple[Tensor, ...], *, again: bool) -> dict[str, Tensor]:
        found = torch.autograd.grad(outputs, list(leaves.values()), cotangents, retain_graph=again)
        return {"out": outputs[0].detach(), **dict(zip(leaves, found, strict=True))}

    def fresh_graph(seed: int) -> None:
        inputs.fresh(seed)
        graph[:] = [_several(call())]

    runs: dict[str, tuple[Callable[[], Any], Callable[[int], None]]] = {
        "forward": (forward, inputs.fresh),
        "forward+backward": (lambda: gradients(_several(call()), again=False), inputs.fresh),
        "backward": (lambda: gradients(graph[0], again=True), fresh_graph),
    }
    run, fresh = runs[way]
    return Checked(name=name, run=run, fresh=fresh, function=function, module=module, oracle=oracle)


Rename = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def agree(contenders: list[Contender], *, dtype: str, rename: Rename) -> None:
    """Raise unless all contenders of a function give the same outputs and gradients, and ours those of its oracle.

    Args:
        contenders: Those that can run here.
        dtype: Chooses the tolerance.
        rename: Gives a peer's results under our names.
    """
    firsts: dict[str, tuple[str, dict[str, Tensor]]] = {}
    for one in contenders:
        if not isinstance(one, Checked) or not one.function:
            continue
        results = _results(one, rename)
        if one.oracle is not None and one.module is not None:
            with using_backend(one.module, one.oracle):
                same(_results(one, rename), results, dtype=dtype, names=(f"{one.name} by {one.oracle}", one.name))
        first, expected = firsts.setdefault(one.function, (one.name, results))
        if first != one.name:
            same(expected, results, dtype=dtype, names=(first, one.name))


def same(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor], *, dtype: str, names: tuple[str, str]) -> None:
    """Raise unless two sets of results have the same names and values.

    Gradients in half precision are held together against one another, by the length of their difference: one that is a
    small sum of large numbers is mostly rounding there. Each of them was held alone in float32 before.
    """
    if expected.keys() != actual.keys():
        raise AssertionError(f"{names[0]} and {names[1]} give {sorted(expected)} and {sorted(actual)}")
    together = {key for key in expected if dtype in HALF and key not in VALUES}
    for key in expected.keys() - together:
        error, scale = _difference(expected[key], actual[key], dtype=dtype, order=float("inf"))
        _compare(key, error, scale, dtype=dtype, names=names)
    lengths = [_difference(expected[key], actual[key], dtype=dtype, order=2.0) for key in together]
    error, scale = (math.hypot(*each) for each in zip(*lengths, strict=True)) if lengths else (0.0, 0.0)
    _compare("all gradients", error, scale, dtype=dtype, names=names)


def _difference(wanted: Tensor, got: Tensor, *, dtype: str, order: float) -> tuple[float, float]:
    """The norm of the error and that of the value; of token ids the share that is wrong beyond what is allowed."""
    got = got.detach().reshape(wanted.shape)
    if not wanted.is_floating_point():
        other = (wanted != got).double().mean().item()
        return max(0.0, other - MOST_OTHER_IDS if dtype in HALF else other), 1.0
    wanted, got = wanted.detach().double().flatten(), got.double().flatten()
    if not wanted.numel():
        return 0.0, 0.0
    error, scale = (torch.linalg.vector_norm(x, order).item() for x in (wanted - got, wanted))
    return error, scale


def _compare(key: str, error: float, scale: float, *, dtype: str, names: tuple[str, str]) -> None:
    if not error <= TOLERANCE[dtype] * scale:  # NaN fails as well
        raise AssertionError(f"{key} of {names[0]} and {names[1]} differ by {error:.3g} where the value is {scale:.3g}")


@contextmanager
def using_backend(module: nn.Module, backend: str) -> Iterator[None]:
    """Run a module's attention by another backend for a while."""
    parts: list[Any] = [part for part in module.modules() if isinstance(getattr(part, "backend", None), str)]
    before = [part.backend for part in parts]
    try:
        for part in parts:
            part.backend = backend
        yield
    finally:
        for part, name in zip(parts, before, strict=True):
            part.backend = name


def _results(one: Contender, rename: Rename) -> dict[str, Tensor]:
    one.fresh(CHECK_SEED)
    return rename(one.run())


def _several(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
