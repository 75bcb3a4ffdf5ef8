# SPDX-License-Identifier: BSD-2-Clause
"""VERSION: reference, 3."""

import errno
import json
import struct

import pytest

from vfio_user import (CLOUD_HYPERVISOR_CAPABILITIES, NO_REPLY, QEMU_CAPABILITIES, RESET, VERSION,
                       Closed, Refused, version_body)
from wrong import is_alive, refused, silent, unwanted_fds

OURS = {"capabilities": {"max_msg_fds": 16, "max_data_xfer_size": 65536,
                         "max_dma_maps": 65535, "pgsizes": 4096}}


def test_qemu(raw):
    request = version_body(0, 0, QEMU_CAPABILITIES)
    assert len(request) + 16 == 214
    reply = raw.call(VERSION, request)
    assert reply.size <= 214            # longer is fatal
    assert struct.unpack_from("=HH", reply.body) == (0, 0)
    assert reply.body.index(b"\0", 4) == len(reply.body) - 1
    assert json.loads(reply.body[4:-1]) == OURS
    assert is_alive(raw)


def test_cloud_hypervisor(raw):
    assert raw.negotiate(0, 1, CLOUD_HYPERVISOR_CAPABILITIES) == (0, 1, OURS)


@pytest.mark.parametrize("minor", [2, 3, 0xffff])
def test_minor_is_ours_if_theirs_is_higher(raw, minor):
    assert raw.negotiate(0, minor)[:2] == (0, 1)


@pytest.mark.parametrize("text", [b"", b"{}\0", b'{"capabilities":{}}\0', b'{"capabilities":[]}\0',
                                  b'{"twin":1,"capabilities":{"max_msg_fds":"many","x":null}}\0',
                                  b'{"capabilities":{"max_msg_fds":-3}}\0', b"{}\0 and more\0"])
def test_lenient(raw, text):
    assert raw.negotiate(0, 0, text)[2] == OURS
    assert is_alive(raw)


@pytest.mark.parametrize("body", [
    b"", b"\0", b"\0\0\0",                              # too short
    version_body(1, 0), version_body(0xffff, 0),        # another major
    version_body(0, 0, b"{}"), version_body(0, 0, b"x"),    # no NUL
    version_body(0, 0, b"\0"), version_body(0, 0, b"{\0"), version_body(0, 0, b"[]\0"),
    version_body(0, 0, b"7\0"), version_body(0, 0, b'{"capabilities":{\0'),
    version_body(0, 0, b'{"\xff\xfe":1}\0'), version_body(0, 0, b"[" * 60000 + b"\0"),
])
def test_failed_negotiation_closes(raw, body):
    with pytest.raises(Refused) as caught:
        raw.call(VERSION, body)
    assert caught.value.errno == errno.EINVAL
    assert raw.is_closed()


@pytest.mark.parametrize("command", [0, *range(2, 20), 0xffff])
def test_must_be_first(raw, server, command):
    with pytest.raises(Refused):
        raw.call(command, bytes(32))
    assert raw.is_closed()
    assert "VERSION must be the first" in server.text()


def test_must_be_first_even_without_reply(raw):
    raw.send(RESET, flags=NO_REPLY)
    assert raw.is_closed()


def test_fds_with_it(raw, event):
    with pytest.raises(Refused):
        raw.call(VERSION, version_body(), [event().fd])
    assert raw.is_closed()


def test_second_one(client):
    refused(client, VERSION, version_body())
    unwanted_fds(client, VERSION, version_body())


def test_no_reply(raw):
    raw.send(VERSION, version_body(), flags=NO_REPLY)
    assert raw.is_silent()
    assert is_alive(raw)
    silent(raw, VERSION, version_body())


def test_garbage(raw):
    with pytest.raises(Closed):
        raw.send_raw(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n")
        raw.recv_bytes(1)
