"""A model that says what it is told to."""

from flamingo_blocks.evaluation.answering import VisionLanguageModel
from flamingo_blocks.evaluation.decode import CandidateScores, Written


class Says(VisionLanguageModel):
    """Says what it is told to."""

    identity = "says"

    def __init__(self, written=(" a",), log_probs=(-1.0, -2.0), tokens=(1, 1)):
        self.written, self.log_probs, self.num_tokens = written, log_probs, tokens
        self.seen = []

    def write(self, prompts, *, num_beams, length_penalty, max_new_tokens):
        self.seen += prompts
        return [Written(text=text, ids=(), stopped_by="length") for text in self.written] * len(prompts)

    def score(self, prompts, candidates):
        self.seen += candidates
        return [CandidateScores(log_probs=self.log_probs, num_tokens=self.num_tokens) for _ in prompts]
