# SPDX-License-Identifier: BSD-2-Clause
"""Streams of unmodified programs under vmci-run: Python's socket module. vmci_sockets(7)"""

import pytest

from testbed.process import BUILD


@pytest.mark.parametrize("kind", ["STREAM", "SEQPACKET"])
def test_two_ends(run, kind):
    run.python(f"""
        kind = {kind}
        server = make(kind)
        assert (server.family, server.type, server.proto) == (V, kind, 0)
        assert server.getsockname() == (ANY, ANY)
        assert error_of(server.listen) == "EINVAL"
        server.bind((ANY, 5000))
        assert server.getsockname() == (ANY, 5000)
        server.listen()
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        one = client(5000, kind=kind)
        assert one.getpeername() == (2, 5000)
        two, address = server.accept()
        assert address == one.getsockname() and address[0] == 2 and address[1] >= 1024
        assert two.getsockname() == (2, 5000) and two.getpeername() == address
        assert (two.family, two.type) == (V, kind)
        assert two.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == V
        one.sendall(b"hello")
        data, source = two.recvfrom(100)
        assert (data, source) == (b"hello", None)
        assert two.sendmsg([b"wor", b"ld"]) == 5
        assert one.recvmsg(100)[0] == b"world"
        one.shutdown(socket.SHUT_WR)
        assert two.recv(1) == b""
        two.send(b"late")
        assert one.recv(9) == b"late"
        two.close()
        assert one.recv(1) == b""
        assert error_of(one.send, b"x") == "EPIPE"
    """)


def test_seqpacket_keeps_its_packets(run):
    run.python("""
        one, two = pair(SEQPACKET)
        one.send(b"first")
        one.send(b"second")
        assert two.recv(3) == b"fir"
        assert two.recv(100) == b"second"
    """)


def test_addresses(run):
    run.python("""
        server = listener(5000)
        for cid in HOST, LOCAL:
            sock = client(5000, cid)
            assert sock.getpeername() == (2, 5000)
        assert error_of(make, STREAM, 5000) == "EADDRINUSE"
        assert error_of(make, STREAM, 5000, HOST) == "EADDRINUSE"
        for cid in 0, 3, 16, 77:
            assert error_of(make, STREAM, 5001, cid) == "EADDRNOTAVAIL", cid
        sock = make(port=5001, cid=HOST)
        assert sock.getsockname() == (2, 5001)
        assert error_of(sock.bind, (ANY, 5002)) == "EINVAL"
        # A bound port may be connected from; also one that is for the privileged.
        sock.connect((HOST, 5000))
        assert sock.getsockname() == (2, 5001)
        assert server.accept() and server.accept() and server.accept()[1] == (2, 5001)
        chosen = make(port=ANY)
        assert chosen.getsockname()[0] == ANY and chosen.getsockname()[1] >= 1024
        # The same number is another port for datagrams.
        assert make(DGRAM, 5000).getsockname() == (ANY, 5000)
        # and free when its socket is closed.
        server.close()
        assert listener(5000)
    """)


def test_errors_of_connect(run):
    run.python("""
        server = listener(5000)
        sock = make()
        for address, wanted in [((HOST, 4999), "ECONNRESET"), ((77, 5000), "EHOSTUNREACH"), ((0, 976), "EHOSTUNREACH"),
                                ((ANY, 5000), "EINVAL"), ((HOST, ANY), "EINVAL")]:
            assert error_of(sock.connect, address) == wanted, address
        assert error_of(sock.getpeername) == "ENOTCONN"
        assert error_of(sock.send, b"x") in ("ENOTCONN", "EPIPE")
        assert error_of(sock.shutdown, socket.SHUT_RDWR) == "ENOTCONN"
        # and it can still be connected
        sock.connect((HOST, 5000))
        assert error_of(sock.connect, (HOST, 5000)) == "EISCONN"
        assert error_of(server.connect, (HOST, 5000)) == "EINVAL"
        assert error_of(sock.sendto, b"x", (HOST, 5000)) == "EISCONN"
        assert error_of(make().sendto, b"x", (HOST, 5000)) == "EOPNOTSUPP"
        assert error_of(sock.send, b"x", socket.MSG_OOB) == "EOPNOTSUPP"
        assert error_of(sock.recv, 1, socket.MSG_OOB) == "EOPNOTSUPP"
        assert error_of(socket.socket, V, socket.SOCK_RAW) == "ESOCKTNOSUPPORT"
        assert error_of(socket.socket, V, STREAM, 7) == "EPROTONOSUPPORT"
        assert error_of(socket.socket, V, STREAM, V) == "success"
        assert error_of(socket.socketpair, V) == "EOPNOTSUPP"
        assert error_of(make(DGRAM).listen) == "EOPNOTSUPP"
        assert error_of(make(port=6000).accept) == "EINVAL"
    """)


