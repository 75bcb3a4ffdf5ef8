# SPDX-License-Identifier: BSD-2-Clause
"""Windows: memory that VMs share, and regions in it. doc/protocol-fabric.md, 14. The devices are played."""

import fcntl
import os
import subprocess

import pytest
from testbed.fabric import (ALREADY_EXISTS, DST_UNREACHABLE, F_SEAL_GROW, F_SEAL_SHRINK, HAS_WINDOW, INVALID,
                            INVALID_ARGS, INVALID_SIZE, LAST_DETACH, NOT_FOUND, NO_ACCESS, NO_RESOURCES, NO_TOKEN, PAGE,
                            RESUME, SHM_ALLOC, SHM_ATTACH, SHM_CREATE, SHM_HOLD, SHM_QUERY, UNAVAILABLE, WINDOW,
                            WOULD_BLOCK, Device, Placed, Refused, Region, is_same_file, memfd)
from testbed.process import BUILD, until

MIB = 1 << 20
CIDS = {"one": 42, "two": 43, "other": 44, "alone": 45, "bare": 46}
DOMAINS = {"one": "inner", "two": "inner", "other": "outer", "bare": "inner"}


class Vms:
    """A vmcid with VMs; conf: lines of vmcid.conf."""

    def __init__(self, broker):
        self.broker = broker

    def define(self, name, window="1M", domain=None):
        domain = DOMAINS.get(name) if domain is None else domain
        self.broker.define(name, CIDS[name], *([f'openvmci.window = "{window}"'] if window else []),
                           *([f'vmci0.domain = "{domain}"'] if domain else []))

    def start(self, name, window="1M", is_shown=True):
        if not (self.broker.vms / f"{name}.vmx").exists():
            self.define(name, window)
        device = Device(self.broker, name)
        if is_shown:
            assert device.show().status == 0
        return device

    def host(self, conf=None):
        return self.broker.connect()


@pytest.fixture(params=[()])
def conf(request):
    return request.param


in_inner = pytest.mark.parametrize("conf", [('openvmci.window.host = "inner"',)], indirect=True, ids=["inner"])


@pytest.fixture
def vms(vmcid, conf):
    if conf:
        vmcid.configure(*conf)
        vmcid.restart()
        until("the grace to be over", lambda: "the grace period is over" in vmcid.process.text())
    yield Vms(vmcid)
    vmcid.close()
    vmcid.undefine()


def code(call):
    try:
        call()
    except Refused as error:
        return error.status
    return 0


# --- Windows of VMs -------------------------------------------------------------------------------------------------

def test_the_memory(vms):
    """Sealed, of the size that was asked for, the same for a domain, and for nobody else."""
    one, two, other, alone = (vms.start(name) for name in ("one", "two", "other", "alone"))
    for device in one, two, other, alone:
        memory = device.window[0]
        assert os.fstat(memory).st_size == MIB
        seals = fcntl.fcntl(memory, 1034)
        assert seals & F_SEAL_SHRINK and seals & F_SEAL_GROW
        with pytest.raises(OSError):
            os.ftruncate(memory, 0)
    assert is_same_file(one.window[0], two.window[0])
    inodes = {os.fstat(device.window[0]).st_ino for device in (one, other, alone)}
    assert len(inodes) == 3


def test_off_by_default(vms):
    device = vms.start("one", window=None, is_shown=False)
    assert device.window == [] and "--window-fd" not in device.argv
    assert code(lambda: Placed(device)) == UNAVAILABLE


def test_sizes_that_differ(vms):
    """The largest holds for all of the domain, whoever comes first, and vmcid says so."""
    vms.define("two", "4M")
    one = vms.start("one", "1M")
    two = vms.start("two")
    for device in one, two:
        assert os.fstat(device.window[0]).st_size == 4 * MIB
    log = vms.broker.process.text()
    assert "vm one: its window has 4194304 bytes, not 1048576: vm two of the same domain says so" in log
    # What is in use stays as it is.
    two.close()
    one.close()
    until("the devices to be gone", lambda: vms.broker.process.text().count("its device has gone") == 2)
    vms.define("two", "1M")
    until("the definition", lambda: vms.broker.process.text().count("by a new definition") == 1)
    one = vms.start("one")
    vms.define("two", "2M")
    until("the definition", lambda: vms.broker.process.text().count("by a new definition") == 2)
    two = vms.start("two")
    assert os.fstat(two.window[0]).st_size == MIB
    assert "vm two: its window has 1048576 bytes, not 2097152: somebody uses it already" in vms.broker.process.text()


