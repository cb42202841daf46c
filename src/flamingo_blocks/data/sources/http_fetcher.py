"""Images by their address, from the web: asked for carefully, and only by who asks for it."""

import http.client
import re
import socket
import ssl
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, urljoin, urlsplit

from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.sources.fetcher import MAX_IMAGE_BYTES
from flamingo_blocks.data.sources.public_addresses import Resolve, refused_address, system_addresses
from flamingo_blocks.data.sources.robots import ROBOTS_TAGS, robots_refusal
from flamingo_blocks.data.sources.timed_socket import TimedSocket, remaining_s

PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9._-]{1,253}|[0-9a-f:.]{2,45}", re.ASCII | re.IGNORECASE)
_REDIRECTS = (301, 302, 303, 307, 308)
_PIECE = 65_536
_SAFE = "!$%&'()*+,/:;=?@[]~"


@dataclass(frozen=True)
class _Target:
    url: str
    secure: bool
    host: str
    port: int
    path: str


class HttpFetcher:
    """Fetch images over the network, from the public internet and nowhere else.

    Addresses stand on pages that anybody wrote, and whoever fetches them stands inside of a network. So only http and
    https are spoken, on their own ports, and no name and password are sent. A name is looked up once; if one of its
    addresses is not public, nothing is asked for; else the connection goes to the very address that was looked at.
    Each redirect is looked at anew. Size and time are capped while the bytes arrive.

    No step of this library makes one by itself. `robots.txt` is not read, and nothing waits between two requests to a
    host: that is up to who orders the addresses.

    Args:
        max_bytes: Largest image.
        timeout_s: Seconds for one image, all redirects together. Looking up a name is the system's, which has its own.
        max_redirects: How often one is followed.
        robots: Directives of the header `X-Robots-Tag` that are obeyed; `()` obeys none.
        user_agent: What we call ourselves; an address to write to belongs into it.
        allowed: Pairs of address and port that are spoken to though they are not public, such as
            `("127.0.0.1", 8080)` for a server of one's own.
        resolve: Host and port in, addresses out; asks the system by default. Whatever it says is looked at.
        ca_file: Certificates that are trusted in place of the system's.

    Example:
        >>> HttpFetcher().fetch("http://127.0.0.1/secret")
        Dropped(reason='fetch_address', detail="'127.0.0.1' of 127.0.0.1 is not of the public internet")
        >>> HttpFetcher().fetch("file:///etc/passwd").reason
        'fetch_url'
    """

    reasons = (
        "fetch_url", "fetch_host", "fetch_address", "fetch_redirects", "fetch_status", "fetch_robots", "fetch_bytes",
        "fetch_time", "fetch_failed",
    )  # fmt: skip

    def __init__(
        self,
        *,
        max_bytes: int = MAX_IMAGE_BYTES,
        timeout_s: float = 10.0,
        max_redirects: int = 5,
        robots: Collection[str] = ROBOTS_TAGS,
        user_agent: str = "flamingo_blocks",
        allowed: Collection[tuple[str, int]] = (),
        resolve: Resolve = system_addresses,
        ca_file: str | None = None,
    ) -> None:
        self.max_bytes, self.timeout_s, self.max_redirects = max_bytes, timeout_s, max_redirects
        self.robots, self.user_agent, self.ca_file = tuple(robots), user_agent, ca_file
        self.allowed, self.resolve = frozenset(allowed), resolve

    def fetch(self, url: str) -> bytes | Dropped:
        """The bytes of an image, or why there are none.

        Args:
            url: Its address.
        """
        deadline = time.monotonic() + self.timeout_s
        for _ in range(self.max_redirects + 1):
            try:
                found = self._fetch_once(url, deadline)
            except TimeoutError:
                return Dropped("fetch_time", f"{url[:200]} took more than {self.timeout_s:g} s")
            except (OSError, http.client.HTTPException, ValueError) as error:
                return Dropped("fetch_failed", f"{url[:200]}: {type(error).__name__}: {str(error)[:200]}")
            if not isinstance(found, str):
                return found
            url = found
        return Dropped("fetch_redirects", f"more than {self.max_redirects}, the last to {url[:200]}")

    def _fetch_once(self, url: str, deadline: float) -> bytes | Dropped | str:
        """The bytes, or why there are none, or the address that stands for this one."""
        target = _target(url, {port for _, port in self.allowed})
        if isinstance(target, Dropped):
            return target
        addresses = self._addresses(target)
        if isinstance(addresses, Dropped):
            return addresses
        with self._connect(target, addresses, deadline) as stream:
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.default_port = PORTS["https" if target.secure else "http"]
            connection.sock = TimedSocket(stream, deadline)
            told = {"User-Agent": self.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"}
            connection.request("GET", target.path, headers={**told, "Connection": "close"})
            response = connection.getresponse()
            if response.status in _REDIRECTS and (location := response.headers.get("Location")):
                return urljoin(target.url, location.encode("latin-1", "replace").decode("utf-8", "replace"))
            return self._read(response, target.url)

    def _addresses(self, target: _Target) -> Sequence[str] | Dropped:
        """The addresses of a host, all of which have been looked at."""
        try:
            found = self.resolve(target.host, target.port)
        except (OSError, UnicodeError) as error:
            return Dropped("fetch_host", f"{target.host}: {error}")
        if not found:
            return Dropped("fetch_host", f"{target.host} has no address")
        if (refused := refused_address(found, target.port, allowed=self.allowed)) is not None:
            return Dropped("fetch_address", f"{refused!r} of {target.host} is not of the public internet")
        if target.port not in PORTS.values() and any((one, target.port) not in self.allowed for one in found):
            return Dropped("fetch_url", f"{target.url[:200]!r} asks for port {target.port}, wanted 80 or 443")
        return found

    def _connect(self, target: _Target, addresses: Sequence[str], deadline: float) -> socket.socket:
        for address in addresses:
            try:
                stream = socket.create_connection((address, target.port), timeout=remaining_s(deadline))
                break
            except OSError:
                if address == addresses[-1]:
                    raise
        if not target.secure:
            return stream
        try:
            stream.settimeout(remaining_s(deadline))
            return _tls(self.ca_file).wrap_socket(stream, server_hostname=target.host)
        except BaseException:
            stream.close()
            raise

    def _read(self, response: http.client.HTTPResponse, url: str) -> bytes | Dropped:
        if response.status != 200:
            return Dropped("fetch_status", f"{url[:200]}: {response.status}, wanted 200")
        tags = response.headers.get_all("X-Robots-Tag", [])
        if (directive := robots_refusal(tags, refused=self.robots)) is not None:
            return Dropped("fetch_robots", f"{url[:200]}: {directive}")
        if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
            return Dropped("fetch_failed", f"{url[:200]} came as {encoding}, which was not asked for")
        found = bytearray()
        while piece := response.read(min(_PIECE, self.max_bytes + 1 - len(found))):
            found += piece
            if len(found) > self.max_bytes:
                return Dropped("fetch_bytes", f"{url[:200]} has more than {self.max_bytes} bytes")
        if response.length:  # that it still owes
            return Dropped("fetch_failed", f"{url[:200]} ended after {len(found)} bytes")
        return bytes(found)


def _target(url: str, ports: Collection[int]) -> _Target | Dropped:
    """What to ask whom for, if an address is one that we ask for at all."""
    told = repr(url[:200])
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
        name = host if host.isascii() else host.encode("idna").decode("ascii")
    except ValueError:  # brackets that hold no address, a port that is no number, a name that is none
        return Dropped("fetch_url", f"{told} is no address")
    if parts.scheme not in PORTS:
        return Dropped("fetch_url", f"{told} is neither http nor https")
    if parts.username is not None or parts.password is not None:
        return Dropped("fetch_url", f"{parts.scheme}://{host} was to be asked with a name and a password")
    if not _HOST.fullmatch(name):
        return Dropped("fetch_url", f"{told} has no host")
    port = PORTS[parts.scheme] if port is None else port
    if port not in PORTS.values() and port not in ports:
        return Dropped("fetch_url", f"{told} asks for port {port}, wanted 80 or 443")
    path = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    return _Target(parts._replace(fragment="").geturl(), parts.scheme == "https", name, port, path)


@lru_cache(maxsize=4)
def _tls(ca_file: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca_file)