def test_raw_addresses(run):
    """What a C program can get wrong."""
    run.python("""
        libc = ctypes.CDLL(None, use_errno=True)
        def raw(call, sock, address, size=None):
            if getattr(libc, call)(sock.fileno(), address, len(address) if size is None else size) == 0:
                return "success"
            return name_of(ctypes.get_errno())
        def address(cid=ANY, port=5000, family=V, flags=0, reserved=0):
            return struct.pack("<HHIIBBBB", family, reserved, port, cid, flags, 0, 0, 0)
        for call in "bind", "connect":
            assert raw(call, make(), address(family=socket.AF_INET)[:16]) == "EINVAL" or call == "connect"
            assert raw(call, make(), address(flags=2)) == "EINVAL"
            assert raw(call, make(), address(), 15) == "EINVAL"
            assert raw(call, make(), address(), 0) == "EINVAL"
        assert raw("bind", make(), address(flags=1)) == "success"
        # A UNIX address must not reach the socket behind it.
        path = struct.pack("<H14s", socket.AF_UNIX, b"\\0x")
        assert raw("bind", make(), path) == "EINVAL"
        assert raw("connect", make(), path) == "EINVAL"
        # And an address of ours on somebody else's socket does not reach the kernel.
        other = socket.socket(socket.AF_INET)
        assert raw("bind", other, address()) == "EINVAL"
        assert raw("connect", other, address()) == "EINVAL"
        assert libc.bind(0, address(), 16) == -1 and name_of(ctypes.get_errno()) == "ENOTSOCK"
        assert libc.bind(99, address(), 16) == -1 and name_of(ctypes.get_errno()) == "EBADF"
        # Short buffers get what fits.
        buffer, size = ctypes.create_string_buffer(16), ctypes.c_uint(6)
        sock = make(port=5001)
        assert libc.getsockname(sock.fileno(), buffer, ctypes.byref(size)) == 0 and size.value == 16
        assert buffer.raw == struct.pack("<HHH", V, 0, 5001) + bytes(10)
    """)


def test_options(run):
    run.python("""
        SIZE, MIN, MAX, TIMEOUT, NEW = 0, 1, 2, 6, 8
        sock = make()
        get = lambda option: sock.getsockopt(V, option)
        put = lambda option, value: sock.setsockopt(V, option, value)
        assert (get(SIZE), get(MIN), get(MAX)) == (262144, 128, 262144)
        put(SIZE, 1 << 20)
        assert get(SIZE) == 262144
        put(MAX, 1 << 20)
        put(SIZE, 1 << 20)
        assert get(SIZE) == 1 << 20
        put(MIN, 1 << 19)
        put(SIZE, 5)
        assert get(SIZE) == 1 << 19
        put(MAX, 4096)
        assert get(SIZE) == 4096
        libc = ctypes.CDLL(None, use_errno=True)
        def call(name, level, option, value, size=None):
            size = len(value) if size is None else size
            if name == "setsockopt":
                r = libc.setsockopt(sock.fileno(), level, option, value, size)
            else:
                buffer, n = ctypes.create_string_buffer(size), ctypes.c_uint(size)
                r = libc.getsockopt(sock.fileno(), level, option, buffer, ctypes.byref(n))
                if r == 0:
                    return buffer.raw[:n.value]
            return name_of(ctypes.get_errno()) if r else "success"
        for option in TIMEOUT, NEW:
            assert struct.unpack("qq", call("getsockopt", V, option, b"", 16)) == (2, 0)
            assert call("setsockopt", V, option, struct.pack("qq", 1, 500000)) == "success"
            assert struct.unpack("qq", call("getsockopt", V, option, b"", 16)) == (1, 500000)
            for bad in (-1, 0), (0, -1), (0, 1000000):
                assert call("setsockopt", V, option, struct.pack("qq", *bad)) == "ERANGE", bad
            assert call("setsockopt", V, option, struct.pack("qq", 0, 0)) == "success"
            assert struct.unpack("qq", call("getsockopt", V, option, b"", 16)) == (2, 0)
            assert call("setsockopt", V, option, bytes(8)) == "EINVAL"
        assert call("setsockopt", V, SIZE, bytes(4)) == "EINVAL"
        assert call("getsockopt", V, SIZE, b"", 4) == "EINVAL"
        for option in 4, 7, 9, 100:
            assert call("setsockopt", V, option, bytes(8)) == "ENOPROTOOPT", option
            assert call("getsockopt", V, option, b"", 8) == "ENOPROTOOPT", option
        assert call("getsockopt", V, 5, b"", 4) != "ENOPROTOOPT"        # trusted
        # The places where we keep what we know are out of the program's reach.
        SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_MAX_PACING_RATE = 26, 27, 47
        assert call("setsockopt", socket.SOL_SOCKET, SO_MAX_PACING_RATE, bytes(8)) == "ENOPROTOOPT"
        assert call("getsockopt", socket.SOL_SOCKET, SO_MAX_PACING_RATE, b"", 4) == bytes(4 * [255])
        assert call("setsockopt", socket.SOL_SOCKET, SO_DETACH_FILTER, bytes(4)) == "ENOPROTOOPT"
        assert call("setsockopt", socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(16)) == "ENOPROTOOPT"
        assert call("getsockopt", socket.SOL_SOCKET, SO_ATTACH_FILTER, b"", 64) == b""
        # What is set at the listener, its children have.
        server = make(port=5000)
        server.setsockopt(V, SIZE, 8192)
        server.listen()
        sock = client(5000)
        child, _ = server.accept()
        assert child.getsockopt(V, SIZE) == 8192
        assert make(DGRAM) and error_of(make(DGRAM).getsockopt, V, SIZE) == "EOPNOTSUPP"
        # Other options are the kernel's.
        assert call("setsockopt", socket.SOL_SOCKET, socket.SO_KEEPALIVE, struct.pack("i", 1)) == "success"
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    """)


