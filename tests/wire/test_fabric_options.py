# SPDX-License-Identifier: BSD-2-Clause
"""--conn-fd, --fabric-fd, --rendezvous, --name and --window of vmci-device, in its sandbox, with a vmcid that is played
here."""

import ctypes
import mmap
import os
import pathlib
import socket
import struct
import subprocess

import pytest

from testbed import fabric
from testbed.fabric import ANSWER, ASK, BELL_OPEN, DEVICE, DG_SEND, HELLO, Link, Message, QP_ATTACH, REPLY, RESUME, WATCH
from testbed.process import BUILD, Process, until
from vfio_user import BAR1, CONFIG, GET_REGION_INFO, Client, Closed, region_info_body

CID, OTHER, PAGE = 20, 0x10007, 4096
TOKEN = bytes(range(16))
SIZE = 4 << 20
BITMAP, TX, RX, AREA, PAGES = 0x10000, 0x20000, 0x40000, 0x41000, 0x100000
ATTACHED = 5
PEER_ATTACH, PEER_DETACH = 3, 4


class Device(Process):
    """vmci-device with descriptors of ours."""

    def __init__(self, directory, *options, fds=()):
        self.log = directory / f"device-{len(list(directory.iterdir()))}.log"
        program = BUILD / "vmci-device"
        if b"__asan_init" in program.read_bytes():
            options += ("--no-sandbox",)        # it would keep the sanitizers from reporting
        self.argv = [str(arg) for arg in (program, "--cid", CID, "--log", "debug", *options)]
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--"] + self.argv, pass_fds=list(fds),
                                          stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def answer_hello(link):
    """vmcid's part of joining. The HELLO, with the sinks."""
    hello = link.recv()
    assert hello.type == HELLO
    link.send(Message(HELLO, REPLY, hello.serial, flags=DEVICE, handle=(CID, 0), size0=fabric.VERSION, token=TOKEN))
    return hello


class Vmcid:
    """At the end of a control connection."""

    def __init__(self, sock):
        self.link = Link(sock)
        self.hello = answer_hello(self.link)
        self.sinks = [socket.socket(fileno=fd) for fd in self.hello.fds]

    def replies(self, type_, status=0, **fields):
        """To the next request, which is returned."""
        request = self.link.recv()
        assert request.type == type_, request
        self.link.send(Message(type_, REPLY, request.serial, status, **fields))
        return request

    def ask(self, type_, **fields):
        self.link.send(Message(type_, ASK, 77, **fields))
        answer = self.link.recv()
        assert (answer.kind, answer.type, answer.serial) == (ANSWER, type_, 77)
        return answer

    def close(self):
        self.link.close()
        for sink in self.sinks:
            sink.close()


class Connected(Client):
    """A VMM whose connection has two ends already."""

    def __init__(self, sock):
        self.socket, self.next = sock, 0
        self.socket.settimeout(20)


