"""Images from the web: what is asked for, and what never is. Here the web is a server on this machine."""

import inspect
import pickle
import socket
import threading
from contextlib import contextmanager, suppress

import pytest

import flamingo_blocks.data.sources.http_fetcher as module
from flamingo_blocks.data import Dropped
from flamingo_blocks.data.sources import HttpFetcher
from flamingo_blocks.data.sources.public_addresses import refused_address

BODY = b"an image of some bytes"
TLS = b"\x16"  # with which a greeting begins


@contextmanager
def raw_server(answer):
    """A server on this machine; `answer` gets each connection and the head of what was asked."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked, done = [], threading.Event()

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and not head.startswith(TLS) and (piece := connection.recv(4096)):
                    head += piece
                asked.append(head.decode("latin-1"))
                with suppress(OSError):  # who asked has gone
                    answer(connection, head.decode("latin-1"), done)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        done.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def saying(head, body=BODY):
    """A server that always says the same."""

    def answer(connection, _, __):
        connection.sendall(f"HTTP/1.1 {head}\r\n\r\n".encode() + body)

    return raw_server(answer)


def fetcher_for(port, **options):
    return HttpFetcher(allowed=[("127.0.0.1", port)], resolve=lambda host, port: ["127.0.0.1"], **options)


def test_an_image_is_fetched():
    """The name goes into the request, and the connection to the address that was looked at; nothing else is told."""
    with saying("200 OK\r\nContent-Length: 22") as (port, asked):
        url = f"http://www.ex.com:{port}/a b/ä.jpg?x=1 2&y=%20#part"
        assert fetcher_for(port, user_agent="cats (https://ex.com/us)").fetch(url) == BODY
    first, *headers = asked[0].strip().split("\r\n")
    assert first == "GET /a%20b/%C3%A4.jpg?x=1%202&y=%20 HTTP/1.1"
    assert sorted(headers) == [
        "Accept-Encoding: identity", "Accept: image/*", "Connection: close", f"Host: www.ex.com:{port}",
        "User-Agent: cats (https://ex.com/us)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "ftp://ex.com/x", "data:image/png;base64,AA", "javascript:1", "//ex.com/x", "ex.com/x",
        "", "http:///x", "http://", "http://[bad/x", "http://me:word@ex.com/x", "http://me@ex.com/x", "http://@ex.com/x",
        "http://ex.com:22/x", "https://ex.com:8443/", "http://ex.com:0/", "http://ex.com:99999/", "http://ex.com:x/",
        "http://ex com/", "http://ex.com\\@in.side/x", "http://[fe80::1%25eth0]/", "http://a..b\xad/",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_of_the_web_is_refused(url):
    """Before any name is looked up."""

    def resolve(host, port):
        raise AssertionError(f"{host} was looked up")

    assert HttpFetcher(resolve=resolve).fetch(url).reason == "fetch_url"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "127.1", "0", "10.0.0.1", "192.168.1.1",
     "172.16.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "[::1]", "[::]",
     "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fc00::1]", "[fe80::1]", "[ff02::1]", "[64:ff9b::7f00:1]",
     "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]", "localhost"],
)  # fmt: skip
def test_machines_inside_are_never_asked(host, monkeypatch):
    """However their address is written; no connection is tried."""
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("a connection was tried"))
    found = HttpFetcher().fetch(f"http://{host}/latest/meta-data")
    assert found.reason in ("fetch_address", "fetch_host"), found  # a system may refuse to take such a name


def test_one_address_inside_is_enough():
    """Public ones beside it do not help, nor does an allowed one."""
    assert refused_address(["93.184.215.14", "2606:2800:21f:cb07::1"], 443) is None
    assert refused_address(["64:ff9b::5db8:d70e", "::ffff:93.184.215.14"], 80) is None
    for inside in ("10.0.0.1", "::ffff:10.0.0.1", "no address", "fe80::1%eth0"):
        assert refused_address(["93.184.215.14", inside], 80) == inside
        assert refused_address(["127.0.0.1", inside], 80, allowed=[("127.0.0.1", 80)]) == inside
    assert refused_address(["127.0.0.1"], 81, allowed=[("127.0.0.1", 80)]) == "127.0.0.1"


def test_a_port_that_one_machine_may_use_is_not_everyones():
    """Others are asked on 80 and 443 alone."""
    fetcher = HttpFetcher(allowed=[("127.0.0.1", 8080)], resolve=lambda *_: ["93.184.215.14"])
    assert fetcher.fetch("http://ex.com:8080/").reason == "fetch_url"


def test_a_name_is_looked_up_once():
    """Who answers otherwise the second time is not asked a second time."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    with saying("200 OK\r\nContent-Length: 22") as (port, _):
        fetcher = HttpFetcher(allowed=[("127.0.0.1", port)], resolve=lambda *_: answers.pop(0))
        assert fetcher.fetch(f"http://ex.com:{port}/") == BODY
    assert answers == [["10.0.0.1"]]