def test_not_blocking(run):
    """connect() is carried out at once; everything else is the kernel's."""
    run.python("""
        server = listener(5000)
        server.setblocking(False)
        assert error_of(server.accept) == "EAGAIN"
        poll = select.poll()
        poll.register(server, select.POLLIN)
        assert poll.poll(0) == []
        sock = make()
        sock.setblocking(False)
        assert sock.connect_ex((HOST, 5000)) == 0
        assert poll.poll(0) == [(server.fileno(), select.POLLIN)]
        child, _ = server.accept()
        child.setblocking(False)
        assert error_of(child.recv, 1) == "EAGAIN"
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += sock.send(bytes(65536))
        assert sent >= 65536
        assert select.select([child], [sock], [], 0) == ([child], [], [])
        while sent:
            sent -= len(child.recv(1 << 20))
        assert select.select([], [sock], [], 0)[1] == [sock]
        epoll = select.epoll()
        epoll.register(child, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        assert epoll.poll(0) == []
        sock.shutdown(socket.SHUT_WR)
        assert epoll.poll(1) == [(child.fileno(), select.EPOLLIN | select.EPOLLRDHUP)]
        sock = make()
        sock.setblocking(False)
        assert name_of(sock.connect_ex((HOST, 4999))) == "ECONNRESET"
        sock.settimeout(5)
        sock.connect((HOST, 5000))
    """)


def test_time_outs(run):
    run.python("""
        server = listener(5000)
        server.settimeout(0.05)
        try:
            server.accept()
            raise SystemExit("accepted?")
        except TimeoutError:
            pass
        sock = client(5000)
        libc = ctypes.CDLL(None)
        limit = struct.pack("ll", 0, 50000)
        assert libc.setsockopt(sock.fileno(), socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit, 16) == 0
        assert error_of(sock.recv, 1) == "EAGAIN"
    """)


def test_a_full_queue(run):
    """A listener that does not accept: who does not wait is refused, who does gets as long as connect may take."""
    run.python("""
        server = listener(5000, backlog=2)
        waiting = []
        while True:
            sock = make()
            sock.setblocking(False)
            got = sock.connect_ex((HOST, 5000))
            if got:
                break
            waiting.append(sock)
        assert name_of(got) == "ECONNRESET" and 2 <= len(waiting) <= 4
        sock = make()
        libc = ctypes.CDLL(None)
        assert libc.setsockopt(sock.fileno(), V, 8, struct.pack("qq", 0, 100000), 16) == 0
        began = time.monotonic()
        assert error_of(sock.connect, (HOST, 5000)) == "ECONNRESET"
        assert time.monotonic() - began >= 0.1
        thread = threading.Timer(0.2, server.accept)
        thread.start()
        assert client(5000)
        thread.join()
    """)


