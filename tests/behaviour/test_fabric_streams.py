# SPDX-License-Identifier: BSD-2-Clause
"""Streams between programs: bind, connect, names, rights, and sockets that are not what they should be.
doc/protocol-fabric.md, 13.
"""

import contextlib
import ctypes
import fcntl
import mmap
import os
import socket
import threading

import pytest
from testbed.fabric import (ALREADY_EXISTS, DG_BIND, DST_UNREACHABLE, HOST, INVALID, INVALID_ARGS, NOT_FOUND, NO_ACCESS,
                            NO_RESOURCES, RESUME, STREAM_BIND, STREAM_CONNECT, STREAM_OPEN, WOULD_BLOCK, Address,
                            Client, Ended, Refused, Sink, as_user, eventfd, is_readable, memfd, parse_address,
                            peer_credentials)
from testbed.process import until

USER, OTHER = 4711, 4712
PORT = 5000


def me(client=None):
    uid = client.uid if client else os.geteuid()
    return uid, os.getegid() if uid == os.geteuid() else uid, os.getpid()


def port_files(vmcid, cid=HOST):
    folder = vmcid.runtime / "port" / str(cid)
    return {int(path.name) for path in folder.iterdir()} if folder.exists() else set()


# --- Right ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("type_", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_connect(vmcid, host, soft, type_):
    listener, port = host.listener(PORT, type_)
    assert port == PORT
    assert listener.getsockname() == str(vmcid.runtime / "port/2/5000")
    client = soft.connected((HOST, PORT), type_)
    server, name = listener.accept()
    assert parse_address(name) == Address(soft.cid, parse_address(client.getsockname()).port, me())
    assert parse_address(server.getpeername()) == parse_address(name)
    assert parse_address(server.getsockname()) == Address(HOST, PORT, None)
    assert parse_address(client.getpeername()) == Address(HOST, PORT, None)
    # who made the connection: vmcid; who listens: we
    assert peer_credentials(server)[0] == vmcid.process.pid
    assert peer_credentials(client)[0] == os.getpid()
    client.send(b"there")
    assert server.recv(100) == b"there"
    server.send(b"and back")
    assert client.recv(100) == b"and back"
    client.shutdown(socket.SHUT_WR)
    assert server.recv(100) == b""
    server.send(b"half")
    assert client.recv(100) == b"half"
    for sock in client, server, listener:
        sock.close()


def test_the_other_way_round(host, soft):
    listener, port = soft.listener()
    assert port >= 1024
    client = host.connected((soft.cid, port))
    server, name = listener.accept()
    assert parse_address(name).context == HOST
    assert parse_address(server.getsockname()) == Address(soft.cid, port, None)
    for sock in client, server, listener:
        sock.close()


def test_chosen_ports_are_used_again_late(host):
    ports = []
    for _ in range(300):
        sock, port = host.listener()
        ports.append(port)
        sock.close()
    assert len(set(ports)) == 300 and min(ports) >= 1024


def test_source_ports(host, soft):
    listener, _ = host.listener(PORT)
    names, socks = set(), []
    for _ in range(50):
        socks.append(soft.connected((HOST, PORT)))
        server, name = listener.accept()
        names.add(parse_address(name).port)
        socks.append(server)
    assert len(names) == 50
    sock = soft.connected((HOST, PORT), port=7777)
    server, name = listener.accept()
    assert parse_address(name).port == 7777
    again = soft.connected((HOST, PORT), port=7777)     # streams have two ends
    own, port = soft.listener(7778)
    taken = soft.new_socket()
    assert soft.connect((HOST, PORT), taken, port=7778) == ALREADY_EXISTS
    own.close()
    assert soft.connect((HOST, PORT), taken, port=7778) == 0
    for each in [listener, sock, server, again, taken, *socks]:
        each.close()


def test_flags_of_the_program_stay(host, soft):
    listener, _ = host.listener(PORT)
    for is_blocking in True, False:
        sock = soft.new_socket()
        sock.setblocking(is_blocking)
        before = fcntl.fcntl(sock, fcntl.F_GETFL)
        assert soft.connect((HOST, PORT), sock) == 0
        assert fcntl.fcntl(sock, fcntl.F_GETFL) == before
        sock.close()
    listener.close()


