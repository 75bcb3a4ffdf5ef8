# SPDX-License-Identifier: BSD-2-Clause
"""connect() that does not wait for a guest, of unmodified programs; the guest's device is played by the test."""

import socket
import textwrap
import time

import pytest
from testbed.fabric import (DST_UNREACHABLE, GENERIC, NOT_FOUND, NO_RESOURCES, PENDING, STREAM_CONNECT, TIMEOUT,
                            Address, Device, parse_address)

GUEST, PORT = 42, 5000

# A socket for which connect() has said that it is under way; "go" is the line that the program waits for.
STARTED = """
GUEST, PORT = 42, 5000
def start(sock=None):
    sock = sock or make()
    sock.setblocking(False)
    assert name_of(sock.connect_ex((GUEST, PORT))) == "EINPROGRESS"
    return sock
def error(sock):
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
def ends(seconds=20):
    \"\"\"Until it is said, by each of the four.\"\"\"
    poll, epoll, edge = select.poll(), select.epoll(), select.epoll()
    poll.register(sock, select.POLLOUT)
    epoll.register(sock, select.EPOLLOUT)
    edge.register(sock, select.EPOLLOUT | select.EPOLLET)
    assert (poll.poll(0), epoll.poll(0), edge.poll(0), select.select([], [sock], [], 0)[1]) == ([], [], [], [])
    print("started")
    assert edge.poll(seconds) and epoll.poll(seconds) and poll.poll(seconds * 1000)
    assert select.select([], [sock], [], seconds)[1] == [sock]
"""


def receive(sock, size):
    data = b""
    while len(data) < size and (piece := sock.recv(size - len(data))):
        data += piece
    return data


class Guest:
    """A device whose guest accepts, or does not. When it answers vmcid does not matter to the program."""

    def __init__(self, vmcid):
        vmcid.define("guest", GUEST)
        self.device = Device(vmcid, "guest")
        self.ends = []

    def asked(self):
        """The question of a program that does not wait, and the socket."""
        ask = self.device.asked(STREAM_CONNECT)
        end = socket.socket(fileno=ask.fds.pop())
        end.settimeout(20)
        self.ends.append(end)
        assert ask.flags == PENDING and ask.size1
        self.device.answer(ask)
        return ask, end

    @staticmethod
    def accept(ask, end):
        assert receive(end, ask.size1) == bytes(ask.size1)

    @staticmethod
    def refuse(end, code):
        end.send(bytes([-code]), socket.MSG_OOB)
        end.close()


@pytest.fixture
def guest(vmcid):
    played = Guest(vmcid)
    yield played
    for end in played.ends:
        end.close()
    vmcid.close()
    vmcid.undefine()


def start(run, text, *arguments):
    return run.start_python(STARTED + textwrap.dedent(text), *arguments)


def test_accepted(run, guest):
    program = start(run, """
        sock = start()
        copy = sock.dup()
        assert error(sock) == 0 and error_of(sock.getpeername) == "ENOTCONN"
        assert name_of(sock.connect_ex((GUEST, PORT))) == "EALREADY"
        assert sock.getsockname()[0] == HOST and sock.getsockname()[1] >= 1024
        assert error_of(sock.recv, 1) == "EAGAIN"
        ends()
        assert select.select([], [copy], [], 0)[1] == [copy]
        assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and error(sock) == 0
        assert sock.getpeername() == (GUEST, PORT)
        assert name_of(sock.connect_ex((GUEST, PORT))) == "EISCONN"
        sock.setblocking(True)
        sock.sendall(b"there")
        assert sock.recv(100) == b"back" and sock.recv(100) == b""
        print("fine")
    """)
    ask, end = guest.asked()
    assert ask.size0 == 2000 and ask.other == (GUEST, PORT)
    assert parse_address(end.getpeername()).port == ask.handle[1]
    assert parse_address(end.getsockname()) == Address(GUEST, PORT, None)
    run.wait_text(program, "started")
    guest.accept(ask, end)
    assert end.recv(100) == b"there"    # and nothing of what was there before
    end.send(b"back")
    end.close()
    assert program.wait() == 0, program.text()


@pytest.mark.parametrize("code, name", [(NOT_FOUND, "ECONNRESET"), (TIMEOUT, "ETIMEDOUT"), (GENERIC, "EPROTO"),
                                        (DST_UNREACHABLE, "EHOSTUNREACH"), (NO_RESOURCES, "ENOBUFS")])