class Guest:
    """A driver over MMIO."""

    def __init__(self, client):
        self.client = client
        self.fd = fabric.memfd(SIZE, fabric.F_SEAL_SHRINK)
        self.ram = mmap.mmap(self.fd, SIZE)
        self.ram[0:4] = b"RAM!"     # all zeroes would look like memory that is not shared
        client.negotiate()
        client.map(0, SIZE, self.fd)
        client.write(CONFIG, 4, struct.pack("<H", 7))
        self.out(0x18, self.read(0x18))
        self.out(0x34, 12)
        self.out(0x30, 0)
        self.out(0x28, 0)
        assert self.call(2, struct.pack("<II", BITMAP >> 12, 0)) == 0
        self.out(0x0c, 7)
        self.out(0x04, 2)

    def out(self, register, value):
        self.client.write32(BAR1, 0x20000 + register, value)

    def read(self, register):
        return self.client.read32(BAR1, 0x20000 + register)

    def start(self, dst, src, payload):
        """A datagram, sent; the register write has no answer yet."""
        dg = fabric.datagram(dst, src, payload)
        self.ram[TX:TX + 24 + len(dg)] = struct.pack("<IIIIQ", 1, 0, len(dg), 0, 0) + dg
        self.client.post(BAR1, 0x20024, struct.pack("<I", TX))

    def result(self):
        return ctypes.c_int32(self.read(0x1c)).value

    def call(self, rid, payload):
        self.start((0, rid), (0xffffffff, 0xffffffff), payload)
        return self.result()

    def start_call(self, rid, payload):
        self.start((0, rid), (0xffffffff, 0xffffffff), payload)

    def receive(self):
        """What waits for the guest."""
        self.ram[RX:RX + 40] = struct.pack("<IIIIQQQ", 0, 1, 1, 0, 0, AREA, 69632)
        self.out(0x2c, RX)
        at, datagrams = AREA, []
        while True:
            header = self.ram[at:at + 24]
            if header[4:8] == b"\xff\xff\xff\xff":
                return datagrams
            size = 24 + struct.unpack("<Q", header[16:])[0]
            datagrams.append(fabric.parse_datagram(self.ram[at:at + size]))
            at += (size + 7) // 8 * 8

    def wait_event(self):
        got = []
        until("an event for the guest", lambda: got or got.extend(self.receive()) or got)
        assert len(got) == 1
        return fabric.parse_event(got[0])

    def alloc_payload(self, handle, peer, flags, size):
        """Two rings of a page each, from PAGES on."""
        assert size == PAGE
        return struct.pack("<IIIIQQQIIII", *handle, peer, flags, size, size, 4, *range(PAGES >> 12, (PAGES >> 12) + 4))

    def close(self):
        self.client.close()
        self.ram.close()
        os.close(self.fd)


@pytest.fixture
def pair():
    """Socket pairs; both ends are closed in the end."""
    made = []

    def make(kind):
        made.append(socket.socketpair(socket.AF_UNIX, kind))
        return made[-1]
    yield make
    for ends in made:
        for end in ends:
            end.close()


@pytest.fixture
def bench(directory, pair):
    """A device as vmcid starts it, with a guest's driver."""
    vmm, conn = pair(socket.SOCK_STREAM)
    ours, theirs = pair(socket.SOCK_SEQPACKET)
    device = Device(directory, "--conn-fd", conn.fileno(), "--fabric-fd", theirs.fileno(), "--rendezvous",
                    directory / "rendezvous.sock", "--name", "vm1", fds=[conn.fileno(), theirs.fileno()])
    theirs.close()
    conn.close()
    device.vmcid = Vmcid(ours)
    device.rendezvous = directory / "rendezvous.sock"
    device.guest = Guest(Connected(vmm))
    yield device
    device.guest.close()
    assert device.wait() == 0, device.text()
    assert not device.rendezvous.exists()
    device.vmcid.close()
    for word in "Sanitizer", "runtime error":
        assert word not in device.text(), device.text()


def test_hello(bench):
    hello = bench.vmcid.hello
    assert (hello.flags, hello.handle, hello.size0, hello.data) == (DEVICE, (CID, 0), 1, b"vm1")
    assert len(hello.fds) == 2
    assert "VMM connected" in bench.text()


def test_datagrams(bench):
    guest, vmcid = bench.guest, bench.vmcid
    guest.start((2, 2000), (CID, 5000), b"out")
    request = vmcid.replies(DG_SEND, 27)
    assert request.data == fabric.datagram((2, 2000), (CID, 5000), b"out")
    assert guest.result() == 27
    guest.start((1, 1), (CID, 5000), b"names?")
    vmcid.replies(DG_SEND, -19)
    assert guest.result() == -19
    vmcid.sinks[0].send(fabric.datagram((CID, 5000), (2, 2000), b"in"))
    got = []
    until("the datagram", lambda: got or got.extend(guest.receive()) or got)
    assert (got[0].src, got[0].payload) == ((2, 2000), b"in")


