"""Continue texts and score candidates: methods of `Flamingo`, kept beside it."""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from flamingo_blocks.errors import MediaMaskError
from flamingo_blocks.lm.media_state import MediaState
from flamingo_blocks.models.abilities import begins_states_wrongly, leaves_states_behind, refuse_misread_pads
from flamingo_blocks.models.check_arguments import (
    check_candidate_ids,
    check_candidates,
    check_ids,
    check_prompt,
    refuse_other_names,
    refuse_right_pads,
)
from flamingo_blocks.models.place_media import place_media
from flamingo_blocks.models.plain_decoding import as_ids, plain_generate
from flamingo_blocks.models.prefill import run_prompt
from flamingo_blocks.models.prompt import PromptState
from flamingo_blocks.models.sharded_calls import is_sharded
from flamingo_blocks.models.wider_vocabulary import wider_vocabulary
from flamingo_blocks.ops.media_layout import MediaLayout

if TYPE_CHECKING:
    from flamingo_blocks.models.flamingo import Flamingo

# Of a call of `score`: enough that a call is more than its overhead. Where the texts themselves are as many, each
# candidate runs on its own, on the texts' own cache; more rows would copy it.
_ROWS_AT_ONCE = 32
_GUESSES_AHEAD = ("assistant_model", "prompt_lookup_num_tokens")
_OF_THE_CALL = ("lm", "input_ids", "attention_mask", "together")  # what `plain_generate` gets from us alone


@dataclass(frozen=True, eq=False)
class Scores:
    """How likely each candidate is.

    Args:
        log_probs: Natural logarithm of the probability of all tokens of the candidate, summed.
        num_tokens: Tokens of each candidate; divide by it to compare candidates of different lengths.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> ids = torch.tensor([[1, flamingo.media_token_id]])
        >>> scores = flamingo.score(ids, [[3], [4, 5]], pixels=torch.zeros(1, 1, 3, 8, 8))
        >>> per_token = scores.log_probs / scores.num_tokens
        >>> per_token.shape, scores.num_tokens
        (torch.Size([1, 2]), tensor([[1, 2]]))
    """

    log_probs: Float[Tensor, "batch candidates"]
    num_tokens: Int[Tensor, "batch candidates"]


