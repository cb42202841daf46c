"""The cases of the benchmark suite, at sizes that a test can afford."""

import gc
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.case import LIMIT, OURS, SUITES
from benchmarks.cases import all_cases, peers
from benchmarks.cases.contenders import Checked, same
from benchmarks.results import Limits
from benchmarks.runner import Options, run_case

CASES = {case.name: case for case in all_cases("cpu", "float32", tiny=True)}
every_case = pytest.mark.parametrize("name", CASES)
OF_EACH_KIND = (
    "attention/forward+backward/dim512/items5",
    "attention/scores/forward/dim512/items32",
    "attention/backends/forward/all/items8",
    "block/forward+backward/dim512/items8",
    "resampler/forward+backward/64-patches/2-layers/dim256",
    "decode/dim512/items8",
    "loss/forward+backward/vocab32k/trained-head",
    "train/step/plain/items8",
    "train/loop/items8",
    "train/loop/overhead",
    "evaluate/score/32-shots/32-queries",
    "evaluate/generate/32-shots/32-queries",
    "evaluate/questions/32-shots/64-queries",
    "evaluate/candidates/32-shots/200-candidates",
)
WITH_WEIGHTS = [name for name in OF_EACH_KIND if name.endswith(("items8", "items5", "dim256")) and "/all/" not in name]
WITH_PEERS = [name for name in OF_EACH_KIND if name.startswith(("attention", "block", "decode"))]
one_of_each_kind = pytest.mark.parametrize("name", OF_EACH_KIND)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prepared(name):
    """A case and its contenders that can run here; skipped where too few can."""
    if name not in CASES:
        pytest.skip("the case needs a package that is not installed")
    contenders = CASES[name].prepare()
    return CASES[name], [one for one in contenders if one.missing is None]


@every_case
def test_contenders_agree(name):
    """Every case builds, ours comes first, all contenders of a function give the same outputs and gradients, and each
    bar is held against a contender or the limit, so that none is passed over in silence.
    """
    case, everyone = CASES[name], CASES[name].prepare()
    contenders = [one for one in everyone if one.missing is None]
    assert contenders[0].name == OURS
    names = [one.name for one in everyone]
    assert len(set(names)) == len(names)
    assert {bar.against for bar in case.bar} <= {*names, LIMIT}
    case.check(contenders)


@one_of_each_kind
def test_every_call_does_the_same(name):
    """With the same inputs a second call gives what the first gave: no weight, moment or gradient is left of it."""
    for contender in prepared(name)[1]:
        first, second = (_result(contender) for _ in range(2))
        assert len(first) == len(second)
        assert all(torch.equal(*pair) for pair in zip(first, second, strict=True)), contender.name


def _result(contender):
    contender.fresh(3)
    return [x.detach().clone() for x in tree_leaves(contender.run()) if isinstance(x, torch.Tensor)]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@one_of_each_kind
def test_contenders_agree_in_half_precision(name, dtype):
    """What rounding leaves apart is no disagreement: on a GPU the suite runs in half precision."""
    case = next((one for one in all_cases("cpu", dtype, tiny=True) if one.name == name), None)
    if case is None:
        pytest.skip("the case needs a package that is not installed")
    case.check([one for one in case.prepare() if one.missing is None])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["out", "weight", "ids"])
def test_a_wrong_result_of_any_kind_is_found(name, dtype):
    """A wrong output, a wrong gradient and other token ids are told in every precision."""
    right = {"out": torch.ones(4), "weight": torch.ones(9), "bias": torch.full((2,), 1e-3), "ids": torch.arange(8)}
    same(right, right, dtype=dtype, names=("a", "b"))
    wrong = {**right, name: right[name].flip(0) if name == "ids" else right[name] * 1.2}
    with pytest.raises(AssertionError, match="of a and b differ by"):
        same(right, wrong, dtype=dtype, names=("a", "b"))
    rounded = {**right, "bias": right["bias"] * 2}  # small beside the other gradients
    if dtype == "bfloat16":
        same(right, rounded, dtype=dtype, names=("a", "b"))


def test_names_are_unique_and_begin_with_their_suite():
    """No two cases of a device share a name, and the whole list exists without preparing any."""
    for device in ("cpu", "cuda"):
        cases = all_cases(device, "bfloat16")
        assert len({case.name for case in cases}) == len(cases)
        assert {case.suite for case in cases} <= set(SUITES)
        assert all(case.name.startswith(f"{case.suite}/") for case in cases)


@pytest.mark.peers
@one_of_each_kind
def test_a_wrong_result_is_found(name):
    """An error of one percent in what one contender gives makes the check fail."""
    case, contenders = prepared(name)
    ours, others = contenders[0], contenders[1:]
    wrong = replace(ours, run=lambda: {key: value * 1.01 for key, value in ours.run().items()})
    if not any(isinstance(one, Checked) and one.function == ours.function for one in others):
        pytest.skip("no other implementation is installed")
    with pytest.raises(AssertionError, match="differ by"):
        case.check([wrong, *others])