def redirecting(target):
    def answer(connection, head, _):
        path = head.split()[1]
        number = int(path[1:]) if path[1:].isdigit() else 0
        if number:
            connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: /{number - 1}\r\n\r\n".encode())
        else:
            connection.sendall(f"HTTP/1.1 307 Moved\r\nLocation: {target}\r\n\r\n".encode())

    return raw_server(answer)


@pytest.mark.parametrize(
    ("target", "reason"),
    [("http://10.0.0.1/x", "fetch_address"), ("http://127.0.0.1:80/", "fetch_address"),
     ("file:///etc/passwd", "fetch_url"), ("//[::ffff:169.254.169.254]/", "fetch_address"),
     ("http://me:word@127.0.0.1/", "fetch_url"),
     ("/0", "fetch_redirects"), ("http://[bad", "fetch_failed"), ("https://127.0.0.1:22/", "fetch_url")],
)  # fmt: skip
def test_a_redirect_is_looked_at_like_any_address(target, reason):
    """Wherever it leads, and five of them at most."""
    with redirecting(target) as (port, asked):
        fetcher = HttpFetcher(allowed=[("127.0.0.1", port)])
        found = fetcher.fetch(f"http://127.0.0.1:{port}/2")
    assert found.reason == reason, found
    assert len(asked) == (6 if reason == "fetch_redirects" else 3)


def test_a_redirect_is_followed():
    """To where it leads from the page that said so."""

    def answer(connection, head, _):
        if "GET /sub/%C3%A4 " in head:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
        else:
            connection.sendall("HTTP/1.1 301 Moved\r\nLocation: ä\r\n\r\n".encode())

    with raw_server(answer) as (port, _):
        assert fetcher_for(port).fetch(f"http://ex.com:{port}/sub/x") == BODY
        assert fetcher_for(port, max_redirects=0).fetch(f"http://ex.com:{port}/sub/x").reason == "fetch_redirects"


