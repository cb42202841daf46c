"""A page with an image is read, its language told, the image opened, and the document written to Parquet."""

import io

from PIL import Image

from flamingo_blocks.data import InterleavedDocument
from flamingo_blocks.data.build import LocalExecutor  # noqa: F401 - the builder imports
from flamingo_blocks.data.filters import identify_language
from flamingo_blocks.data.filters.image_gate import open_image
from flamingo_blocks.data.html import decode_page, extract_page
from flamingo_blocks.data.records import read_documents_parquet, write_documents_parquet
from flamingo_blocks.data.sources import read_warc  # noqa: F401

page = "<h1>Cats</h1><p>This is the house that we have built for the cat:<img src=/cat.jpg alt='A cat'>and more."
document = extract_page(decode_page(page.encode()), url="https://ex.com/")
assert isinstance(document, InterleavedDocument)
assert identify_language(document.text)[0] == "en"
file = io.BytesIO()
Image.new("RGB", (40, 30), "red").save(file, "PNG")
assert open_image(file.getvalue()).size == (40, 30)
write_documents_parquet("a.parquet", [InterleavedDocument.from_parts(["a", "b"])])
assert [read.text for read in read_documents_parquet("a.parquet")] == ["ab"]
