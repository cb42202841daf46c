"""Documents on disk: records of others and ours, read and written without loss."""

from flamingo_blocks.data.atomic_file import WrittenFile
from flamingo_blocks.data.record_error import RecordError
from flamingo_blocks.data.records.assignment import best_assignment
from flamingo_blocks.data.records.media_kind import media_suffix
from flamingo_blocks.data.records.members import from_members, to_members
from flamingo_blocks.data.records.mmc4 import from_mmc4, to_mmc4
from flamingo_blocks.data.records.obelics import from_obelics, to_obelics
from flamingo_blocks.data.records.open_documents import check_file, open_documents
from flamingo_blocks.data.records.pairs import from_pair, to_pair
from flamingo_blocks.data.records.parquet_files import read_documents_parquet, write_documents_parquet
from flamingo_blocks.data.records.read_sample import read_row, read_sample

__all__ = [
    "RecordError",
    "WrittenFile",
    "best_assignment",
    "check_file",
    "from_members",
    "from_mmc4",
    "from_obelics",
    "from_pair",
    "media_suffix",
    "open_documents",
    "read_documents_parquet",
    "read_row",
    "read_sample",
    "to_members",
    "to_mmc4",
    "to_obelics",
    "to_pair",
    "write_documents_parquet",
]
