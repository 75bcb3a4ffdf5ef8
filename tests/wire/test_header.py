# SPDX-License-Identifier: BSD-2-Clause
"""The message header: reference, 1.1."""

import errno

import pytest

from vfio_user import (GET_INFO, MAX_XFER, NO_REPLY, REGION_WRITE, REPLY, RESET, Closed, header,
                       info_body)
from wrong import is_alive

MOST = 16 + 16 + MAX_XFER


@pytest.mark.parametrize("size", [0, 1, 15, MOST + 1, 2 ** 31, 2 ** 32 - 1])
@pytest.mark.parametrize("flags", [0, NO_REPLY])
def test_bad_size_closes(client, server, event, size, flags):
    before = server.fds()
    client.send_raw(header(1, REGION_WRITE, 0, flags, size=size), [event().fd])
    assert client.is_closed()
    assert "connection ended: message is" in server.text()
    assert server.fds() <= before


@pytest.mark.parametrize("kind", range(1, 16))
def test_what_is_no_command_closes(client, server, kind):
    client.send_raw(header(1, RESET, 0, kind))
    assert client.is_closed()
    assert ("reply to nothing" if kind == REPLY else "neither command nor reply") in server.text()


@pytest.mark.parametrize("flags", [0x20, 0x40, 0x80000000])
def test_strange_flags_are_refused(client, flags):
    ident = client.send(RESET, flags=flags)
    reply = client.recv()
    assert (reply.id, reply.flags, reply.error, reply.size) == (ident, 0x21, errno.EINVAL, 16)
    assert is_alive(client)


@pytest.mark.parametrize("ident", [0, 1, 0x7fff, 0xffff])
def test_id_is_echoed(client, ident):
    client.send_raw(header(ident, GET_INFO, 16) + info_body())
    assert client.recv().id == ident


def test_ids_wrap(client):
    client.next = 0xfff0
    for _ in range(32):
        assert is_alive(client)


def test_error_field_of_a_command_is_ignored(client):
    client.send_raw(header(5, GET_INFO, 16, error=77) + info_body())
    assert client.recv().error == 0


def test_body_of_the_largest_message(client):
    client.send(REGION_WRITE, bytes(MOST - 16))
    assert client.recv().error == errno.EINVAL
    assert is_alive(client)


def test_log_is_not_flooded(client, server):
    for _ in range(300):
        client.send(99, flags=NO_REPLY)
    assert is_alive(client)
    assert server.text().count("warn: echo: ?") == 32
    assert "more complaints about this client" in server.text()


def test_garbage(raw):
    with pytest.raises(Closed):
        raw.send_raw(bytes(range(256)) * 16)
        raw.recv_bytes(1)
