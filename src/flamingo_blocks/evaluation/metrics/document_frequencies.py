"""How common each run of words is, which caption scores weigh it by."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.metrics.ptb_tokenize import ptb_tokenize

Ngram = tuple[str, ...]
LONGEST = 4


def ngrams(words: Sequence[str]) -> Iterator[Ngram]:
    """All runs of one to four words, repetitions included.

    Args:
        words: Words of a caption.

    Returns:
        The runs, the single words first.

    Example:
        >>> list(ngrams(["a", "dog"]))
        [('a',), ('dog',), ('a', 'dog')]
    """
    return chain.from_iterable(
        zip(*(words[start:] for start in range(length)), strict=False) for length in range(1, LONGEST + 1)
    )


@dataclass(frozen=True)
class DocumentFrequencies:
    """In the references of how many images each run of one to four words stands.

    Save those of a whole split to score a few of its images on the scale of the whole: the weights of ten images of
    their own move the score by points.

    Args:
        num_images: Images that were counted.
        counts: By run of words, the images whose references hold it.
        name: What a score's variant calls it.
        tokenizer: Name of what split the references into words.

    Example:
        >>> frequencies = DocumentFrequencies.learn([["a dog", "one dog"], ["a cat"]])
        >>> frequencies.counts[("a",)], frequencies.counts[("dog",)], frequencies.num_images
        (2, 1, 2)
    """

    num_images: int
    counts: Mapping[Ngram, int] = field(repr=False)
    name: str = "given"
    tokenizer: str = "ptb-regex"

    @classmethod
    def learn(
        cls,
        references: Iterable[Iterable[str]],
        *,
        tokenize: Callable[[str], Sequence[str]] = ptb_tokenize,
        tokenizer: str = "ptb-regex",
        name: str = "given",
    ) -> "DocumentFrequencies":
        """Count the references of a set of images.

        Args:
            references: The reference captions of each image.
            tokenize: Gives the words of a caption; of the score that is to use them.
            tokenizer: Its name.
            name: What a score's variant calls it.

        Returns:
            The counts.
        """
        runs = ([ngrams(tokenize(caption)) for caption in captions] for captions in references)
        return replace(cls.of_ngrams(runs), name=name, tokenizer=tokenizer)

    @classmethod
    def of_ngrams(cls, references: Iterable[Iterable[Iterable[Ngram]]]) -> "DocumentFrequencies":
        """Count references that are runs of words already.

        Args:
            references: For each image the runs of words of each of its captions.

        Returns:
            The counts.
        """
        counts: Counter[Ngram] = Counter()
        num_images = 0
        for captions in references:
            num_images += 1
            counts.update(set(chain.from_iterable(captions)))
        return cls(num_images, counts)

    def save(self, file: Path) -> None:
        """Write the counts as JSON.

        Args:
            file: The file, which is replaced.
        """
        rows = {" ".join(ngram): count for ngram, count in sorted(self.counts.items())}
        value = {"num_images": self.num_images, "tokenizer": self.tokenizer, "counts": rows}
        file.write_text(json.dumps(value, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, file: Path) -> "DocumentFrequencies":
        """Read what `save` wrote.

        Args:
            file: The file.

        Returns:
            The counts, under the name of the file.

        Raises:
            EvaluationError: If the file cannot be read or holds something else.
        """
        try:
            value = json.loads(file.read_text("utf-8"))
            counts = {tuple(ngram.split(" ")): int(count) for ngram, count in value["counts"].items()}
            return cls(_positive(value["num_images"]), counts, file.stem, str(value["tokenizer"]))
        except OSError as error:
            raise EvaluationError(f"{file} cannot be read: {error}; write it with DocumentFrequencies.save") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EvaluationError(
                f"{file} holds no document frequencies ({error!r}), wanted an object of num_images, tokenizer and "
                "counts; write it with DocumentFrequencies.save"
            ) from error


def _positive(number: int) -> int:
    if type(number) is not int or number < 1:
        raise ValueError(f"num_images is {number!r}, wanted a whole number from 1 up")
    return number