@pytest.mark.parametrize("how", ["SO_ERROR", "connect", "getpeername"])
def test_not_accepted(run, guest, code, name, how):
    """The error is told once, by whatever is asked first; then the socket can be connected again."""
    program = start(run, """
        sock = start()
        ends()
        how, name = sys.argv[1:]
        if how == "getpeername":
            assert error_of(sock.getpeername) == "ENOTCONN"
        if how == "connect":
            assert name_of(sock.connect_ex((GUEST, PORT))) == name
        else:
            assert name_of(error(sock)) == name, error(sock)
        assert error(sock) == 0
        assert error_of(sock.getpeername) == "ENOTCONN" and error_of(sock.shutdown, socket.SHUT_RD) == "ENOTCONN"
        assert sock.recv(1) == b""
        start(sock)
        print("again")
        assert select.select([], [sock], [], 20)[1] and error(sock) == 0
        assert sock.getpeername() == (GUEST, PORT)
    """, how, name)
    ask, end = guest.asked()
    run.wait_text(program, "started")
    guest.refuse(end, code)
    ask, end = guest.asked()
    run.wait_text(program, "again")
    guest.accept(ask, end)
    assert program.wait() == 0, program.text()


def test_the_reason_comes_first(run, guest):
    """And with it something to read, before the socket fails: who looks then is told already."""
    program = start(run, """
        sock = start()
        poll = select.poll()
        poll.register(sock, select.POLLIN | select.POLLOUT)
        assert poll.poll(20000) == [(sock.fileno(), select.POLLIN)]
        assert error_of(sock.getpeername) == "ENOTCONN"
        assert name_of(error(sock)) == "ETIMEDOUT" and error(sock) == 0
        print("told")
        poll.register(sock, select.POLLOUT)
        assert poll.poll(20000) and error(sock) == 0 and error_of(sock.getpeername) == "ENOTCONN"
    """)
    ask, end = guest.asked()
    end.send(bytes([-TIMEOUT]), socket.MSG_OOB)
    run.wait_text(program, "told")
    end.close()
    assert program.wait() == 0, program.text()


def test_nobody_asks_why(run, guest):
    """Who reads or writes at once, sees the end, and no byte that is none."""
    program = start(run, """
        for use in lambda: sock.recv(100), lambda: sock.send(b"x"):
            sock = start()
            ends()
            seen = set()
            for _ in range(3):
                try:
                    seen.add(use())
                except OSError as error_:
                    seen.add(name_of(error_.errno))
            assert seen <= {b"", "ECONNRESET", "EPIPE"}, seen
        print("fine")
    """)
    for _ in range(2):
        ask, end = guest.asked()
        time.sleep(0.1)
        guest.refuse(end, NOT_FOUND)
    assert program.wait() == 0, program.text()


def test_device_dies(run, guest):
    program = start(run, """
        sock = start()
        ends()
        assert name_of(error(sock)) == "ECONNRESET" and error(sock) == 0
        assert name_of(sock.connect_ex((GUEST, PORT))) == "EHOSTUNREACH"
    """)
    _, end = guest.asked()
    run.wait_text(program, "started")
    guest.device.close()
    end.close()
    assert program.wait() == 0, program.text()


def test_closed_at_once(run, guest):
    """A program that gives up: the device sees it, with or without the bytes that stopped it."""
    program = start(run, """
        start().close()
        sock = start()
        print("started")
        time.sleep(20)
    """)
    ask, end = guest.asked()
    guest.accept(ask, end)
    assert end.recv(1) == b""
    ask, end = guest.asked()
    run.wait_text(program, "started")
    program.kill()
    guest.accept(ask, end)
    assert end.recv(1) == b""


def test_processes(run, guest):
    """Others see it, too: a child, and a program that is executed. What came of it is told once to all of them."""
    program = start(run, """
        if len(sys.argv) > 1:
            sock = socket.socket(fileno=int(sys.argv[1]))
            assert name_of(sock.connect_ex((GUEST, PORT))) == "EALREADY"
            print("executed")
            select.select([], [sock], [])
            assert name_of(error(sock)) == "ETIMEDOUT"
            raise SystemExit
        sock = start()
        sock.set_inheritable(True)
        child = subprocess.Popen([sys.executable, sys.argv[0], str(sock.fileno())], close_fds=False)
        assert child.wait() == 0
        assert error(sock) == 0 and error_of(sock.getpeername) == "ENOTCONN"
    """)
    _, end = guest.asked()
    run.wait_text(program, "executed")
    guest.refuse(end, TIMEOUT)
    assert program.wait() == 0, program.text()


def test_early_data(run, guest):
    """What is written before the guest has accepted comes after that, and to nobody else."""
    program = start(run, """
        sock = start()
        assert sock.send(b"early") == 5
        ends()
        sock.send(b" and late")
        sock.close()
    """)
    ask, end = guest.asked()
    run.wait_text(program, "started")
    guest.accept(ask, end)
    assert receive(end, 14) == b"early and late"
    assert program.wait() == 0, program.text()