def test_doorbells(bench):
    guest, vmcid = bench.guest, bench.vmcid
    handle = (CID, 3000)
    assert guest.call(3, struct.pack("<IIQ", *handle, 9)) == 0
    answer = vmcid.ask(BELL_OPEN, handle=handle)
    assert answer.status == 0 and len(answer.fds) == 1
    assert guest.ram[BITMAP + 9] == 0
    os.eventfd_write(answer.fds[0], 1)
    until("the doorbell", lambda: guest.ram[BITMAP + 9] == 1)
    answer.close()
    bell = fabric.eventfd()
    guest.start_call(5, struct.pack("<II", OTHER, 4000))
    vmcid.replies(BELL_OPEN, fds=[bell])
    vmcid.replies(WATCH)
    assert guest.result() == 0
    assert os.eventfd_read(bell) == 1
    os.close(bell)


def test_queue_pair_of_the_guest(bench):
    guest, vmcid = bench.guest, bench.vmcid
    handle = (CID, 3000)
    assert guest.call(10, guest.alloc_payload(handle, OTHER, 0, PAGE)) == 4
    answer = vmcid.ask(QP_ATTACH, handle=handle, other=(OTHER, 0), size0=PAGE, size1=PAGE)
    assert answer.status == ATTACHED and len(answer.fds) == 2
    memory, life = mmap.mmap(answer.fds[0], 4 * PAGE), socket.socket(fileno=os.dup(answer.fds[1]))
    answer.close()
    life.send(struct.pack("<I", OTHER))
    vmcid.replies(WATCH)
    event = guest.wait_event()
    assert (event.id, event.context, event.handle) == (PEER_ATTACH, OTHER, handle)

    guest.ram[PAGES + PAGE:PAGES + PAGE + 5] = b"hello"
    guest.ram[PAGES + 8:PAGES + 16] = struct.pack("<Q", 5)
    until("the bytes of the guest", lambda: memory[8:16] == struct.pack("<Q", 5))
    assert memory[PAGE:PAGE + 5] == b"hello"
    memory[3 * PAGE:3 * PAGE + 3] = b"you"
    memory[2 * PAGE + 8:2 * PAGE + 16] = struct.pack("<Q", 3)
    until("the bytes of the program", lambda: guest.ram[PAGES + 2 * PAGE + 8] == 3)
    assert guest.ram[PAGES + 3 * PAGE:PAGES + 3 * PAGE + 3] == b"you"
    life.close()
    memory.close()
    assert guest.wait_event().id == PEER_DETACH


def test_queue_pair_of_a_program(bench):
    guest, vmcid = bench.guest, bench.vmcid
    handle = (OTHER, 3000)
    memory_fd = fabric.memfd(4 * PAGE)
    memory = mmap.mmap(memory_fd, 4 * PAGE)
    life, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    guest.start_call(10, guest.alloc_payload(handle, OTHER, 1, PAGE))
    request = vmcid.replies(QP_ATTACH, ATTACHED, other=(OTHER, 0), token=TOKEN, fds=[memory_fd, theirs])
    assert (request.handle, request.other, request.size0, request.size1) == (handle, (OTHER, 0), PAGE, PAGE)
    vmcid.replies(WATCH)
    assert guest.result() == ATTACHED
    theirs.close()
    os.close(memory_fd)
    assert life.recv(4) == struct.pack("<I", CID)
    guest.ram[PAGES + PAGE:PAGES + PAGE + 4] = b"last"
    guest.ram[PAGES + 8:PAGES + 16] = struct.pack("<Q", 4)
    assert guest.call(11, struct.pack("<II", *handle)) == 0
    vmcid.replies(fabric.QP_DETACH)
    while life.recv(100):       # wake-ups
        pass
    assert memory[2 * PAGE + 8:2 * PAGE + 16] == struct.pack("<Q", 4)
    assert memory[3 * PAGE:3 * PAGE + 4] == b"last"
    life.close()
    memory.close()


def rendezvous(bench):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(str(bench.rendezvous))
    return sock


