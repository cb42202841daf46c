"""A look at documents: a page that shows them as the model will see them."""

from flamingo_blocks.data.show.see_document import SeenDocument, SeenRun, see_document
from flamingo_blocks.data.show.show_documents import show_documents
from flamingo_blocks.data.show.word_tokenizer import WordTokenizer

__all__ = ["SeenDocument", "SeenRun", "WordTokenizer", "see_document", "show_documents"]
