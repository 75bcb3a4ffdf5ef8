# SPDX-License-Identifier: BSD-2-Clause
"""VMs by their UUID: VM_FIND, and VMCISock_Uuid2ContextId(). doc/protocol-fabric.md, 11."""

import pathlib
import subprocess

import pytest
from testbed.fabric import INVALID_ARGS, NOT_FOUND, VM_FIND, Client, Device, Ended, as_user
from testbed.process import ROOT

BIOS, LOCATION, OTHER = bytes(range(16)), bytes(range(100, 116)), bytes(range(200, 216))
PROGRAM = pathlib.Path(__file__).with_name("vmci_sockets_program.c")


def vmware(uuid):
    return " ".join(f"{byte:02x}" for byte in uuid[:8]) + "-" + " ".join(f"{byte:02x}" for byte in uuid[8:])


def rfc(uuid):
    text = uuid.hex().upper()
    return "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]])


def find(client, uuid):
    """The context, or an error."""
    reply = client.call(VM_FIND, data=uuid)
    return reply.handle[0] if reply.status == 0 else reply.status


@pytest.fixture
def vms(vmcid):
    yield vmcid
    vmcid.close()
    vmcid.undefine()


def test_found(vms, host, soft):
    vms.define("one", 42, f'uuid.bios = "{vmware(BIOS)}"', f'uuid.location = "{rfc(LOCATION)}"')
    vms.define("two", 43, f'uuid.bios = "{rfc(OTHER)}"')
    assert find(host, BIOS) == NOT_FOUND        # it does not run
    one, two = Device(vms, "one"), Device(vms, "two")
    for client in host, soft:
        assert [find(client, uuid) for uuid in (BIOS, LOCATION, OTHER, bytes(16))] == [42, 42, 43, NOT_FOUND]
    assert find(one, BIOS) == 42
    # Guests know the host, but not their neighbours.
    assert find(two, BIOS) == NOT_FOUND and find(one, OTHER) == NOT_FOUND
    one.close()
    assert find(host, BIOS) == NOT_FOUND and find(host, OTHER) == 43


def test_neighbours(vms):
    for name, cid, domain, uuid in (("one", 42, "x", BIOS), ("two", 43, "x", OTHER), ("three", 44, "y", LOCATION)):
        vms.define(name, cid, f'vmci0.domain = "{domain}"', f'uuid.bios = "{vmware(uuid)}"')
    one, two, three = (Device(vms, name) for name in ("one", "two", "three"))
    assert (find(one, OTHER), find(two, BIOS), find(three, LOCATION)) == (43, 42, 44)
    assert {find(one, LOCATION), find(three, BIOS), find(three, OTHER)} == {NOT_FOUND}


def test_restricted(vms, host, needs_root):
    """Who may not talk to a VM does not learn its context by this."""
    vms.define("secret", 42, 'openvmci.restricted = "TRUE"', f'uuid.bios = "{vmware(BIOS)}"')
    device = Device(vms, "secret")
    with as_user(4711):
        stranger = vms.connect()
    assert find(host, BIOS) == 42 and find(stranger, BIOS) == NOT_FOUND
    device.close()


def test_a_copy(vms, host):
    """Two VMs that run with one UUID: nobody can say which is meant."""
    for name, cid in ("one", 42), ("copy", 43):
        vms.define(name, cid, f'uuid.bios = "{vmware(BIOS)}"')
    one, copy = Device(vms, "one"), Device(vms, "copy")
    assert find(host, BIOS) == NOT_FOUND
    assert (find(one, BIOS), find(copy, BIOS)) == (42, 43)      # strangers to each other
    one.close()
    assert find(host, BIOS) == 43


def test_nonsense(vms, host):
    for size in 0, 15, 17, 100:
        client = vms.connect()
        with pytest.raises(Ended):
            client.call(VM_FIND, data=bytes(size))
    client = vms.connect()
    with pytest.raises(Ended):
        client.call(VM_FIND, data=bytes(16), handle=(42, 0))
    mute = Client(vms.path, None)
    assert mute.call(VM_FIND, data=bytes(16)).status == INVALID_ARGS
    mute.close()
    assert find(host, bytes(16)) == NOT_FOUND


def test_a_restart(vms, host):
    """The question waits until the device has come back, or has had the time to."""
    vms.define("one", 42, f'uuid.bios = "{vmware(BIOS)}"')
    device = Device(vms, "one")
    device.listen()
    vms.kill()
    vms.start()
    client = vms.connect()
    client.post(VM_FIND, data=BIOS)
    assert device.resume() == []
    reply = client.recv()
    assert (reply.status, reply.handle[0]) == (0, 42)
    assert find(client, OTHER) == NOT_FOUND     # and so long, for what does not come


def test_programs(vms, run):
    """The call of the programming guide, under vmci-run."""
    vms.define("one", 42, f'uuid.bios = "{vmware(BIOS)}"', f'uuid.location = "{vmware(LOCATION)}"')
    device = Device(vms, "one")
    program = run.directory / "program"
    subprocess.run(["gcc", "-D_GNU_SOURCE", f"-I{ROOT / 'include'}", "-o", program, PROGRAM], check=True)
    asked = [vmware(BIOS), rfc(LOCATION), vmware(OTHER), "", "56 4d", vmware(BIOS) + "0" * 100, "0" * 200]
    assert run.run(program, *asked).split() == ["42", "42", "-1", "-1", "-1", "-1", "-1"]
    assert run.run(program, vmware(BIOS), cid=100).split() == ["42"]
    device.close()
    assert run.run(program, vmware(BIOS)).split() == ["-1"]