def test_the_next_vmcid(bench):
    guest = bench.guest
    before = [os.fstat(sink.fileno()).st_ino for sink in bench.vmcid.sinks]
    for _ in range(3):
        bench.vmcid.close()
        until("the end to be noticed", lambda: "vmcid has gone" in bench.text())
        guest.start((2, 2000), (CID, 5000), b"anybody?")
        assert guest.result() == -19
        bench.vmcid = Vmcid(rendezvous(bench))
        hello = bench.vmcid.hello
        assert (hello.flags, hello.token) == (DEVICE | RESUME, TOKEN)
        assert [os.fstat(sink.fileno()).st_ino for sink in bench.vmcid.sinks] == before
        guest.start((2, 2000), (CID, 5000), b"out")
        bench.vmcid.replies(DG_SEND, 27)
        assert guest.result() == 27


def test_a_second_vmcid(bench):
    other = rendezvous(bench)
    other.settimeout(20)
    assert other.recv(1) == b""
    other.close()
    bench.guest.start((2, 2000), (CID, 5000), b"out")
    bench.vmcid.replies(DG_SEND, 27)
    assert bench.guest.result() == 27


def sockets(pid):
    """The inodes behind the descriptors of a process."""
    found = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.stat(fd).st_ino)
        except FileNotFoundError:
            pass
    return found


def keeper_of(pid):
    return int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def test_the_keeper_has_nothing_of_the_fabric(bench):
    """The sinks are known by name; the control connection and what belongs to queue pairs are gone with the device."""
    guest, vmcid = bench.guest, bench.vmcid
    assert guest.call(10, guest.alloc_payload((CID, 3000), OTHER, 0, PAGE)) == 4
    answer = vmcid.ask(QP_ATTACH, handle=(CID, 3000), other=(OTHER, 0), size0=PAGE, size1=PAGE)
    memory, life = answer.fds
    os.write(life, struct.pack("<I", OTHER))
    vmcid.replies(WATCH)
    keeper = keeper_of(bench.pid)
    names = {os.fstat(fd).st_ino for fd in (memory, life, *(sink.fileno() for sink in vmcid.sinks))}
    assert names & sockets(bench.pid)
    assert not names & sockets(keeper)
    # The device holds other ends, which have no name here: when it dies, all of them end, although the keeper lives.
    os.kill(bench.pid, 9)
    bench.child.wait()
    sock = socket.socket(fileno=os.dup(life))
    sock.settimeout(20)
    while sock.recv(100):
        pass
    sock.close()
    try:
        assert vmcid.link.is_ended() or not vmcid.link.sock.recv(1)
    except ConnectionResetError:    # it had not read everything
        pass
    assert pathlib.Path(f"/proc/{keeper}").exists()
    answer.close()
    # What the fixture expects of the end cannot be had here.
    bench.rendezvous.unlink()
    bench.wait = lambda: 0


# --- The window -----------------------------------------------------------------------------------------------

WINDOW_BAR, MIB = 3, 1 << 20


def region_info(client, index):
    reply = client.call(GET_REGION_INFO, region_info_body(index, 32))
    return struct.unpack_from("=IIIIQQ", reply.body), reply.fds


def is_window(client, size, memory):
    """The VMM finds the memory that @memory maps in the window, both ways."""
    (_, flags, _, _, found, offset), fds = region_info(client, WINDOW_BAR)
    assert (flags & 7, found, offset) == (7, size, 0) and len(fds) == 1
    mine = mmap.mmap(fds[0], size)
    os.close(fds[0])
    mine[0:5] = b"guest"
    assert memory[0:5] == b"guest"
    memory[size - 4:size] = b"host"
    assert client.read(WINDOW_BAR, size - 4, 4) == b"host"
    client.write(WINDOW_BAR, 8, b"slow way")
    assert mine[8:16] == memory[8:16] == b"slow way"
    mine.close()


def test_no_window_by_default(bench):
    (_, flags, _, _, size, _), fds = region_info(bench.guest.client, WINDOW_BAR)
    assert (flags, size, fds) == (0, 0, [])
    bench.guest.client.write(CONFIG, 0x1c, b"\xff" * 4)
    assert bench.guest.client.read(CONFIG, 0x1c, 4) == bytes(4)


