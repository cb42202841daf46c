"""Mistakes in loss, recomputation and waiting, made on purpose: each breaks the test that is named for it."""

import pytest

from tests.mutate import run_mutated

pytestmark = pytest.mark.full

PACKAGE = "src/flamingo_blocks"
LOSS, LOSS_LAWS = "tests/ops/test_linear_cross_entropy.py", "tests/properties/test_linear_cross_entropy.py"
HEAD, CHECKPOINTS, READS = (
    "tests/models/test_output_head.py",
    "tests/lm/test_checkpoint_layers.py",
    "tests/models/test_host_reads.py",
)
LINEAR, OUTPUT_HEAD = f"{PACKAGE}/ops/linear_cross_entropy.py", f"{PACKAGE}/models/output_head.py"
MUTATIONS = {
    "the gradient forgets the label": (
        LINEAR,
        "slope = slope.scatter_add_(1, wanted, scored.new_full((1, 1), -1).expand_as(wanted))\n",
        "pass\n",
        f"{LOSS_LAWS}::test_chunks_give_the_loss_and_gradients_of_all_logits",
    ),
    "the last chunk is left out": (
        LINEAR,
        "for start in range(0, num_rows, chunk):",
        "for start in range(0, max(num_rows - num_rows % chunk, 1), chunk):",
        f"{LOSS_LAWS}::test_chunks_give_the_loss_and_gradients_of_all_logits",
    ),
    "what does not count leaks where it is masked": (
        LINEAR,
        "inputs, wanted = inputs.masked_fill(ignored, 0), wanted.masked_fill(ignored, 0)",
        "wanted = wanted.masked_fill(ignored, 0)",
        f"{LOSS_LAWS}::test_what_does_not_count_may_hold_anything",
    ),
    "a masked label has a gradient": (
        LINEAR,
        "slope = slope.masked_fill_(ignored, 0) if rows is None else slope\n",
        "pass\n",
        f"{LOSS_LAWS}::test_without_a_label_that_counts_all_is_zero",
    ),
    "the second table gives no gradient": (
        LINEAR,
        "            out.addmm_(slope[:, columns], table)\n",
        "            pass\n",
        f"{LOSS_LAWS}::test_chunks_give_the_loss_and_gradients_of_all_logits",
    ),
    "labels are shifted the other way": (
        f"{PACKAGE}/ops/next_token_loss.py",
        "F.pad(labels, (-1, 1), value=IGNORED)",
        "F.pad(labels, (1, -1), value=IGNORED)",
        "tests/training/test_losses.py::test_the_loss_is_the_mean_over_labels_that_count",
    ),
    "weight gradients are summed in bfloat16": (
        LINEAR,
        "tensor.new_zeros(tensor.shape, dtype=self.wide) if want and",
        "tensor.new_zeros(tensor.shape) if want and",
        f"{LOSS}::test_gradients_of_trained_weights_are_summed_in_float32",
    ),
    "autocast is not asked": (
        LINEAR,
        "    return torch.get_autocast_dtype(kind)\n",
        "    return hidden.dtype\n",
        f"{LOSS}::test_autocast_rules_the_products_only",
    ),
    "a frozen head gets a gradient": (
        LINEAR,
        "(tensor is not None and tensor.requires_grad)",
        "(tensor is not None)",
        f"{LOSS}::test_a_frozen_head_costs_no_gradient_and_masked_tokens_no_projection",
    ),
    "one chunk is as large as all": (
        LINEAR,
        "chunk_size or max(64, limit // max(vocab, 1)),",
        "max(64, limit),",
        f"{LOSS}::test_memory_is_that_of_a_chunk",
    ),
    "every head is believed": (
        OUTPUT_HEAD,
        "    return error <= (1e-5 if weight.dtype.itemsize >= 4 else 1e-2)\n",
        "    return True\n",
        f"{HEAD}::test_heads_that_are_more_than_a_matrix_get_all_their_logits",
    ),
    "a soft cap does not show": (
        OUTPUT_HEAD,
        "factor = 1000 / float(",
        "factor = 1e-3 / float(",
        f"{HEAD}::test_heads_that_are_more_than_a_matrix_get_all_their_logits",
    ),
    "what was proven of one head is believed of another": (
        OUTPUT_HEAD,
        "if shown is None or shown[:2] != (proven_of, module):",
        "if shown is None:",
        f"{HEAD}::test_a_head_that_is_changed_is_shown_again",
    ),
    "what is put behind a proven head is not seen": (
        OUTPUT_HEAD,
        'for kind in ("_forward_pre_hooks", "_forward_hooks"))',
        "for kind in ())",
        f"{HEAD}::test_what_is_put_behind_a_proven_head_is_seen",
    ),
    "the head makes all logits": (
        OUTPUT_HEAD,
        "shown = hidden[:, -1:]\n",
        "shown = hidden\n",
        f"{HEAD}::test_logits_of_all_tokens_never_exist",
    ),
    "new tokens have no part in the loss": (
        OUTPUT_HEAD,
        "            weights.append(self.rows.output.to(hidden.device))\n",
        "            weights.append(self.rows.output.detach().to(hidden.device))\n",
        f"{HEAD}::test_the_loss_is_that_of_all_logits",
    ),
    "the first token of a packed document counts": (
        OUTPUT_HEAD,
        "    if document is not None:\n",
        "    if False:\n",
        "tests/models/test_flamingo.py::test_the_first_token_of_a_packed_document_is_no_label",
    ),
    "layers recompute in training mode only": (
        f"{PACKAGE}/lm/checkpoint_layers.py",
        "if caches or not torch.is_grad_enabled():",
        "if caches or not self.forward.__self__.training:",
        f"{CHECKPOINTS}::test_a_frozen_language_model_in_eval_mode_keeps_little",
    ),
    "a cache is filled twice": (
        f"{PACKAGE}/lm/checkpoint_layers.py",
        "if caches or not torch.is_grad_enabled():",
        "if not torch.is_grad_enabled():",
        f"{CHECKPOINTS}::test_a_call_with_a_cache_runs_as_it_is",
    ),
    "recomputation stays after detach": (
        f"{PACKAGE}/models/flamingo.py",
        "        self.checkpoint_activations(enabled=False)\n",
        "",
        f"{CHECKPOINTS}::test_nothing_is_left_behind",
    ),
    "a copy runs the layers of its original": (
        f"{PACKAGE}/lm/replaced_forwards.py",
        'module.__dict__["forward"] = forward',
        'module.__dict__["forward"] = (lambda f: lambda *a, **k: f(*a, **k))(forward)',
        f"{CHECKPOINTS}::test_a_copy_runs_its_own_layers",
    ),
    "the loss reads how many labels count": (
        f"{PACKAGE}/ops/next_token_loss.py",
        "    return (labels != ignored).sum()\n",
        "    return torch.tensor(int((labels != ignored).sum()))\n",
        f"{READS}::test_a_step_reads_no_value",
    ),
    "a prompt asks where its rows end": (
        f"{PACKAGE}/models/prefill.py",
        "    last = None if new is None else last_real_column(new)\n",
        "    last = None if new is None or bool(new[:, -1].all()) else last_real_column(new)\n",
        f"{READS}::test_a_prompt_with_pads_reads_no_value",
    ),
    "a long packed row is read": (
        f"{PACKAGE}/models/packing.py",
        "        (positions >= window).any(),\n",
        "        torch.tensor(bool((positions >= window).any())),\n",
        f"{READS}::test_a_long_packed_row_reads_no_value_beside_a_short_window",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_caught(name, tmp_path):
    """In a copy with the mistake, the named test fails."""
    done = run_mutated(*MUTATIONS[name], folder=tmp_path)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
