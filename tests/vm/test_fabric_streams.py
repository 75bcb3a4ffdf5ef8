# SPDX-License-Identifier: BSD-2-Clause
"""AF_VSOCK streams of unmodified guests through the fabric: host programs, software contexts, neighbours."""

import hashlib
import os
import socket

import pytest
from testbed import Listener, TestbedError, connect, until
from testbed.fabric import (DST_UNREACHABLE, INVALID, NOT_FOUND, NO_ACCESS, TIMEOUT, Client, is_readable,
                            parse_address)
from testbed.hybrid import read_all

MIB = 1 << 20


@pytest.fixture
def host(fabric):
    """A program of the host, in context 2."""
    client = Client(fabric.broker.control)
    yield client
    client.close()


@pytest.fixture
def soft(fabric):
    """A program in a context of its own."""
    client = Client(fabric.broker.control, INVALID)
    yield client
    client.close()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def digest(command):
    """What sha256sum has said in a guest."""
    return command.check(300).split()[0]


def accept(listener):
    sock, name = listener.accept()
    sock.settimeout(180)
    return sock, parse_address(name)


def reach(client, to):
    """A stream to a guest that may not listen yet."""
    def attempt():
        sock = client.new_socket()
        status = client.connect(to, sock, timeout=120000)
        if status >= 0:
            return sock
        sock.close()
        assert status in (NOT_FOUND, TIMEOUT), status
        return None
    return until(f"{to} to listen", attempt)


def must_say_the_way(machine):
    """Whether the kernel wants to be told that the host is the way to other contexts (VMADDR_FLAG_TO_HOST), which socat
    cannot say: since Linux 7, but our vmsock knows it."""
    return machine.name == "backports" and machine.vm.transport != "vmsock"


def way(machine, cid):
    """How vsx of a guest names another context."""
    return f"{cid}h" if must_say_the_way(machine) and cid > 2 else str(cid)


def bulk(machine):
    return 2 * MIB if machine.name == "classic" else 16 * MIB


# --- Programs of the host -------------------------------------------------------------------------------------------

def test_guest_to_a_port_of_the_host(fabric, host, machine):
    listener, port = host.listener(7400)
    size = bulk(machine)
    machine.vm.run(f"head -c {size} /dev/urandom >/tmp/sent")
    guest = machine.vm.start(f"socat -t60 - VSOCK-CONNECT:2:{port} </tmp/sent")
    stream, peer = accept(listener)
    assert (peer.context, peer.who) == (machine.cid, machine.name)
    data = read_all(stream)
    # half-closed: the guest still reads
    stream.sendall(b"got it\n")
    stream.close()
    assert guest.check() == "got it\n"
    assert sha256(data) == machine.vm.run("sha256sum </tmp/sent && rm /tmp/sent").split()[0]
    listener.close()


def test_guest_to_a_software_context(fabric, soft, machine):
    listener, port = soft.listener(7401)
    if must_say_the_way(machine):
        guest = machine.vm.start(f"vsx streams {way(machine, soft.cid)} {port} 1 {MIB}")
        stream, peer = accept(listener)
        assert (peer.context, peer.who) == (machine.cid, machine.name)
        while data := stream.recv(1 << 16):
            stream.sendall(data)
        stream.close()
        assert "ok 1 streams" in guest.check()
        listener.close()
        return
    guest = machine.vm.start(f"echo question | socat -t60 - VSOCK-CONNECT:{soft.cid}:{port} | sha256sum")
    stream, peer = accept(listener)
    assert (peer.context, peer.who) == (machine.cid, machine.name)
    assert parse_address(stream.getsockname()).context == soft.cid
    assert read_all(stream) == b"question\n"
    answer = os.urandom(bulk(machine))
    stream.sendall(answer)
    stream.close()
    assert digest(guest) == sha256(answer)
    listener.close()


@pytest.mark.parametrize("context", ["host", "soft"])
def test_program_to_a_guest(request, fabric, machine, context):
    client = request.getfixturevalue(context)
    guest = machine.vm.start("socat -t60 VSOCK-LISTEN:7402 EXEC:sha256sum")
    stream = reach(client, (machine.cid, 7402))
    assert parse_address(stream.getpeername()).context == machine.cid
    assert parse_address(stream.getpeername()).port == 7402
    assert parse_address(stream.getsockname()).context == client.cid
    question = os.urandom(bulk(machine))
    stream.sendall(question)
    stream.shutdown(socket.SHUT_WR)
    assert read_all(stream).split()[0].decode() == sha256(question)
    stream.close()
    guest.check()


def test_guest_sees_who_connects(fabric, soft, machine):
    """Its kernel says the context and the port."""
    guest = machine.vm.start("socat -d -d -d -u VSOCK-LISTEN:7403 -")
    guest.expect("listening on")
    stream = soft.new_socket()
    assert soft.connect((machine.cid, 7403), stream, port=4711, timeout=120000) == 0
    guest.expect(f"cid:{soft.cid} port:4711")
    stream.close()
    guest.check()


