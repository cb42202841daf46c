"""What an evaluation leaves: predictions, results, and reports to read, with published scores beside one's own."""

from flamingo_blocks.evaluation.reports.findings import Finding, find_warnings
from flamingo_blocks.evaluation.reports.journal import Journal, read_journals
from flamingo_blocks.evaluation.reports.predictions import read_predictions, write_predictions
from flamingo_blocks.evaluation.reports.published import Published, mean_of_ratios, published_scores
from flamingo_blocks.evaluation.reports.report_html import html_report
from flamingo_blocks.evaluation.reports.report_md import markdown_report
from flamingo_blocks.evaluation.reports.results_json import read_results, write_results
from flamingo_blocks.evaluation.reports.results_schema import SCHEMA_VERSION
from flamingo_blocks.evaluation.reports.server_files import SERVER_FORMATS, write_server_file
from flamingo_blocks.evaluation.reports.summarise import Summary, summarise
from flamingo_blocks.evaluation.reports.write_report import ReportFiles, write_report

__all__ = [
    "SCHEMA_VERSION", "SERVER_FORMATS", "Finding", "Journal", "Published", "ReportFiles", "Summary", "find_warnings",
    "html_report", "markdown_report", "mean_of_ratios", "published_scores", "read_journals", "read_predictions",
    "read_results", "summarise", "write_predictions", "write_report", "write_results", "write_server_file",
]  # fmt: skip
