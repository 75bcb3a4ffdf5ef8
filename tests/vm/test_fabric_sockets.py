# SPDX-License-Identifier: BSD-2-Clause
"""Unmodified programs of the host under vmci-run, and unmodified guests."""

import re
import subprocess

import pytest
from testbed import until
from testbed.process import BUILD, LIMIT, ROOT, Workdir
from testbed.sockets import Runner

# Where a kernel and we differ, and why.
DIFFERENT = {
    "dgram-bind-0": "the resource of events; a guest's kernel hands it out, although nothing arrives there",
    "dgram-bind-1": "the resource of streams' control packets: vmcid says that it is reserved",
}


@pytest.fixture
def run(fabric):
    work = Workdir()
    runner = Runner(work.path, fabric.broker.runtime)
    yield runner
    runner.close()
    work.close()


def talk(run, argv, data):
    """Data through a program that has them on its standard input; what it prints until it has printed as much."""
    command = [str(arg) for arg in run.command(*argv)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(data)
        process.stdin.flush()
        got = b""
        while len(got) < len(data):
            piece = process.stdout.read1(1 << 16)
            assert piece, process.stderr.read()
            got += piece
        process.stdin.close()
        process.wait(LIMIT)
    return got


def test_a_host_program_connects_to_a_guest(run, machine):
    machine.vm.start("exec socat VSOCK-LISTEN:5000,fork EXEC:cat")

    def try_it():
        return run.start("socat", "-", f"VSOCK-CONNECT:{machine.cid}:5000").wait() == 0
    until("the guest to listen", try_it)
    data = bytes(range(256)) * 400
    assert talk(run, ["socat", "-", f"VSOCK-CONNECT:{machine.cid}:5000"], data) == data
    assert talk(run, ["ncat", "--vsock", str(machine.cid), "5000"], b"hello\n") == b"hello\n"


def test_a_guest_connects_to_a_host_program(run, machine):
    server = run.start("socat", "-d", "-d", "VSOCK-LISTEN:5001,fork", "EXEC:cat")
    run.wait_port(5001)
    got = machine.vm.run("echo hello | socat -t 10 - VSOCK-CONNECT:2:5001")
    assert got == "hello\n"
    assert re.search(rf"accepting connection from .*cid:{machine.cid} port:\d+", server.text()), server.text()
    sums = machine.vm.run("head -c 1000000 /dev/urandom > /tmp/data; sha256sum < /tmp/data;"
                          " socat -t 10 - VSOCK-CONNECT:2:5001 < /tmp/data | sha256sum").split()
    assert sums[0] == sums[2], sums


def test_refusals_and_time_outs(run, machine):
    text = run.python(f"""
        sock = patient(make())
        assert error_of(sock.connect, ({machine.cid}, 4999)) == "ECONNRESET"
        # and a second try, with the same socket, blocking or not
        sock.setblocking(False)
        assert error_of(sock.connect, ({machine.cid}, 4999)) == "EINPROGRESS"
        assert select.select([], [sock], [], 120)[1]
        assert error_of(sock.connect, ({machine.cid}, 4999)) == "ECONNRESET"
        print("fine")
    """)
    assert text == "fine\n"
    assert "ECONNRESET" in machine.vm.start("vsx connect 2 4999").check_fails() or \
        "reset" in machine.vm.start("socat - VSOCK-CONNECT:2:4999").check_fails()


NOT_WAITING = """
CID = int(sys.argv[1])
def begin(port, sock=None):
    sock = sock or make()
    sock.setblocking(False)
    assert name_of(sock.connect_ex((CID, port))) == "EINPROGRESS"
    return sock
def error(sock):
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
def begin_stopped(port):
    sock, epoll = begin(port), select.epoll()
    epoll.register(sock, select.EPOLLOUT | select.EPOLLET)
    assert epoll.poll(0) == [] and select.select([], [sock], [], 0)[1] == []
    assert name_of(sock.connect_ex((CID, port))) == "EALREADY" and error_of(sock.getpeername) == "ENOTCONN"
    return sock, epoll
"""


def test_what_not_waiting_builds_on(machine):
    """UNIX sockets of the kernels that hosts have, too: the guest's is one."""
    assert machine.vm.run("stopper") == "stopper fine\n"


def test_connects_that_do_not_wait(run, machine):
    machine.vm.start("exec socat VSOCK-LISTEN:5005,fork,backlog=64 EXEC:cat")
    until("the guest to listen", lambda: run.start("socat", "-", f"VSOCK-CONNECT:{machine.cid}:5005").wait() == 0)
    # One after the other, and many at once. Not behind ports: there the guest takes longer for its part of several at
    # once than the second after which it resets them.
    count = 1 if machine.name == "classic" else 20
    run.python(NOT_WAITING + """
sock = begin(5005, patient(make()))
assert select.select([], [sock], [], 120)[1] == [sock] and error(sock) == 0
assert sock.getpeername() == (CID, 5005) and name_of(sock.connect_ex((CID, 5005))) == "EISCONN"
sock.setblocking(True)
sock.sendall(b"hello")
assert sock.recv(100) == b"hello"
sock = begin(4999, patient(make()))
poll = select.poll()
poll.register(sock, select.POLLOUT)
assert poll.poll(120000)[0][1] & select.POLLERR
assert name_of(error(sock)) == "ECONNRESET" and error(sock) == 0
COUNT = int(sys.argv[2])
async def connected(loop):
    for _ in range(60):
        sock = patient(make())
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, (CID, 5005))
            return sock
        except ConnectionResetError:    # a busy guest resets what it could not finish within a second
            sock.close()
            await asyncio.sleep(0.5)
    raise TimeoutError
async def one(number):
    loop = asyncio.get_running_loop()
    sock = await connected(loop)
    data, got = b"%d" % number * 50000, b""
    sender = asyncio.create_task(loop.sock_sendall(sock, data))
    while len(got) < len(data):
        got += await loop.sock_recv(sock, 1 << 16)
    await sender
    sock.close()
    return got == data
async def main():
    assert await asyncio.gather(*(one(number) for number in range(COUNT))) == [True] * COUNT
asyncio.run(main())
""", str(machine.cid), str(count))
    option = f"VSOCK-CONNECT:{machine.cid}:5005,connect-timeout="
    assert talk(run, ["socat", "-", option + "20"], b"hello\n") == b"hello\n"
    # And with a guest that does nothing: the time-out of the socket, and the program's own
    machine.vm.qmp.command("stop")
    try:
        program = run.start_python(NOT_WAITING + """
one, epoll = begin_stopped(5005)
two = patient(make(), 120)
two.setblocking(False)
assert name_of(two.connect_ex((CID, 5005))) == "EINPROGRESS"
print("stopped")
assert epoll.poll(120)
assert name_of(error(one)) == "ETIMEDOUT"
print("over")
assert select.select([], [two], [], 120)[1] == [two] and error(two) == 0
two.setblocking(True)
two.sendall(b"hello")
assert two.recv(100) == b"hello"
""", str(machine.cid))
        run.wait_text(program, "stopped")
        late = run.start("socat", "-", option + "0.3")
        assert late.wait() == 1 and "timed out" in late.text(), late.text()
        run.wait_text(program, "over")
    finally:
        machine.vm.qmp.command("cont")
    assert program.wait() == 0, program.text()


def test_python_and_a_guest(run, machine):
    """Not blocking, polled, half closed; and who is there."""
    server = run.start_python("""
        class Peer(ctypes.Structure):
            _fields_ = [("cid", ctypes.c_uint), ("port", ctypes.c_uint), ("uid", ctypes.c_uint), ("gid", ctypes.c_uint),
                        ("pid", ctypes.c_int), ("vm", ctypes.c_char * 65)]
        libvmci = ctypes.CDLL(sys.argv[1], use_errno=True)
        async def main():
            loop = asyncio.get_running_loop()
            server = listener(5002)
            server.setblocking(False)
            print("ready")
            sock, address = await loop.sock_accept(server)
            peer = Peer()
            assert libvmci.vmci_peer(sock.fileno(), ctypes.byref(peer)) == 0
            print("peer", peer.cid == address[0], peer.port == address[1], peer.vm.decode(), sock.getsockname())
            got = b""
            while data := await loop.sock_recv(sock, 4096):
                got += data
            await loop.sock_sendall(sock, got.upper())
            sock.close()
        asyncio.run(main())
    """, str(BUILD / "libvmci.so.0"))
    run.wait_text(server, "ready")
    assert machine.vm.run("echo hello | socat -t 10 - VSOCK-CONNECT:2:5002") == "HELLO\n"
    assert server.wait() == 0, server.text()
    assert f"peer True True {machine.name} (2, 5002)" in server.text()


def test_datagrams_to_a_guest_and_back(run, machine):
    machine.vm.start("exec vdg echo 6000").expect("ready")
    run.python(f"""
        sock = make(DGRAM)
        sock.settimeout(180)
        for size in 0, 1, 5000, 69608:
            data = os.urandom(size)
            sock.sendto(data, ({machine.cid}, 6000))
            assert sock.recvfrom(70000) == (data, ({machine.cid}, 6000))
        assert error_of(sock.sendto, bytes(69609), ({machine.cid}, 6000)) == "EMSGSIZE"
    """)


def test_datagrams_from_a_guest_and_back(run, machine):
    server = run.start_python("""
        server = make(DGRAM, 6001)
        print("ready")
        while True:
            data, source = server.recvfrom(70000)
            server.sendto(data, source)
    """)
    run.wait_text(server, "ready")
    assert machine.vm.run("vdg ask 2 6001 68656c6c6f").strip() == "from 2:6001 68656c6c6f"
    assert "EHOSTUNREACH" in machine.vm.start("vdg send 2 6002 00").check_fails()


def test_a_program_in_a_context_of_its_own(run, machine):
    if machine.name == "backports":
        pytest.skip("this kernel wants VMADDR_FLAG_TO_HOST for contexts above 2, which socat cannot set")
    server = run.start("socat", "VSOCK-LISTEN:5003,fork", "EXEC:cat", cid=4242)
    run.wait_port(5003, 4242)
    # VM and software context: as any two programs.
    assert machine.vm.run("echo hello | socat -t 10 - VSOCK-CONNECT:4242:5003") == "hello\n", server.text()


def table(text):
    rows = {}
    for number, line in enumerate(text.replace("\r", "").splitlines()):
        case, _, said = line.partition(" ")
        rows[case if case not in rows else f"{case}#{number}"] = said
    return rows


def test_we_say_what_a_kernel_says(run, machine):
    """One program, on a kernel's AF_VSOCK over VMCI and under vmci-run; each has a partner that echoes datagrams."""
    program = run.directory / "conform"
    subprocess.run(["gcc", "-O2", "-o", program, ROOT / "tests/vm/guest/conform.c"], check=True)
    server = run.start_python("""
        server = make(DGRAM, 6100)
        print("ready")
        while True:
            data, source = server.recvfrom(70000)
            server.sendto(data, source)
    """)
    run.wait_text(server, "ready")
    guest = table(machine.vm.run("conform 2 6100"))
    host = table(run.run(program, "2", "6100"))
    different = {case: (guest.get(case), host.get(case)) for case in guest.keys() | host.keys()
                 if guest.get(case) != host.get(case)}
    print("\n".join(f"{case:32} {guest.get(case)}" for case in guest))
    assert len(guest) > 100
    assert different.keys() <= DIFFERENT.keys(), different


def test_vmcid_killed_amid_streams_with_a_guest(fabric, run, machine):
    if machine.name != "trixie":
        pytest.skip("one machine is enough")
    machine.vm.start("exec socat VSOCK-LISTEN:5004,fork EXEC:cat")
    process = run.start_python(f"""
        while True:
            try:
                sock = client(5004, {machine.cid})
                break
            except ConnectionResetError:
                time.sleep(0.1)
        sock.send(b"before")
        assert sock.recv(10) == b"before"
        print("ready")
        sys.stdout.flush()
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.02)
        sock.send(b"without")
        assert sock.recv(10) == b"without"
        print("went on")
        while not os.path.exists(sys.argv[1] + "2"):
            time.sleep(0.02)
        sock = client(5004, {machine.cid})
        sock.send(b"after")
        assert sock.recv(10) == b"after"
    """, str(run.directory / "killed"))
    run.wait_text(process, "ready")
    fabric.kill_broker()
    (run.directory / "killed").touch()
    run.wait_text(process, "went on")
    fabric.restart_broker()
    (run.directory / "killed2").touch()
    assert process.wait() == 0, process.text()
