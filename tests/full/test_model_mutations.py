"""Mistakes in attaching, decoding, packing and saving, made on purpose: each breaks the test that is named for it."""

import pytest

from tests.mutate import run_mutated

pytestmark = pytest.mark.full

PACKAGE = "src/flamingo_blocks"
ATTACH, MODEL = "tests/properties/test_attach.py", "tests/properties/test_flamingo.py"
DECODING, SAVING = "tests/properties/test_decoding.py", "tests/properties/test_saving.py"
MUTATIONS = {
    "blocks in float32 widen a residual in bfloat16": (
        f"{PACKAGE}/nn/gated_cross_attention.py",
        "layout, valid=valid)).to(text.dtype)",
        "layout, valid=valid))",
        f"{ATTACH}::test_closed_gates_give_the_bare_model_bit_for_bit",
    ),
    "a text without media skips the blocks": (
        f"{PACKAGE}/lm/attach.py",
        "        if call.state is None:\n",
        "        if call.state is None or call.state.num_items == 0:\n",
        f"{MODEL}::test_text_without_media_reaches_every_trained_parameter",
    ),
    "the bare model runs its blocks": (
        f"{PACKAGE}/lm/attach.py",
        "        if call.state is None:\n            return None\n",
        "        if call.state is None:\n            return ((args[0] + 1e-6, *args[1:]), kwargs) if args else None\n",
        f"{ATTACH}::test_without_media_is_the_bare_model_bit_for_bit",
    ),
    "detaching leaves a hook behind": (
        f"{PACKAGE}/lm/attach.py",
        "        for _, _, handle in self._hooks:\n",
        "        for _, _, handle in self._hooks[1:]:\n",
        f"{ATTACH}::test_attach_then_detach_is_the_identity",
    ),
    "hooks moved to the front stay behind as well": (
        f"{PACKAGE}/lm/attach.py",
        "            handle.remove()\n            self._hook(module, hook, prepend=True)\n",
        "            self._hook(module, hook, prepend=True)\n",
        "tests/lm/test_attach.py::test_our_hooks_move_before_others",
    ),
    "an error leaves the model conditioned": (
        f"{PACKAGE}/lm/attach.py",
        "        try:\n            yield\n        finally:\n            self._call = None\n",
        "        yield\n        self._call = None\n",
        f"{ATTACH}::test_an_error_inside_media_leaves_the_model_clean",
    ),
    "contexts nest, and the inner one wins": (
        f"{PACKAGE}/lm/attach.py",
        '        if self._call is not None:\n            raise RuntimeError(\n                "media() or',
        '        if False:\n            raise RuntimeError(\n                "media() or',
        f"{ATTACH}::test_contexts_do_not_nest",
    ),
    "a layer takes two blocks": (
        f"{PACKAGE}/lm/attach.py",
        "if has_block(decoder.layers[index]):",
        "if False:",
        "tests/lm/test_attach.py::test_a_layer_takes_one_block_only",
    ),
    "a tag is seen by the word before it": (
        f"{PACKAGE}/ops/_visible_ranges.py",
        "        tag = _last_true(is_media)\n",
        "        tag = _last_true(is_media.roll(-1, 1))\n",
        f"{MODEL}::test_text_and_media_never_move_earlier_logits",
    ),
    "left pads take positions": (
        f"{PACKAGE}/models/call_language_model.py",
        "    if position_ids is not None and accepts",
        "    if position_ids is not None and attention_mask is None and accepts",
        f"{MODEL}::test_pads_and_other_rows_change_nothing",
    ),
    "frames that do not exist are resampled": (
        f"{PACKAGE}/models/encode_pool.py",
        "        return features + _nothing_of(vision) if trained else features, valid\n",
        "        return features + _nothing_of(vision) if trained else features, None\n",
        f"{MODEL}::test_pads_and_other_rows_change_nothing",
    ),
    "media cross the documents of a packed row": (
        f"{PACKAGE}/models/place_media.py",
        "MediaLayout.from_tokens(is_media, scope=self.scope, document=document, valid=valid)",
        "MediaLayout.from_tokens(is_media, scope=self.scope, document=None, valid=valid)",
        f"{MODEL}::test_documents_of_a_packed_row_are_as_if_alone",
    ),
    "pads of a packed row take positions": (
        f"{PACKAGE}/models/packing.py",
        "positions = packed_positions(document, valid)",
        "positions = packed_positions(document)",
        "tests/models/test_packing.py::test_left_pads_of_a_packed_row_take_no_position",
    ),
    "windows are checked for the first packed row only": (
        f"{PACKAGE}/models/packing.py",
        "    refuse_long_documents(flamingo.lm,",
        "    if not flamingo._abilities.documents:\n        refuse_long_documents(flamingo.lm,",
        "tests/models/test_packing.py::test_a_window_shorter_than_a_packed_document_is_refused_each_time",
    ),
    "an unseen item of NaN reaches the resampler's weights": (
        f"{PACKAGE}/models/encode_pool.py",
        "    features = hide_unseen(features, layout)\n",
        "",
        f"{MODEL}::test_an_item_that_nobody_sees_reaches_no_gradient",
    ),
    "media are cut off from the resampler": (
        f"{PACKAGE}/models/encode_pool.py",
        "MediaState(media=media if projection",
        "MediaState(media=media.detach() if projection",
        f"{MODEL}::test_text_without_media_reaches_every_trained_parameter",
    ),
    "the frozen language model keeps its gradients": (
        f"{PACKAGE}/models/flamingo.py",
        "            part.requires_grad_(False)\n",
        "            pass\n",
        f"{MODEL}::test_frozen_weights_never_move",
    ),
    "frozen parts train along": (
        f"{PACKAGE}/models/eval_mode.py",
        "    part.eval()\n",
        "    pass\n",
        f"{MODEL}::test_frozen_weights_never_move",
    ),
    "a closed gate lets gradients through": (
        f"{PACKAGE}/nn/tanh_gate.py",
        "return update * self.value().to(update.dtype)",
        "return update * self.value().to(update.dtype) + (update - update.detach())",
        f"{MODEL}::test_at_zero_gates_the_first_step_moves_gates_and_token_rows_only",
    ),
    "a cached call reads the first columns of the layout": (
        f"{PACKAGE}/lm/attach.py",
        "call.past = call.counted.past(args, kwargs, layout=_layout_of(call), whole=call.whole)",
        "call.past = 0",
        f"{DECODING}::test_chunks_and_single_tokens_have_the_logits_of_the_whole",
    ),
    "the next logits are those of a pad": (
        f"{PACKAGE}/models/prefill.py",
        "columns=last.clamp(min=0) + run_ids.shape[1] - input_ids.shape[1]",
        "columns=torch.full_like(last, run_ids.shape[1] - 1)",
        f"{DECODING}::test_chunks_and_single_tokens_have_the_logits_of_the_whole",
    ),
    "a query changes the prompt's cache": (
        f"{PACKAGE}/models/prompt_cache.py",
        "    forked = copy.copy(cache)\n    alike",
        "    forked = cache\n    alike",
        f"{DECODING}::test_a_prompt_is_never_changed_by_its_use",
    ),
    "what stands behind an end counts as said": (
        f"{PACKAGE}/models/generation.py",
        "real = ended.cumsum(1) - ended.long() == 0",
        "real = torch.ones_like(ended)",
        f"{DECODING}::test_a_conversation_goes_on_where_generation_ended",
    ),
    "each decoding step projects the media again": (
        f"{PACKAGE}/models/generation.py",
        "    state = self.attachment.project(state)\n",
        "",
        f"{DECODING}::test_beams_and_samples_never_encode_or_project_an_item_twice",
    ),
    "a conversation ends its rows at the default ends, whatever was asked for": (
        f"{PACKAGE}/models/generation.py",
        '    ends = as_ids(_setting(self.lm, arguments, "eos_token_id"))\n    return out',
        "    ends = [1, 51]\n    return out",
        f"{DECODING}::test_a_conversation_goes_on_where_generation_ended",
    ),
    "assisted decoding is handed the prompt's cache": (
        f"{PACKAGE}/models/generation.py",
        "before.cache is not None and not assisted and ",
        "before.cache is not None and ",
        "tests/models/test_generate.py::test_other_ways_of_decoding_say_the_same",
    ),
    "a load that is refused keeps the language model": (
        f"{PACKAGE}/models/saving.py",
        "        model.detach()\n",
        "",
        "tests/models/test_saving.py::test_parts_that_did_not_fit_are_given_back",
    ),
    "candidates and rows are mixed up": (
        f"{PACKAGE}/models/generation.py",
        "torch.tensor(padded, device=device).repeat(rows, 1)",
        "torch.tensor(padded, device=device).repeat_interleave(rows, 0)",
        f"{DECODING}::test_scores_are_those_of_the_whole_text_one_candidate_at_a_time",
    ),
    "generation runs past the end of a chunk": (
        f"{PACKAGE}/models/generation.py",
        "ends += [] if flamingo.end_token_id is None else [flamingo.end_token_id]",
        "ends += []",
        "tests/models/test_generate.py::test_generation_stops_at_eoc_and_at_the_models_own_end",
    ),
    "media tags are labels": (
        f"{PACKAGE}/models/output_head.py",
        "labels.masked_fill(input_ids == media_token_id, IGNORED)",
        "labels.clone()",
        "tests/models/test_flamingo.py::test_the_loss_is_the_mean_over_the_labels_that_count",
    ),
    "rows of a scaled table are not scaled": (
        f"{PACKAGE}/lm/token_rows.py",
        'scale=getattr(module, "embed_scale", 1.0)',
        "scale=1.0",
        "tests/lm/test_token_rows.py::test_rows_are_a_longer_table_and_head",
    ),
    "tied tables get two rows": (
        f"{PACKAGE}/lm/token_rows.py",
        "= self.input if head is table else None\n        if head is not None and head is not table:",
        "= None\n        if head is not None:",
        "tests/lm/test_token_rows.py::test_tables_that_are_one_get_rows_that_are_one",
    ),
    "other frozen weights are taken": (
        f"{PACKAGE}/models/saving.py",
        "        if found != wanted:\n",
        "        if False:\n",
        "tests/models/test_saving.py::test_other_frozen_weights_are_refused",
    ),
    "a loaded model forgets its scope": (
        f"{PACKAGE}/models/saving.py",
        '"end_token_id", "scope", "layers"',
        '"end_token_id", "layers"',
        f"{SAVING}::test_a_reference_and_its_frozen_parts_give_the_same_logits",
    ),
    "a loaded model attends in another way": (
        f"{PACKAGE}/models/describe_module.py",
        '    config._attn_implementation = description["attention"]\n',
        "",
        f"{SAVING}::test_a_folder_that_holds_everything_gives_the_same_logits",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_caught(name, tmp_path):
    """In a copy with the mistake, the named test fails."""
    done = run_mutated(*MUTATIONS[name], folder=tmp_path)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
