import torch
from torch.utils.checkpoint import checkpoint

from benchmarks.memory import peak_bytes, saved_for_backward
from tests.benchmarks.tiny_cases import BLOCK, memory_cases

KIB = 1024


def test_saved_storages_are_counted_once_and_given_ones_apart():
    """A storage saved by two operators counts once; parameters and inputs are told apart from what the call made."""
    weight, given = torch.randn(16, 16, requires_grad=True), torch.randn(16, 16)

    def run():
        hidden = given @ weight  # saves both, which were there
        hidden = hidden.exp()  # saves its output
        return (hidden * hidden[:]).sum()  # saves that same output, and a view of it

    saved = saved_for_backward(run)
    assert saved.activations == KIB
    assert saved.given == KIB  # the weight needs no gradient of the input


def test_what_is_let_go_in_between_counts_at_its_most():
    """A call that goes forward and backward in chunks is told by the chunk that holds most."""
    weight = torch.randn(16, 16, requires_grad=True)

    def run():
        for _ in range(4):
            (weight @ torch.randn(16, 16)).exp().sum().backward()

    one_chunk = 2 * KIB  # the random factor, and the output of exp
    assert saved_for_backward(run).activations == one_chunk


def test_nothing_is_saved_without_gradients_and_less_with_checkpoints():
    """A call without gradients saves nothing; one under a checkpoint saves what goes in."""
    weight, given = torch.randn(16, 16, requires_grad=True), torch.randn(16, 16)

    def body(hidden):
        return (hidden @ weight).exp().exp().exp()

    with torch.no_grad():
        assert saved_for_backward(lambda: body(given)).activations == 0
    assert saved_for_backward(lambda: body(given)).activations == 3 * KIB
    assert saved_for_backward(lambda: checkpoint(body, given, use_reentrant=False)).activations == 0


def test_peak_is_what_one_call_holds_above_what_stood_before(capfd):
    """A call that holds two blocks at once rises by two, whatever preparation took, and whoever failed before it."""
    names = ["crashing", "flamingo_blocks"]
    measured = peak_bytes(memory_cases, device="cpu", dtype="float32", case="block/two", contenders=names, threads=2)
    assert set(measured) == {"flamingo_blocks"}
    assert 1.99 * BLOCK <= measured["flamingo_blocks"] <= 2.2 * BLOCK  # the system counts pages a little late


def test_a_case_that_cannot_be_prepared_has_no_peaks(capfd):
    """What fails in its process costs these numbers and nothing else."""
    measured = peak_bytes(
        memory_cases, device="cpu", dtype="float32", case="not there", contenders=["flamingo_blocks"], threads=1
    )
    assert measured == {}
