"""Find out what a language model can do with blocks attached, before a training run does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from flamingo_blocks.errors import ConformanceError
from flamingo_blocks.models.eval_mode import eval_mode
from flamingo_blocks.models.flamingo import Flamingo
from flamingo_blocks.testing._language_model_can import CAN
from flamingo_blocks.testing._language_model_must import MUST
from flamingo_blocks.testing._language_model_subject import Subject, Wrong, look_at
from flamingo_blocks.testing._random_numbers import own_random_numbers


@dataclass(frozen=True)
class LanguageModelReport:
    """What `check_language_model` found.

    Args:
        layers: Dotted name of the decoder layers.
        num_layers: How many there are.
        dim: Width of what enters them.
        holds: Each check's name, and `"ok"` or why the model cannot do it.

    Example:
        >>> print(LanguageModelReport("layers", 2, 32, {"cached prompts": "ok", "packed documents": "no mask"}))
        layers: 2 layers of width 32
          cached prompts     ok
          packed documents   no mask
    """

    layers: str
    num_layers: int
    dim: int
    holds: Mapping[str, str]

    def can(self, check: str) -> bool:
        """Whether the check of that name holds."""
        return self.holds[check] == "ok"

    def __str__(self) -> str:
        lines = [f"{self.layers}: {self.num_layers} layers of width {self.dim}"]
        width = max(map(len, self.holds), default=0) + 2
        return "\n".join([*lines, *(f"  {name:{width}} {found}" for name, found in self.holds.items())])


def check_language_model(
    lm: nn.Module,
    *,
    layers: str | None = None,
    embedding: str | None = None,
    head: str | None = None,
    bound: float | None = None,
    require: Sequence[str] = (),
) -> LanguageModelReport:
    """Check that a language model works with blocks attached, and find out what it can do with them.

    Run it once on your model, or on a small one of its class with random weights, in a test of your own. Blocks with
    drawn weights are attached to every layer, some thirty short texts run, and the model is given back as it was.

    What any model must do: give the same logits twice, be the same after attach and detach and under closed gates bit
    for bit, feel each block and each image but nothing that comes later, and read rows apart from their neighbours
    and from pads on the right. What a model may do or not is in the report: pads on the left and between turns, packed
    documents, cached prompts, new tokens, training, recomputed activations, ways of generating.
    A refusal with a clear error is a "no"; wrong numbers without an error fail the check.

    Torch runs an `nn.TransformerEncoderLayer` without gradients by a fast path, which any hook switches off and which
    rounds differently. It is off here, so that such a layer is compared with itself.

    Args:
        lm: Any decoder language model, without blocks.
        layers: Dotted name of the decoder layers, where they are not found by themselves.
        embedding: Dotted name of the token embedding, likewise.
        head: Dotted name of the output projection, likewise.
        bound: Largest difference that counts as rounding, relative to the logits; 1e-4 for weights in float32, 3e-2
            below.
        require: Names of checks in the report that must hold as well, such as `"left pads"`.

    Returns:
        What holds, and why the rest does not.

    Raises:
        LayersNotFoundError: If the decoder layers cannot be found.
        ConformanceError: If something fails that must hold; the message lists every finding. If `lm` is no module, has
            blocks attached, or gives no logits.
        ValueError: If `require` names no check.

    Example:
        >>> from flamingo_blocks.models import PaperLanguageModel
        >>> lm = PaperLanguageModel(vocab_size=40, dim=16, depth=2, num_heads=2)
        >>> report = check_language_model(lm, require=["packed documents"])
        >>> report.layers, report.can("left pads"), report.can("beams")
        ('layers', True, False)
    """
    if unknown := [name for name in require if name not in CAN]:
        raise ValueError(f"require names {unknown}, wanted some of {', '.join(CAN)}")
    if not isinstance(lm, nn.Module):
        raise ConformanceError(f"lm is a {type(lm).__name__}, wanted a module: a decoder language model without blocks")
    if isinstance(lm, Flamingo):
        raise ConformanceError(
            "lm is a Flamingo, wanted a language model without blocks: flamingo.detach() gives it back"
        )
    with own_random_numbers([*lm.parameters(), *lm.buffers()]), eval_mode(lm), _one_path():
        subject = look_at(lm, layers=layers, embedding=embedding, head=head, bound=bound)
        wrong = {name: found for name, check in MUST.items() if (found := _finding(check, subject)) != "ok"}
        holds: dict[str, str] = {}
        for name, check in CAN.items() if not wrong else ():
            holds[name] = found = _finding(check, subject)
            if found.startswith(_WRONG) or (name in require and found != "ok"):
                wrong[name] = found
    if wrong:
        listed = "".join(f"\n  {name}: {found.removeprefix(_WRONG)}" for name, found in wrong.items())
        raise ConformanceError(f"{type(lm).__name__} fails {len(wrong)} of the checks:{listed}")
    return LanguageModelReport(subject.layers, len(subject.sizes), subject.dim, holds)


_WRONG = "wrong: "


@contextmanager
def _one_path() -> Iterator[None]:
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _finding(check: Callable[[Subject], None], subject: Subject) -> str:
    try:
        check(subject)
    except Wrong as problem:
        return f"{_WRONG}{problem}"
    except Exception as problem:  # noqa: BLE001 - whatever a model does; it is reported
        message = " ".join(str(problem).split())
        return message if isinstance(problem, ValueError) else f"{type(problem).__name__}: {message}"
    return "ok"