@pytest.mark.parametrize("is_ours", [False, True])
def test_window_is_shown_to_vmcid(directory, pair, is_ours):
    vmm, conn = pair(socket.SOCK_STREAM)
    ours, theirs = pair(socket.SOCK_SEQPACKET)
    fds, options = [conn.fileno(), theirs.fileno()], ["--window", MIB]
    if is_ours:
        fds.append(fabric.memfd(MIB))
        options = ["--window-fd", fds[-1]]
    device = Device(directory, "--conn-fd", conn.fileno(), "--fabric-fd", theirs.fileno(), "--rendezvous",
                    directory / "rendezvous.sock", *options, fds=fds)
    theirs.close()
    conn.close()
    device.rendezvous = directory / "rendezvous.sock"
    vmcid = Vmcid(ours)
    request = vmcid.replies(fabric.WINDOW, 0, token=TOKEN)
    assert (request.size0, request.flags, request.token) == (MIB, 0, fabric.NO_TOKEN)
    memory = mmap.mmap(request.fds[0], MIB)
    guest = Guest(Connected(vmm))
    is_window(guest.client, MIB, memory)
    if is_ours:
        assert fabric.is_same_file(request.fds[0], fds[-1])
    keeper = keeper_of(device.pid)
    until("the keeper to have closed what is not its own",
          lambda: os.fstat(request.fds[0]).st_ino not in sockets(keeper))
    assert "vmci-window" not in pathlib.Path(f"/proc/{keeper}/maps").read_text()

    # The next vmcid gets it, too; one that does not want it is no harm.
    vmcid.close()
    until("the end to be noticed", lambda: "vmcid has gone" in device.text())
    vmcid = Vmcid(rendezvous(device))
    again = vmcid.replies(fabric.WINDOW, -19)
    assert (again.size0, again.flags, again.token) == (MIB, RESUME, TOKEN)
    assert fabric.is_same_file(request.fds[0], again.fds[0])
    guest.start((2, 2000), (CID, 5000), b"out")
    vmcid.replies(DG_SEND, 27)
    assert guest.result() == 27
    request.close()
    again.close()
    memory.close()
    guest.close()
    assert device.wait() == 0, device.text()
    vmcid.close()
    if is_ours:
        os.close(fds[-1])


def test_memory_that_is_no_window(directory):
    null = os.open("/dev/null", os.O_RDWR)
    odd = [null, fabric.memfd(MIB, 0), fabric.memfd(3 * MIB), fabric.memfd(2048)]
    for fd in odd:
        assert f"descriptor {fd} is not memory" in fails(directory, "--socket", directory / "vmm.sock", "--window-fd",
                                                         fd, fds=[fd])
        os.close(fd)


# --- Wrong ones ------------------------------------------------------------------------------------------------

def fails(directory, *options, fds=()):
    device = Device(directory, *options, fds=fds)
    assert device.wait() == 1, device.text()
    return device.text()


def test_descriptors_of_the_wrong_kind(directory, pair):
    stream, packet = pair(socket.SOCK_STREAM)[0], pair(socket.SOCK_SEQPACKET)[0]
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(directory / "listener.sock"))
    listener.listen()
    at = ("--socket", directory / "vmm.sock")
    null = os.open("/dev/null", os.O_RDWR)
    for fd in stream.fileno(), listener.fileno(), null:
        assert f"descriptor {fd} is not a connected UNIX SEQPACKET" in fails(directory, *at, "--fabric-fd", fd, fds=[fd])
    assert "not a connected UNIX SEQPACKET" in fails(directory, *at, "--fabric-fd", 99)
    for fd in packet.fileno(), null:
        assert f"descriptor {fd} is not a connected UNIX stream" in fails(directory, "--conn-fd", fd, fds=[fd])
    assert "not a connected UNIX stream" in fails(directory, "--conn-fd", 99)
    os.close(null)
    listener.close()