def test_it_lasts_as_long_as_somebody_has_it(vms):
    one, two = vms.start("one"), vms.start("two")
    inode = os.fstat(one.window[0]).st_ino
    one.close()
    one = vms.start("one")
    assert os.fstat(one.window[0]).st_ino == inode
    one.close()
    two.close()
    until("the devices to be gone", lambda: vms.broker.process.text().count("its device has gone") == 3)
    assert os.fstat(vms.start("one").window[0]).st_ino != inode


# --- Regions --------------------------------------------------------------------------------------------------------

def test_a_guests_region(vms, host):
    one, two, other = vms.start("one"), vms.start("two"), vms.start("other")
    bare = vms.start("bare", window=None, is_shown=False)
    mine = Placed(one, 128)
    assert is_same_file(mine.memory, one.window[0])
    mine.write(b"hello")
    assert Placed(two, handle=mine.handle).read(5) == b"hello"
    theirs = Placed(host, handle=mine.handle)
    assert (theirs.size, theirs.offset, theirs.read(5)) == (128, mine.offset, b"hello")
    assert other.call(SHM_ATTACH, handle=mine.handle).status == DST_UNREACHABLE
    # It is of the domain, but cannot see it.
    assert bare.call(SHM_ATTACH, handle=mine.handle).status == UNAVAILABLE
    assert any(f"region {one.cid}:{mine.handle[1]} " in line and "window domain/inner offset 0" in line
               for line in host.list())


def test_the_hosts_are_private(vms, host):
    one = vms.start("one")
    assert not host.granted & HAS_WINDOW
    assert code(lambda: Placed(host)) == UNAVAILABLE
    private = Region(host)
    for type_ in SHM_ATTACH, SHM_QUERY:
        assert one.call(type_, handle=private.handle).status == UNAVAILABLE


@in_inner
def test_the_hosts_in_a_window(vms):
    host, soft = vms.host(), vms.broker.connect(INVALID)
    assert host.granted & HAS_WINDOW and not soft.granted & HAS_WINDOW
    assert code(lambda: Placed(host)) == UNAVAILABLE        # no VM is defined there
    vms.define("one")
    # Before any VM is there.
    mine = Placed(host, 5000)
    assert mine.key == b"domain/inner" and mine.window_size == MIB
    mine.write(b"hello")
    one, other = vms.start("one"), vms.start("other")
    assert is_same_file(one.window[0], mine.memory)
    assert Placed(one, handle=mine.handle).read(5) == b"hello"
    for type_ in SHM_ATTACH, SHM_QUERY:
        assert other.call(type_, handle=mine.handle).status == UNAVAILABLE
    assert code(lambda: Placed(soft)) == UNAVAILABLE
    # Who wants memory of its own can still have it.
    assert one.call(SHM_ATTACH, handle=Region(host).handle).status == UNAVAILABLE


@pytest.mark.parametrize("conf", [('openvmci.window.host = "alone"',)], indirect=True, ids=["alone"])
def test_the_hosts_in_the_window_of_one_vm(vms):
    alone = vms.start("alone")
    mine = Placed(vms.host())
    assert mine.key == b"vm/alone"
    assert Placed(alone, handle=mine.handle).offset == mine.offset


