"""What the demo's Flamingo reads: naming episodes, where names are given to images in context, and captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from flamingo_blocks.data import ImageSegment, InterleavedDocument, tokenize_document
from flamingo_blocks.demo.corpus import draw_distinct
from flamingo_blocks.demo.image_bank import ImageBank
from flamingo_blocks.demo.images import NUM_PAIRS, pair_words
from flamingo_blocks.demo.words import COLOURS, DIGITS, Vocabulary


@dataclass(frozen=True, eq=False)
class Texts:
    """Token ids with the images that stand at their tags, in order.

    Args:
        input_ids: Token ids.
        images: Numbers of images in the bank.
        unknowable: Tokens that nothing before them tells; all can be learnt when None.
    """

    input_ids: Int[Tensor, "batch text"]
    images: Int[Tensor, "batch media"]
    unknowable: Bool[Tensor, "batch text"] | None = None


@dataclass(frozen=True, eq=False)
class Episodes:
    """Naming episodes: `<image> this is a kulm <EOC> <image> this is a pisk <EOC> ...`; the last image is the question.

    Args:
        texts: The whole episodes, the answer included.
        names: Token ids of the names that each episode may give.
        answer: Which of the names the last image has.
    """

    texts: Texts
    names: Int[Tensor, "batch names"]
    answer: Int[Tensor, " batch"]

    def prompts(self) -> Texts:
        """The episodes up to where the last name is due."""
        return Texts(self.texts.input_ids[:, :-2], self.texts.images)


@dataclass(frozen=True, kw_only=True)
class EpisodeSource:
    """What naming episodes are made of.

    Args:
        bank: The images.
        vocabulary: Words and their ids.
        pairs: Colour-digit pairs that images may show.
        names: Made-up names that may be given to them.
        hard_share: Share of episodes whose pairs all have one colour, or all one digit. At most two pairs may be asked
            of them: some colours and digits have no more.
    """

    bank: ImageBank
    vocabulary: Vocabulary
    pairs: Sequence[int]
    names: Sequence[str]
    hard_share: float = 0.0

    def training(
        self, *, batch: int, num_images: int, num_names: tuple[int, int], generator: torch.Generator
    ) -> Episodes:
        """Episodes with a random number of names, each image of any of them.

        Args:
            batch: Number of episodes.
            num_images: Images of each.
            num_names: Fewest and most names of an episode; fewer where a hard one has not enough pairs.
            generator: Where everything is drawn from.
        """
        fewest, most = num_names
        count = torch.randint(fewest, most + 1, (batch,), generator=generator)
        pairs, count = self._draw_pairs(count, most, generator)
        places = (torch.rand(batch, num_images, generator=generator) * count[:, None]).long()
        return self._episodes(pairs, places, generator)

    def test(self, *, batch: int, shots: int, num_names: int, generator: torch.Generator) -> Episodes:
        """Episodes whose shots show each name once before any twice, and whose question has any name.

        Args:
            batch: Number of episodes.
            shots: Images before the question.
            num_names: Names of each episode.
            generator: Where everything is drawn from.

        Raises:
            ValueError: If hard episodes are asked for more names than two.
        """
        if self.hard_share and num_names > 2:
            raise ValueError(f"num_names is {num_names}, but hard episodes have two: some colours have no more pairs")
        pairs, _ = self._draw_pairs(torch.full((batch,), num_names), num_names, generator)
        rounds = torch.rand(batch, -(-shots // num_names), num_names, generator=generator).argsort(dim=-1)
        question = torch.randint(num_names, (batch, 1), generator=generator)
        places = torch.cat([rounds.flatten(1)[:, :shots], question], dim=1)
        return self._episodes(pairs, places, generator)

    @cached_property
    def _start_and_chunk(self) -> tuple[Int[Tensor, "1"], Int[Tensor, " text"]]:
        """What an episode begins with, and what stands for each of its images, the name to be put in."""
        ids = text_of_image(self.vocabulary, f"this is a {self.names[0]}")
        return ids[:1], ids[1:]

    def _draw_pairs(
        self, count: Int[Tensor, " batch"], most: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, "batch most"], Int[Tensor, " batch"]]:
        """Different pairs for each episode, and how many of them it uses."""
        pairs = torch.tensor(self.pairs)
        keys = torch.rand(len(count), len(pairs), generator=generator)
        if self.hard_share:
            groups = _groups_of_like_pairs(pairs)
            sizes = groups.sum(dim=1).float()
            group = torch.multinomial(sizes, len(count), replacement=True, generator=generator)
            easy = torch.rand(len(count), 1, generator=generator) >= self.hard_share
            allowed = groups[group] | easy
            keys = keys + (~allowed).float()  # pairs that are not allowed come last
            count = torch.minimum(count, allowed.sum(dim=1))
        return pairs[keys.argsort(dim=1)[:, :most]], count

    def _episodes(
        self, pairs: Int[Tensor, "batch most"], places: Int[Tensor, "batch media"], generator: torch.Generator
    ) -> Episodes:
        """Put names and images together: `places` says which of its episode's pairs an image shows."""
        batch, most = pairs.shape
        known = torch.tensor(self.vocabulary.encode(self.names))
        names = known[draw_distinct(batch, len(known), most, generator)]
        start, chunk = self._start_and_chunk
        ids = chunk.repeat(batch, places.shape[1], 1)
        ids[:, :, 4] = names.gather(1, places)
        # Nothing tells a name at its first mention. Trained on it, a model learns which names training had, and in a
        # test prefers them to the new names that it reads.
        first_mention = torch.zeros_like(ids, dtype=torch.bool)
        first_mention[:, :, 4] = ~_has_come_before(places)
        texts = Texts(
            input_ids=torch.cat([start.expand(batch, 1), ids.flatten(1)], dim=1),
            images=self.bank.draw(pairs.gather(1, places), generator),
            unknowable=F.pad(first_mention.flatten(1), (1, 0)),
        )
        return Episodes(texts, names, places[:, -1])


