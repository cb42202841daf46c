"""A text is found again by either sketch."""

from flamingo_blocks.data import Dropped, InterleavedDocument
from flamingo_blocks.data.dedup import TextNearDuplicates

text = "It was late in the year when we came to the house by the river, and the people there had no bread."
for backend in ("rensa", "numpy"):
    find = TextNearDuplicates(backend=backend)
    again = InterleavedDocument.from_parts(["*", text.upper()])
    first = find.signatures([("a", InterleavedDocument.from_parts([text]))])
    assert isinstance(find.merge([find.signatures([("b", again)]), first]).filter("b", again), Dropped)