# --- Taken, free, stale ------------------------------------------------------------------------------------------

def test_taken(vmcid, host, soft):
    first = host.new_socket()
    assert host.bind(first, PORT) == PORT
    second = host.new_socket()
    # bound and not yet listening is taken, too
    assert host.bind(second, PORT) == ALREADY_EXISTS
    assert vmcid.connect().bind(second, PORT) == ALREADY_EXISTS
    assert soft.bind(second, PORT) == PORT      # another context
    third = host.new_socket(socket.SOCK_SEQPACKET)
    assert host.bind(third, PORT) == ALREADY_EXISTS
    copy = first.dup()
    first.close()
    assert host.bind(third, PORT) == ALREADY_EXISTS
    copy.close()
    assert host.bind(third, PORT) == PORT
    second.close()
    third.close()


def test_nobody_there(host, soft):
    sock = soft.new_socket()
    assert soft.connect((HOST, PORT), sock) == NOT_FOUND
    listener = host.new_socket()
    assert host.bind(listener, PORT) == PORT
    assert soft.connect((HOST, PORT), sock) == NOT_FOUND        # not listening yet
    listener.listen()
    # the same socket will do, and has the same address
    before = sock.getsockname()
    assert soft.connect((HOST, PORT), sock) == 0
    assert before and sock.getsockname() == before
    sock.close()
    listener.close()
    sock = soft.new_socket()
    assert soft.connect((HOST, PORT), sock) == NOT_FOUND        # stale
    assert soft.connect((HOST + 1, PORT), sock) == DST_UNREACHABLE
    assert soft.connect((99999, PORT), sock) == DST_UNREACHABLE
    assert soft.connect((HOST, INVALID), sock) == INVALID_ARGS
    sock.close()


def test_wrong_type(host, soft):
    listener, _ = host.listener(PORT)
    sock = soft.new_socket(socket.SOCK_SEQPACKET)
    assert soft.connect((HOST, PORT), sock) == NOT_FOUND
    sock.close()
    listener.close()


@pytest.mark.parametrize("is_blocking", [True, False])
def test_full_queue(host, soft, is_blocking):
    listener, _ = host.listener(PORT, backlog=0)
    first, second = soft.new_socket(), soft.new_socket()
    second.setblocking(is_blocking)
    assert soft.connect((HOST, PORT), first) == 0
    assert soft.connect((HOST, PORT), second) == WOULD_BLOCK
    assert soft.connect((HOST, PORT), second) == WOULD_BLOCK
    listener.accept()[0].close()
    assert soft.connect((HOST, PORT), second) == 0
    for each in listener, first, second:
        each.close()


def test_nothing_is_left_of_a_listener(vmcid, host):
    listener, port = host.listener()
    listener.close()
    # no copy: the port is free at once
    until("the port to be free", lambda: host.bind(host.new_socket(), port) == port)


def test_stale_paths_are_swept(vmcid, host):
    kept, port = host.listener()
    for _ in range(2000):
        host.listener()[0].close()
    assert len(port_files(vmcid)) < 200 and port in port_files(vmcid)
    assert host.bind(host.new_socket(), port) == ALREADY_EXISTS
    kept.close()


def test_a_context_takes_its_ports_along(vmcid, host):
    soft = vmcid.connect(cid=INVALID)
    listener, port = soft.listener()
    cid = soft.cid
    assert port_files(vmcid, cid) == {port}
    soft.close()
    until("the ports to go", lambda: not (vmcid.runtime / "port" / str(cid)).exists())
    sock = host.new_socket()
    assert host.connect((cid, port), sock) == DST_UNREACHABLE
    # who has the context next does not get the listener of who had it before
    again = vmcid.connect(cid=cid)
    assert host.connect((cid, port), sock) == NOT_FOUND
    assert not is_readable(listener)
    assert again.listener(port)[1] == port
    sock.close()
    listener.close()


