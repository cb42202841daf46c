"""A connection with an end in time, however slowly it drips."""

import io
import socket
import time


class TimedSocket:
    """What `http.client` needs of a socket, with one deadline for all of it.

    A time-out of a socket begins anew at each piece that arrives: a server that sends a byte a second would keep a
    worker for hours.

    Args:
        connection: The socket.
        deadline: By `time.monotonic()`.
    """

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection, self.deadline = connection, deadline

    def sendall(self, data: bytes) -> None:
        """Send all of it.

        Args:
            data: Bytes.
        """
        self.connection.settimeout(remaining_s(self.deadline))
        self.connection.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """A file to read from.

        Args:
            mode: `"rb"`.
        """
        assert mode == "rb"
        return io.BufferedReader(_TimedReader(self))

    def close(self) -> None:
        """Leave the connection open: `http.client` closes its own before the last byte is read, and we ours after."""


class _TimedReader(io.RawIOBase):
    def __init__(self, timed: TimedSocket) -> None:
        self.timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self.timed.connection.settimeout(remaining_s(self.timed.deadline))
        return self.timed.connection.recv_into(buffer)


def remaining_s(deadline: float) -> float:
    """Seconds until a deadline.

    Args:
        deadline: By `time.monotonic()`.

    Raises:
        TimeoutError: If there are none left.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return left
