"""How many graphs a stream of batches costs: torch makes its own for 0, for 1 and for more items, and then no more.

It also takes sizes that are equal in the batch it compiles for one size, and compiles again when they first differ. The
batches that compile here have none but those that are always equal.
"""

from itertools import pairwise

import torch

from tests.compile.compiled import DIM, LATENTS, VISION_DIM, compile_whole, make_block, noise, place

ITEMS = (3, 3, 5, 1, 0, 8, 6, 4)
TEXTS = (61, 83)  # so long that the last run is cut, and pieces are not as many as items
STREAM = [(items, TEXTS[number % 2]) for number, items in enumerate(ITEMS)]


def graphs_by_batch(blocks, stream, num_graphs, *, scope="last", **options):
    """Forward and backward through blocks compiled one by one; new graphs at each batch.

    Text enters without gradient, as it does behind a frozen embedding.
    """
    compiled = [compile_whole(block.forward, **options) for block in blocks]
    made = [0]
    for items, text in stream:
        layout = place(items, text, scope=scope).prepare()
        media = noise(items, LATENTS, VISION_DIM).requires_grad_()
        out, expected = [noise(2, text, DIM)], [noise(2, text, DIM)]
        for block, forward in zip(blocks, compiled, strict=True):
            out.append(forward(out[-1], media, layout))
            expected.append(block(expected[-1], media, layout))
        (actual_grad,) = torch.autograd.grad(out[-1].sin().mean(), media)
        (expected_grad,) = torch.autograd.grad(expected[-1].sin().mean(), media)
        torch.testing.assert_close(out[-1], expected[-1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(actual_grad, expected_grad, atol=1e-5, rtol=1e-5)
        made.append(num_graphs())
    return [after - before for before, after in pairwise(made)]


def test_no_new_graph_once_none_one_and_many_items_were_seen(num_graphs):
    """After 0, 1 and many items and two lengths of text, no batch compiles anything, whatever its sizes."""
    source = torch.Generator().manual_seed(0)
    drawn = zip(torch.randint(9, (24,), generator=source), torch.randint(45, 97, (24,), generator=source), strict=True)
    more = [(int(items), int(text)) for items, text in drawn]
    made = graphs_by_batch([make_block()], STREAM + more, num_graphs)
    assert sum(made[:5]) <= 4
    assert made[5:] == [0] * (len(made) - 5)


def test_scope_all_is_no_exception(num_graphs):
    """A layout in which tokens see several items needs no more graphs than one in which they see one."""
    made = graphs_by_batch([make_block()], STREAM, num_graphs, scope="all")
    assert sum(made[:5]) <= 4
    assert made[5:] == [0, 0, 0]


def test_24_blocks_stay_within_the_default_limit(num_graphs):
    """Blocks share their graphs: those of the first, whose text needs no gradient, and those of all others."""
    made = graphs_by_batch([make_block(seed) for seed in range(24)], STREAM, num_graphs)
    assert sum(made) <= torch._dynamo.config.recompile_limit == 8
    assert made[5:] == [0, 0, 0]


def test_items_that_nobody_sees_are_one_graph_more(num_graphs):
    """Which items are seen is no part of a graph; that some are not, is."""
    block = make_block()
    compiled = compile_whole(block.forward)
    made = []
    for size, ids in [(5, [[0, 1], [2, 3]]), (7, [[0, 1], [2, 3]]), (9, [[8, 1], [3, 3]]), (6, [[4, 1], [2, 5]])]:
        layout = place(4, 61, item_ids=torch.tensor(ids)).prepare()
        inputs = noise(2, 61, DIM), noise(size, LATENTS, VISION_DIM)
        torch.testing.assert_close(compiled(*inputs, layout), block(*inputs, layout), atol=1e-5, rtol=1e-5)
        made.append(num_graphs())
    assert made[0] == 1
    assert made[-1] <= 3
    assert made[-1] == made[-2]


def test_decoding_compiles_once(num_graphs):
    """Step after step, and image after image in the conversation, runs the graph of the first step."""
    block = make_block(num_heads=4)
    compiled = compile_whole(block.forward)
    made = []
    with torch.no_grad():
        for items, width in [(5, 17), (5, 18), (5, 19), (7, 29), (8, 31)]:
            media = block.project_media(noise(items, LATENTS, VISION_DIM))
            layout = place(items, 17).extend(width - 17).slice(width - 1, width)
            text = noise(2, 1, DIM)
            torch.testing.assert_close(compiled(text, media, layout), block(text, media, layout), atol=1e-5, rtol=1e-5)
            made.append(num_graphs())
    assert made == [1] * 5