# --- Rights --------------------------------------------------------------------------------------------------------

@pytest.fixture
def user(vmcid, needs_root):
    with as_user(USER):
        client = vmcid.connect()
    client.uid = USER
    return client


def test_low_ports(host, user):
    sock = user.new_socket()
    assert user.bind(sock, 1023) == NO_ACCESS and user.bind(sock, 0) == NO_ACCESS
    assert host.bind(host.new_socket(), 1023) == 1023
    listener, _ = host.listener(PORT)
    assert user.connect((HOST, PORT), sock, port=1000) == NO_ACCESS
    assert user.connect((HOST, PORT), sock, port=1024) == 0
    sock.close()
    listener.close()


def test_other_contexts(host, soft):
    sock = host.new_socket()
    assert host.bind(sock, PORT, context=soft.cid) == NO_ACCESS
    assert host.call(STREAM_CONNECT, handle=(soft.cid, PORT), other=(HOST, PORT), fds=[sock]).status == NO_ACCESS
    assert host.call(STREAM_OPEN, handle=(HOST, PORT), other=(HOST, PORT)).status == INVALID_ARGS
    assert host.bind(sock, PORT, context=HOST) == PORT
    sock.close()


def test_users_meet(vmcid, host, user):
    """uid, gid and pid of who connects."""
    listener, _ = host.listener(PORT)
    sock = user.connected((HOST, PORT))
    server, name = listener.accept()
    assert parse_address(name).who == (USER, USER, os.getpid())
    assert peer_credentials(server)[1] == 0
    for each in listener, sock, server:
        each.close()


def test_restricted_context(vmcid, host, user):
    restricted = vmcid.connect(cid=INVALID, flags=4)
    listener, port = restricted.listener()
    sock = user.new_socket()
    assert user.connect((restricted.cid, port), sock) == NO_ACCESS
    assert user.connect((restricted.cid, port + 1), sock) == NOT_FOUND
    assert host.connect((restricted.cid, port), host.new_socket()) == 0
    with as_user(USER):
        other = vmcid.connect(cid=INVALID, flags=4)
    other.uid = USER
    ours, ours_port = host.listener()
    theirs, theirs_port = user.listener()
    sock2 = other.new_socket()
    assert other.connect((HOST, theirs_port), sock2) == NO_ACCESS
    assert other.connect((HOST, ours_port), sock2) == 0
    # Of a listener that has gone nothing is told, though its path is still there.
    listener.close()
    theirs.close()
    assert port in port_files(vmcid, restricted.cid) and theirs_port in port_files(vmcid)
    assert user.connect((restricted.cid, port), sock) == NOT_FOUND
    sock3 = other.new_socket()
    assert other.connect((HOST, theirs_port), sock3) == NOT_FOUND
    assert host.connect((HOST, theirs_port), host.new_socket()) == NOT_FOUND
    for each in sock, sock2, sock3, ours:
        each.close()


def test_trust_of_a_port_survives(vmcid, host, user):
    """A port is a trusted one's or not, also for the next vmcid."""
    ours, ours_port = host.listener()
    theirs, theirs_port = user.listener()
    vmcid.restart()
    host.resume()
    user.resume()
    with as_user(USER):
        other = vmcid.connect(cid=INVALID, flags=4)
    other.uid = USER
    sock = other.new_socket()
    assert other.connect((HOST, theirs_port), sock) == NO_ACCESS
    assert other.connect((HOST, ours_port), sock) == 0
    for each in sock, ours, theirs:
        each.close()


def test_nobody_passes_by(vmcid, user, host):
    """Only vmcid can connect to a port."""
    listener, port = host.listener()
    with as_user(USER), pytest.raises(PermissionError), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(vmcid.runtime / "port" / "2" / str(port)))
    listener.close()


# --- Names that lie --------------------------------------------------------------------------------------------------

def lie(context, port, who, unique="0123456789abc"):
    return f"\0vmci/{context}/{port}/{who}/{unique}"


