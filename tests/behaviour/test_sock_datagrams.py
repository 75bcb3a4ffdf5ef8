# SPDX-License-Identifier: BSD-2-Clause
"""Datagrams of unmodified programs under vmci-run, and DG_BIND. vmci_sockets(7); doc/protocol-fabric.md, 6."""

import contextlib
import os
import resource
import socket
import time

from testbed.fabric import (ALREADY_EXISTS, DG_BIND, DG_HEADER, DG_SEND, INVALID, INVALID_ARGS, INVALID_RESOURCE,
                            NO_ACCESS, NO_RESOURCES, Endpoint, Refused, as_user, datagram, parse_datagram)
from testbed.process import until


def test_to_and_fro(run):
    run.python("""
        server = make(DGRAM)
        assert (server.family, server.type, server.getsockname()) == (V, DGRAM, (ANY, ANY))
        server.bind((ANY, 5000))
        assert server.getsockname() == (ANY, 5000)
        sock = make(DGRAM)
        assert sock.sendto(b"hello", (HOST, 5000)) == 5
        port = sock.getsockname()[1]
        assert sock.getsockname() == (ANY, port) and port >= 1024
        data, source = server.recvfrom(100)
        assert (data, source) == (b"hello", (2, port))
        assert server.sendto(b"world", source) == 5
        assert sock.recvfrom(100) == (b"world", (2, 5000))
        # Wherever it is sent from: any means oneself.
        assert sock.sendto(b"", (ANY, 5000)) == 0
        assert server.recvfrom(100) == (b"", (2, port))
        assert make(DGRAM, 5001, HOST).getsockname() == (2, 5001)
    """)


def test_connected(run):
    """connect() is a default destination, and no filter."""
    run.python("""
        server, other, sock = make(DGRAM, 5000), make(DGRAM, 5001), make(DGRAM)
        assert error_of(sock.getpeername) == "ENOTCONN"
        assert error_of(sock.send, b"x") == "EINVAL"
        assert error_of(sock.shutdown, socket.SHUT_RD) == "ENOTCONN"
        sock = make(DGRAM)
        sock.connect((HOST, 5000))
        assert sock.getpeername() == (HOST, 5000) and sock.getsockname()[1] >= 1024
        assert sock.send(b"one") == 3 and os.write(sock.fileno(), b"two") == 3
        assert os.writev(sock.fileno(), [b"th", b"ree"]) == 5
        assert sock.sendmsg([b"fo", b"ur"]) == 4
        assert [server.recv(10), os.read(server.fileno(), 10)] == [b"one", b"two"]
        first, second = bytearray(2), bytearray(10)
        assert os.readv(server.fileno(), [first, second]) == 5 and first + second[:3] == b"three"
        data, ancillary, flags, source = server.recvmsg(10)
        assert (data, ancillary, flags, source) == (b"four", [], 0, (2, port_of(sock)))
        sock.connect((HOST, 5001))
        sock.send(b"moved")
        assert other.recv(10) == b"moved"
        server.sendto(b"not filtered", (2, port_of(sock)))
        assert sock.recv(100) == b"not filtered"
        libc = ctypes.CDLL(None)
        assert libc.connect(sock.fileno(), struct.pack("H14x", socket.AF_UNSPEC), 16) == 0
        assert error_of(sock.getpeername) == "ENOTCONN" and error_of(sock.send, b"x") == "EINVAL"
    """)


def test_sizes_and_truncation(run):
    run.python("""
        server, sock = make(DGRAM, 5000), make(DGRAM)
        for size in 0, 1, 4096, 69607, 69608:
            data = os.urandom(size)
            assert sock.sendto(data, (HOST, 5000)) == size
            assert server.recv(70000) == data
        assert error_of(sock.sendto, bytes(69609), (HOST, 5000)) == "EMSGSIZE"
        sock.sendto(b"0123456789", (HOST, 5000))
        assert server.recv(4, socket.MSG_PEEK) == b"0123"
        buffer = bytearray(4)
        assert server.recv_into(buffer, 4, socket.MSG_TRUNC) == 10 and buffer == b"0123"
        sock.sendto(b"0123456789", (HOST, 5000))
        data, _, flags, _ = server.recvmsg(4)
        assert data == b"0123" and flags == socket.MSG_TRUNC
        # The rest is gone.
        assert error_of(server.recv, 1, socket.MSG_DONTWAIT) == "EAGAIN"
        # Many pieces
        assert sock.sendmsg([b"x"] * 1000, [], 0, (HOST, 5000)) == 1000
        pieces = [bytearray(1) for _ in range(1000)]
        assert server.recvmsg_into(pieces)[0] == 1000 and b"".join(pieces) == b"x" * 1000
    """)


