"""Whether the laws of media attention hold on this machine, on each backend that it can run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.models.call_language_model import call_language_model
from flamingo_blocks.nn import GatedCrossAttention
from flamingo_blocks.ops import MediaLayout, available_backends
from flamingo_blocks.testing._random_numbers import own_random_numbers

_DIM, _VISION_DIM, _HEADS, _LATENTS = 64, 32, 4, 8  # heads of 16: no kernel takes less
_BOUND = 1e-5  # of float32; other dtypes have other rounding
_TAGS = (False, True, False, False, True, False)  # text before the first image sees nothing


@dataclass(frozen=True, kw_only=True)
class MachineReport:
    """What `check_machine` found.

    Args:
        device: Where it ran.
        dtype: Of weights and inputs.
        backends: For each attention backend `"ok"`, or why it is refused here.
        laws: For each law, and each backend that runs, `"ok"` or what was found.

    Example:
        >>> found = MachineReport(device="cpu", dtype="float32", backends={"runs": "ok"}, laws={"closed gates": "ok"})
        >>> found.ok
        True
    """

    device: str
    dtype: str
    backends: Mapping[str, str]
    laws: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether all laws hold."""
        return set(self.laws.values()) <= {"ok"}


def check_machine(device: torch.device | str = "cpu", *, dtype: torch.dtype = torch.float32) -> MachineReport:
    """Try on this machine that closed gates change nothing, and that tokens depend on what they see and on no more.

    A tiny model and one attention a backend, in about a second. The test suite of the library does far more; this is
    for a machine on which it was not run, such as one with a new GPU or another build of torch.

    Args:
        device: Where to run.
        dtype: Of weights and inputs.

    Returns:
        What was found; nothing is raised where a law fails.

    Raises:
        RuntimeError: If torch sees no such device here.

    Example:
        >>> found = check_machine()
        >>> found.ok, found.backends["reference"]
        (True, 'ok')
    """
    device = torch.empty(0, device=device).device
    layout = MediaLayout.from_tokens(torch.tensor([_TAGS])).to(device)
    backends = available_backends(device, dtype, head_dim=_DIM // _HEADS, num_heads=_HEADS, layout=layout)
    with own_random_numbers([torch.empty(0, device=device)]):
        laws = {"closed gates change nothing": _told(partial(_closed_gates, device, dtype))}
        for backend in (name for name, told in backends.items() if told == "ok"):
            attention = GatedCrossAttention(_DIM, vision_dim=_VISION_DIM, num_heads=_HEADS, backend=backend)
            subject = _Subject(attention.to(device, dtype), layout)
            laws[f"nothing seen, nothing changed: {backend}"] = _told(subject.blind)
            laws[f"what is not seen does not reach: {backend}"] = _told(subject.unseen)
            laws[f"what is seen does: {backend}"] = _told(subject.seen)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return MachineReport(device=name, dtype=str(dtype).removeprefix("torch."), backends=backends, laws=laws)


class _Subject:
    """An attention with text and media to try."""

    def __init__(self, attention: GatedCrossAttention, layout: MediaLayout) -> None:
        weight = attention.q_proj.weight
        self.attention, self.layout = attention, layout
        self.text = torch.randn(1, layout.num_text, _DIM, device=weight.device, dtype=weight.dtype, requires_grad=True)
        self.media = torch.randn(
            layout.num_items, _LATENTS, _VISION_DIM, device=weight.device, dtype=weight.dtype, requires_grad=True
        )
        self.mask = layout.mask()[0]

    def update(self, media: Float[Tensor, "items latents vision_dim"]) -> Float[Tensor, "text dim"]:
        """What each token gets."""
        found: Tensor = self.attention(self.text, media, self.layout)[0]
        return found

    def blind(self) -> str:
        """Tokens that see nothing get exact zeros, and give none of their gradient."""
        alone = self.update(self.media)[~self.mask.any(1)]
        (gradient,) = torch.autograd.grad(alone.sum(), self.text)
        largest = max(float(alone.detach().abs().max()), float(gradient.abs().max()))
        return "ok" if largest == 0.0 else f"an update or gradient of {largest:.2g}"

    def unseen(self) -> str:
        """An item of NaN reaches those that see it, and nobody else."""
        with torch.no_grad():
            before = self.update(self.media)
            for item in range(self.layout.num_items):
                after = self.update(self.media.index_fill(0, torch.tensor([item], device=self.media.device), torch.nan))
                sees = self.mask[:, item]
                off = (after - before)[~sees].abs().max()
                if not off <= max(_BOUND, 4 * torch.finfo(before.dtype).eps) or not after[sees].isnan().all():
                    return f"item {item} moves tokens that do not see it by {float(off):.2g}"
        return "ok"

    def seen(self) -> str:
        """The gradient of a token reaches exactly the items that it sees."""
        update = self.update(self.media)
        for token, sees in enumerate(self.mask):
            (gradient,) = torch.autograd.grad(update[token].sum(), self.media, retain_graph=True)
            reached = gradient.flatten(1).any(1)
            if not torch.equal(reached, sees):
                return f"token {token} reaches items {reached.tolist()}, and sees {sees.tolist()}"
        return "ok"


@torch.no_grad()
def _closed_gates(device: torch.device, dtype: torch.dtype) -> str:
    """Logits with fresh blocks are those of the language model alone, bit for bit."""
    flamingo = build_tiny_flamingo().to(device, dtype).eval()
    ids = torch.tensor([[3, flamingo.media_token_id, 5, 7]], device=device)
    found = flamingo(ids, pixels=torch.rand(1, 1, 3, 8, 8, device=device, dtype=dtype)).logits
    with flamingo.attachment.without_media():
        alone = call_language_model(flamingo.lm, ids).logits
    return "ok" if torch.equal(found, alone) else f"logits move by {float((found - alone).abs().max()):.2g}"


def _told(check: Callable[[], str]) -> str:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever a kernel of this machine does is what was found
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
