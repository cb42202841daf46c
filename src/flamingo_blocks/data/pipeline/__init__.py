"""From pages to shards of documents, all steps together."""

from flamingo_blocks.data.pipeline.build_documents import BuildError, DocumentsBuilt, build_documents
from flamingo_blocks.data.pipeline.page_step import PageStep
from flamingo_blocks.data.pipeline.presets import page_step
from flamingo_blocks.data.pipeline.signature_step import Finder, SignatureStep
from flamingo_blocks.data.pipeline.unique_step import UniqueStep

__all__ = [
    "BuildError",
    "DocumentsBuilt",
    "Finder",
    "PageStep",
    "SignatureStep",
    "UniqueStep",
    "build_documents",
    "page_step",
]