def test_nobody_listens(fabric, host, soft, machine):
    for client in host, soft:
        sock = client.new_socket()
        assert client.connect((machine.cid, 7404), sock, timeout=120000) == NOT_FOUND
        # nobody holds the other end
        assert sock.recv(1) == b""
        sock.close()
    for cid in 2, soft.cid:
        with pytest.raises(TestbedError, match="ECONNRESET"):
            machine.vm.run(f"vsx connect {way(machine, cid)} 7404")


def test_no_such_context(fabric, host, machine):
    sock = host.new_socket()
    assert host.connect((999, 7405), sock) == DST_UNREACHABLE
    sock.close()
    with pytest.raises(TestbedError, match="EINVAL"):
        machine.vm.run(f"vsx connect {way(machine, 999)} 7405")


def test_firewall(fabric, host):
    """Ports 7300 to 7399 of one machine, both ways."""
    machine, other = fabric["classic"], fabric["trixie"]
    listener, _ = host.listener(7300)
    with pytest.raises(TestbedError, match="EPERM"):
        machine.vm.run("vsx connect 2 7300")
    # a hybrid socket is no way around it
    with Listener(machine.hybrid, 7301) as hybrid:
        with pytest.raises(TestbedError, match="EPERM"):
            machine.vm.run("vsx connect 2 7301")
        assert not is_readable(hybrid.socket)
    assert not is_readable(listener)
    other.vm.run("vsx connect 2 7300")
    sock = host.new_socket()
    assert host.connect((machine.cid, 7399), sock) == NO_ACCESS
    assert host.connect((machine.cid, 7400), sock, timeout=120000) == NOT_FOUND
    sock.close()
    listener.close()


def test_hybrid_sockets_go_on(fabric, host, machine):
    """A port of the fabric comes first; where there is none, PATH_<port>; and CONNECT as ever."""
    with Listener(machine.hybrid, 7406) as hybrid:
        guest = machine.vm.start("echo to hybrid | socat -u - VSOCK-CONNECT:2:7406")
        with hybrid.accept() as stream:
            assert read_all(stream) == b"to hybrid\n"
        guest.check()
        listener, _ = host.listener(7406)
        guest = machine.vm.start("echo to fabric | socat -u - VSOCK-CONNECT:2:7406")
        stream, _ = accept(listener)
        assert read_all(stream) == b"to fabric\n"
        guest.check()
        stream.close()
        listener.close()
        assert not is_readable(hybrid.socket)
    guest = machine.vm.start("socat -t60 VSOCK-LISTEN:7407 EXEC:cat")

    def attempt():
        try:
            return connect(machine.hybrid, 7407)
        except ConnectionError:
            return None
    with until("the guest to listen", attempt) as stream:
        stream.sendall(b"back")
        stream.shutdown(socket.SHUT_WR)
        assert read_all(stream) == b"back"
    guest.check()


def test_programs_that_die(fabric, machine):
    """In the middle of a connect, and of a stream."""
    client = Client(fabric.broker.control)
    sock = client.new_socket()
    client.post(26, handle=(INVALID, INVALID), other=(machine.cid, 7408), fds=[sock])
    sock.close()
    client.close()
    machine.vm.start("vsx echo 7408").expect("listening")
    client = Client(fabric.broker.control)
    stream = reach(client, (machine.cid, 7408))
    stream.sendall(b"x")
    assert stream.recv(1) == b"x"
    client.close()
    # the stream needs no connection to vmcid
    stream.sendall(b"y")
    assert stream.recv(1) == b"y"
    stream.close()


# --- Neighbours -------------------------------------------------------------------------------------------------------

def test_neighbours_64_mib(fabric):
    """bookworm -> trixie, 64 MiB, and the other way round, at the same time."""
    one, two = fabric["bookworm"], fabric["trixie"]
    for machine, other in (one, two), (two, one):
        machine.vm.run(f"head -c {64 * MIB} /dev/urandom >/tmp/out")
        machine.receiving = machine.vm.start("socat -d -d -u -b 65536 VSOCK-LISTEN:7410 SYSTEM:sha256sum")
        machine.receiving.expect("listening on")
    for machine, other in (one, two), (two, one):
        machine.sending = machine.vm.start(f"socat -u -b 65536 OPEN:/tmp/out VSOCK-CONNECT:{other.cid}:7410")
    for machine, other in (one, two), (two, one):
        machine.sending.check(300)
        sent = machine.vm.run("sha256sum </tmp/out && rm /tmp/out").split()[0]
        assert sent in other.receiving.check(300)