@pytest.mark.peers
@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_a_wrong_weight_is_found(name):
    """A weight of ours that is not the peers' makes the check fail."""
    case, contenders = prepared(name)
    if peers.missing("open_flamingo"):
        pytest.skip("no other implementation is installed")
    with torch.no_grad():
        for weight in contenders[0].module.parameters():
            weight.mul_(1.05)
    with pytest.raises(AssertionError, match="differ by"):
        case.check(contenders)


@pytest.mark.parametrize("name", WITH_PEERS)
def test_missing_peers_are_named(name, monkeypatch):
    """Without the other implementations the case runs, ours against our oracle, and says why each is left out."""
    monkeypatch.setattr(peers, "missing", lambda peer: f"{peer} not installed")
    contenders = CASES[name].prepare()
    able = [one for one in contenders if one.missing is None]
    CASES[name].check(able)
    assert not {one.name for one in able} & set(peers.PACKAGES)
    assert all(one.missing for one in contenders if one.name in peers.PACKAGES)
    if able[0].oracle is not None:
        broken = replace(able[0], run=_breaks_under_another_backend(able[0]))
        with pytest.raises(AssertionError, match="by reference"):
            CASES[name].check([broken])


def _breaks_under_another_backend(ours):
    """Ours, but wrong unless the oracle computes it."""
    backends = [part for part in ours.module.modules() if isinstance(getattr(part, "backend", None), str)]

    def run():
        factor = 1 if backends[0].backend == ours.oracle else 1.01
        return {key: value * factor for key, value in ours.run().items()}

    return run


COUNTED = [name for name, case in CASES.items() if case.flops is not None]


class NoModules:
    """Torch's counter tells modules apart, which it cannot under `autograd.grad`; nobody asks it to here."""

    parents = frozenset({"Global"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def count_in_place(_, left, right, **__):
    return 2 * left[0] * left[1] * right[1]


@pytest.mark.parametrize("name", COUNTED)
def test_flops_are_what_torch_counts(name):
    """The useful work of a case is what torch counts in ours; where tokens see several items, ours computes more, and
    a resampler's backward pass has the offset of a norm to it, a product of a matrix and a vector.
    """
    case, contenders = prepared(name)
    ours = contenders[0]
    ours.fresh(0)
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: count_in_place})
    counter.mod_tracker = NoModules()
    with sdpa_kernel(SDPBackend.MATH), counter:
        ours.run()
    counted = counter.get_total_flops()
    if "/all/" in name or "/uneven/" in name:
        assert counted >= case.flops
    elif name.startswith("resampler/forward+backward"):
        assert case.flops <= counted <= 1.02 * case.flops
    else:
        assert counted == case.flops


def test_inputs_are_new_for_each_seed_and_the_same_for_one():
    """A seed gives every contender the same inputs, and another seed other ones."""
    _, (ours, *_) = prepared("attention/forward/dim512/items5")
    outputs = []
    for seed in (1, 2, 1):
        ours.fresh(seed)
        outputs.append(ours.run()["out"].clone())
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.allclose(outputs[0], outputs[1])


def test_cases_hold_nothing_before_they_are_prepared():
    """Listing the full-size cases allocates no tensor."""
    gc.collect()
    before = count_tensors()
    cases = all_cases("cpu", "float32")
    assert count_tensors() <= before
    assert cases


def count_tensors():
    return sum(issubclass(type(value), torch.Tensor) for value in gc.get_objects())


def test_memory_of_a_training_step_has_its_bars():
    """Without activation checkpointing 0.7 of open_flamingo's peak at 8 items a row, 0.4 at 32, at every device."""
    for device in ("cpu", "cuda"):
        bars = {case.name: case.bar for case in all_cases(device, "bfloat16") if case.suite == "train"}
        if not bars:
            pytest.skip("training steps need transformers")
        for items, ratio in ((8, 0.7), (32, 0.4)):
            found = [bar for bar in bars[f"train/step/plain/items{items}"] if bar.metric == "peak_bytes"]
            assert [(bar.against, bar.kind, bar.ratio) for bar in found] == [("open_flamingo", "at_most", ratio)]


@pytest.mark.parametrize("name", [name for name in CASES if "/growth/" in name and name.startswith("attention")])
def test_another_size_has_no_share_of_the_limit(name):
    """The limit is that of the work of the case, which a contender of another size does not do."""
    case = CASES[name]
    options = Options(Limits(1e9, 1e9), threads=1, repeats=1, peaks=False)
    shares = {one.name: one.limit_fraction for one in run_case(case, options, all_cases).contenders}
    assert shares.pop(OURS) > 0
    assert list(shares.values()) == [None]
