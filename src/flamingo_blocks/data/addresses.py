"""Addresses of the web, as they are compared."""

from typing import Any
from urllib.parse import urlsplit


def address(url: Any) -> str | None:
    """An address as it is compared: without its fragment, scheme and host in lower case; `None` for what is none."""
    if not isinstance(url, str) or not url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that hold no address
        return url
    return parts._replace(scheme=parts.scheme.lower(), netloc=parts.netloc.lower(), fragment="").geturl()


def host(url: Any) -> str | None:
    """The host of an address in lower case; `None` where none is told."""
    try:
        return urlsplit(url).hostname if isinstance(url, str) else None
    except ValueError:
        return None
