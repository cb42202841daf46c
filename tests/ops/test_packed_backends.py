"""The block-diagonal backends: what they refuse, what they import, and what they do around a kernel."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from flamingo_blocks.ops import MediaLayout
from flamingo_blocks.ops.attention import _packed, reference, varlen, xformers_backend
from flamingo_blocks.ops.attention.backend import Request
from tests.block_kernels import KERNELS, fmha_or_skip, kernels_on_cpu

TAGS = torch.tensor([[False, True, False, True, False, False], [False, False, True, False, False, False]])
REQUEST = Request(torch.device("cuda", 0), torch.bfloat16, 64, 8, 8, requires_grad=True, layout=None)
BACKENDS = {"varlen": varlen.BACKEND, "xformers": xformers_backend.BACKEND}

every_backend = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="tells what is said without a CUDA device")


def layout(**options) -> MediaLayout:
    return MediaLayout.from_tokens(TAGS, **options)


REFUSED = [
    ({"device": torch.device("cpu")}, "runs on CUDA, not on cpu"),
    ({"has_valid": True}, "has no place for `valid`, a mask of latents"),
    ({"layout": layout(scope="all").prepare()}, 'some token sees several items (scope "all", tiles or groups)'),
    ({"dtype": torch.float64}, "not float64"),
    ({"head_dim": 257}, "takes heads up to 256, not 257"),
]


@every_backend
@pytest.mark.parametrize(("change", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_refusals_say_what_is_wrong(backend, change, reason):
    """A request that no device could run is refused with its reason, before any device is asked."""
    assert backend.refuse(replace(REQUEST, **change)).endswith(reason)


def test_varlen_refuses_single_precision():
    """The flash kernel has no float32; xformers has another kernel for it."""
    assert varlen.refuse(replace(REQUEST, dtype=torch.float32)) == "takes float16 and bfloat16, not float32"


@every_backend
def test_more_items_than_a_launch_counts_are_refused(backend):
    """Blocks are counted along an axis of the launch that ends at 65535."""
    whole = layout().prepare()
    many = replace(whole, plan=replace(whole.plan, seen=torch.zeros(65536, dtype=torch.int32)))
    assert backend.refuse(replace(REQUEST, layout=many)) == "takes at most 65535 seen items"


@without_cuda
@every_backend
def test_a_sound_request_is_refused_for_want_of_a_device_alone(backend):
    """Whatever head width, dtype or layout the kernels take comes as far as the device."""
    for head_dim in (1, 7, 64, 200, 256):
        for dtype in (torch.float16, torch.bfloat16):
            request = replace(REQUEST, head_dim=head_dim, dtype=dtype, layout=layout().prepare())
            assert backend.refuse(request) == "torch sees no CUDA device here"


def test_a_kernel_that_raises_is_a_reason():
    """What a kernel says when it is tried on one token becomes the reason; one that works gives none."""

    def broken(*_):
        message = "no kernel image is available\nmore lines"
        raise RuntimeError(message)

    cpu = torch.device("cpu")
    reason = _packed.fails(_packed.Kernel(broken, broken), cpu, torch.float32, 8)
    assert reason == "a call on one token fails here: no kernel image is available"
    with kernels_on_cpu("varlen"):
        assert _packed.fails(varlen.KERNEL, cpu, torch.float32, 8) is None


def test_heads_without_a_backward_pass_are_taken_for_inference(monkeypatch):
    """Where torch refuses the backward pass of a width alone, a call without gradients is tried without one."""

    def refused(*_):
        raise RuntimeError("no backward pass for this width")

    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(varlen, "KERNEL", replace(varlen.KERNEL, backward=refused))
    monkeypatch.setattr(varlen, "_fails_here", varlen._fails_here.__wrapped__)  # answers of this test are not kept
    with kernels_on_cpu("varlen"):
        assert varlen._refused_here(cpu, torch.bfloat16, 224, requires_grad=False) is None
        assert varlen._refused_here(cpu, torch.bfloat16, 224, requires_grad=True).startswith("has no backward pass")
        assert varlen._refused_here(cpu, torch.bfloat16, 64, requires_grad=True).startswith("a call on one token fails")


def test_xformers_is_asked_for_a_pair_that_fits():
    """Where no operator of xformers runs, each family is named with xformers' own reasons."""
    fmha_or_skip()
    operators, reasons = xformers_backend._operators(torch.device("cpu"), torch.float16, 64, deterministic=False)
    assert operators is None
    assert {reason.partition(":")[0] for reason in reasons} >= {"flash", "cutlass"}
    assert all("device=cpu" in reason for reason in reasons)