def test_a_lot_of_bytes(run):
    run.python("""
        one, two = pair()
        data = os.urandom(1 << 20) * 16
        thread = threading.Thread(target=lambda: (one.sendall(data), one.close()))
        thread.start()
        got = bytearray()
        while piece := two.recv(1 << 16):
            got += piece
        assert got == data
        thread.join()
        # The kernel's own ways
        one, two = pair()
        with open("/bin/true", "rb") as file:
            size = one.sendfile(file)
            one.close()
            got = b"".join(iter(lambda: two.recv(4096), b""))
            file.seek(0)
            assert got == file.read() and len(got) == size
    """)


def test_selectors_and_asyncio(run):
    run.python("""
        async def main():
            loop = asyncio.get_running_loop()
            server = listener(5000, backlog=64)
            server.setblocking(False)
            async def serve():
                while True:
                    sock, _ = await loop.sock_accept(server)
                    asyncio.create_task(echo(sock))
            async def echo(sock):
                while data := await loop.sock_recv(sock, 4096):
                    await loop.sock_sendall(sock, data)
                sock.close()
            async def ask(i):
                sock = make()
                sock.setblocking(False)
                await loop.sock_connect(sock, (HOST, 5000))
                await loop.sock_sendall(sock, b"%d" % i)
                assert await loop.sock_recv(sock, 100) == b"%d" % i
                sock.close()
            task = asyncio.create_task(serve())
            await asyncio.gather(*(ask(i) for i in range(50)))
            refused = make()
            refused.setblocking(False)
            try:
                await loop.sock_connect(refused, (HOST, 4999))
                raise SystemExit("connected?")
            except ConnectionResetError:
                pass
            task.cancel()
            # The streams of asyncio, on a socket that is there.
            async def handle(reader, writer):
                writer.write((await reader.readline()).upper())
                await writer.drain()
                writer.close()
            server = await asyncio.start_server(handle, sock=make(port=5001))
            reader, writer = await asyncio.open_connection(sock=client(5001))
            writer.write(b"line\\n")
            assert await reader.read() == b"LINE\\n"
            writer.close()
            server.close()
        asyncio.run(main())
    """)


def test_servers_that_fork_and_thread(run):
    run.python("""
        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(self.rfile.readline() + b"%d" % os.getpid())
        for mixin in socketserver.ThreadingMixIn, socketserver.ForkingMixIn:
            class Server(mixin, socketserver.TCPServer):
                address_family, allow_reuse_address = V, True
                def server_bind(self):
                    self.socket.bind(self.server_address)
                    self.server_address = self.socket.getsockname()
            with Server((ANY, ANY), Handler) as server:
                thread = threading.Thread(target=server.serve_forever)
                thread.start()
                for i in range(10):
                    sock = client(server.server_address[1])
                    sock.sendall(b"hello\\n")
                    got = b"".join(iter(lambda: sock.recv(100), b""))
                    line, pid = got.split(b"\\n")
                    assert line == b"hello" and (int(pid) == os.getpid()) == (mixin is socketserver.ThreadingMixIn)
                server.shutdown()
                thread.join()
    """)


INSIDE = """
import socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
print(int(sock.family), int(sock.type), sock.getsockname(), end=" ")
if sys.argv[2] == "bind":
    sock.bind((socket.VMADDR_CID_ANY, 6000))
    sock.listen()
elif sys.argv[2] == "accept":
    new, address = sock.accept()
    print(new.recv(10), new.getpeername() == address, end=" ")
elif sys.argv[2] == "connect":
    sock.connect((2, 5000))
    print(sock.getpeername(), end=" ")
elif sys.argv[2] == "talk":
    print(sock.getpeername(), sock.recv(10), end=" ")
"""


