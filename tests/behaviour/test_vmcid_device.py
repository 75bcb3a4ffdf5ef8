# SPDX-License-Identifier: BSD-2-Clause
"""vmcid and the real vmci-device together; the VMM is tests/wire's, and there is no guest."""

import contextlib
import os
import pathlib
import signal
import struct
import sys

import pytest
from testbed.fabric import CTX_REMOVED, DST_UNREACHABLE, Broker, Endpoint, Events
from testbed.process import BUILD, until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "wire"))

from vfio_user import CONFIG, Client as Vmm     # noqa: E402

LIMIT = 30
IDENTITY = struct.pack("<HH", 0x15ad, 0x0740)


@pytest.fixture
def broker(directory):
    (directory / "vms").mkdir()
    (directory / "vms" / "web.vmx").write_text('vmci0.id = "100"\n')
    broker = Broker(directory, "--device", BUILD / "vmci-device")
    broker.vmms = []
    yield broker
    for vmm in broker.vmms:
        vmm.close()
    broker.close()
    until("all devices to end", lambda: not devices(broker), LIMIT)
    assert broker.process.terminate() == 0
    for text in "Sanitizer", "runtime error":
        assert text not in broker.process.text(), broker.process.text()
    assert not list((broker.runtime / "device").iterdir())
    assert not list((broker.runtime / "hybrid").iterdir())


def devices(broker):
    """Processes of devices of this vmcid's directory."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if (entry.name.isdigit() and f"{broker.runtime}/device/".encode() in (entry / "cmdline").read_bytes()
                    and (entry / "stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"):
                found.append(int(entry.name))
    return found


def power_on(broker, name="web"):
    vmm = Vmm(broker.runtime / "vm" / f"{name}.sock")
    broker.vmms.append(vmm)
    return vmm


def is_there(host, cid=100):
    return any(line.split()[:2] == ["context", str(cid)] for line in host.list())


def test_device(broker):
    host = broker.connect()
    vmm = power_on(broker)
    vmm.negotiate()
    assert vmm.read(CONFIG, 0, 4) == IDENTITY
    until("the context", lambda: is_there(host), LIMIT)
    assert (broker.runtime / "hybrid" / "web.sock").exists()
    events = Events(host)
    assert events.watch(100) == 0
    vmm.close()
    event = events.recv()
    assert (event.id, event.context) == (CTX_REMOVED, 100)
    # And once more.
    vmm = power_on(broker)
    vmm.negotiate()
    until("the context", lambda: is_there(host), LIMIT)


def test_vmcid_is_killed(broker):
    """The VM goes on, and is known again by the next vmcid."""
    host = broker.connect()
    endpoint = Endpoint(host)
    vmm = power_on(broker)
    vmm.negotiate()
    until("the context", lambda: is_there(host), LIMIT)
    # The keeper has the device's name until it has taken its own.
    before = until("the device alone", lambda: (found := devices(broker)) and len(found) == 1 and found, LIMIT)
    for _ in range(3):
        broker.kill()
        assert vmm.read(CONFIG, 0, 4) == IDENTITY
        broker.start()
        assert host.resume() == []
        until("the context", lambda: is_there(host), LIMIT)
        assert devices(broker) == before
        # It is routed to its device again; no guest takes it.
        assert endpoint.send((100, 2000)) != DST_UNREACHABLE
    assert vmm.read(CONFIG, 0, 4) == IDENTITY


def test_device_is_killed(broker):
    """Others are told; the VM's keeper answers the VMM; a new VMM gets a new device."""
    host = broker.connect()
    events = Events(host)
    events.watch(100)
    vmm = power_on(broker)
    vmm.negotiate()
    until("the context", lambda: is_there(host), LIMIT)
    child = [pid for pid in devices(broker) if b"vmci-device" in pathlib.Path(f"/proc/{pid}/comm").read_bytes()][0]
    os.kill(child, signal.SIGKILL)
    assert events.recv().context == 100
    assert Endpoint(host).send((100, 2000)) == DST_UNREACHABLE
    vmm.close()
    again = power_on(broker)
    again.negotiate()
    assert again.read(CONFIG, 0, 4) == IDENTITY
    until("the context", lambda: is_there(host), LIMIT)