def test_forged_names(host, user):
    listener, _ = host.listener(PORT)
    uid, gid, pid = USER, USER, os.getpid()
    for name in (lie(HOST, 2000, f"0.0.{pid}"), lie(HOST, 2000, f"{uid}.0.{pid}"), lie(HOST, 2000, f"{uid}.{gid}.1"),
                 lie(99, 2000, f"{uid}.{gid}.{pid}"), lie(HOST, 2000, "vm") + "/guest", "\0something else",
                 lie(HOST, 2000, f"{uid}.{gid}.{pid}", "123")):
        with user.new_socket() as sock:
            sock.bind(name)
            assert user.connect((HOST, PORT), sock) == INVALID_ARGS, name
    with user.new_socket() as sock:
        sock.bind(lie(HOST, 22, f"{uid}.{gid}.{pid}"))
        assert user.connect((HOST, PORT), sock) == NO_ACCESS
    with user.new_socket() as sock:     # the truth
        sock.bind(lie(HOST, 2222, f"{uid}.{gid}.{pid}"))
        assert user.connect((HOST, PORT), sock, port=2223) == INVALID_ARGS
        assert user.connect((HOST, PORT), sock) == 0
        server, name = listener.accept()
        assert parse_address(name) == Address(HOST, 2222, (uid, gid, pid))
        server.close()
    assert not is_readable(listener)
    listener.close()


def test_a_source_that_somebody_listens_at(host, user):
    """Also for a socket that its program has bound itself."""
    listener, _ = host.listener(PORT)
    taken, port = host.listener()
    with user.new_socket() as sock:
        sock.bind(lie(HOST, port, f"{USER}.{USER}.{os.getpid()}"))
        assert user.connect((HOST, PORT), sock) == ALREADY_EXISTS
        taken.close()
        assert user.connect((HOST, PORT), sock) == 0
    listener.close()


def test_forged_while_vmcid_looks(host, user):
    """The socket gets a name while vmcid is about to give it one. What listeners see is the truth all the same; the
    steps between which it matters one by one: tests/unit/vmcid/test_port.c.
    """
    listener, _ = host.listener(PORT)
    names, gate = set(), mmap.mmap(-1, 2)
    for n in range(1000):
        gate[0] = gate[1] = 0
        sock = user.new_socket()
        forged = lie(HOST, 22, "0.0.1", f"{n:013x}")
        pid = os.fork()
        if not pid:
            gate[0] = 1
            while not gate[1]:
                pass
            for _ in range(n % 100 * 20):
                pass
            with contextlib.suppress(OSError):
                sock.bind(forged)
            os._exit(0)
        while not gate[0]:
            pass
        gate[1] = 1
        status = user.connect((HOST, PORT), sock)
        os.waitpid(pid, 0)
        sock.close()
        assert status in (0, INVALID_ARGS)
        if status == 0:
            server, name = listener.accept()
            names.add(parse_address(name).who)
            server.close()
    assert names <= {(USER, USER, os.getpid())}, names
    gate.close()
    assert not is_readable(listener)
    listener.close()


def test_a_path_like_a_port(vmcid, host, directory):
    """A path that merely looks like a port is no port."""
    (directory / "port" / "2").mkdir(parents=True)
    path = str(directory / "port" / "2" / str(PORT))
    with host.new_socket() as sock:
        sock.bind(path)
        assert host.connect((HOST, PORT), sock) == INVALID_ARGS
        assert host.bind(sock, PORT) == INVALID_ARGS
    assert not port_files(vmcid)


# --- Sockets that are not what they should be ------------------------------------------------------------------------