def test_blocking_in_between(run, guest):
    """Two threads, or a program that waits after all."""
    program = start(run, """
        for wanted in "success", "ECONNRESET":
            sock = start()
            print("started")
            sock.setblocking(True)
            assert error_of(sock.connect, (GUEST, PORT)) == wanted
    """)
    ask, end = guest.asked()
    run.wait_text(program, "started")
    guest.accept(ask, end)
    ask, end = guest.asked()
    guest.refuse(end, NOT_FOUND)
    assert program.wait() == 0, program.text()


@pytest.mark.parametrize("code, name", [(None, "success"), (NOT_FOUND, "ECONNRESET"), (TIMEOUT, "ETIMEDOUT")])
def test_waiting(run, guest, code, name):
    """A socket that may block waits for the guest; and can be used again."""
    program = start(run, """
        sock = make()
        assert error_of(sock.connect, (GUEST, PORT)) == sys.argv[1]
        if sys.argv[1] != "success":
            sock.connect((GUEST, PORT))
        assert sock.getpeername() == (GUEST, PORT) and error(sock) == 0
        assert error_of(sock.connect, (GUEST, PORT)) == "EISCONN"
        sock.send(b"there")
    """, name)
    ask, end = guest.asked()
    if code:
        guest.refuse(end, code)
        ask, end = guest.asked()
    time.sleep(0.1)
    guest.accept(ask, end)
    assert end.recv(100) == b"there"
    assert program.wait() == 0, program.text()


def test_waiting_for_who_does_not_answer(run, guest):
    """A device that hangs; the time is up all the same, a little later."""
    program = start(run, """
        sock = make()
        limit = struct.pack("qq", 0, 200000)
        assert ctypes.CDLL(None).setsockopt(sock.fileno(), V, 6, limit, 16) == 0
        assert error_of(sock.connect, (GUEST, PORT)) == "ETIMEDOUT"
    """)
    ask, end = guest.asked()
    assert ask.size0 == 200
    assert program.wait() == 0, program.text()
    guest.accept(ask, end)
    assert end.recv(1) == b""


def test_waiting_and_a_signal(run, guest):
    """It ends the call, and nothing else: the C library's way, and Python's, which waits again."""
    program = start(run, """
        libc = ctypes.CDLL(None, use_errno=True)
        address = struct.pack("<HHIIBBBB", V, 0, PORT, GUEST, 0, 0, 0, 0)
        handled = []
        signal.signal(signal.SIGALRM, lambda *_: handled.append(1))
        sock = make()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        assert libc.connect(sock.fileno(), address, 16) == -1 and name_of(ctypes.get_errno()) == "EINTR"
        assert select.select([], [sock], [], 0)[1] == []
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        assert libc.connect(sock.fileno(), address, 16) == -1 and name_of(ctypes.get_errno()) == "EINTR"
        print("once more")
        assert libc.connect(sock.fileno(), address, 16) == 0
        assert sock.getpeername() == (GUEST, PORT)
        sock = make()
        signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
        sock.connect((GUEST, PORT))
        assert sock.getpeername() == (GUEST, PORT) and len(handled) > 2
    """)
    ask, end = guest.asked()
    run.wait_text(program, "once more")
    guest.accept(ask, end)
    ask, end = guest.asked()
    time.sleep(0.7)
    guest.accept(ask, end)
    assert program.wait() == 0, program.text()


def test_waiting_while_another_thread_asks(run, guest):
    """Whoever is told first why: it has failed for the one who waits, too."""
    program = start(run, """
        for _ in range(20):
            sock, results = make(), []
            waiting = threading.Thread(target=lambda: results.append(error_of(sock.connect, (GUEST, PORT))))
            waiting.start()
            while waiting.is_alive():
                error(sock)
            waiting.join()
            assert results[0] in ("ETIMEDOUT", "ECONNRESET"), results
            sock.close()
    """)
    for _ in range(20):
        _, end = guest.asked()
        guest.refuse(end, TIMEOUT)
    assert program.wait() == 0, program.text()


@pytest.mark.parametrize("is_accepted", [True, False])
def test_waiting_when_vmcid_dies(vmcid, run, guest, is_accepted):
    """The guest's answer counts, and comes all the same."""
    program = start(run, """
        sock = make()
        print("started")
        assert error_of(sock.connect, (GUEST, PORT)) == sys.argv[1]
    """, "success" if is_accepted else "ECONNRESET")
    ask, end = guest.asked()
    vmcid.kill()
    time.sleep(0.2)
    if is_accepted:
        guest.accept(ask, end)
    else:
        guest.refuse(end, NOT_FOUND)
    assert program.wait() == 0, program.text()
    vmcid.start()


