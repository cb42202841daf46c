"""Pages and images in: from files, from archives, and from the web when it is asked for."""

from flamingo_blocks.data.sources.fetcher import Fetcher, FolderFetcher
from flamingo_blocks.data.sources.first_fetcher import FirstFetcher, open_images
from flamingo_blocks.data.sources.html_folder import read_html_folder
from flamingo_blocks.data.sources.http_fetcher import HttpFetcher
from flamingo_blocks.data.sources.page import PAGE_REASONS, Page
from flamingo_blocks.data.sources.page_shards import PageShard, list_page_shards, open_pages
from flamingo_blocks.data.sources.pages_parquet import read_pages_parquet
from flamingo_blocks.data.sources.robots import ROBOTS_TAGS, robots_refusal
from flamingo_blocks.data.sources.warc import read_warc
from flamingo_blocks.data.sources.warc_fetcher import WarcFetcher

__all__ = [
    "PAGE_REASONS",
    "ROBOTS_TAGS",
    "Fetcher",
    "FirstFetcher",
    "FolderFetcher",
    "HttpFetcher",
    "Page",
    "PageShard",
    "WarcFetcher",
    "list_page_shards",
    "open_images",
    "open_pages",
    "read_html_folder",
    "read_pages_parquet",
    "read_warc",
    "robots_refusal",
]
