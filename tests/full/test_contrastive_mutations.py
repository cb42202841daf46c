"""Mistakes in contrastive loss, label masks and sums, made on purpose: each breaks the test that is named for it."""

import pytest

from tests.mutate import run_mutated

pytestmark = pytest.mark.full

PACKAGE = "src/flamingo_blocks"
CONTRASTIVE, RANKS = f"{PACKAGE}/training/contrast/contrastive.py", f"{PACKAGE}/training/ranks/all_ranks.py"
TWO_TOWERS, LOSSES = f"{PACKAGE}/training/contrast/two_towers.py", f"{PACKAGE}/training/losses.py"
LAWS, TOGETHER = (
    "tests/training/test_contrastive.py",
    "tests/training/test_contrastive.py::test_two_ranks_are_one_batch",
)
TOWERS, MASKS, SUMS = (
    "tests/training/test_two_towers.py",
    "tests/training/test_label_masks.py",
    "tests/training/test_losses.py",
)
DOUBLE_LOOP = f"{LAWS}::test_the_loss_is_that_of_a_double_loop"
MUTATIONS = {
    "texts are softened by each chunk alone": (
        CONTRASTIVE,
        "self.of_texts = torch.logaddexp(self.of_texts, scores.logsumexp(0))",
        "self.of_texts = scores.logsumexp(0)",
        DOUBLE_LOOP,
    ),
    "every chunk has the partners of the first": (
        CONTRASTIVE,
        "scores.diagonal(self.ranks.own.start + part.start)",
        "scores.diagonal(self.ranks.own.start)",
        DOUBLE_LOOP,
    ),
    "texts get the gradient of the last chunk": (
        CONTRASTIVE,
        "texts.addmm_(slope.t(), self.image[part])",
        "texts = slope.t() @ self.image[part]",
        DOUBLE_LOOP,
    ),
    "the temperature has the gradient of scaled slopes": (
        CONTRASTIVE,
        "            log_scale += (slope * scores).sum()\n            slope *= self.scale\n",
        "            slope *= self.scale\n            log_scale += (slope * scores).sum()\n",
        DOUBLE_LOOP,
    ),
    "smoothing is left out of the gradient": (
        CONTRASTIVE,
        "            slope -= 2 * self.smoothing / self.number\n",
        "",
        DOUBLE_LOOP,
    ),
    "squares of long rows overflow": (
        CONTRASTIVE,
        "scaled = vectors / largest.where(largest > 0, 1)",
        "scaled = vectors",
        f"{LAWS}::test_the_length_of_a_row_does_not_matter",
    ),
    "a row of zeros is divided by zero": (
        CONTRASTIVE,
        "length.where(length > 0, 1)",
        "length",
        f"{LAWS}::test_a_row_of_zeros_points_nowhere_and_has_a_finite_gradient",
    ),
    "autocast rules the scores": (
        CONTRASTIVE,
        "torch.autocast(image.device.type, enabled=False)",
        "torch.autocast(image.device.type, enabled=torch.is_autocast_enabled(image.device.type))",
        f"{LAWS}::test_under_autocast_the_loss_is_made_in_float32",
    ),
    "a gradient of the gradient is taken for nothing": (
        CONTRASTIVE,
        "        if torch.is_grad_enabled():\n            raise",
        "        if False:\n            raise",
        f"{LAWS}::test_the_gradient_of_a_gradient_is_refused",
    ),
    "all scores are made at once": (
        CONTRASTIVE,
        "            chunk_size or max(1, limit // max(ranks.num_rows, 1)),\n",
        "            max(1, limit),\n",
        f"{LAWS}::test_scores_of_all_pairs_never_exist_at_once",
    ),
    "ties are found": (
        CONTRASTIVE,
        "(scores >= partner).sum(1) <= top",
        "(scores > partner).sum(1) < top",
        f"{LAWS}::test_vectors_that_are_all_alike_find_nothing",
    ),
    "gradients are not those of a mean over ranks": (
        CONTRASTIVE,
        "image * self.ranks.world_size,",
        "image,",
        TOGETHER,
    ),
    "texts of other ranks have no gradient": (
        CONTRASTIVE,
        "self.ranks.sum_of_own(texts)",
        "texts[self.ranks.own] * 1.0",
        TOGETHER,
    ),
    "each rank bounds the scale by its own gradient": (
        CONTRASTIVE,
        "self.ranks.sum(log_scale)",
        "log_scale * self.ranks.world_size",
        TOGETHER,
    ),
    "each rank judges its texts by its own images": (
        CONTRASTIVE,
        "        self.of_texts = self.ranks.logsumexp(self.of_texts)\n",
        "",
        TOGETHER,
    ),
    "padding of a short rank is taken for pairs": (
        RANKS,
        "part[:size] for part, size in",
        "part for part, size in",
        TOGETHER,
    ),
    "a scale beyond its bound is held there": (
        TWO_TOWERS,
        "grad.masked_fill(beyond & (grad < 0), 0)",
        "grad.masked_fill(beyond, 0)",
        f"{TOWERS}::test_the_scale_stops_at_its_bound_and_may_come_back",
    ),
    "pads are averaged": (
        TWO_TOWERS,
        "kept = tokens.masked_fill(~valid[..., None], 0)",
        "kept = tokens",
        f"{TOWERS}::test_pads_and_patches_that_do_not_count_are_not_averaged",
    ),
    "chunks of one document reach into the next": (
        LOSSES,
        "        after_none |= F.pad(document[:, 1:] != document[:, :-1], (1, 0))\n",
        "        pass\n",
        f"{MASKS}::test_labels_of_packed_rows_are_those_of_their_documents",
    ),
    "a pad passes for the end of a chunk": (
        LOSSES,
        "return before - before.masked_fill(~starts, 0).cummax(1).values",
        "return before",
        f"{MASKS}::test_labels_of_a_batch_are_those_of_its_documents",
    ),
    "the end of a chunk is masked with what follows": (
        LOSSES,
        "before = events.cumsum(1) - events.long()",
        "before = events.cumsum(1)",
        f"{MASKS}::test_labels_of_a_batch_are_those_of_its_documents",
    ),
    "one token of a tag is masked": (
        LOSSES,
        "for place in range(len(special.media_ids)):",
        "for place in range(1):",
        f"{MASKS}::test_labels_of_a_batch_are_those_of_its_documents",
    ),
    "a begin is masked wherever it stands": (
        LOSSES,
        "ignored |= starts & (input_ids == special.bos)",
        "ignored |= input_ids == special.bos",
        f"{MASKS}::test_a_begin_is_masked_where_it_begins_only",
    ),
    "the number counts tags": (
        f"{PACKAGE}/models/flamingo.py",
        "        labels = counted_labels(self.media_token_id, labels, input_ids, document)\n",
        "",
        f"{SUMS}::test_the_sum_is_the_mean_times_the_number",
    ),
    "the z-loss has no gradient": (
        f"{PACKAGE}/ops/linear_cross_entropy.py",
        "scored.exp_().mul_(1 + 2 * z_loss * log_sums) if z_loss else scored.exp_()",
        "scored.exp_()",
        "tests/properties/test_linear_cross_entropy.py::test_chunks_give_the_loss_and_gradients_of_all_logits",
    ),
    "labels that are masked have a z-loss": (
        f"{PACKAGE}/ops/next_token_loss.py",
        "scores.logsumexp(-1).masked_fill(wanted == IGNORED, 0)",
        "scores.logsumexp(-1)",
        f"{SUMS}::test_the_z_loss_is_the_mean_square_of_the_log_sums",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_caught(name, tmp_path):
    """In a copy with the mistake, the named test fails."""
    done = run_mutated(*MUTATIONS[name], folder=tmp_path)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
