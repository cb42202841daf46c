"""What is kept to go on later: a number for each source, and what the number counts."""

from collections.abc import Iterable, Mapping
from typing import Any

from flamingo_blocks.data.loading import order
from flamingo_blocks.data.loading.batch_recipe import Source
from flamingo_blocks.data.loading.interleaved import InterleavedSource
from flamingo_blocks.data.loading.source import DataSource


def make_state(sources: Iterable[Source], *, seed: int, batches: Mapping[str, int]) -> dict[str, Any]:
    """How many batches of each source were handed out, and all that decides which those were."""
    return {
        "order": order.VERSION,
        "seed": seed,
        "sources": {source.name: {"batches": batches[source.name], **_facts(source)} for source in sources},
    }


def check_state(state: Mapping[str, Any], sources: Iterable[Source], *, seed: int) -> dict[str, int]:
    """The numbers of a state, if what they count is what there is here.

    Raises:
        ValueError: If it is not, with all that differs.
    """
    here = make_state(sources, seed=seed, batches=dict.fromkeys((source.name for source in sources), 0))
    try:
        there = {**state, "sources": {name: dict(facts) for name, facts in state["sources"].items()}}
        batches = {name: facts.pop("batches") for name, facts in there["sources"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"state is {state!r:.200}, wanted what `state_dict` of a stream or mixture gave") from error
    for facts in here["sources"].values():
        del facts["batches"]
    if differences := list(_differences(there, here)):
        raise ValueError(
            f"state does not belong to these sources: {'; '.join(differences)}. "
            "Give what the state was taken with, or start anew without it"
        )
    for name, number in batches.items():
        if type(number) is not int or number < 0:
            raise ValueError(f"state has {number!r} batches of source {name!r}, wanted a number of 0 or more")
    return batches


def _facts(source: Source) -> dict[str, Any]:
    if not isinstance(source, InterleavedSource):
        return {"batch_size": int(source.batch_size), **_facts_of_data(source)}
    shares = [[part.name, source.shares[part.name]] for part in source.sources]  # in order, which decides who is first
    facts: dict[str, Any] = {"batch_size": int(source.batch_size), "shares": shares}
    for part in source.sources:
        facts |= {f"{key} of {part.name!r}": value for key, value in _facts_of_data(part).items()}
    return facts


def _facts_of_data(source: DataSource) -> dict[str, Any]:
    data = getattr(source.documents, "fingerprint", None)
    return {"size": source.size, "shuffle": source.shuffle, "data": data}


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterable[str]:
    for key in ("order", "seed"):
        if there.get(key) != here[key]:
            yield f"{key} is {there.get(key)!r} in the state and {here[key]!r} here"
    for name in sorted({*there["sources"], *here["sources"]}):
        old, new = there["sources"].get(name), here["sources"].get(name)
        if old is None or new is None:
            yield f"source {name!r} is only {'here' if old is None else 'in the state'}"
            continue
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield f"{key} of source {name!r} is {old.get(key)!r} in the state and {new.get(key)!r} here"
