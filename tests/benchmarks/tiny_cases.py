"""Small cases for the tests of the harness: right ones, a wrong one, a crashing one."""

from dataclasses import replace

import torch

from benchmarks.case import Bar, Case, Contender

SIZE = 32
# A system counts resident pages in batches, 64 and more of them late; they are little beside this.
BLOCK = 64 * 1024**2


def _attention_like(name, *, rows=SIZE, factor=1.0):
    generator = torch.Generator()
    left, right = torch.empty(rows, SIZE, requires_grad=True), torch.empty(SIZE, SIZE)

    def fresh(seed):
        generator.manual_seed(seed)
        with torch.no_grad():
            left.normal_(generator=generator)
            right.normal_(generator=generator)

    def run():
        (gradient,) = torch.autograd.grad((left @ right).square().sum() * factor, left)
        return gradient

    return Contender(name, run, fresh)


def agree(contenders):
    """All give the same gradients."""
    outputs = []
    for contender in contenders:
        contender.fresh(7)
        outputs.append(contender.run())
    for output in outputs[1:]:
        assert torch.allclose(outputs[0], output), f"{contenders[-1].name} disagrees in /tmp/secret/place.py"


def _case(name, prepare, **options):
    sizes = {"text": SIZE, "dim": SIZE, "items": int(name.partition("items")[2] or 1)}
    flops, moved = 4 * SIZE**3, 12 * SIZE**2
    return Case(
        suite="attention", name=f"attention/{name}", sizes=sizes, device="cpu", dtype="float32", prepare=prepare,
        check=agree, flops=flops, bytes=moved, **options,
    )  # fmt: skip


def _pair(factor=1.0):
    ours, peer = _attention_like("flamingo_blocks"), _attention_like("open_flamingo", factor=factor)
    return [ours, peer, Contender.left_out("idefics", "transformers is not installed")]


def _crash():
    raise RuntimeError("no such luck in /tmp/secret/place.py")


def right_cases(device, dtype):
    """Cases that pass."""
    bars = (
        Bar("not slower", "open_flamingo", 1.1, "at_most", slack=1.0),
        Bar("a thousand times faster", "open_flamingo", 1000, "faster_by"),
        Bar("saves no more", "open_flamingo", 1.0, "at_most", metric="saved_bytes"),
        Bar("faster than what is not here", "idefics", 2, "faster_by"),
    )
    sized = [_case(f"forward/items{items}", _pair, bar=bars if items == 1 else ()) for items in (1, 2, 4)]
    return [*sized, _case("large", _pair, quick=False)]


def troubled_cases(device, dtype):
    """One that crashes, one that is wrong, one that is right, in this order."""
    return [
        _case("crashing", _crash),
        _case("wrong", lambda: _pair(factor=2.0)),
        _case("right", _pair),
    ]


def nearly_right_cases(device, dtype):
    """One that is wrong in float32, and right as far as half precision can tell."""
    case = _case("nearly", lambda: _pair(factor=1.001 if dtype == "float32" else 1.0))
    return [replace(case, dtype=dtype)]


def _two_blocks():
    held = torch.ones(4 * BLOCK // 4)  # what preparation took is no part of the peak
    del held

    def run():
        first = torch.ones(BLOCK // 4)
        second = first + 1
        return second.sum()

    def crash():
        raise RuntimeError("no such luck")

    return [Contender("flamingo_blocks", run, lambda seed: None), Contender("crashing", crash, lambda seed: None)]


def memory_cases(device, dtype):
    """One case, whose call holds two blocks at once."""
    return [Case("block", "block/two", {}, "cpu", "float32", _two_blocks, agree)]