def test_a_lack_of_memory_is_no_reason():
    """It says nothing of the kernel, and reasons are remembered: it is raised."""

    def full(*_):
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        _packed.fails(_packed.Kernel(full, full), torch.device("cpu"), torch.float32, 8)


def test_xformers_is_asked_for_the_width_that_the_call_has(monkeypatch):
    """Forward and backward differ in the least width of a head: heads of 40 are not judged by those of 64."""
    asked = []
    monkeypatch.setattr(xformers_backend, "_refused_here", lambda *a: asked.append(("refused", a[2])))
    monkeypatch.setattr(xformers_backend, "_operators", lambda *a: (asked.append(("called", a[2])) or a[:2], []))
    for head_dim in (37, 40, 64):
        xformers_backend.refuse(replace(REQUEST, head_dim=head_dim, layout=layout().prepare()))
        packed = _packed._rows(torch.zeros(2, 3, 4, head_dim), torch.tensor([0]))
        xformers_backend._operators_for(packed)
        assert asked[-2:] == [("refused", packed.shape[-1]), ("called", packed.shape[-1])]


@pytest.mark.parametrize("backend", [varlen, xformers_backend])
def test_too_many_items_are_refused_prepared_or_not(backend, monkeypatch):
    """An unprepared layout is planned to be asked: the grid of a kernel ends for it as well."""
    monkeypatch.setattr(_packed, "_MAX_BLOCKS", 1)
    for given in (layout(), layout().prepare()):
        assert backend.refuse(replace(REQUEST, layout=given)) == "takes at most 1 seen items"


