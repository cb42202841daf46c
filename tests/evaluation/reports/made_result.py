"""A result as an evaluation could give it: three tasks, two seeds, controls and baselines, drawn from one seed."""

import random

from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.results import Cell, EvaluationResult
from flamingo_blocks.evaluation.score import Score

SHOTS = (0, 4, 8, 16, 32)
OWN = {
    "coco": (61.0, 77.0, 84.2, 88.1, 90.3),
    "vqav2": (44.9, 43.8, 46.9, 47.7, 46.1),
    "hateful_memes": (51.3, 53.0, 55.9, 57.2, 58.0),
}
VARIANTS = {
    "coco": ("CIDEr-D(ptb-regex, idf=evaluated, N=5000)",),
    "vqav2": ("VQA(official)", "VQA(always)"),
    "hateful_memes": ("ROC AUC(log p(yes) - log p(no))",),
}
TITLES = {"coco": "COCO captions", "vqav2": "VQAv2", "hateful_memes": "HatefulMemes"}
# What is lost under each control, as a share of the score.
LOST = {
    "gates_closed": 0.5,
    "blind": 0.35,
    "text_only": 0.06,
    "no_shot_images": 0.05,
    "shuffle_images": 0.002,
    "shuffle_labels": -0.02,
}
BASELINES = {"baseline:support_majority": 0.45, "baseline:shots_majority": 0.4, "baseline:last_shot": 0.6}


def made_result(*, seeds=(0, 1), tasks=tuple(OWN)):
    """The result; `seeds` and `tasks` leave some of it out."""
    draws, cells = random.Random(0), []  # noqa: S311 - of a test
    for task in tasks:
        for seed in seeds:
            for shots, mean in zip(SHOTS, OWN[task], strict=True):
                own = round(mean + draws.gauss(0, 0.6), 4)
                cells.append(_cell(task, shots, seed, "none", own, None, draws))
                for control, lost in LOST.items() if shots == 32 else ():
                    cells.append(_less(task, shots, seed, control, own, lost * own + draws.gauss(0, 0.3), draws))
                for control, lost in BASELINES.items() if shots else ():
                    cells.append(_less(task, shots, seed, control, own, lost * own + draws.gauss(0, 0.3), draws))
    cells.sort(key=lambda cell: (cell.task, cell.control, cell.shots, cell.seed))
    run = {
        "model": "flamingo-tiny",
        "checkpoint": "sha256:5d41402abc4b2a76b9719d911017c592",
        "profile": "paper",
        "shots": list(SHOTS),
        "seeds": list(seeds),
        "groups": 64,
        "decoding": {"num_beams": 3, "max_new_tokens": 20, "length_penalty": 0.0},
        "versions": {"torch": "2.13.0", "flamingo_blocks": "0.1.0"},
        "device": "cuda",
        "seconds": 812.25,
    }
    about = {task: {"title": TITLES[task], "kind": "question", "queries": 5000, "support": 2048} for task in tasks}
    return EvaluationResult(cells=tuple(cells), run=run, tasks=about)


def _cell(task, shots, seed, control, value, difference, draws):
    counts = {"asked": 5000, "scored": 5000 - 2 * seed, "missing": 0, "empty": draws.randrange(20), "truncated": 0}
    rates = {}
    if not control.startswith("baseline:"):
        counts |= {"stopped_by_end_of_chunk": 4800 - 10 * shots, "stopped_by_length": 200 + 10 * shots}
        rates = {"copy_any": 0.1 + shots / 100, "copy_last": 0.05 + shots / 500} if shots else {}
    if task == "vqav2" and shots == 32:
        counts["truncated"] = 17
    scores = tuple(
        Score(
            variant=variant,
            value=value - place,
            per_item=(value, None, 100.0),
            counts={"scored": 5000},
            parts={"yes/no": value + 10.0, "number": value - 10.0} if task == "vqav2" else {},
        )
        for place, variant in enumerate(VARIANTS[task])
    )
    return Cell(
        task=task,
        shots=shots,
        seed=seed,
        control=control,
        scores=scores,
        interval=(value - 1.1, value + 1.2),
        difference=difference,
        counts=counts,
        rates=rates,
        facts={"shared": shots > 0, "scorer": "trie"},
    )


def _less(task, shots, seed, control, own, less, draws):
    reach = 0.7 + draws.random()
    return _cell(task, shots, seed, control, round(own - less, 4), (less, less - reach, less + reach), draws)


def made_predictions(tasks=tuple(OWN)):
    """A few predictions of each task."""
    found = []
    for task in tasks:
        for number in range(12):
            prompt = "<image>Question: What is it? Answer: a net<EOC>" * 32 + "<image>Question: What colour? Answer:"
            found.append(
                Prediction(
                    task=task,
                    id=str(42000 + number),
                    shots=32,
                    seed=0,
                    shot_ids=("1", "2"),
                    prompt=prompt,
                    raw=f" red <b>{number}</b><EOC>",
                    answer=f"red <b>{number}</b>",
                    stopped_by="end_of_chunk",
                )
            )
    return found