@pytest.mark.parametrize("options, complaint", [
    (["--conn-fd", "2"], "--conn-fd wants a number"),
    (["--conn-fd", "x"], "--conn-fd wants a number"),
    (["--fabric-fd", "-1", "--conn-fd", "3"], "--fabric-fd wants a number"),
    (["--fabric-fd", "3", "--conn-fd", "3"], "--fabric-fd is the VMM's socket"),
    (["--conn-fd", "3", "--fd", "4"], "give one of"),
    (["--conn-fd", "3", "--socket", "x"], "give one of"),
    (["--fabric-fd", "3"], "give the VMM's socket"),
    (["--rendezvous", "", "--conn-fd", "3"], "--rendezvous wants a path"),
    (["--name", "", "--conn-fd", "3"], "--name wants a name"),
    (["--window", "2048", "--conn-fd", "3"], "--window wants a number"),
    (["--window", "5000", "--conn-fd", "3"], "--window wants a power of two"),
    (["--window", "4294967296", "--conn-fd", "3"], "--window wants a number"),
    (["--window", "4096", "--window-fd", "3", "--conn-fd", "4"], "give either --window or --window-fd"),
])
def test_options_that_make_no_sense(directory, options, complaint):
    assert complaint in fails(directory, *options)


def test_a_vmcid_that_refuses(directory, pair):
    ours, theirs = pair(socket.SOCK_SEQPACKET)
    device = Device(directory, "--socket", directory / "vmm.sock", "--fabric-fd", theirs.fileno(), "--rendezvous",
                    directory / "rendezvous.sock", fds=[theirs.fileno()])
    link = Link(ours)
    hello = link.recv()
    link.send(Message(HELLO, REPLY, hello.serial, -7))
    assert device.wait() == 1
    assert "vmcid refuses it: -7" in device.text()
    hello.close()
    assert not (directory / "rendezvous.sock").exists()
    assert not (directory / "vmm.sock").exists()


def test_a_vmcid_that_is_gone(directory, pair):
    ours, theirs = pair(socket.SOCK_SEQPACKET)
    ours.close()
    assert "vmcid does not answer" in fails(directory, "--socket", directory / "vmm.sock", "--fabric-fd",
                                            theirs.fileno(), fds=[theirs.fileno()])


def test_a_rendezvous_that_is_taken(directory, pair):
    path = directory / "taken"
    path.write_text("a file")
    assert "in use" in fails(directory, "--socket", directory / "vmm.sock", "--rendezvous", path)
    assert path.read_text() == "a file"


def test_a_vmm_that_has_gone_already(directory, pair):
    vmm, conn = pair(socket.SOCK_STREAM)
    vmm.close()
    device = Device(directory, "--conn-fd", conn.fileno(), fds=[conn.fileno()])
    conn.close()
    assert device.wait() == 0, device.text()


def test_one_vmm_after_the_other(directory, pair):
    """Without --conn-fd the membership is the process's; its guests come and go."""
    ours, theirs = pair(socket.SOCK_SEQPACKET)
    device = Device(directory, "--socket", directory / "vmm.sock", "--fabric-fd", theirs.fileno(),
                    fds=[theirs.fileno()])
    theirs.close()
    vmcid = Vmcid(ours)
    until("the device to listen", (directory / "vmm.sock").exists)
    for i in range(3):
        guest = Guest(Client(directory / "vmm.sock"))
        guest.start((2, 2000), (CID, 5000), b"out")
        vmcid.replies(DG_SEND, 27)
        assert guest.result() == 27
        assert guest.call(10, guest.alloc_payload((CID, 3000), OTHER, 0, PAGE)) == 4
        guest.close()
        until("the VMM's end", lambda: device.text().count("disconnected") == i + 1)
        assert vmcid.ask(QP_ATTACH, handle=(CID, 3000), other=(OTHER, 0), size0=PAGE, size1=PAGE).status == -21
    assert device.terminate() == 0
    vmcid.close()
    with pytest.raises((Closed, ConnectionError, FileNotFoundError)):
        Client(directory / "vmm.sock").negotiate()
