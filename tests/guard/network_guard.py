"""Importing this refuses every network address but the loopback, in this process and for good.

An audit hook (PEP 578) sits below every Python socket, and nothing in the process can take it off again.
Lessons and tests run under it, so that none of them needs the network without anybody noticing.
"""

import ipaddress
import socket
import sys

TO_ADDRESS = ("socket.connect", "socket.sendto", "socket.sendmsg")  # (socket, address)
TO_NAME = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")  # (name, ...)


class Refused(OSError):
    """The network was asked for under test."""


def _hook(event: str, args: tuple) -> None:
    if event in TO_ADDRESS:
        internet = args[0].family in (socket.AF_INET, socket.AF_INET6)
        if internet and args[1] is not None and not _loopback(args[1][0]):
            raise Refused(f"{event} to {args[1]!r}: tests may only use the loopback")
    elif event in TO_NAME and not _loopback(args[0], or_number=True):
        raise Refused(f"{event} of {args[0]!r}: tests may only use the loopback")


def _loopback(host: str | bytes | None, or_number: bool = False) -> bool:
    """Whether `host` is this machine; with `or_number` any address in digits will do: it needs no asking."""
    host = host.decode() if isinstance(host, bytes | bytearray) else host
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback or or_number
    except ValueError:
        return False


sys.addaudithook(_hook)
