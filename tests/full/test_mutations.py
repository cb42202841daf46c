"""Mistakes that were made before in models of this kind, made on purpose: each breaks the test that is named for it.

CONTRIBUTING.md has the same list for people.
"""

import pytest

from tests.mutate import ROOT, run_mutated

pytestmark = pytest.mark.full

PACKAGE = "src/flamingo_blocks"
LAYOUT, ATTEND = "tests/properties/test_media_layout.py", "tests/properties/test_attention_backends.py"
PLAN = "tests/properties/test_attention_plan.py"
BLOCKS, RESAMPLER = "tests/properties/test_blocks.py", "tests/properties/test_resampler.py"
MUTATIONS = {
    "greater-or-equal for equal: a token sees every earlier item": (
        f"{PACKAGE}/ops/_visible_ranges.py",
        "        return start.gather(1, tag)\n",
        "        return torch.zeros_like(start)\n",
        f"{LAYOUT}::test_mask_is_what_the_oracle_sees",
    ),
    "the same in the dense mask alone": (
        f"{PACKAGE}/ops/media_layout.py",
        "(self.first[..., None] <= slots) & (slots <= self.last[..., None])",
        "slots <= self.last[..., None]",
        f"{ATTEND}::test_influence_is_exactly_visibility",
    ),
    "rows that see nothing are not zeroed": (
        f"{PACKAGE}/ops/attention/_shared.py",
        "out = out.masked_fill(bias.blind[:, None], 0)",
        "out = out.masked_fill(bias.blind[:, None], 1)",
        f"{ATTEND}::test_tokens_that_see_nothing_get_exact_zeros",
    ),
    "the index is one token late": (
        f"{PACKAGE}/ops/_visible_ranges.py",
        "first.masked_fill(~sees, 0), last.masked_fill(~sees, -1)\n",
        "first.masked_fill(~sees, 0).roll(1, 1), last.masked_fill(~sees, -1).roll(1, 1)\n",
        f"{LAYOUT}::test_mask_is_what_the_oracle_sees",
    ),
    "the gate of the attention is forgotten": (
        f"{PACKAGE}/nn/gated_cross_attention.py",
        "self.attention_gate(self.attention(text, media, layout, valid=valid))",
        "self.attention(text, media, layout, valid=valid)",
        f"{BLOCKS}::test_closed_gates_are_the_identity",
    ),
    "the gate of the feed-forward layer is forgotten": (
        f"{PACKAGE}/nn/gated_cross_attention.py",
        "self.feed_forward_gate(dense)",
        "dense",
        f"{BLOCKS}::test_closed_gates_are_the_identity",
    ),
    "a token reads past its document": (
        f"{PACKAGE}/ops/_visible_ranges.py",
        "        sees = tag >= run_start\n",
        "        sees = tag >= 0\n",
        f"{LAYOUT}::test_mask_is_what_the_oracle_sees",
    ),
    "groups of tags cross documents": (
        f"{PACKAGE}/ops/_visible_ranges.py",
        "is_media & ~(before & same_run)",
        "is_media & ~before",
        "tests/ops/test_media_layout.py::test_picture",
    ),
    "text generated after `next` copies the last column": (
        f"{PACKAGE}/ops/media_layout.py",
        'if self.direction != "previous":\n            blind',
        "if False:\n            blind",
        f"{LAYOUT}::test_extend_is_the_whole_text_at_once",
    ),
    "a chat turn forgets the turn before": (
        f"{PACKAGE}/ops/_visible_ranges.py",
        "carried = (run_start == 0) & (tag < 0)",
        "carried = tag < -1",
        f"{LAYOUT}::test_append_is_the_whole_conversation_at_once",
    ),
    "beams tile the batch": (
        f"{PACKAGE}/ops/media_layout.py",
        "x.repeat_interleave(times, 0)",
        "x.repeat(times, 1)",
        f"{LAYOUT}::test_repeat_rows_repeats_rows_over_one_pool",
    ),
    "tags and items are not counted": (
        f"{PACKAGE}/ops/_layout_checks.py",
        "    wrong = needed != given\n",
        "    wrong = needed != needed\n",
        f"{LAYOUT}::test_wrong_counts_name_the_row_and_both_numbers",
    ),
    "masked latents are seen": (
        f"{PACKAGE}/ops/attention/sdpa.py",
        "else sees & own_valid[:, None]",
        "else sees.expand(*sees.shape[:-1], latents)",
        f"{ATTEND}::test_backend_is_the_loops",
    ),
    "NaN of an item reaches tokens that do not see it": (
        f"{PACKAGE}/ops/attention/sdpa.py",
        "    if some_bad:\n",
        "    if False:\n",
        f"{ATTEND}::test_what_is_not_seen_cannot_reach_a_token",
    ),
    "key heads are grouped the other way round": (
        f"{PACKAGE}/ops/attention/reference.py",
        "(kv_heads groups)",
        "(groups kv_heads)",
        f"{ATTEND}::test_backend_is_the_loops",
    ),
    "NaN of an item that nobody sees reaches the weights": (
        f"{PACKAGE}/nn/gated_cross_attention.py",
        "media, valid, layout = take_seen(media, valid, layout)",
        "pass",
        f"{BLOCKS}::test_an_item_that_a_token_does_not_see_cannot_reach_it",
    ),
    "the dense layer runs without media though told not to": (
        f"{PACKAGE}/nn/gated_cross_attention.py",
        "        if not self.dense_without_media:",
        "        if False:",
        f"{BLOCKS}::test_tokens_without_media_pass_through_or_get_the_dense_update_alone",
    ),
    "a recomputed block is cut off from its media": (
        f"{PACKAGE}/nn/gated_cross_attention.py",
        "checkpoint(self._add, text, media, ",
        "checkpoint(self._add, text, media if isinstance(media, MediaKV) else media.detach(), ",
        f"{BLOCKS}::test_checkpointed_block_has_the_same_gradients",
    ),
    "the resampler's latents are not among the keys": (
        f"{PACKAGE}/ops/context_projection.py",
        "latents.to(normed.dtype)], dim=-2)",
        "latents.to(normed.dtype) * 0], dim=-2)",
        "tests/parity/test_peer_resamplers.py::test_open_flamingo",
    ),
    "masked patches are seen": (
        f"{PACKAGE}/nn/perceiver_resampler.py",
        "        if valid is not None:  # the latents",
        "        if False:  # the latents",
        f"{RESAMPLER}::test_resampler_is_the_loops_in_every_option",
    ),
    "a padded clip is stretched with its pads": (
        f"{PACKAGE}/nn/perceiver_resampler.py",
        "everything if valid is None else",
        "everything if True else",
        f"{RESAMPLER}::test_padded_frames_and_patches_change_nothing",
    ),
    "items of a pool feel each other in the resampler": (
        f"{PACKAGE}/nn/perceiver_resampler.py",
        "self._normalise(vision.flatten(-3, -2))",
        "self._normalise((vision + vision.mean(0, keepdim=True)).flatten(-3, -2))",
        f"{RESAMPLER}::test_resampler_treats_items_one_by_one",
    ),
    "a short piece is filled with another item's token": (
        f"{PACKAGE}/ops/attention_plan.py",
        "ends = order[run_lengths.cumsum(0) - 1]",
        "ends = order[(run_lengths.cumsum(0) - 1).clamp(max=0)]",
        f"{PLAN}::test_pieces_hold_each_token_that_sees_once",
    ),
    "the host's integers go to the device": (
        f"{PACKAGE}/ops/attention_plan.py",
        'if value is not None and not name.startswith("host_")',
        "if value is not None",
        f"{PLAN}::test_the_host_keeps_what_kernels_read",
    ),
    "a range is said to be one item": (
        f"{PACKAGE}/ops/media_layout.py",
        'return scope == "last" and per_tag is None and not group_consecutive',
        'return scope == "last" and not group_consecutive',
        f"{PLAN}::test_single_item_is_never_said_of_a_range",
    ),
    "pieces take their keys by the old numbers": (
        f"{PACKAGE}/ops/take_seen.py",
        "torch.searchsorted(plan.seen, items, out_int32=True)",
        "items.clamp(max=last)",
        f"{PLAN}::test_cut_runs_find_their_items_among_the_seen",
    ),
    "a layer reads the pool's size from the device": (
        f"{PACKAGE}/ops/_layout_checks.py",
        "on_host(layout.plan.host_pool_size)[0]",
        "int(layout.item_ids.max()) + 1",
        f"{PLAN}::test_forward_and_backward_read_no_value",
    ),
    "the block runs after its layer": (
        f"{PACKAGE}/lm/attach.py",
        "attachment._hook(decoder.layers[index], ",
        "attachment._hook(decoder.layers[min(index + 1, len(decoder.layers) - 1)], ",
        "tests/properties/test_attach.py::test_each_block_runs_right_before_its_layer",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_caught(name, tmp_path):
    """In a copy with the mistake, the named test fails, and for no other reason than a wrong result."""
    done = run_mutated(*MUTATIONS[name], folder=tmp_path)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "AssertionError" in done.stdout or "DID NOT RAISE" in done.stdout, done.stdout


def test_contributing_lists_each_mutation():
    """The table for people names every test that catches a mutation."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert all(test.partition("::")[2] in page for *_, test in MUTATIONS.values())