@torch.no_grad()
def generate(
    self: "Flamingo",
    input_ids: Int[Tensor, "batch text"],
    *,
    pixels: Tensor | None = None,
    features: Tensor | None = None,
    media: MediaState | Tensor | None = None,
    frame_valid: Tensor | None = None,
    patch_valid: Tensor | None = None,
    layout: MediaLayout | None = None,
    attention_mask: Tensor | None = None,
    prompt: PromptState | None = None,
    streamer: Any | None = None,
    return_prompt: bool = False,
    **hf_generate_arguments: Any,
) -> Any:
    """Continue a text: greedy, sampling or beams, by the language model's own `generate`.

    A language model without `generate` gets a plain loop with greedy choice and sampling. Each item is encoded and
    projected once, for all beams, samples and steps.

    Args:
        input_ids: Prompts, padded on the left.
        pixels: Media of the prompts, as in `forward`.
        features: Likewise.
        media: Likewise.
        frame_valid: Frames that exist.
        patch_valid: Patches that count.
        layout: Which token sees which item, prompt included; read off the media tags by default.
        attention_mask: 1 at real tokens.
        prompt: Text and media run before; one row serves all queries, and it is not changed.
        streamer: Gets tokens as they come, as in transformers.
        return_prompt: Also give the `PromptState` of the whole text, to continue a conversation.
        **hf_generate_arguments: For the model's `generate`: `max_new_tokens`, `num_beams`, `do_sample`, ... A
            `generation_config` holds where no argument says otherwise; what it leaves open is the model's own. An
            `eos_token_id` is taken as it is: name `<EOC>` in it too, if generation is to stop there.

    Returns:
        Token ids as the language model's own `generate` returns them, prompt included; with `return_prompt` a pair.

    Raises:
        TypeError: If ids or media are no tensors, `prompt` is no `PromptState`, or an argument is called as in Hugging
            Face.
        ValueError: If there is no text, a row is padded on the right, tags and items differ in number, `return_prompt`
            comes with several sequences a row, the plain loop is asked for what it does not know, or as `forward`.
        RuntimeError: If the model was detached.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> ids = torch.tensor([[1, flamingo.media_token_id]])
        >>> flamingo.generate(ids, pixels=torch.zeros(1, 1, 3, 8, 8), max_new_tokens=3, eos_token_id=None).shape
        torch.Size([1, 5])
    """
    check_ids(input_ids, some=prompt is None)
    check_prompt(prompt)
    refuse_right_pads(attention_mask)
    refuse_other_names(hf_generate_arguments)
    if "document" in hf_generate_arguments:
        raise MediaMaskError(
            "document was given, but packed rows cannot be continued; give each document a row of its own"
        )
    if return_prompt and (several := _setting(self.lm, hf_generate_arguments, "num_return_sequences") or 1) > 1:
        raise ValueError(
            f"return_prompt is True and num_return_sequences {several}, but a prompt goes on from one sequence a row; "
            "wanted num_return_sequences=1, or no return_prompt"
        )
    rows = input_ids.shape[0]
    before = None if prompt is None else prompt.for_rows(rows)
    state = place_media(
        self, input_ids, pixels=pixels, features=features, media=media, frame_valid=frame_valid,
        patch_valid=patch_valid, layout=layout, attention_mask=attention_mask, prompt=before,
    )  # fmt: skip
    state = self.attachment.project(state)
    ids = input_ids
    mask = torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    if before is not None:
        ids = torch.cat([before.input_ids, input_ids], dim=1)
        mask = before.extended_mask(attention_mask, input_ids.shape[1])
    refuse_misread_pads(self, mask)
    arguments = _with_ends(self, hf_generate_arguments)
    if streamer is not None:
        arguments["streamer"] = streamer
    out = _run(self, state, ids, mask, before, arguments)
    if not return_prompt:
        return out
    sequences = out if isinstance(out, Tensor) else out.sequences
    ends = as_ids(_setting(self.lm, arguments, "eos_token_id"))
    return out, _prompt_of(self, state, sequences, mask, input_ids.shape[1], before, ends)


