# SPDX-License-Identifier: BSD-2-Clause
"""The discovery service at {1,1} as guests reach it: by datagrams (VMCI SDK reference, 6.2)."""

import struct

LOOKUP, REGISTER, UNREGISTER = range(3)
NUMBER = 7                          # of all our requests
NONE = (0xffffffff, 0xffffffff)


def request(action, name, handle=NONE):
    """A request, in hexadecimal digits."""
    name = name.encode()
    return (struct.pack("<iiIIi", action, NUMBER, *handle, len(name)) + name + bytes(4)).hex()


def reply(source, payload):
    """Code and handle of its reply: source and hexadecimal digits as probe and vdg print them."""
    assert source == "1:1"
    number, code, cid, rid, _ = struct.unpack_from("<iiIIi", bytes.fromhex(payload))
    assert number == NUMBER
    return code, (cid, rid)


def ask(vm, *args):
    """Has an AF_VSOCK program of the guest ask; code and handle."""
    return reply(*vm.run(f"vdg ask 1 1 {request(*args)}").split()[1:])