def test_state_survives_fork_exec_dup_and_passing(run):
    run.python("""
        inside = sys.argv[1]
        def execute(sock, what):
            fd = sock.fileno()
            return subprocess.run([sys.executable, "-c", inside, str(fd), what], pass_fds=[fd], check=True,
                                  capture_output=True, text=True).stdout.strip()
        server = listener(5000)
        unbound = make()
        assert execute(unbound, "bind") == "40 1 (4294967295, 4294967295)"
        assert unbound.getsockname() == (ANY, 6000)
        assert client(6000) and unbound.accept()
        one = client(5000)
        one.send(b"early")
        assert execute(server, "accept") == "40 1 (4294967295, 5000) b'early' True"
        assert one.recv(1) == b""
        late = make()
        assert "(2, 5000)" in execute(late, "connect")
        assert late.getpeername() == (2, 5000)
        two, _ = server.accept()
        two.send(b"x")
        assert execute(late, "talk").endswith("(2, 5000) b'x'")
        # dup
        copy = late.dup()
        assert copy.family == V and copy.getpeername() == (2, 5000)
        # passing, to a process and back
        left, right = socket.socketpair(socket.AF_UNIX)
        if not os.fork():
            _, fds, _, _ = socket.recv_fds(right, 1, 4)
            got = socket.socket(fileno=fds[0])
            assert got.family == V and got.getpeername() == (2, 5000)
            got.send(b"from the child")
            fresh = make(port=7000)
            socket.send_fds(right, [b"x"], [fresh.fileno()])
            os._exit(0)
        socket.send_fds(left, [b"x"], [late.fileno()])
        assert two.recv(100) == b"from the child"
        _, fds, _, _ = socket.recv_fds(left, 1, 4)
        fresh = socket.socket(fileno=fds[0])
        assert fresh.getsockname() == (ANY, 7000)
        fresh.listen()
        assert client(7000)
        assert os.wait()[1] == 0
    """, INSIDE)


def test_programs_that_close_everything(run):
    """Our connection to vmcid may be closed under us, and its number be another file's."""
    run.python("""
        server = listener(5000)
        first = client(5000)
        os.closerange(first.fileno() + 1, 2000)
        assert client(5000)
        # Now every number that it could have is something else.
        ours = [fd for fd in range(900, 1000) if os.path.exists(f"/proc/self/fd/{fd}")]
        assert ours
        reader, writer = os.pipe()
        for fd in ours:
            os.dup2(writer, fd)
        assert client(5000)
        for fd in ours:
            os.close(fd)
        os.close(writer)
        assert os.read(reader, 100) == b""
        # A child that closes all of its parent's.
        if not os.fork():
            os.closerange(3, 2000)
            client(5000).send(b"child")
            os._exit(0)
        assert os.wait()[1] == 0
        for _ in range(4):
            child, _ = server.accept()
        assert child.recv(10) == b"child"
        # No descriptors but one high one are left of anything.
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(100):
            client(5000).close()
            server.accept()[0].close()
        assert len(os.listdir("/proc/self/fd")) == before
    """)


def test_many_threads(run):
    run.python("""
        server = listener(5000, backlog=100)
        def serve():
            while True:
                sock, _ = server.accept()
                with sock:
                    data = sock.recv(100)
                    if data == b"end":
                        return
                    sock.sendall(data)
        serving = [threading.Thread(target=serve) for _ in range(4)]
        failed = []
        def ask(n):
            try:
                for i in range(20):
                    sock = client(5000)
                    sock.sendall(b"%d.%d" % (n, i))
                    assert sock.recv(100) == b"%d.%d" % (n, i)
                    sock.close()
            except BaseException as error:
                failed.append(error)
                raise
        asking = [threading.Thread(target=ask, args=[n]) for n in range(8)]
        for thread in serving + asking:
            thread.start()
        for thread in asking:
            thread.join()
        for thread in serving:
            client(5000).sendall(b"end")
        for thread in serving:
            thread.join()
        assert not failed, failed
    """)


# As deep as what follows it in a test.
PEER = """
        class Peer(ctypes.Structure):
            _fields_ = [("cid", ctypes.c_uint), ("port", ctypes.c_uint), ("uid", ctypes.c_uint), ("gid", ctypes.c_uint),
                        ("pid", ctypes.c_int), ("vm", ctypes.c_char * 65)]
        libvmci = ctypes.CDLL(sys.argv[1], use_errno=True)
        def peer_of(sock):
            peer = Peer()
            if libvmci.vmci_peer(sock.fileno(), ctypes.byref(peer)):
                return name_of(ctypes.get_errno())
            return peer.cid, peer.port, peer.uid, peer.gid, peer.pid, peer.vm
"""


