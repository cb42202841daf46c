"""Mistakes on the way from pages to batches, made on purpose: each breaks the test that is named for it."""

import pytest

from tests.mutate import run_mutated

pytestmark = pytest.mark.full

DATA, TESTS = "src/flamingo_blocks/data", "tests/data"
WINDOWS, PACKING = f"{TESTS}/examples/test_windows.py", f"{TESTS}/examples/test_pack_examples.py"
DUPLICATES, BUILDS = f"{TESTS}/dedup/test_exact_duplicates.py", f"{TESTS}/pipeline/test_build_documents.py"
BATCHES, WORKERS = f"{TESTS}/loading/test_batches.py", f"{TESTS}/loading/test_workers.py"
MUTATIONS = {
    "images of a row of MMC4 stand in the order of the row": (
        f"{DATA}/records/mmc4.py",
        "shown = sorted(fit, key=lambda place: place[:2])[:max_images]",
        "shown = [(place, *one[1:]) for place, one in zip(sorted(one[0] for one in fit), fit)][:max_images]",
        f"{TESTS}/records/test_mmc4.py::test_the_row_of_its_readme_is_read_in_the_order_of_sentences",
    ),
    "what is not shown is read": (
        f"{DATA}/html/walk_page.py",
        "        if not self.noscript:  # there it",
        "        if True:  # there it",
        f"{TESTS}/html/test_page_laws.py::test_what_is_not_shown_changes_nothing",
    ),
    "text stays whose item is one too many": (
        f"{DATA}/examples/windows.py",
        "        stop = tokenized.tags[first + max_media]\n",
        "        last = first + max_media\n",
        f"{WINDOWS}::test_the_text_behind_an_item_too_many_is_not_in_the_window",
    ),
    "the window of a page tells which way it looks": (
        f"{DATA}/examples/interleaved.py",
        'draws.happens(self.p_next, "direction")',
        'draws.happens(self.p_next, "window")',
        f"{TESTS}/examples/test_interleaved.py::test_the_direction_does_not_tell_the_window",
    ),
    "a packed document is predicted by the one before": (
        f"{DATA}/examples/pack_examples.py",
        "            labels[start] = IGNORED\n",
        "            pass\n",
        f"{PACKING}::test_documents_are_apart_and_their_first_tokens_have_no_label",
    ),
    "pixels and features share a row": (
        f"{DATA}/examples/pack_examples.py",
        "example.direction == self.direction and not mixed",
        "example.direction == self.direction",
        f"{PACKING}::test_every_example_is_in_one_row_as_it_was",
    ),
    "what stays of duplicates depends on the order of shards": (
        f"{DATA}/dedup/grouping.py",
        "_, name, _, stays = min(members)",
        "_, name, _, stays = members[0]",
        f"{DUPLICATES}::test_images_are_told_by_what_they_hold",
    ),
    "all copies of an image in a document stay": (
        f"{DATA}/dedup/duplicates.py",
        "first=part.key not in seen",
        "first=True",
        f"{DUPLICATES}::test_an_image_twice_in_a_document_stays_once",
    ),
    "a document goes for the sake of one that goes itself": (
        f"{DATA}/pipeline/signature_step.py",
        "left = self.earlier.filter(key, document).document",
        "left = document",
        f"{BUILDS}::test_nothing_goes_for_the_sake_of_what_goes_itself",
    ),
    "a state counts what workers made ahead": (
        f"{DATA}/loading/feeds.py",
        "batches=self._batches)\n\n    def load",
        "batches={name: n + len(self._ahead[name]) for name, n in self._batches.items()})\n\n    def load",
        f"{WORKERS}::test_workers_change_no_byte",
    ),
    "an interrupt between two sources shifts them": (
        f"{DATA}/loading/feeds.py",
        "            self._ahead[name].popleft()\n",
        "            self._ahead[name].popleft()\n            self._batches[name] += 1\n",
        f"{BATCHES}::test_an_interrupt_between_two_sources_shifts_none",
    ),
    "what stands in for a broken sample is seen twice": (
        f"{DATA}/loading/order.py",
        "index = (index + tries * self._stride) % self.size",
        "index = (index + (tries > 0) * self._stride) % self.size",
        f"{TESTS}/loading/test_order.py::test_the_walk_from_a_position_sees_every_sample",
    ),
    "a frame that is lost in silence is passed over": (
        f"{DATA}/video/_one_pass.py",
        "        if self.inside > reordered:",
        "        if False:",
        f"{TESTS}/video/test_damaged_clips.py::test_a_frame_that_was_patched_up_is_no_frame",
    ),
    "a picture is handed to another program": (
        f"{DATA}/filters/image_gate.py",
        ", formats=_formats(pillow))",
        ")",
        f"{TESTS}/filters/test_image_gate.py::test_what_pillow_hands_to_other_programs_is_no_image",
    ),
    "a build takes up the shards of other pages": (
        f"{DATA}/pipeline/build_documents.py",
        "            plain_values(part.open),\n",
        "",
        f"{BUILDS}::test_the_same_pages_under_another_address_are_other_pages",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_caught(name, tmp_path):
    """In a copy with the mistake, the named test fails, and for no other reason than a wrong result."""
    done = run_mutated(*MUTATIONS[name], folder=tmp_path)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "AssertionError" in done.stdout or "DID NOT RAISE" in done.stdout, done.stdout