def test_errors(run):
    run.python("""
        sock = make(DGRAM)
        for address, wanted in [((HOST, 4999), "EHOSTUNREACH"), ((77, 5000), "EHOSTUNREACH"), ((0, 5000), "EINVAL")]:
            assert error_of(sock.sendto, b"x", address) == wanted, address
        assert error_of(sock.connect, (0, 5000)) == "EINVAL"
        assert error_of(sock.sendto, b"x", socket.MSG_OOB, (HOST, 5000)) == "EOPNOTSUPP"
        assert error_of(sock.recv, 1, socket.MSG_OOB) == "EOPNOTSUPP"
        server = make(DGRAM, 5000)
        for cid in ANY, HOST, LOCAL:
            assert error_of(make, DGRAM, 5000, cid) == "EADDRINUSE"
        assert error_of(make, DGRAM, 5000, 3) == "EADDRNOTAVAIL"
        assert error_of(server.bind, (ANY, 5001)) == "EINVAL"
        assert error_of(server.accept) == "EOPNOTSUPP"
        # A full queue is told to the sender, and nothing is lost.
        sent = 0
        while (got := error_of(sock.sendto, b"%d" % sent + bytes(1000), (HOST, 5000))) == "success":
            sent += 1
        assert got == "ENOBUFS" and 120 < sent < 140, (got, sent)
        for i in range(sent):
            assert server.recv(2000) == b"%d" % i + bytes(1000)
        assert sock.sendto(b"again", (HOST, 5000)) == 5
        assert server.recv(100) == b"again"
        # The port is free when its last socket is closed.
        server.close()
        assert make(DGRAM, 5000)
    """)


def test_waiting(run):
    run.python("""
        server, sock = make(DGRAM, 5000), make(DGRAM)
        poll = select.poll()
        poll.register(server, select.POLLIN | select.POLLOUT)
        assert poll.poll(0) == [(server.fileno(), select.POLLOUT)]
        threading.Timer(0.1, sock.sendto, (b"x", (HOST, 5000))).start()
        assert server.recv(1) == b"x"
        sock.sendto(b"y", (HOST, 5000))
        assert poll.poll(0) == [(server.fileno(), select.POLLIN | select.POLLOUT)]
        server.setblocking(False)
        assert server.recv(1) == b"y" and error_of(server.recv, 1) == "EAGAIN"
        server.settimeout(0.05)
        try:
            server.recv(1)
            raise SystemExit("received?")
        except TimeoutError:
            pass
        # More than the kernel keeps (net.unix.max_dgram_qlen); the rest waits at vmcid, in order.
        for i in range(1000):
            sock.sendto(b"%d" % i, (HOST, 5000))
        for i in range(1000):
            assert server.recv(10) == b"%d" % i
        # shutdown() wakes
        server.setblocking(True)
        threading.Timer(0.1, lambda: error_of(server.shutdown, socket.SHUT_RD)).start()
        assert server.recv(10) == b""
        async def main():
            loop = asyncio.get_running_loop()
            a, b = make(DGRAM, 6000), make(DGRAM, 6001)
            a.setblocking(False)
            b.setblocking(False)
            task = asyncio.create_task(loop.sock_recvfrom(a, 100))
            await loop.sock_sendto(b, b"hello", (HOST, 6000))
            assert await task == (b"hello", (2, 6001))
        asyncio.run(main())
    """)


