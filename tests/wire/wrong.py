# SPDX-License-Identifier: BSD-2-Clause
"""Wrong input that every command must take (reference, 12.1)."""

import errno
import struct

import pytest

from vfio_user import Event, GET_INFO, NO_REPLY, Refused, info_body


def is_alive(client):
    return len(client.call(GET_INFO, info_body()).body) == 16


def refused(client, command, body=b"", fds=(), number=errno.EINVAL):
    """The command is answered with this error, and the session goes on."""
    with pytest.raises(Refused) as caught:
        client.call(command, body, fds)
    assert caught.value.errno == number
    assert is_alive(client)


def short_bodies(client, command, good, fds=()):
    for length in range(len(good)):
        refused(client, command, good[:length], fds)


def small_argsz(client, command, good, fds=()):
    """argsz 0, and everything up to one less than the least."""
    least = struct.unpack_from("=I", good)[0]
    for argsz in {0, 1, least - 1}:
        refused(client, command, struct.pack("=I", argsz) + good[4:], fds)


def unwanted_fds(client, command, good):
    event = Event()
    before = client.register(0x2c)
    for count in (1, 2, 16):
        refused(client, command, good, [event.fd] * count)
    assert client.register(0x2c) == before
    event.close()


def silent(client, command, body=b"", fds=()):
    """With No_reply there is no reply, whether it goes well or not."""
    client.send(command, body, fds, NO_REPLY)
    assert client.is_silent()
    assert is_alive(client)