def test_importing_loads_no_kernel_library():
    """Neither the library nor a refusal on the CPU imports xformers, triton or the compiler."""
    program = (
        "import sys, torch; from flamingo_blocks.ops.attention import varlen, xformers_backend\n"
        "from flamingo_blocks.ops.attention.backend import Request\n"
        "request = Request(torch.device('cpu'), torch.float16, 64, 8, 8, True, None)\n"
        "varlen.refuse(request), xformers_backend.refuse(request)\n"
        "print(sorted({'xformers', 'triton', 'torch._dynamo'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def tensors(*, items=3, latents=4, heads=4, kv_heads=2, head_dim=8, dtype=torch.float32):
    noise = torch.Generator().manual_seed(0)
    shapes = [(2, 6, heads, head_dim), *[(items, latents, kv_heads, head_dim)] * 2]
    return [torch.randn(shape, generator=noise).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("head_dim", "dtype"), [(3, torch.float32), (8, torch.bfloat16)], ids=str)
def test_the_operator_keeps_torchs_rules(kernel, head_dim, dtype):
    """Schema, fake shapes, autograd and tracing of the operator and of its backward agree with what they do."""
    plan = layout().prepare().plan
    name = "xformers_attention" if kernel.startswith("xformers") else "varlen_attention"
    arguments = (
        *tensors(head_dim=head_dim, dtype=dtype),
        plan.seen,
        plan.tokens,
        plan.places,
        plan.run_starts,
        plan.host_run_starts,
        0.3,
    )
    with kernels_on_cpu(kernel):
        op, backward = (getattr(torch.ops.flamingo_blocks, x).default for x in (name, f"{name}_backward"))
        torch.library.opcheck(op, arguments)
        with torch.no_grad():
            out, lse = op(*arguments)
            arguments = (out, *(x.detach() for x in arguments[:-1]), out, lse, 0.3)
        torch.library.opcheck(backward, arguments, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_mask_serves_all_layers_of_a_batch(kernel, monkeypatch):
    """The integers of a plan are turned into lists once, not in each layer and again in the backward pass."""
    made = []
    if kernel.startswith("xformers"):
        mask = fmha_or_skip().attn_bias.BlockDiagonalMask
        from_seqlens = mask.from_seqlens
        monkeypatch.setattr(mask, "from_seqlens", lambda *a, **k: made.append(a) or from_seqlens(*a, **k))
    prepared = layout().prepare()
    with kernels_on_cpu(kernel) as attend:
        query, key, value = tensors()
        lengths = set()
        for _ in range(3):
            query = attend(query, key, value, prepared, None, 0.3)
            lengths.add(id(_packed._lengths[prepared.plan.host_run_starts]))
        query.sum().backward()
    assert len(lengths) == 1
    assert len(made) == kernel.startswith("xformers")


def test_a_plan_that_is_gone_leaves_nothing_behind():
    """What is remembered of a plan goes with it."""
    prepared = layout().prepare()
    with kernels_on_cpu("varlen") as attend:
        attend(*tensors(), prepared, None, 0.3)
    before = len(_packed._lengths)
    del prepared
    assert len(_packed._lengths) == before - 1


def test_keys_and_values_are_copied_only_where_they_must():
    """A pool of which every item is seen reaches the kernel as it is; unseen items are left out, heads are repeated."""
    addresses = []

    def forward(query, key, value, blocks, scale):
        addresses.append((key.data_ptr(), key.shape))
        return query.clone(), query.new_zeros(query.shape[1], query.shape[0])

    kernel = _packed.Kernel(forward, forward)
    plan = layout().prepare().plan
    plan = plan.seen, plan.tokens, plan.places, plan.run_starts, plan.host_run_starts
    pool = torch.randn(3, 4, 2, 8)
    query = torch.randn(2, 6, 2, 8)
    _packed.forward(kernel, query, pool, pool, *plan, 1.0)
    assert addresses.pop() == (pool.data_ptr(), (12, 2, 8))
    wider = torch.randn(5, 4, 2, 8)
    _packed.forward(kernel, query, wider, wider, *plan, 1.0)
    assert addresses.pop()[1] == (12, 2, 8)
    _packed.forward(kernel, torch.randn(2, 6, 4, 8), pool, pool, *plan, 1.0)
    assert addresses.pop()[1] == (12, 4, 8)


@pytest.mark.parametrize("kernel", KERNELS)
def test_views_and_slices_are_taken(kernel):
    """Keys and values that are parts of one projection, an offset of one number included, reach the kernel aligned."""
    noise = torch.Generator().manual_seed(0)
    both = torch.randn(3, 4, 2, 2, 8, generator=noise)
    odd = torch.randn(3 * 4 * 2 * 8 + 1, generator=noise)[1:].view(3, 4, 2, 8)
    swapped = torch.randn(2, 2, 6, 8, generator=noise).transpose(1, 2)
    prepared = layout().prepare()
    with kernels_on_cpu(kernel) as attend:
        for key, value in [(both[:, :, 0], both[:, :, 1]), (odd, odd), (both[..., 0, :], both[..., 1, :])]:
            ours = attend(swapped, key, value, prepared, None, 0.3)
            theirs = reference.attend(swapped, key, value, prepared, None, 0.3)
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_inputs_stay_in_the_graph_where_nothing_is_seen(kernel):
    """With no item, or no token that sees one, the output is zero and every input still gets a gradient: zeros."""
    for tags, items in [(torch.zeros(2, 6, dtype=torch.bool), 0), (torch.zeros(2, 6, dtype=torch.bool), 3)]:
        empty = MediaLayout.from_tokens(tags, item_ids=torch.full((2, 0), -1)).prepare()
        inputs = tensors(items=items)
        with kernels_on_cpu(kernel) as attend:
            out = attend(*inputs, empty, None, 0.3)
            out.sum().backward()
        assert (out == 0).all()
        assert all((x.grad == 0).all() and x.grad.shape == x.shape for x in inputs)


def test_a_device_with_a_number_is_itself():
    """Only `"cuda"`, whose meaning changes with `torch.cuda.set_device`, gets a number before an answer is kept."""
    for device in (torch.device("cpu"), torch.device("cuda", 1), torch.device("meta")):
        assert _packed.with_index(device) == device