@pytest.mark.parametrize("first", ["client", "server"])
def test_neighbours_half_close(fabric, first):
    """The one that closes first still reads everything."""
    one, two = fabric["bookworm"], fabric["trixie"]
    if first == "client":
        server = two.vm.start("socat -d -d -t60 VSOCK-LISTEN:7411 EXEC:sha256sum")
        server.expect("listening on")
        one.vm.run(f"head -c {4 * MIB} /dev/urandom >/tmp/half")
        got = one.vm.run(f"socat -t60 - VSOCK-CONNECT:{two.cid}:7411 </tmp/half")
        assert got.split()[0] == one.vm.run("sha256sum </tmp/half && rm /tmp/half").split()[0]
        server.check()
        return
    two.vm.run(f"head -c {4 * MIB} /dev/urandom >/tmp/half")
    server = two.vm.start("socat -d -d -t60 VSOCK-LISTEN:7411 - </tmp/half")
    server.expect("listening on")
    got = one.vm.run(f"socat -t60 VSOCK-CONNECT:{two.cid}:7411 EXEC:sha256sum,nofork && true || true")
    answer = server.check(120)
    assert two.vm.run("sha256sum </tmp/half && rm /tmp/half").split()[0] in answer + got


def test_neighbours_hundred_streams(fabric):
    one, two = fabric["bookworm"], fabric["trixie"]
    two.vm.start("vsx echo 7412").expect("listening")
    assert "ok 100 streams" in one.vm.run(f"vsx streams {two.cid} 7412 100 20000", 300)


def test_neighbours_nobody_listens(fabric):
    one, two = fabric["bookworm"], fabric["trixie"]
    for machine, other in (one, two), (two, one):
        with pytest.raises(TestbedError, match="ECONNRESET"):
            machine.vm.run(f"vsx connect {other.cid} 7413")


def test_strangers(fabric):
    """Of another domain, or of none: as if they were not there."""
    for name, others in (("bookworm", ("backports", "classic")), ("backports", ("trixie", "classic")),
                         ("classic", ("bookworm", "trixie", "backports"))):
        for other in others:
            with pytest.raises(TestbedError, match="EINVAL"):
                fabric[name].vm.run(f"vsx connect {way(fabric[name], fabric[other].cid)} 7414")


def test_vmcid_killed(fabric, host):
    """Streams between neighbours and with programs need nobody; new ones wait for the next."""
    one, two = fabric["bookworm"], fabric["trixie"]
    listener, _ = host.listener(7415)
    guest = one.vm.start("socat -t60 VSOCK-CONNECT:2:7415 EXEC:cat")
    stream, _ = accept(listener)
    two.vm.run(f"head -c {32 * MIB} /dev/urandom >/tmp/out")
    receiving = one.vm.start("socat -d -d -u -b 65536 VSOCK-LISTEN:7416 SYSTEM:sha256sum")
    receiving.expect("listening on")
    sending = two.vm.start(f"socat -u -b 65536 OPEN:/tmp/out VSOCK-CONNECT:{one.cid}:7416")
    receiving.expect("starting data transfer")
    fabric.kill_broker()
    stream.sendall(b"alive")
    assert stream.recv(100) == b"alive"
    # who connects now waits for the next one
    early = two.vm.start("echo early | socat -u - VSOCK-CONNECT:2:7415")
    fabric.restart_broker()
    second, peer = accept(listener)
    assert read_all(second) == b"early\n" and peer.who == "trixie"
    second.close()
    early.check()
    assert not host.resume()
    stream.sendall(b"still")
    assert stream.recv(100) == b"still"
    stream.close()
    guest.check()
    sending.check(300)
    assert two.vm.run("sha256sum </tmp/out && rm /tmp/out").split()[0] in receiving.check(300)
    # the port is what it was
    guest = two.vm.start("echo again | socat -u - VSOCK-CONNECT:2:7415")
    stream, peer = accept(listener)
    assert read_all(stream) == b"again\n" and peer.who == "trixie"
    stream.close()
    guest.check()
    listener.close()


def test_neighbour_killed(fabric):
    """In the middle of a stream: the other one sees its end, and goes on with others."""
    one, two = fabric["bookworm"], fabric["trixie"]
    receiving = one.vm.start("socat -d -d -u VSOCK-LISTEN:7417 SYSTEM:'wc -c'")
    receiving.expect("listening on")
    two.vm.start(f"socat -u /dev/zero VSOCK-CONNECT:{one.cid}:7417")
    receiving.expect("starting data transfer")
    two.stop()
    receiving.wait()
    two.boot().ready()
    receiving = one.vm.start("socat -d -d -u VSOCK-LISTEN:7417 -")
    receiving.expect("listening on")
    two.vm.run(f"echo hello | socat -u - VSOCK-CONNECT:{one.cid}:7417")
    assert "hello" in receiving.check()