@pytest.mark.parametrize("size", [1, 30000, 212992])
def test_send_buffers(run, guest, size):
    program = start(run, """
        sock = make()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, int(sys.argv[1]))
        limit = struct.pack("qq", 7, 500000)
        assert ctypes.CDLL(None).setsockopt(sock.fileno(), V, 6, limit, 16) == 0
        start(sock)
        ends()
        assert error(sock) == 0
        sock.setblocking(True)
        sock.sendall(bytes(1000000))
    """, str(size))
    ask, end = guest.asked()
    assert ask.size0 == 7500
    run.wait_text(program, "started")
    guest.accept(ask, end)
    assert len(receive(end, 1000000)) == 1000000
    assert program.wait() == 0, program.text()


def test_a_send_buffer_that_is_too_large(run, guest, needs_root):
    """Then connecting waits, as ever."""
    program = run.start_python("""
        sock = make()
        sock.setsockopt(socket.SOL_SOCKET, 32, 64 << 20)    # SO_SNDBUFFORCE
        sock.setblocking(False)
        assert sock.connect_ex((42, 5000)) == 0
        sock.send(b"there")
    """)
    ask = guest.device.asked(STREAM_CONNECT)
    end = socket.socket(fileno=ask.fds.pop())
    guest.ends.append(end)
    end.settimeout(20)
    assert (ask.flags, ask.size1) == (0, 0)
    guest.device.answer(ask)
    assert end.recv(100) == b"there"
    assert program.wait() == 0, program.text()


def test_vmcid_dies_meanwhile(vmcid, run, guest):
    """It has introduced the two, and is not needed any more."""
    program = start(run, """
        sock = start()
        ends()
        assert error(sock) == 0 and sock.getpeername() == (GUEST, PORT)
    """)
    ask, end = guest.asked()
    run.wait_text(program, "started")
    vmcid.kill()
    guest.accept(ask, end)
    assert program.wait() == 0, program.text()
    vmcid.start()


def test_asyncio(run, guest):
    program = start(run, """
        async def one(port):
            loop = asyncio.get_running_loop()
            sock = make()
            sock.setblocking(False)
            await loop.sock_connect(sock, (GUEST, port))
            reader, writer = await asyncio.open_connection(sock=sock)
            writer.write(b"hello")
            await writer.drain()
            got = await reader.read()
            writer.close()
            return got
        async def main():
            tasks = [asyncio.create_task(one(port)) for port in range(5000, 5010)]
            ticks = 0
            while not all(task.done() for task in tasks):
                await asyncio.sleep(0.01)
                ticks += 1
                if ticks == 5:
                    print("started")
            assert ticks > 5
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for result in results[::2]:
                assert result == b"back", results
            for result in results[1::2]:
                assert isinstance(result, TimeoutError), results
            try:
                await asyncio.wait_for(one(6000), 0.1)
                raise SystemExit("connected?")
            except TimeoutError:
                print("given up")
        asyncio.run(main())
    """)
    asked = [guest.asked() for _ in range(10)]
    run.wait_text(program, "started")
    for number, (ask, end) in enumerate(asked):
        if number % 2:
            guest.refuse(end, TIMEOUT)
            continue
        guest.accept(ask, end)
        assert end.recv(100) == b"hello"
        end.send(b"back")
        end.close()
    ask, end = guest.asked()
    run.wait_text(program, "given up")
    guest.accept(ask, end)
    assert end.recv(1) == b""
    assert program.wait() == 0, program.text()


def test_socat(run, guest):
    """Its connect-timeout: not blocking, select(), SO_ERROR."""
    option = f"VSOCK-CONNECT:{GUEST}:{PORT},connect-timeout="
    program = run.start("socat", "-u", option + "20", "-")
    ask, end = guest.asked()
    guest.accept(ask, end)
    end.send(b"hello from the guest\n")
    end.close()
    assert program.wait() == 0 and program.text() == "hello from the guest\n", program.text()
    program = run.start("socat", "-u", option + "20", "-")
    _, end = guest.asked()
    guest.refuse(end, TIMEOUT)
    assert program.wait() == 1 and "Connection timed out" in program.text(), program.text()
    program = run.start("socat", "-u", option + "0.3", "-")
    ask, end = guest.asked()
    assert program.wait() == 1 and "imed out" in program.text(), program.text()     # socat's own
    guest.accept(ask, end)
    assert end.recv(1) == b""


def test_ncat(run, guest):
    """nsock's engine."""
    program = run.start("ncat", "-w", "20", "--recv-only", "--vsock", str(GUEST), str(PORT))
    ask, end = guest.asked()
    guest.accept(ask, end)
    end.send(b"hello from the guest\n")
    end.close()
    assert program.wait() == 0 and program.text() == "hello from the guest\n", program.text()
    program = run.start("ncat", "-w", "20", "--recv-only", "--vsock", str(GUEST), str(PORT))
    _, end = guest.asked()
    guest.refuse(end, TIMEOUT)
    assert program.wait() != 0 and "imed out" in program.text().lower(), program.text()
