"""An order that hashes decide: the same for every order of the files, batch, process and machine."""

import json
from collections.abc import Iterable
from hashlib import sha256


def keyed_digest(*parts: str | int) -> bytes:
    """The SHA-256 of the JSON list of some words and numbers.

    Args:
        parts: Texts and numbers.
    """
    return sha256(json.dumps(parts).encode()).digest()


def keyed_order(ids: Iterable[str], *, task: str, purpose: str, seed: int) -> list[str]:
    """Ids in an order drawn for a purpose: by the SHA-256 of task, purpose, seed and id.

    Where an id stands relative to another depends on these alone, so what is drawn stays when others are added or left
    out.

    Args:
        ids: Each once.
        task: Name of the task.
        purpose: What the order is for; orders of two purposes have nothing to do with each other.
        seed: As a purpose.

    Raises:
        ValueError: If an id comes twice.

    Example:
        >>> keyed_order(["a", "b", "c", "d"], task="vqav2", purpose="support", seed=0)
        ['a', 'd', 'b', 'c']
    """
    start = sha256(json.dumps([task, purpose, seed])[:-1].encode())  # what the digests of all ids begin with
    digests: dict[str, bytes] = {}
    for id_ in ids:
        if id_ in digests:
            raise ValueError(f"the id {id_!r} comes twice; give every item an id of its own")
        digest = start.copy()
        digest.update(f", {json.dumps(id_)}]".encode())
        digests[id_] = digest.digest()
    return sorted(digests, key=digests.__getitem__)
