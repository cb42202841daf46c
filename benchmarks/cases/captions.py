"""Captions scored by CIDEr-D: ours with its splitting of words, beside pycocoevalcap on words split before."""

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from benchmarks.case import OURS, Bar, Case, Contender
from flamingo_blocks.evaluation.metrics import CiderScores, cider_d

WORDS = "a the one two red blue black white small man woman dog cat horse bus street table park stands sits rides on"
REFERENCES, LONGEST = 5, 14
CHECK_SEED = 1


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """As many images as COCO's test split has, with five references each, on one core of a CPU."""
    if device != "cpu" or dtype != "float32":
        return []
    images = 6 if tiny else 5000
    return [
        Case(
            suite="evaluate", name="evaluate/cider/5000-images", sizes={"images": images, "references": REFERENCES},
            device=device, dtype=dtype, prepare=lambda: _scorers(images), check=_check,
            bar=(Bar("CIDEr-D, words and all, at most the time of pycocoevalcap", "pycocoevalcap", 1.0, "at_most"),),
        )
    ]  # fmt: skip


@dataclass
class _Captions:
    """Captions and references of one seed; refilled in place."""

    number: int
    hypotheses: list[str] = field(default_factory=list)
    references: list[list[str]] = field(default_factory=list)

    def fresh(self, seed: int) -> None:
        draw, words = Random(seed), WORDS.split()  # noqa: S311 - no secret

        def caption() -> str:
            return " ".join(draw.choices(words, k=draw.randint(6, LONGEST)))

        self.hypotheses = [caption() for _ in range(self.number)]
        self.references = [[caption() for _ in range(REFERENCES)] for _ in range(self.number)]


def _scorers(number: int) -> list[Contender]:
    captions = _Captions(number)
    captions.fresh(0)
    ours = Contender(OURS, lambda: cider_d(captions.hypotheses, captions.references), captions.fresh)
    if importlib.util.find_spec("pycocoevalcap") is None:
        return [ours, Contender.left_out("pycocoevalcap", "pycocoevalcap not installed")]
    scorer = importlib.import_module("pycocoevalcap.cider.cider").Cider()

    def score() -> Any:
        own = {number: [text] for number, text in enumerate(captions.hypotheses)}
        return scorer.compute_score(dict(enumerate(captions.references)), own)

    return [ours, Contender("pycocoevalcap", score, captions.fresh)]


def _check(contenders: Sequence[Contender]) -> None:
    ours, *others = [_found(one) for one in contenders if one.missing is None]
    for other in others:
        assert abs(ours - other) < 1e-9, f"{ours} is not {other}"


def _found(contender: Contender) -> float:
    contender.fresh(CHECK_SEED)
    found = contender.run()
    return found.corpus if isinstance(found, CiderScores) else float(found[0])
