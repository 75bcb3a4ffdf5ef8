# SPDX-License-Identifier: BSD-2-Clause
"""Names. doc/protocol-fabric.md, 11; VMCI SDK reference, 6 and 10.2."""

import struct

import pytest
from testbed.fabric import (ALREADY_EXISTS, GENERIC, INVALID, INVALID_ARGS, LOOKUP, NAME, NOT_FOUND, NO_ACCESS,
                            NO_TOKEN, REGISTER, UNREGISTER, Endpoint, Name, as_user, discovery_request,
                            parse_discovery)
from testbed.process import until

PUBLIC_GROUP = b"vmci public group"


def code(client, action, name, handle=(INVALID, INVALID)):
    return client.discovery(action, name, handle)[0]


def test_register_lookup_unregister(host, soft):
    endpoint = Endpoint(host)
    assert soft.lookup(b"HOST INFO") == NOT_FOUND
    name = Name(host, b"HOST INFO", endpoint.handle)
    assert name.token != NO_TOKEN
    assert soft.lookup(b"HOST INFO") == endpoint.handle
    assert host.lookup(b"HOST INFO") == endpoint.handle
    assert name.unregister() == 0
    assert soft.lookup(b"HOST INFO") == NOT_FOUND
    assert code(host, UNREGISTER, b"HOST INFO") == NOT_FOUND


def test_names_are_compared_exactly(host):
    Name(host, b"name", (2, 5000))
    for other in b"Name", b"name ", b"nam", b"name\0", b" name", b"NAME":
        assert host.lookup(other) in (NOT_FOUND, INVALID_ARGS)
    assert host.lookup(b"name") == (2, 5000)


@pytest.mark.parametrize("name", [b"x", b"x" * 255, b"\xff" * 255, bytes(range(1, 256)), "ä€".encode(),
                                  b"a\nb\x1b[0m"])
def test_names_that_can_be(host, soft, name):
    registered = Name(host, name, (2, 5000))
    assert soft.lookup(name) == (2, 5000)
    assert all("\x1b" not in line for line in host.list())
    assert registered.unregister() == 0


def test_names_that_cannot_be(host):
    for name in b"", b"x" * 256, b"x" * 270:
        for action in LOOKUP, REGISTER, UNREGISTER:
            assert code(host, action, name, (2, 5000)) in (INVALID_ARGS, NOT_FOUND)
        assert host.lookup(name) in (INVALID_ARGS, NOT_FOUND)


def test_taken(host, soft):
    Name(host, b"name", (2, 5000))
    assert code(host, REGISTER, b"name", (2, 5000)) == ALREADY_EXISTS
    assert code(host, REGISTER, b"name", (2, 5001)) == ALREADY_EXISTS
    assert code(soft, REGISTER, b"name", (soft.cid, 5000)) == ALREADY_EXISTS
    assert soft.lookup(b"name") == (2, 5000)


def test_the_public_group(host, soft):
    handle = soft.lookup(PUBLIC_GROUP)
    assert handle[0] == 2
    assert code(soft, UNREGISTER, PUBLIC_GROUP) in (NO_ACCESS, INVALID_ARGS)
    assert code(host, UNREGISTER, PUBLIC_GROUP) in (NO_ACCESS, INVALID_ARGS)
    assert host.lookup(PUBLIC_GROUP) == handle


def test_reserved_names(host, soft):
    for name in b"vmci ", b"vmci x", b"vmci public group ":
        for client in host, soft:
            assert code(client, REGISTER, name, (client.cid, 5000)) in (NO_ACCESS, INVALID_ARGS)
    Name(host, b"vmcix", (2, 5000))


def test_handles_of_others(host, soft):
    # the host may give any a name, others only their own
    Name(host, b"theirs", (soft.cid, 5000))
    assert soft.lookup(b"theirs") == (soft.cid, 5000)
    for handle in (2, 5000), (4711, 5000), (0, 1), (1, 1):
        assert code(soft, REGISTER, b"name", handle) in (NO_ACCESS, INVALID_ARGS)
    assert code(host, REGISTER, b"name", (INVALID, INVALID)) == INVALID_ARGS
    Name(soft, b"name", (soft.cid, 5000))


def test_names_of_others(vmcid, host, soft):
    Name(soft, b"soft", (soft.cid, 5000))
    Name(host, b"host", (2, 5000))
    third = vmcid.connect(INVALID)
    assert code(third, UNREGISTER, b"soft") == NO_ACCESS
    assert code(third, UNREGISTER, b"host") == NO_ACCESS
    assert code(soft, UNREGISTER, b"host") == NO_ACCESS
    # the host may remove any
    assert code(host, UNREGISTER, b"soft") == 0


def test_users_of_the_host(vmcid, host, needs_root):
    Name(host, b"root's", (2, 5000))
    with as_user(12345):
        stranger = vmcid.connect()
    assert code(stranger, UNREGISTER, b"root's") == NO_ACCESS
    assert stranger.lookup(b"root's") == (2, 5000)


def test_a_name_goes_with_its_endpoint(host, soft):
    endpoint = Endpoint(host)
    Name(host, b"name", endpoint.handle)
    assert endpoint.destroy() == 0
    assert soft.lookup(b"name") == NOT_FOUND


def test_a_name_goes_with_its_context(vmcid, host, soft):
    Name(soft, b"name", (soft.cid, 5000))
    assert host.lookup(b"name") == (soft.cid, 5000)
    soft.close()
    until("the name to be gone", lambda: host.lookup(b"name") == NOT_FOUND)


def test_a_name_goes_with_its_client(vmcid, host):
    other = vmcid.connect()
    Name(other, b"name", Endpoint(other).handle)
    other.close()
    until("the name to be gone", lambda: host.lookup(b"name") == NOT_FOUND)


def test_requests_that_are_none(host):
    good = discovery_request(LOOKUP, b"some name")
    for wrong in good[:1], good[:19], good[:20], good[:28], good[:16] + struct.pack("<i", -1) + good[20:], \
            good[:16] + struct.pack("<i", 1000) + good[20:], good[:16] + struct.pack("<i", 0x7fffffff) + good[20:]:
        reply = host.call(NAME, data=wrong)
        assert reply.status < 0 or parse_discovery(reply.data)[0] < 0
    assert host.lookup(b"some name") == NOT_FOUND


def test_an_unknown_action(host):
    for action in 3, -1, 0x7fffffff:
        reply = host.call(NAME, data=discovery_request(action, b"x"))
        assert reply.status < 0 or parse_discovery(reply.data)[0] == GENERIC


def test_the_id_of_the_request_comes_back(host):
    for number in 0, -1, 0x12345678:
        reply = host.ok(NAME, data=discovery_request(LOOKUP, b"x", number=number))
        assert struct.unpack("<i", reply.data[:4])[0] == number