def test_sizes(vms, host):
    one, alone = vms.start("one"), vms.start("alone")
    for size in 0, MIB + 1, 1 << 40, (1 << 64) - 1:
        assert one.call(SHM_ALLOC, handle=(0, INVALID), size0=size).status == INVALID_SIZE
    assert one.call(SHM_ALLOC, handle=(0, INVALID), size0=MIB // 2 + 1).status == NO_RESOURCES
    assert Placed(alone, MIB).offset == 0
    for rid, status in (0, NO_ACCESS), (1, NO_ACCESS), (7, 0), (7, ALREADY_EXISTS):
        reply = one.call(SHM_ALLOC, handle=(0, rid), size0=1)
        reply.close()
        assert reply.status == status


def test_places_are_apart_and_cleared(vms, host):
    one, two = vms.start("one"), vms.start("two")
    regions = [Placed(device, PAGE * (1 + i % 3)) for i in range(12) for device in (one, two)]
    places = sorted((each.offset, each.offset + each.size) for each in regions)
    assert all(a[1] <= b[0] for a, b in zip(places, places[1:]))
    for each in regions:
        each.write(b"\xff" * each.size)
    # Nor does what is written afterwards reach the next.
    late = regions[3]
    assert late.client.call(18, handle=late.handle).status == LAST_DETACH
    late.write(b"\xff" * late.size)
    for each in regions:
        if each is not late:
            assert each.read(each.size) == b"\xff" * each.size
            assert each.detach() == LAST_DETACH
    late.forget()
    for device in one, two:
        fresh = Placed(device, MIB // 2)
        assert not any(fresh.read(MIB // 2))
        fresh.write(b"\xff" * (MIB // 2))
        assert fresh.detach() == LAST_DETACH


def test_a_window_full_of_regions(vms):
    one, two = vms.start("one"), vms.start("two")
    mine = [Placed(one, PAGE) for _ in range(MIB // PAGE // 2)]
    assert code(lambda: Placed(one, 1)) == NO_RESOURCES
    theirs = Placed(two, MIB // 2)
    assert code(lambda: Placed(two, 1)) == NO_RESOURCES
    assert mine[5].detach() == LAST_DETACH
    assert code(lambda: Placed(two, 1)) == NO_RESOURCES, "it has half of it"
    assert Placed(one, 1).offset == 5 * PAGE
    assert theirs.detach() == LAST_DETACH
    one.close()
    until("one's regions to be gone", lambda: code(lambda: Placed(two, MIB // 2)) == 0)


def test_another_clients_region_cannot_be_left(vms, host):
    one, two = vms.start("one"), vms.start("two")
    mine = Placed(one)
    for client in two, host:
        assert client.call(18, handle=mine.handle).status == NOT_FOUND
    assert mine.detach() == LAST_DETACH


# --- Who says which window he has -----------------------------------------------------------------------------------

def test_windows_that_are_none(vms, host):
    one = vms.start("one", is_shown=False)
    for fd in memfd(MIB, seals=0), memfd(MIB - 1):
        assert one.call(WINDOW, size0=MIB, fds=[fd]).status == INVALID_ARGS
        os.close(fd)
    for size in 0, 1, PAGE - 1, PAGE + 1:
        assert one.call(WINDOW, size0=size, fds=[one.window[0]]).status in (INVALID_ARGS, INVALID_SIZE)
    assert one.call(WINDOW, size0=MIB // 2, fds=[one.window[0]]).status == INVALID_SIZE
    assert one.show().status == 0
    # Programs have nothing to show but what they were given.
    assert host.call(WINDOW, size0=MIB, fds=[one.window[0]]).status == NO_ACCESS
    assert host.call(WINDOW, size0=MIB, flags=RESUME, token=one.window_token, data=b"domain/outer",
                     fds=[one.window[0]]).status == NO_ACCESS
    own = memfd(MIB)
    assert host.call(WINDOW, size0=MIB, flags=RESUME, token=one.window_token, data=b"domain/inner",
                     fds=[own]).status == NO_ACCESS
    os.close(own)


def test_memory_of_a_devices_own(vms, host):
    """It is that device's alone: nobody else gets it as the domain's."""
    one = vms.start("one", is_shown=False)
    own = memfd(MIB)
    reply = one.show(own)
    assert reply.status == 0 and reply.token == NO_TOKEN
    mine = Placed(one)
    assert is_same_file(mine.memory, own)
    two = vms.start("two")
    assert not is_same_file(two.window[0], own)
    assert two.call(SHM_ATTACH, handle=mine.handle).status == UNAVAILABLE
    os.close(own)


# --- Restart --------------------------------------------------------------------------------------------------------

@in_inner
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (2, 0, 1)], ids=str)
def test_restart(vms, order):
    """Whoever comes first: the same window for all, everything where it was, and nothing new in between."""
    one, two = vms.start("one"), vms.start("two")
    host = vms.host()
    mine, theirs, left = Placed(one, 128), Placed(host, 5000), Placed(two, PAGE)
    taken = Placed(host, handle=mine.handle), Placed(one, handle=theirs.handle)
    assert left.detach() == LAST_DETACH
    for device in one, two:
        device.listen()
    vms.broker.restart()
    for each in order:
        assert (one, two, host)[each].resume() == []
    assert one.call(SHM_ALLOC, handle=(0, INVALID), size0=1).status in (0, WOULD_BLOCK)
    fresh = Placed(vms.host(), PAGE)       # waits
    assert is_same_file(fresh.memory, one.window[0])
    places = sorted((each.offset, each.offset + each.size) for each in (mine, theirs, fresh))
    assert all(a[1] <= b[0] for a, b in zip(places, places[1:]))
    for each in mine, theirs:
        found = Placed(two, handle=each.handle)
        assert (found.size, found.offset) == (each.size, each.offset)
        assert found.detach() == 0
    for each in taken:
        assert each.detach() == 0
    assert mine.detach() == LAST_DETACH and theirs.detach() == LAST_DETACH
    # And a VM that comes now has it, too.
    two.close()
    until("the device to be gone", lambda: "vm two: its device has gone" in vms.broker.process.text())
    assert is_same_file(vms.start("two").window[0], one.window[0])


@in_inner
def test_restart_without_a_vm(vms):
    """A program of the host is all that is left of a window: the next VM of the domain finds its region."""
    vms.define("one")
    host = vms.host()
    mine = Placed(host, 128)
    mine.write(b"hello")
    vms.broker.restart()
    assert host.resume() == []
    until("the grace to be over", lambda: vms.broker.process.text().count("the grace period is over") >= 2)
    one = vms.start("one")
    assert is_same_file(one.window[0], mine.memory)
    assert Placed(one, handle=mine.handle).read(5) == b"hello"


@in_inner
def test_an_orderly_end_clears_nothing(vms):
    """It frees everything; but everybody goes on."""
    one, host = vms.start("one"), vms.host()
    mine, theirs = Placed(one), Placed(host)
    mine.write(b"mine")
    theirs.write(b"theirs")
    one.listen()
    vms.broker.process.terminate()
    vms.broker.start()
    assert one.resume() == [] and host.resume() == []
    assert (mine.read(4), theirs.read(6)) == (b"mine", b"theirs")
    assert Placed(one, handle=theirs.handle).read(6) == b"theirs"


def test_a_domain_that_has_changed_meanwhile(vms):
    """The memory does not move to another domain with a VM."""
    one = vms.start("one")
    one.listen()
    mine = Placed(one)
    mine.write(b"secret")
    vms.broker.kill()
    (vms.broker.vms / "one.vmx").write_text(
        (vms.broker.vms / "one.vmx").read_text().replace("inner", "outer"))
    vms.broker.start()
    assert one.resume() == []
    until("the grace to be over", lambda: "the grace period is over" in vms.broker.process.text())
    other = vms.start("other")
    assert not is_same_file(other.window[0], one.window[0])
    assert other.call(SHM_ATTACH, handle=mine.handle).status == UNAVAILABLE
    # The VM itself goes on.
    assert Placed(one).offset != mine.offset


@in_inner
def test_lies_after_a_restart(vms):
    """Another place, another size, other memory, another's region, one that was left before."""
    one, host, liar = vms.start("one"), vms.host(), vms.host()
    mine = Placed(host, 3 * PAGE)
    his = Placed(liar, PAGE)
    gone = Placed(liar, PAGE)
    token, handle, offset = gone.token, gone.handle, gone.offset
    assert gone.detach() == LAST_DETACH
    filler = [Placed(host, PAGE) for _ in range(MIB // 2 // PAGE - 4)]
    again = [each for each in [Placed(one, PAGE) for _ in range(MIB // 2 // PAGE)] if each.offset == offset]
    assert len(again) == 1
    one.listen()
    vms.broker.restart()
    liar.objects = []
    assert liar.resume() == []
    private = memfd(MIB)

    def claim(type_=SHM_CREATE, handle=his.handle, size=PAGE, offset=his.offset, token=his.token, memory=his.memory):
        flags = RESUME if type_ == SHM_CREATE else 0
        return liar.call(type_, flags=flags, handle=(0 if type_ == SHM_CREATE else handle[0], handle[1]), size0=size,
                         size1=offset, token=token, fds=[memory]).status
    assert claim(offset=mine.offset) == NO_ACCESS
    assert claim(size=2 * PAGE) == NO_ACCESS
    assert claim(offset=1 << 63) == INVALID_ARGS
    assert claim(memory=private) == NO_ACCESS
    assert claim(type_=SHM_HOLD, handle=mine.handle, size=3 * PAGE, offset=mine.offset) == NO_ACCESS
    # Genuine, and of a region that was: it gives way to whoever has its place now.
    assert claim(handle=handle, offset=offset, token=token) == 0
    assert claim() == 0
    assert one.resume() == []
    assert host.resume() == []
    assert host.call(SHM_QUERY, handle=handle).status == NOT_FOUND
    lines = [line for line in host.list() if line.startswith("region") and "window" in line]
    places = sorted((int(line.split()[-1]), int(line.split(" bytes ")[1].split()[0])) for line in lines)
    assert all(a[0] + a[1] <= b[0] for a, b in zip(places, places[1:])), places
    assert len(places) == len(filler) + 2 + MIB // 2 // PAGE
    for each in his, gone:
        each.close()
    os.close(private)


def test_vmcid_ends_before_the_window_is_shown(vms):
    """In the time of grace the device is believed, though it has no token."""
    one = vms.start("one", is_shown=False)
    one.listen()
    vms.broker.restart()
    assert one.resume() == []
    reply = one.show()
    assert reply.status == 0 and reply.token != NO_TOKEN
    until("the grace to be over", lambda: "the grace period is over" in vms.broker.process.text())
    assert is_same_file(vms.start("two").window[0], one.window[0])


# --- libvmci --------------------------------------------------------------------------------------------------------

def named(host, name):
    """The handle that has it, or None."""
    found = host.lookup(name)
    return found if isinstance(found, tuple) else None


@in_inner
def test_a_program_on_libvmci(vms):
    """The SDK's sample makes its region where the guests see it, and finds its way back to a new vmcid."""
    one, host = vms.start("one"), vms.host()
    one.listen()
    server = subprocess.Popen([BUILD / "sharedMemApp", "-s"], stdout=subprocess.DEVNULL,
                              env={**os.environ, "VMCI_RUNTIME_DIR": str(vms.broker.runtime)})
    try:
        handle = until("the server's name", lambda: named(host, b"HOST TIME"))
        region = Placed(one, handle=handle)
        assert region.size == 128 and is_same_file(region.memory, one.window[0])
        until("the time", lambda: b":" in region.read(128))
        client = subprocess.run([BUILD / "sharedMemApp", "-c"], capture_output=True, text=True, timeout=60, check=True,
                                env={**os.environ, "VMCI_RUNTIME_DIR": str(vms.broker.runtime)})
        assert client.stdout.count("the time is ") == 3
        vms.broker.restart()
        assert one.resume() == [] and host.resume() == []
        until("the server to be back", lambda: named(host, b"HOST TIME") == handle)
        fresh = Placed(vms.start("two"), handle=handle)
        assert (fresh.offset, fresh.size) == (region.offset, 128)
        assert fresh.read(4) == region.read(4) != bytes(4)
        assert server.wait(60) == 0
        until("its end", lambda: named(host, b"HOST TIME") is None)
        assert fresh.detach() == 0 and region.detach() == LAST_DETACH
    finally:
        server.kill()
        server.wait()