@torch.no_grad()
def score(
    self: "Flamingo",
    input_ids: Int[Tensor, "batch text"],
    candidates: Sequence[Sequence[int]],
    *,
    pixels: Tensor | None = None,
    features: Tensor | None = None,
    media: MediaState | Tensor | None = None,
    frame_valid: Tensor | None = None,
    patch_valid: Tensor | None = None,
    layout: MediaLayout | None = None,
    attention_mask: Tensor | None = None,
    prompt: PromptState | None = None,
) -> Scores:
    """Tell how likely each candidate is as the continuation of each text.

    The text runs once, its media are encoded and projected once; only the candidates' own tokens run per candidate, a
    few candidates at a time: what is held besides the text does not grow with their number.

    Args:
        input_ids: Prompts, padded on the left.
        candidates: Token ids of each candidate, the same for all rows.
        pixels: Media of the prompts, as in `forward`.
        features: Likewise.
        media: Likewise.
        frame_valid: Frames that exist.
        patch_valid: Patches that count.
        layout: Which token sees which item, prompt included.
        attention_mask: 1 at real tokens.
        prompt: Text and media run before; one row serves all queries, and it is not changed.

    Returns:
        Summed log-probabilities and token counts.

    Raises:
        TypeError: If ids or media are no tensors, `prompt` is no `PromptState`, or candidates are no lists of ids.
        ValueError: If a candidate has no token, holds a media tag or an id that the model does not predict, a row is
            padded on the right, or as `prefill`.
        RuntimeError: If the model was detached.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> ids = torch.tensor([[1, flamingo.media_token_id]])
        >>> flamingo.score(ids, [[3], [4, 5]], pixels=torch.zeros(1, 1, 3, 8, 8)).num_tokens
        tensor([[1, 2]])
    """
    refuse_right_pads(attention_mask)
    check_candidates(candidates, self.media_token_id)
    done = self.prefill(
        input_ids, prompt=prompt, pixels=pixels, features=features, media=media, frame_valid=frame_valid,
        patch_valid=patch_valid, layout=layout, attention_mask=attention_mask,
    )  # fmt: skip
    check_candidate_ids(candidates, done.logits.shape[-1])
    at_once = max(1, _ROWS_AT_ONCE // max(done.num_rows, 1))
    groups = [candidates[start : start + at_once] for start in range(0, len(candidates), at_once)]
    log_probs = torch.cat([_score_together(self, done, group) for group in groups], dim=1)
    lengths = torch.tensor([len(candidate) for candidate in candidates], device=input_ids.device)
    return Scores(log_probs, lengths.expand(done.num_rows, -1))


def _score_together(
    flamingo: "Flamingo", done: PromptState, candidates: Sequence[Sequence[int]]
) -> Float[Tensor, "batch candidates"]:
    """Score a few candidates in one call, each behind a copy of every row; a single one needs no copies."""
    counts = [len(candidate) for candidate in candidates]
    padded = [list(candidate) + [candidate[-1]] * (max(counts) - len(candidate)) for candidate in candidates]
    device, rows = done.logits.device, done.num_rows
    ids = torch.tensor(padded, device=device).repeat(rows, 1)  # all candidates of row 0, then of row 1
    lengths = torch.tensor(counts, device=device)
    real = (torch.arange(ids.shape[1], device=device) < lengths[:, None]).repeat(rows, 1)
    done = done.repeat_rows(len(candidates))
    logits = done.logits
    if ids.shape[1] > 1:
        later = flamingo(ids[:, :-1], prompt=done, attention_mask=real[:, :-1]).logits
        logits = torch.cat([logits, later], dim=1)
    return _log_probs(logits, ids).masked_fill(~real, 0).sum(1).view(rows, -1)


def _log_probs(
    logits: Float[Tensor, "rows tokens vocab"], ids: Int[Tensor, "rows tokens"]
) -> Float[Tensor, "rows tokens"]:
    """Log-probabilities of the ids in float32, a few rows at a time: a float32 copy of all logits may not fit."""
    rows = max(1, 2**24 // max(logits[:1].numel(), 1))
    pairs = zip(torch.split(logits, rows), torch.split(ids, rows), strict=True)
    return torch.cat([part.float().log_softmax(-1).gather(-1, own[..., None])[..., 0] for part, own in pairs])


def _run(
    flamingo: "Flamingo",
    state: MediaState,
    ids: Tensor,
    mask: Tensor,
    before: PromptState | None,
    arguments: dict[str, Any],
) -> Any:
    lm: Any = flamingo.lm
    if not callable(getattr(lm, "generate", None)):
        _refuse_unknown(lm, arguments)
        with flamingo.attachment.media(state):
            return plain_generate(lm, ids, attention_mask=mask, together=is_sharded(flamingo), **arguments)
    beams, samples = (_setting(lm, arguments, name) or 1 for name in ("num_beams", "num_return_sequences"))
    expand = max(beams, samples)  # the rows that `generate` makes of each row, before its first call of the model
    assisted = any(_setting(lm, arguments, name) is not None for name in _GUESSES_AHEAD)
    if before is not None and before.cache is not None and not assisted and _takes_a_cache(lm, arguments):
        room = ids.shape[1] - before.input_ids.shape[1]
        arguments = {**arguments, "past_key_values": before.repeat_rows(expand).fork_cache(room=room)}
    media = state.repeat_rows(expand)
    if (beams > 1 and leaves_states_behind(lm)) or begins_states_wrongly(lm, ids.shape[1]):
        arguments = {**arguments, "use_cache": False}
    if is_sharded(flamingo):  # transformers sees it only where the language model itself is
        arguments = {"synced_gpus": True, **arguments}
    with flamingo.attachment.media(media, whole=True), wider_vocabulary(lm, _num_predicted(flamingo)):
        return lm.generate(ids, attention_mask=mask.long(), **arguments)


def _setting(lm: nn.Module, arguments: dict[str, Any], name: str) -> Any:
    """What holds for a call, as transformers finds it: the argument, or the config that came, or the model's own."""
    if name in arguments:
        return arguments[name]
    configs = (arguments.get("generation_config"), getattr(lm, "generation_config", None))
    values = (getattr(config, name, None) for config in configs)
    return next((value for value in values if value is not None), None)


def _takes_a_cache(lm: nn.Module, arguments: dict[str, Any]) -> bool:
    """Whether transformers goes on from a cache that is handed in: not where it is told to use none, or another kind.

    Nor does assisted decoding, which reads the text before its first guess as if nothing were cached. The text of the
    prompt runs again then; its media do not.
    """
    other = _setting(lm, arguments, "cache_implementation")
    return other is None and _setting(lm, arguments, "use_cache") is not False


def _refuse_unknown(lm: nn.Module, arguments: dict[str, Any]) -> None:
    known = [name for name in inspect.signature(plain_generate).parameters if name not in _OF_THE_CALL]
    if unknown := sorted(arguments.keys() - set(known)):
        raise ValueError(
            f"{', '.join(unknown)} given, but {type(lm).__name__} has no generate of its own, and the plain loop takes "
            f"{', '.join(known)}; leave the others out"
        )


def _num_predicted(flamingo: "Flamingo") -> int:
    return 0 if flamingo.token_rows is None else flamingo.token_rows.num_predicted


def _prompt_of(
    flamingo: "Flamingo",
    state: MediaState,
    sequences: Tensor,
    mask: Tensor,
    num_text: int,
    before: PromptState | None,
    ends: list[int],
) -> PromptState:
    """Run what was generated once more, in one pass, so that the result holds for beams as well."""
    generated = sequences[:, mask.shape[1] :]
    ended = torch.isin(generated, torch.tensor(ends, device=generated.device, dtype=generated.dtype))
    real = ended.cumsum(1) - ended.long() == 0  # up to the first end, which itself counts
    assert state.layout is not None
    ids = sequences[:, mask.shape[1] - num_text :]
    layout = state.layout.append(torch.zeros_like(real), valid=real, scope=flamingo.scope)
    whole = state.with_layout(layout)
    new_mask = torch.cat([mask[:, mask.shape[1] - num_text :], real], dim=1)
    return run_prompt(flamingo, ids, whole, new_mask, before)


def _with_ends(flamingo: "Flamingo", arguments: dict[str, Any]) -> dict[str, Any]:
    """Name the ids at which generation stops, unless the caller does: the model's own and `<EOC>`."""
    lm, config = flamingo.lm, arguments.get("generation_config")
    found: dict[str, Any] = {}
    ends = as_ids(_setting(lm, arguments, "eos_token_id"))
    if "eos_token_id" not in arguments:
        ends += [] if flamingo.end_token_id is None else [flamingo.end_token_id]
        found |= {"eos_token_id": ends} if ends else {}
    if ends and "pad_token_id" not in arguments and _setting(lm, arguments, "pad_token_id") is None:
        found["pad_token_id"] = ends[0]
    if config is None:
        return {**arguments, **found}
    config = copy.copy(config)  # transformers warns of arguments beside a config, and will refuse them
    for name, value in found.items():
        setattr(config, name, value)
    return {**arguments, "generation_config": config}
