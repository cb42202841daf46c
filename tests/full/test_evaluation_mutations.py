"""Mistakes of evaluations, made on purpose: each breaks the test that is named for it."""

import pytest

from tests.mutate import run_mutated

pytestmark = pytest.mark.full

EVALUATION, TESTS = "src/flamingo_blocks/evaluation", "tests/evaluation"
RUNNER, ANSWERING, RUNNER_OF = f"{TESTS}/runner", f"{TESTS}/answering", f"{EVALUATION}/runner"
MUTATIONS = {
    "people who agree vanish together": (
        f"{EVALUATION}/metrics/vqa_accuracy.py",
        "same * min(ENOUGH, same - 1)",
        "same * 0",
        f"{TESTS}/metrics/test_vqa_accuracy.py::test_people_who_agree_count_by_thirds_with_each_left_out_once",
    ),
    "the newest shots go where a prompt is too long": (
        f"{EVALUATION}/runner/plan.py",
        "shots=asked.shown.shots[count:]",
        "shots=asked.shown.shots[:-count]",
        f"{RUNNER}/test_plan.py::test_the_oldest_shots_go_first",
    ),
    "two processes ask one query": (
        f"{EVALUATION}/runner/plan.py",
        "total * (rank + 1) // ranks",
        "total * (rank + 1) // ranks + 1",
        f"{RUNNER}/test_plan.py::test_every_query_is_asked_by_one_process",
    ),
    "the order that came decides who asks what": (
        f"{EVALUATION}/runner/plan.py",
        "for key in sorted(by_prompt)]",
        "for key in by_prompt]",
        f"{RUNNER}/test_plan.py::test_order_does_not_depend_on_the_order_that_came",
    ),
    "what was answered is asked again": (
        f"{EVALUATION}/runner/ask_task.py",
        "if each.blank.key not in run.answered]",
        "if each.blank.key]",
        f"{RUNNER}/test_evaluate.py::test_an_interrupted_run_goes_on_where_it_was",
    ),
    "a shot keeps its answer": (
        f"{EVALUATION}/controls/control.py",
        "zip(order, order[1:] + order[:1], strict=True)",
        "zip(order, order, strict=True)",
        f"{TESTS}/controls/test_each_control.py::test_no_shot_keeps_its_answer",
    ),
    "a query gets its own picture in exchange": (
        f"{EVALUATION}/controls/control.py",
        "other.cluster != own.cluster and ",
        "",
        f"{TESTS}/controls/test_each_control.py::test_a_query_never_gets_its_own_picture_in_exchange",
    ),
    "a query is among its shots": (
        f"{EVALUATION}/shots/random_shots.py",
        "            if self._same(query, item):\n",
        "            if False:\n",
        f"{TESTS}/shots/test_random_shots.py::test_what_shows_the_query_is_never_drawn",
    ),
    "candidates have no end": (
        f"{EVALUATION}/decode/decoder.py",
        "self._tokenizer.candidates(whole, texts, terminator=self.terminator)",
        "self._tokenizer.candidates(whole, texts, terminator=False)",
        f"{TESTS}/decode/test_candidates.py::test_the_end_keeps_a_candidate_from_winning_by_being_short",
    ),
    "text alone is chosen by the picture": (
        f"{EVALUATION}/runner/plan.py",
        "text_source.draw(query, text_shots)",
        "source.draw(query, text_shots)",
        f"{RUNNER}/test_evaluate.py::test_likeness_chooses_no_shot_in_text_alone",
    ),
    "another model scores pads": (
        f"{EVALUATION}/answering/transformers_model.py",
        "[row[:length] for row",
        "[row[:] for row",
        f"{ANSWERING}/test_transformers_model.py::test_candidates_have_the_log_probabilities_of_whole_texts",
    ),
    "another model writes on behind the end of a shot": (
        f"{EVALUATION}/answering/whole_prompts.py",
        "text, end, _ = written.text.partition(self.model.end_of_shot)",
        'text, end = written.text, ""',
        f"{ANSWERING}/test_vision_language_model.py::test_what_stands_behind_the_end_of_a_shot_is_cut_off",
    ),
    "another model gets its shots without the query": (
        f"{EVALUATION}/answering/whole_prompts.py",
        "join([prompt.document, query])",
        "prompt.document",
        f"{ANSWERING}/test_vision_language_model.py::test_a_flamingo_asked_plainly_gives_what_evaluate_gives",
    ),
    "a report forgets the tasks of earlier calls": (
        f"{RUNNER_OF}/run_folder.py",
        "if cell.task in others)",
        "if False)",
        f"{RUNNER}/test_evaluate.py::test_tasks_of_two_calls_stand_in_one_report",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_caught(name, tmp_path):
    """In a copy with the mistake, the named test fails, and for no other reason than a wrong result."""
    done = run_mutated(*MUTATIONS[name], folder=tmp_path)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "AssertionError" in done.stdout or "DID NOT RAISE" in done.stdout, done.stdout
