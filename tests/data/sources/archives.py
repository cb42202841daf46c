"""Archives of the web, written by hand."""

import gzip


def record(url, body, *, head="Content-Type: text/html; charset=utf-8", status="200 OK", kind="response", extra=""):
    """A record of an archive as it stands in the file, without compression."""
    answer = f"HTTP/1.1 {status}\r\n{head}\r\n\r\n".encode() + body
    told = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nContent-Type: application/http\r\n{extra}"
    return f"{told}Content-Length: {len(answer)}\r\n\r\n".encode() + answer + b"\r\n\r\n"


def zstd(data):
    """A frame of its own."""
    import io

    from fastwarc.stream_io import ZstdWriter

    file = io.BytesIO()
    writer = ZstdWriter(file)
    writer.write(data)
    writer.close()
    return file.getvalue()


PACKERS = {".warc": bytes, ".warc.gz": gzip.compress, ".warc.zst": zstd}