def text_of_image(vocabulary: Vocabulary, text: str) -> Int[Tensor, " text"]:
    """Token ids of an image and its text, as every document of the library is written: `<bos> <image> text <EOC>`.

    Args:
        vocabulary: Words and their ids.
        text: Words that stand apart by spaces.
    """
    document = InterleavedDocument.from_parts([ImageSegment(), text])
    return torch.tensor(tokenize_document(document, tokenizer=vocabulary, special=vocabulary.special).ids)


def _has_come_before(places: Int[Tensor, "batch media"]) -> Bool[Tensor, "batch media"]:
    earlier = torch.ones(places.shape[1], places.shape[1], dtype=torch.bool).tril(-1)
    return ((places[:, :, None] == places[:, None]) & earlier).any(dim=-1)


def _groups_of_like_pairs(pairs: Int[Tensor, " pairs"]) -> Bool[Tensor, "groups pairs"]:
    """For each colour and each digit, which pairs have it; those with fewer than two are left out."""
    colours = pairs % len(COLOURS) == torch.arange(len(COLOURS))[:, None]
    digits = pairs // len(COLOURS) == torch.arange(len(DIGITS))[:, None]
    groups = torch.cat([colours, digits])
    return groups[groups.sum(dim=1) >= 2]


@cache  # every batch asks for it
def caption_ids(vocabulary: Vocabulary) -> Int[Tensor, "pairs text"]:
    """The caption of each pair: `<bos> <image> an image of a blue seven <EOC>`."""
    captions = [" ".join(("an image of a", *pair_words(pair))) for pair in range(NUM_PAIRS)]
    return torch.stack([text_of_image(vocabulary, caption) for caption in captions])


def draw_captions(
    bank: ImageBank, vocabulary: Vocabulary, *, pairs: Sequence[int], batch: int, generator: torch.Generator
) -> Texts:
    """Images with their captions.

    Args:
        bank: The images.
        vocabulary: Words and their ids.
        pairs: Pairs that images may show.
        batch: Number of captions.
        generator: Where everything is drawn from.
    """
    chosen = torch.tensor(pairs)[torch.randint(len(pairs), (batch,), generator=generator)]
    return Texts(caption_ids(vocabulary)[chosen], bank.draw(chosen[:, None], generator))