def test_privileged_ports(run, needs_root):
    as_nobody = ["setpriv", "--reuid", "65534", "--clear-groups"]
    text = run.python("print(error_of(make, STREAM, 1023), error_of(make, DGRAM, 1022), error_of(make, STREAM, 1024))",
                      wrap=as_nobody)
    assert text == "EACCES EACCES success\n"
    text = run.python("print(error_of(make, STREAM, 1023), error_of(make, DGRAM, 1022))")
    assert text == "success success\n"


def test_rights_that_are_given_up(run, needs_root):
    """What was connected to vmcid before setuid(2) is used no more, and sockets go on that were made before it."""
    text = run.python("""
        names = [(STREAM, 80), (STREAM, 9000), (SEQPACKET, 80), (SEQPACKET, 9010), (DGRAM, 80), (DGRAM, 9000)]
        before = [make(kind) for kind, _ in names]
        bound, listening, datagrams = make(STREAM, 81), listener(82), make(DGRAM, 83)
        os.setgroups([]), os.setgid(4711), os.setuid(4711)
        print(*[error_of(sock.bind, (ANY, port)) for sock, (_, port) in zip(before, names)])
        print(*[error_of(make, kind, port + 1) for kind, port in names])
        # What was bound by then is bound.
        bound.listen()
        for server, port in (bound, 81), (listening, 82):
            one = client(port)
            two, _ = server.accept()
            one.send(b"x")
            assert two.recv(1) == b"x"
        before[5].sendto(b"in", (HOST, 83))
        assert datagrams.recvfrom(10) == (b"in", (HOST, 9000))
        print(error_of(datagrams.sendto, b"out", (HOST, 9000)))
    """)
    binds = " ".join(["EACCES success"] * 3)
    assert text.splitlines() == [binds, binds, "EPERM"]


@pytest.mark.parametrize("change", ["os.seteuid(4711)", "os.setegid(4711)", "os.setreuid(-1, 4711)"])
def test_rights_that_come_back(run, needs_root, change):
    """As vmcid sees them, which decides: the ids with which the connection is made."""
    run.python(PEER + f"""
        server, before = listener(5000), make()
        {change}
        before.connect((HOST, 5000))
        seen = peer_of(server.accept()[0])
        assert seen[2:4] == (os.geteuid(), os.getegid()) != (0, 0), seen
        os.seteuid(0), os.setegid(0)
        one = client(5000)
        seen = peer_of(server.accept()[0])
        assert seen[2:4] == (0, 0), seen
        assert error_of(make, STREAM, 80) == "success"
    """, str(BUILD / "libvmci.so.0"))


def test_a_thread_that_gives_up_rights_amid_calls(run, needs_root):
    """Whatever the moment, nothing of before is left."""
    run.python("""
        import random
        for round in range(40):
            if os.fork():
                assert os.wait()[1] == 0
                continue
            stop = False
            def work():
                while not stop:
                    sock = make(DGRAM)
                    with contextlib.suppress(OSError):
                        sock.bind((ANY, ANY))
                    sock.close()
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            time.sleep(random.random() / 50)
            os.setgroups([]), os.setgid(4711), os.setuid(4711)
            got = {error_of(make, STREAM, 80) for _ in range(20)}
            stop = True
            for thread in threads:
                thread.join()
            got |= {error_of(make, STREAM, 80) for _ in range(20)}
            os._exit(got != {"EACCES"})
    """)


def test_who_is_there(run):
    run.python(PEER + """
        server = listener(5000)
        one = client(5000)
        two, _ = server.accept()
        me = os.getuid(), os.getgid(), os.getpid(), b""
        assert peer_of(one) == (2, 5000, *me), peer_of(one)
        assert peer_of(two) == (*one.getsockname(), *me), peer_of(two)
        assert peer_of(make()) == "ENOTCONN"
        assert peer_of(make(DGRAM)) == "EOPNOTSUPP"
        assert peer_of(socket.socket()) == "ENOTSOCK"
        assert peer_of(socket.socketpair()[0]) == "ENOTSOCK"
    """, str(BUILD / "libvmci.so.0"))


def test_few_descriptors(run):
    """A low limit: ours are out of the way all the same, and when none is left, that is what is said."""
    run.python("""
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        server = listener(5000)
        one = client(5000)
        two, _ = server.accept()
        assert max(fd.fileno() for fd in (server, one, two)) < 10
        opened = []
        while (fd := os.dup(0)) < 62:
            opened.append(fd)
        assert error_of(client, 5000) in ("success", "EMFILE")
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.dup(0))
        assert error_of(make) == "EMFILE"
        for fd in opened:
            os.close(fd)
        assert client(5000)
    """)