def test_many_at_once(run):
    """recvmmsg() and sendmmsg()"""
    run.python("""
        server, sock = make(DGRAM, 5000), make(DGRAM, 5001)
        libc = ctypes.CDLL(None, use_errno=True)
        class Iov(ctypes.Structure):
            _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
        class Msg(ctypes.Structure):
            _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.POINTER(Iov)),
                        ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
                        ("flags", ctypes.c_size_t), ("len", ctypes.c_uint), ("pad", ctypes.c_uint)]
        def messages(buffers, name):
            msgs = (Msg * len(buffers))()
            for msg, buffer in zip(msgs, buffers):
                msg.iov = ctypes.pointer(Iov(ctypes.addressof(buffer), len(buffer)))
                msg.iovlen = 1
                msg.name, msg.namelen = ctypes.addressof(name), len(name)
            return msgs
        name = ctypes.create_string_buffer(struct.pack("<HHIIxxxx", V, 0, 5000, 2), 16)
        out = [ctypes.create_string_buffer(b"%d" % i, 1) for i in range(5)]
        assert libc.sendmmsg(sock.fileno(), messages(out, name), 5, 0) == 5
        source = ctypes.create_string_buffer(16)
        into = [ctypes.create_string_buffer(10) for _ in range(8)]
        msgs = messages(into, source)
        assert libc.recvmmsg(server.fileno(), msgs, 8, 0x10000, None) == 5      # MSG_WAITFORONE
        assert [buffer.raw[:msg.len] for buffer, msg in zip(into, msgs)][:5] == [b"0", b"1", b"2", b"3", b"4"]
        assert source.raw == struct.pack("<HHIIxxxx", V, 0, 5001, 2)
        assert libc.recvmmsg(server.fileno(), msgs, 8, socket.MSG_DONTWAIT, None) == -1
        assert ctypes.get_errno() == errno.EAGAIN
    """)


INSIDE = """
import socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
assert (sock.family, sock.type) == (socket.AF_VSOCK, socket.SOCK_DGRAM)
data, source = sock.recvfrom(100)
sock.sendto(data.upper(), source)
"""


def test_fork_exec_and_passing(run):
    run.python("""
        server, sock = make(DGRAM, 5000), make(DGRAM)
        # Parent and child send as one endpoint, at the same time.
        sock.connect((HOST, 5000))
        sock.send(b"0")
        children = []
        for i in range(1, 5):
            pid = os.fork()
            if not pid:
                for _ in range(20):
                    sock.send(b"%d" % i)
                os._exit(0)
            children.append(pid)
        got = [server.recvfrom(10) for _ in range(81)]
        assert {source for _, source in got} == {(2, port_of(sock))}
        assert sorted({data for data, _ in got}) == [b"0", b"1", b"2", b"3", b"4"]
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        # The one who has made it is gone; who was given it goes on.
        left, right = socket.socketpair(socket.AF_UNIX)
        if not os.fork():
            made = make(DGRAM, 7000)
            socket.send_fds(left, [b"x"], [made.fileno()])
            os._exit(0)
        _, fds, _, _ = socket.recv_fds(right, 1, 1)
        os.wait()
        time.sleep(2.5)         # vmcid has looked who is there
        heir = socket.socket(fileno=fds[0])
        assert heir.getsockname() == (ANY, 7000)
        sock.sendto(b"to the heir", (HOST, 7000))
        data, source = heir.recvfrom(100)
        assert data == b"to the heir"
        heir.sendto(b"thanks", source)
        assert sock.recv(100) == b"thanks"
        # exec
        child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(server.fileno())], pass_fds=[server.fileno()])
        sock.sendto(b"shout", (HOST, 5000))
        assert sock.recv(100) == b"SHOUT"
        assert child.wait() == 0
    """, INSIDE)


def test_a_process_that_was_given_one_only(run):
    """It has made none itself; reading must work all the same."""
    run.python("""
        left, right = socket.socketpair(socket.AF_UNIX)
        child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(right.fileno())], pass_fds=[right.fileno()])
        server, sock = make(DGRAM, 5000), make(DGRAM)
        sock.sendto(b"x", (HOST, 5000))
        sock.sendto(b"y", (HOST, 5000))
        socket.send_fds(left, [b"x"], [server.fileno()])
        assert child.wait() == 0
    """, "import os, socket, sys\n"
         "_, fds, _, _ = socket.recv_fds(socket.socket(fileno=int(sys.argv[1])), 1, 1)\n"
         "assert os.read(fds[0], 100) == b'x'\n"
         "assert socket.socket(fileno=fds[0]).recv(100) == b'y'\n")


