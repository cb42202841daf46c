"""How much useful work a call is: operations, a multiply and an add counted as two, and bytes that must be moved.

Useful means what the function needs, not what an implementation does: a token is scored against the latents that it
sees, not against all of its row's.
"""

from collections.abc import Iterable

from benchmarks.cases.sizes import Sizes

# Every matrix product has two in its backward pass, one for each factor; what is recomputed is no useful work.
OF_WAY = {"forward": 1, "backward": 2, "forward+backward": 3}


def projection_flops(sizes: Sizes, *, way: str = "forward") -> int:
    """Queries and outputs of all tokens, keys and values of all items."""
    text = 4 * sizes.batch * sizes.text * sizes.dim * sizes.inner
    media = 4 * sizes.items * sizes.latents * sizes.vision_dim * sizes.inner
    return OF_WAY[way] * (text + media)


def score_flops(sizes: Sizes, *, scope: str = "last", way: str = "forward") -> int:
    """Scores and weighted sums of the items that each token sees: one, or all up to its own."""
    seen = sizes.media if scope == "last" else sizes.media * (sizes.media + 1) // 2
    return OF_WAY[way] * 4 * sizes.batch * sizes.tokens * seen * sizes.latents * sizes.inner


def feed_forward_flops(sizes: Sizes, *, hidden_dim: int, way: str = "forward") -> int:
    """Two matrices on each token."""
    return OF_WAY[way] * 4 * sizes.batch * sizes.text * sizes.dim * hidden_dim


def resampler_flops(
    *, items: int, patches: int, latents: int, dim: int, inner: int, hidden_dim: int, depth: int, way: str = "forward"
) -> int:
    """All layers of a resampler; each projects the patches with weights of its own, which need no gradient."""
    context = patches + latents
    latents_only = 4 * latents * dim * inner + 4 * latents * dim * hidden_dim
    layer = latents_only + 4 * context * dim * inner + 4 * latents * context * inner
    frozen = 0 if way == "forward" else 4 * patches * dim * inner
    return items * depth * (OF_WAY[way] * layer - frozen)


def step_flops(sizes: Sizes, *, hidden_dim: int) -> int:
    """A decoding step of a block with cached keys and values: one token a row."""
    attention = 4 * sizes.dim * sizes.inner + 4 * sizes.latents * sizes.inner
    return sizes.batch * (attention + 4 * sizes.dim * hidden_dim)


def least_bytes(numbers: Iterable[int], *, itemsize: int, way: str = "forward") -> int:
    """Bytes of the tensors that a call reads and writes once each; backward reads them again and writes gradients.

    Args:
        numbers: Elements of each input, weight and output.
        itemsize: Bytes of an element.
        way: What the call does.
    """
    return OF_WAY[way] * itemsize * sum(numbers)