def odd_things():
    pair = socket.socketpair()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind("\0test of vmcid, listening")
    listening.listen()
    bound = socket.socket(socket.AF_UNIX)
    bound.bind("\0test of vmcid, bound")
    yield from (pair[0], pair[1], listening, bound, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
                socket.socket(socket.AF_INET), socket.socket(socket.AF_INET, socket.SOCK_DGRAM), Sink(),
                socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
    for fd in (eventfd(), memfd(4096), os.open("/dev/null", os.O_RDWR), os.open("/", os.O_PATH), os.pipe2(0)[0],
               os.open(".", os.O_RDONLY)):
        yield fd


def test_odd_descriptors(host, soft):
    listener, _ = host.listener(PORT)
    for thing in odd_things():
        assert soft.bind(thing, 6000) == INVALID_ARGS, thing
        assert soft.connect((HOST, PORT), thing) == INVALID_ARGS, thing
        if isinstance(thing, int):
            os.close(thing)
        else:
            thing.close()
    assert not is_readable(listener)
    assert soft.listener(6000)[1] == 6000
    listener.close()


def test_bound_twice_and_connected_twice(host, soft):
    listener, _ = host.listener(PORT)
    assert host.bind(listener, PORT + 1) == INVALID_ARGS
    assert host.connect((HOST, PORT), listener) == INVALID_ARGS
    sock = soft.connected((HOST, PORT))
    assert soft.connect((HOST, PORT), sock) == INVALID_ARGS
    assert soft.bind(sock, PORT) == INVALID_ARGS
    bound = soft.new_socket()
    assert soft.bind(bound, 6000) == 6000
    assert soft.connect((HOST, PORT), bound) == INVALID_ARGS
    for each in listener, sock, bound:
        each.close()


def test_sockets_of_others(host, user):
    ours, theirs = host.new_socket(), user.new_socket()
    assert user.bind(ours, 6000) == INVALID_ARGS
    assert host.bind(theirs, 6000) == INVALID_ARGS
    assert user.bind(theirs, 6000) == 6000
    ours.close()
    theirs.close()


def test_mode_of_the_socket_does_not_matter(vmcid, host, user):
    """fchmod(2) of a socket shows at its path; it makes nobody trusted, and locks nobody out."""
    for mode in 0o000, 0o777, 0o4777:
        sock = user.new_socket()
        os.fchmod(sock.fileno(), mode)
        port = user.bind(sock)
        assert port > 0
        path = vmcid.runtime / "port/2" / str(port)
        assert path.stat().st_mode & 0o7777 == 0o600
        sock.listen()
        assert host.connect((HOST, port), host.new_socket()) == 0
        sock.close()


def test_wrong_messages(vmcid):
    sock = socket.socket(socket.AF_UNIX)
    for type_ in STREAM_BIND, STREAM_CONNECT:
        for fields in dict(fds=[]), dict(fds=[sock, sock]), dict(fds=[sock], flags=0x400), dict(fds=[sock], size1=1):
            client = vmcid.connect()
            client.post(type_, **fields)
            with pytest.raises(Ended):
                client.recv()
    client = vmcid.connect()
    client.post(STREAM_OPEN, fds=[sock])
    with pytest.raises(Ended):
        client.recv()
    nobody = vmcid.connect(cid=None)
    assert nobody.call(STREAM_BIND, fds=[sock]).status == INVALID_ARGS
    assert nobody.call(STREAM_CONNECT, fds=[sock]).status == INVALID_ARGS
    sock.close()


def test_who_makes_vmcid_wait_holds_nobody_up(vmcid, host):
    """O_NONBLOCK is taken away again and again while vmcid connects to a full queue."""
    listener, _ = host.listener(PORT, backlog=0)
    blocker = host.connected((HOST, PORT))
    stop = threading.Event()
    sock = host.new_socket()

    def meddle():
        flags = fcntl.fcntl(sock, fcntl.F_GETFL) & ~os.O_NONBLOCK
        while not stop.is_set():
            fcntl.fcntl(sock, fcntl.F_SETFL, flags)
    thread = threading.Thread(target=meddle)
    thread.start()
    statuses, bad = [], vmcid.connect()
    try:
        for _ in range(20000):
            statuses.append(bad.connect((HOST, PORT), sock))
    except Ended:
        pass
    finally:
        stop.set()
        thread.join()
    assert set(statuses) <= {WOULD_BLOCK}, set(statuses)
    # whether it was caught or not, everybody else is served
    assert host.connect((HOST, PORT), host.new_socket()) == WOULD_BLOCK
    for each in listener, blocker, sock:
        each.close()


def test_flood(vmcid, host, user):
    """Thousands of ports, then no more; others have theirs."""
    socks, statuses = [], []
    with contextlib.ExitStack() as stack:
        import resource
        soft_limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 6000:
            pytest.skip(f"needs a hard limit of 6000 open files, this one is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (6000, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft_limit, hard))
        for _ in range(4200):
            sock = user.new_socket()
            socks.append(sock)
            statuses.append(user.bind(sock))
            stack.callback(sock.close)
        assert all(status > 0 for status in statuses[:4096])
        assert set(statuses[4096:]) == {NO_RESOURCES}
        listener, _ = host.listener(PORT)
        listener.close()
    until("the user to have ports again", lambda: user.bind(user.new_socket()) > 0)


def test_pipelined(vmcid, host):
    """Many requests at once, and the client dies in the middle."""
    listener, _ = host.listener(PORT, backlog=64)
    bad = vmcid.connect()
    socks = [bad.new_socket() for _ in range(40)]
    for sock in socks[:20]:
        bad.post(STREAM_CONNECT, handle=(INVALID, INVALID), other=(HOST, PORT), fds=[sock])
    for sock in socks[20:]:
        bad.post(STREAM_BIND, handle=(INVALID, INVALID), fds=[sock])
    bad.close()
    for sock in socks:
        sock.close()
    assert vmcid.process.is_running()
    again = host.connected((HOST, PORT))
    again.close()
    listener.close()


# --- vmcid goes ------------------------------------------------------------------------------------------------------

def test_restart(vmcid, host, soft):
    listener, port = soft.listener()
    unready = host.new_socket()
    assert host.bind(unready, PORT) == PORT
    gone, gone_port = host.listener()
    client = host.connected((soft.cid, port))
    server, _ = listener.accept()
    vmcid.kill()
    client.send(b"alive")
    assert server.recv(100) == b"alive"
    gone.close()
    vmcid.start()
    assert not host.resume() and not soft.resume()
    assert gone_port not in port_files(vmcid)
    assert host.bind(host.new_socket(), PORT) == ALREADY_EXISTS
    unready.listen()
    assert soft.connect((HOST, PORT), soft.new_socket()) == 0
    again = host.connected((soft.cid, port))
    listener.accept()[0].close()
    server.send(b"still")
    assert client.recv(100) == b"still"
    for each in listener, unready, client, server, again:
        each.close()


def test_ports_of_who_does_not_come_back(vmcid, host):
    soft = vmcid.connect(cid=INVALID)
    listener, port = soft.listener()
    vmcid.kill()
    soft.sock.close()
    vmcid.start()
    assert not host.resume()
    # asked within the grace period, it waits for its end
    sock = host.new_socket()
    assert host.connect((soft.cid, port), sock) == DST_UNREACHABLE
    assert not (vmcid.runtime / "port" / str(soft.cid)).exists()
    again = vmcid.connect(cid=soft.cid)
    assert host.connect((again.cid, port), sock) == NOT_FOUND
    listener.close()
    sock.close()


@pytest.mark.parametrize("is_restarted", [False, True])
def test_ports_of_a_context_that_a_datagram_socket_kept(vmcid, host, needs_root, is_restarted):
    """Nobody but the socket is left in the context; it goes with it, and its ports as well."""
    with as_user(USER):
        first = vmcid.connect(cid=9999)
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    first.uid = USER
    listener, port = first.listener()
    assert first.call(DG_BIND, handle=(INVALID, 9001), fds=[datagrams]).status == 0
    if is_restarted:
        vmcid.kill()
    first.sock.close()
    if is_restarted:
        vmcid.start()
        host.resume()
    sock = host.new_socket()
    assert host.connect((9999, port), sock) == 0
    listener.accept()[0].close()
    datagrams.close()
    until("the context to go", lambda: not [line for line in host.list() if "9999" in line])
    assert not (vmcid.runtime / "port/9999").exists()
    with as_user(OTHER):
        second = vmcid.connect(cid=9999)
    second.uid = OTHER
    assert host.connect((9999, port), host.new_socket()) == NOT_FOUND
    assert second.listener(port)[1] == port
    assert not is_readable(listener)
    for each in listener, sock:
        each.close()


def test_ports_of_another_user_after_a_restart(vmcid, host, needs_root):
    """Whose a path is is known to the next vmcid: who has the context then does not get the ports of who had it."""
    with as_user(OTHER):
        heir = vmcid.connect(cid=9999)
    heir.uid = OTHER
    token = heir.token
    heir.close()

    def take():
        with contextlib.suppress(Refused), as_user(USER):
            return vmcid.connect(cid=9999)
        return None
    first = until("the context to be free", take)
    first.uid = USER
    listener, port = first.listener()
    vmcid.kill()
    first.sock.close()
    vmcid.start()
    host.resume()
    # an older token, but nobody comes with a newer one
    with as_user(OTHER):
        heir = vmcid.connect(None)
    heir.uid = OTHER
    heir.hello(9999, RESUME, token)
    assert host.connect((99999, 1), host.new_socket()) == DST_UNREACHABLE        # the grace period is over
    assert host.connect((9999, port), host.new_socket()) == NOT_FOUND
    assert heir.listener(port)[1] == port
    assert not is_readable(listener)
    listener.close()


def test_an_old_token_costs_nobody_his_ports(vmcid, host, needs_root):
    with as_user(OTHER):
        thief = vmcid.connect(cid=9999)
    token = thief.token
    thief.close()

    def take():
        with contextlib.suppress(Refused), as_user(USER):
            return vmcid.connect(cid=9999)
        return None
    owner = until("the context to be free", take)
    owner.uid = USER
    listener, port = owner.listener()
    vmcid.restart()
    with as_user(OTHER):
        thief = vmcid.connect(None)
    thief.hello(9999, RESUME, token)
    host.resume()
    assert owner.resume() == []
    assert host.connect((99999, 1), host.new_socket()) == DST_UNREACHABLE        # the grace period is over
    sock = host.connected((9999, port))
    listener.accept()[0].close()
    for each in listener, sock:
        each.close()


def test_ports_from_before_a_restart_count(vmcid, host, user):
    """The quota of a user is what he has, not what this vmcid gave him."""
    many = [user.listener() for _ in range(200)]
    vmcid.restart()
    user.resume()
    host.resume()
    gone = [sock.close() or port for sock, port in many[:150]]
    for _ in range(200):        # they are looked through meanwhile
        user.listener()[0].close()
    assert not set(gone) & port_files(vmcid)
    assert {port for _, port in many[150:]} <= port_files(vmcid)
    for sock, _ in many[150:]:
        sock.close()


def test_a_listener_outlives_its_program(vmcid, host, soft):
    """A port belongs to who has the socket, whatever becomes of the connection to vmcid (context 2)."""
    first = vmcid.connect()
    listener, port = first.listener()
    first.close()
    sock = soft.connected((HOST, port))
    listener.accept()[0].close()
    sock.close()
    listener.close()


def test_another_network(vmcid, host, soft, needs_root):
    """Names are the kernel's, in each network name space; ports are not."""
    listener, _ = host.listener(PORT)
    pid = os.fork()
    if not pid:
        code = 1
        with contextlib.suppress(BaseException):
            assert ctypes.CDLL(None).unshare(0x40000000) == 0      # CLONE_NEWNET
            inner = Client(vmcid.path, INVALID)
            sock = inner.connected((HOST, PORT))
            sock.send(b"from elsewhere")
            own, port = inner.listener()
            assert inner.bind(inner.new_socket(), port) == ALREADY_EXISTS
            code = 0
        os._exit(code)
    server, name = listener.accept()
    assert parse_address(name).who[2] == pid
    assert server.recv(100) == b"from elsewhere"
    assert os.waitpid(pid, 0)[1] == 0
    server.close()
    listener.close()