def test_contexts(run):
    """A program in a context of its own, and one in the host's."""
    server = run.start_python("""
        server = make(DGRAM, 5000)
        print("ready")
        data, source = server.recvfrom(100)
        print(data, source)
        server.sendto(b"back", source)
    """, cid=42)
    run.wait_text(server, "ready")
    run.python("""
        sock = make(DGRAM, 6000)
        sock.sendto(b"forth", (42, 5000))
        assert sock.recvfrom(100) == (b"back", (42, 5000))
    """)
    assert server.wait() == 0
    assert "b'forth' (2, 6000)" in server.text()


def test_the_other_programs_of_the_fabric(run, host):
    """libvmci's endpoints are the same thing."""
    endpoint = Endpoint(host, 4000)
    process = run.start_python("""
        sock = make(DGRAM, 5000)
        sock.sendto(b"to libvmci", (HOST, 4000))
        assert sock.recvfrom(100) == (b"from libvmci", (2, 4000))
    """)
    got = endpoint.recv()
    assert (got.src, got.payload) == ((2, 5000), b"to libvmci")
    endpoint.send((2, 5000), b"from libvmci")
    assert process.wait() == 0, process.text()


# --- DG_BIND -----------------------------------------------------------------------------------------------------

def unix_socket(kind=socket.SOCK_DGRAM):
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.settimeout(5)
    return sock


def bind(client, sock, rid=INVALID, cid=INVALID):
    return client.ok(DG_BIND, handle=(cid, rid), fds=[sock]).handle


def refused(client, *args, **options):
    """Without a traceback, which would keep the socket."""
    try:
        bind(client, *args, **options)
    except Refused as error:
        return error.status
    return 0


def test_bind(host, soft):
    sock = unix_socket()
    cid, port = bind(host, sock)
    assert cid == 2 and port >= 1024
    sender = Endpoint(soft)
    assert sender.send((2, port), b"hello") == DG_HEADER + 5
    got = parse_datagram(sock.recv(100))
    assert (got.src, got.dst, got.payload) == (sender.handle, (2, port), b"hello")
    first, second = unix_socket(), unix_socket()
    assert bind(soft, first, 5000) == (soft.cid, 5000)
    assert bind(soft, second, 5001, soft.cid) == (soft.cid, 5001)
    assert refused(soft, unix_socket(), 5000) == ALREADY_EXISTS
    assert refused(soft, unix_socket(), sender.handle[1]) == ALREADY_EXISTS
    assert refused(soft, unix_socket(), 5002, 2) == INVALID_ARGS
    assert refused(host, unix_socket(), 0) == NO_ACCESS and refused(host, unix_socket(), 1) == NO_ACCESS


def test_what_can_not_be_bound(host, directory):
    assert refused(host, unix_socket(socket.SOCK_STREAM)) == INVALID_ARGS
    assert refused(host, unix_socket(socket.SOCK_SEQPACKET)) == INVALID_ARGS
    assert refused(host, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) == INVALID_ARGS
    for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
        assert refused(host, end) == INVALID_ARGS
    named = unix_socket()
    named.bind(str(directory / "named"))
    assert refused(host, named) == INVALID_ARGS
    connected = unix_socket()
    connected.connect(str(directory / "named"))
    assert refused(host, connected) == INVALID_ARGS
    with open("/dev/null") as other:
        assert refused(host, other) == INVALID_ARGS
    bound = unix_socket()
    bind(host, bound)
    assert refused(host, bound) == INVALID_ARGS


def test_who_may_send_as_it(vmcid, host, needs_root):
    """Every client of the user, in the context; nobody else."""
    sock = unix_socket()
    handle = bind(host, sock)
    second = vmcid.connect()
    packet = datagram(handle, handle, b"x")
    assert second.call(DG_SEND, data=packet).status == DG_HEADER + 1
    assert parse_datagram(sock.recv(100)).src == handle
    with as_user(12345):
        stranger = vmcid.connect()
    assert stranger.call(DG_SEND, data=packet).status == NO_ACCESS
    soft = vmcid.connect(cid=INVALID)
    assert soft.call(DG_SEND, data=packet).status == NO_ACCESS
    # The endpoint of a connection is that connection's, as ever.
    endpoint = Endpoint(host)
    assert second.call(DG_SEND, data=datagram(handle, endpoint.handle, b"x")).status == NO_ACCESS


