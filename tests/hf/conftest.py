"""Transformers writes progress bars and reads the network's switch; tests want neither."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def _quiet():
    """No progress bars."""
    from transformers.utils import logging

    logging.disable_progress_bar()