@pytest.mark.parametrize(
    ("head", "body", "reason"),
    [
        ("404 Not Found", BODY, "fetch_status"),
        ("204 No Content", b"", "fetch_status"),
        ("302 Found", b"", "fetch_status"),
        ("200 OK\r\nX-Robots-Tag: all\r\nx-robots-tag: NoImageAI, x", BODY, "fetch_robots"),
        ("200 OK", b"x" * 101, "fetch_bytes"),
        ("200 OK\r\nContent-Length: 9999999999999", b"x" * 101, "fetch_bytes"),
        ("200 OK\r\nTransfer-Encoding: chunked", b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n", "fetch_bytes"),
        ("200 OK\r\nTransfer-Encoding: chunked", b"65\r\nxx", "fetch_failed"),
        ("200 OK\r\nTransfer-Encoding: chunked", b"cat\r\nxx", "fetch_failed"),
        ("200 OK\r\nContent-Length: 50", BODY, "fetch_failed"),
        ("200 OK\r\nContent-Encoding: gzip", BODY, "fetch_failed"),
        ("two hundred", BODY, "fetch_failed"),
        ("200 OK\r\n" + "X: y\r\n" * 200, BODY, "fetch_failed"),
        ("200 OK\r\nX: " + "y" * 70_000, BODY, "fetch_failed"),
    ],
    ids=str,
)
def test_an_answer_that_is_no_image_of_a_size_is_a_reason(head, body, reason):
    """Whatever is said or sent."""
    with saying(head, body) as (port, _):
        fetcher = fetcher_for(port, max_bytes=100)
        found = fetcher.fetch(f"http://ex.com:{port}/")
    assert isinstance(found, Dropped)
    assert found.reason == reason, found
    assert reason in fetcher.reasons


@pytest.mark.parametrize(
    "begin", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
def test_who_drips_is_left(begin):
    """In the head as in the body: there is one end in time for all of it."""

    def answer(connection, _, done):
        connection.sendall(begin)
        while not done.wait(0.02):
            connection.sendall(b"x")

    with raw_server(answer) as (port, _):
        assert fetcher_for(port, timeout_s=0.3).fetch(f"http://ex.com:{port}/").reason == "fetch_time"


def test_the_size_that_is_just_right_is_taken():
    """And no byte more is waited for."""
    with saying("200 OK\r\nContent-Length: 22") as (port, _):
        assert fetcher_for(port, max_bytes=22).fetch(f"http://ex.com:{port}/") == BODY
        assert fetcher_for(port, max_bytes=21).fetch(f"http://ex.com:{port}/").reason == "fetch_bytes"


def test_whom_nobody_knows_and_nobody_answers_are_reasons():
    """Names without address, and ports without a server."""

    def unknown(host, port):
        raise socket.gaierror(-2, "unknown")

    assert HttpFetcher(resolve=unknown).fetch("http://ex.com/").reason == "fetch_host"
    assert HttpFetcher(resolve=lambda *_: []).fetch("http://ex.com/").reason == "fetch_host"
    with saying("200 OK") as (port, _):
        pass
    assert fetcher_for(port).fetch(f"http://ex.com:{port}/").reason == "fetch_failed"


def test_https_proves_the_name_and_not_the_address(monkeypatch):
    """The name of the host is what the certificate must have; its port does not stand in the request."""
    seen = []

    class Tls:
        def wrap_socket(self, stream, *, server_hostname):
            seen.append(server_hostname)
            return stream

    monkeypatch.setattr(module, "_tls", lambda ca_file: Tls())
    with saying("200 OK\r\nContent-Length: 22") as (port, asked):
        monkeypatch.setitem(module.PORTS, "https", port)
        assert fetcher_for(port).fetch("https://www.ex.com/x") == BODY
    assert seen == ["www.ex.com"]
    assert "Host: www.ex.com\r\n" in asked[0]


def test_a_server_without_a_certificate_is_not_trusted():
    """What it says is no TLS at all."""
    with saying("200 OK") as (port, _):
        assert fetcher_for(port).fetch(f"https://ex.com:{port}/").reason == "fetch_failed"


def test_a_fetcher_can_be_sent_to_a_worker():
    """With all that it was told."""
    fetcher = pickle.loads(pickle.dumps(HttpFetcher(max_bytes=7, timeout_s=2)))  # noqa: S301 - our own
    assert (fetcher.max_bytes, fetcher.timeout_s) == (7, 2)
    assert fetcher.fetch("http://127.0.0.1/").reason == "fetch_address"


def test_nothing_fetches_unless_it_is_told_to():
    """No argument of a source has a fetcher of the network for its default."""
    from flamingo_blocks.data import sources

    for name in sources.__all__:
        thing = getattr(sources, name)
        if callable(thing) and name != "HttpFetcher":
            defaults = [parameter.default for parameter in inspect.signature(thing).parameters.values()]
            assert not any(isinstance(default, HttpFetcher) for default in defaults)