def test_it_lives_as_long_as_its_socket(vmcid, host):
    maker = vmcid.connect(cid=INVALID)
    sock = unix_socket()
    handle = bind(maker, sock, 5000)
    maker.close()
    sender = Endpoint(host)
    until("the maker to be gone", lambda: len([line for line in host.list() if line.startswith("client")]) <= 3)
    sender.send(handle, b"still there")
    assert parse_datagram(sock.recv(100)).payload == b"still there"
    sock.close()
    until("it to be gone", lambda: sender.send(handle, b"x") < 0 or None, 10)
    again = vmcid.connect(cid=handle[0])
    assert bind(again, unix_socket(), 5000) == handle


def test_one_that_does_not_read(host, soft):
    """Its senders are told, and vmcid's memory is bounded."""
    sock = unix_socket()
    handle = bind(host, sock)
    sender = Endpoint(soft)
    sizes = [sender.send(handle, bytes(1000)) for _ in range(500)]
    good = [size for size in sizes if size > 0]
    assert 130 <= len(good) <= 139 and set(sizes) == {DG_HEADER + 1000, -19}
    for _ in good:
        assert len(sock.recv(2000)) == DG_HEADER + 1000
    assert sender.send(handle, b"x") > 0


def test_one_that_turns_away(host, soft, directory):
    """A receiver that connects its socket to somebody else refuses what vmcid writes: its senders' loss."""
    sock, other = unix_socket(), unix_socket()
    handle = bind(host, sock)
    other.bind(str(directory / "other"))
    sock.connect(str(directory / "other"))
    assert Endpoint(soft).send(handle, b"x") < 0
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    assert Endpoint(soft).send(handle, b"x") < 0
    assert Endpoint(soft).send((2, INVALID_RESOURCE & 0xffff), b"x") == INVALID_RESOURCE
    assert os.path.exists(directory)


def test_after_a_restart(vmcid, run, host):
    """Nobody has to do anything: not even those who sleep in poll(2)."""
    sock = unix_socket()
    handle = bind(host, sock, 4000)
    soft = vmcid.connect(cid=INVALID)
    own = unix_socket()
    own_handle = bind(soft, own, 4001)
    server = run.start_python("""
        server = make(DGRAM, 5000)
        epoll = select.epoll()
        epoll.register(server, select.EPOLLIN)
        print("ready")
        while True:
            epoll.poll()
            data, source = server.recvfrom(100)
            print(data)
            server.sendto(data, source)
            if data == b"end":
                break
    """)
    run.wait_text(server, "ready")
    for _ in range(3):
        vmcid.restart()
        client = vmcid.connect()
        sender = Endpoint(client)
        for target, reader in (handle, sock), (own_handle, own):
            assert sender.send(target, b"after") == DG_HEADER + 5
            assert parse_datagram(reader.recv(100)).payload == b"after"
        sender.send((2, 5000), b"hello")
        assert sender.recv().payload == b"hello"
        assert refused(client, unix_socket(), 4000) == ALREADY_EXISTS
    sender.send((2, 5000), b"end")
    assert sender.recv().payload == b"end"
    assert server.wait() == 0, server.text()


def test_quota(host):
    """Each counts like a client; those whose socket is closed do not, as soon as it matters."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        sockets = []
        for _ in range(2):
            while True:
                sock = unix_socket()
                status = refused(host, sock)
                if status:
                    break
                sockets.append(sock)
            assert status == NO_RESOURCES and 900 < len(sockets) <= 1024
            sock.close()
            # That was a look at all of them. The next one is not before a while, however often one asks.
            for _ in range(100):
                with unix_socket() as sock:
                    assert refused(host, sock) == NO_RESOURCES
            while sockets:
                sockets.pop().close()
            time.sleep(0.2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
