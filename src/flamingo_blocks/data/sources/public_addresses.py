"""Which machines of a name may be talked to."""

import socket
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

Resolve = Callable[[str, int], Sequence[str]]
_NAT64 = IPv6Network("64:ff9b::/96")  # addresses of IPv4 behind a translator


def system_addresses(host: str, port: int) -> list[str]:
    """The addresses of a host, as the system looks them up.

    Args:
        host: Name or address in any form that the system takes.
        port: That will be asked for.

    Raises:
        OSError: If there are none.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def refused_address(addresses: Sequence[str], port: int, *, allowed: Collection[tuple[str, int]] = ()) -> str | None:
    """The first address that is not of the public internet.

    All are looked at, not only the one that is taken: a name that stands for a machine inside as well as for one
    outside wants to lead somebody in.

    Args:
        addresses: Of one host.
        port: That will be asked for.
        allowed: Pairs of address and port that are taken nevertheless.

    Example:
        >>> refused_address(["93.184.215.14"], 80), refused_address(["93.184.215.14", "::ffff:10.0.0.1"], 80)
        (None, '::ffff:10.0.0.1')
    """
    return next((one for one in addresses if (one, port) not in allowed and not _is_public(one)), None)


def _is_public(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:  # a zone of one machine, among others
        return False
    if isinstance(found, IPv6Address) and (inner := _inner_addresses(found)):
        return all(map(_is_global, inner))
    return _is_global(found)


def _inner_addresses(address: IPv6Address) -> list[IPv4Address]:
    """Addresses of IPv4 that an address of IPv6 stands for."""
    teredo = address.teredo or ()
    inner = [one for one in (address.ipv4_mapped, address.sixtofour, *teredo) if one is not None]
    if address in _NAT64:
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return inner


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    # Multicast is "global" to some versions of Python.
    return address.is_global and not address.is_multicast and not address.is_reserved
