# SPDX-License-Identifier: BSD-2-Clause
"""Contexts that are held by a socket: HELLO with HOLD and a descriptor. They outlive connections, and vmcid."""

import contextlib
import os
import socket
import threading
import time

import pytest
from testbed.fabric import (BELL_CREATE, CTX_REMOVED, DG_BIND, DST_UNREACHABLE, HELLO, HOLD, HOST, INVALID,
                            INVALID_ARGS, NO_ACCESS, NO_RESOURCES, NOT_FOUND, RESTRICTED, RESUME, TRUSTED, Ended,
                            Events, Message, as_user, eventfd, is_readable, memfd)
from testbed.process import until
from testbed.tarpit import LIMIT, Tarpit

CID, PORT = 4711, 5000
USER, OTHER = 4711, 4712
SEQPACKET = socket.SOCK_SEQPACKET


def made_by(uid, type_=SEQPACKET):
    with contextlib.nullcontext() if uid == os.geteuid() else as_user(uid):
        return socket.socket(socket.AF_UNIX, type_)


def connect_as(vmcid, uid, cid=None, flags=0):
    with contextlib.nullcontext() if uid == os.geteuid() else as_user(uid):
        client = vmcid.connect(cid, flags=flags)
    client.uid = uid
    return client


def try_hello(vmcid, uid, cid, flags=0):
    """The status of one who is not heard of again."""
    client = connect_as(vmcid, uid)
    status = client.call(HELLO, size0=1, handle=(cid, 0), flags=flags).status
    client.close()
    return status


def ask_to_hold(vmcid, uid, cid, held, flags=0):
    """The reply; the connection is closed."""
    client = connect_as(vmcid, uid)
    reply = client.call(HELLO, size0=1, handle=(cid, 0), flags=HOLD | flags, data=b"test", fds=[held])
    client.close()
    return reply


def hold(vmcid, cid=CID, uid=None, flags=0):
    """The socket, and the reply."""
    uid = os.geteuid() if uid is None else uid
    held = made_by(uid)
    reply = ask_to_hold(vmcid, uid, cid, held, flags)
    assert reply.status == 0, reply.status
    assert reply.flags & HOLD
    return held, reply


def has_context(host, cid=CID):
    return any(line.startswith(f"context {cid} ") for line in host.list())


def names(vmcid):
    return sorted(path.name for path in (vmcid.runtime / "held").iterdir())


def restart(vmcid, *clients):
    vmcid.kill()
    vmcid.start()
    for client in clients:
        assert not client.resume()


def test_as_long_as_anybody_has_it(vmcid, host):
    held, reply = hold(vmcid, INVALID)
    cid = reply.handle[0]
    assert names(vmcid) == [f"{cid}.{os.geteuid()}.0"]
    events = Events(host)
    assert events.watch(cid) == 0
    copy = held.dup()
    held.close()
    other = vmcid.connect(cid)
    other.close()
    assert has_context(host, cid) and events.is_empty()
    copy.close()
    event = events.recv()
    assert (event.id, event.context) == (CTX_REMOVED, cid)
    assert not has_context(host, cid) and not names(vmcid)


def test_the_host_s_context(vmcid, host):
    """What vmci-run without --cid does: it is there anyway."""
    held, reply = hold(vmcid, HOST)
    assert reply.handle[0] == HOST
    restart(vmcid, host)
    assert names(vmcid) == [f"2.{os.geteuid()}.0"]
    held.close()
    until("the hold to go", lambda: not names(vmcid))
    assert has_context(host, HOST)


def test_two_of_one_context(vmcid, host):
    first, second = hold(vmcid)[0], hold(vmcid)[0]
    assert len(names(vmcid)) == 2
    restart(vmcid, host)
    assert len(names(vmcid)) == 2
    third, _ = hold(vmcid)
    assert len(names(vmcid)) == 3
    for each in first, third:
        each.close()
        until("it to go", lambda: len(names(vmcid)) < 3)
    until("one to be left", lambda: len(names(vmcid)) == 1)
    assert has_context(host)
    second.close()
    until("the context to go", lambda: not has_context(host))


def test_listeners_outlive_vmcid(vmcid, host):
    """Nobody comes back and says anything."""
    held, _ = hold(vmcid)
    member = vmcid.connect(CID)
    listener, port = member.listener()
    member.close()
    for _ in range(3):
        vmcid.kill()
        vmcid.start()
        assert not host.resume()
        sock = host.connected((CID, port))
        server, _ = listener.accept()
        sock.send(b"there")
        assert server.recv(10) == b"there"
        sock.close()
        server.close()
    assert host.connect((99999, 1), host.new_socket()) == DST_UNREACHABLE        # the grace period is over
    host.connected((CID, port)).close()
    listener.accept()[0].close()
    # A new port, and another that is taken
    member = vmcid.connect(CID)
    assert member.listener(port - 1 if port > 1024 else port + 1)
    held.close()
    member.close()
    until("the context to go", lambda: not has_context(host))
    assert not (vmcid.runtime / "port" / str(CID)).exists()
    assert host.connect((CID, port), host.new_socket()) == DST_UNREACHABLE
    assert not is_readable(listener)
    listener.close()


@pytest.mark.parametrize("uid", [0, USER])
@pytest.mark.parametrize("flags", [0, RESTRICTED])
def test_flags_and_user_stay(vmcid, host, needs_root, uid, flags):
    held, reply = hold(vmcid, uid=uid, flags=flags)
    assert reply.flags & (RESTRICTED | TRUSTED) == flags | (TRUSTED if uid == 0 else 0)
    assert names(vmcid) == [f"{CID}.{uid}.0" + ("r" if flags else "")]
    listener, port = connect_as(vmcid, uid, CID).listener()
    stranger = connect_as(vmcid, OTHER, HOST)
    for _ in range(2):
        # Who is trusted reaches it, and who is not does if it is not restricted.
        host.connected((CID, port)).close()
        assert stranger.connect((CID, port), stranger.new_socket()) == (NO_ACCESS if flags else 0)
        member = connect_as(vmcid, uid, CID)
        assert member.granted & (RESTRICTED | TRUSTED) == reply.flags & (RESTRICTED | TRUSTED)
        member.close()
        vmcid.clients.remove(member)
        assert try_hello(vmcid, OTHER, CID) == NO_ACCESS
        restart(vmcid, host, stranger)
    held.close()
    listener.close()


def test_nobody_else_gets_it(vmcid, host, needs_root):
    """Neither the id nor a port, at once nor later, nor with a token that was good once."""
    before = connect_as(vmcid, OTHER, CID)
    token = before.token
    before.close()
    until("the context to be free", lambda: not has_context(host))
    held, _ = hold(vmcid, uid=USER)
    owner = connect_as(vmcid, USER, CID)
    listener, port = owner.listener()
    owner.close()
    vmcid.kill()
    vmcid.start()
    thief = connect_as(vmcid, OTHER)
    assert thief.call(HELLO, size0=1, handle=(CID, 0), flags=RESUME, token=token).status == NO_ACCESS
    forged = made_by(OTHER)
    assert ask_to_hold(vmcid, OTHER, CID, forged).status == NO_ACCESS
    assert ask_to_hold(vmcid, OTHER, CID, held).status == INVALID_ARGS      # it was passed on, say
    assert not host.resume()
    assert host.connect((99999, 1), host.new_socket()) == DST_UNREACHABLE        # the grace period is over
    for flags in 0, RESTRICTED:
        assert try_hello(vmcid, OTHER, CID, flags) == NO_ACCESS
    assert thief.call(HELLO, size0=1, handle=(HOST, 0)).status == 0
    assert thief.bind(thief.new_socket(), port, CID) == NO_ACCESS
    host.connected((CID, port)).close()
    listener.accept()[0].close()
    # Nor is there a way around vmcid.
    held_names = names(vmcid)
    assert held_names
    with as_user(OTHER):
        for name in held_names:
            with pytest.raises(PermissionError), socket.socket(socket.AF_UNIX, SEQPACKET) as sock:
                sock.connect(str(vmcid.runtime / "held" / name))
            with pytest.raises(PermissionError):
                (vmcid.runtime / "held" / name).unlink()
            with pytest.raises(PermissionError), socket.socket(socket.AF_UNIX, SEQPACKET) as sock:
                sock.bind(str(vmcid.runtime / "held" / f"{CID}.{OTHER}.9"))
    # When it has gone, it is free, and nothing is left in it.
    held.close()
    until("the context to go", lambda: not has_context(host))
    heir = connect_as(vmcid, OTHER, CID)
    assert host.connect((CID, port), host.new_socket()) == NOT_FOUND
    assert heir.listener(port)[1] == port
    assert not is_readable(listener)
    for each in listener, forged:
        each.close()


def test_one_that_ends_while_vmcid_is_away(vmcid, host, needs_root):
    held, _ = hold(vmcid, uid=USER)
    listener, port = connect_as(vmcid, USER, CID).listener()
    vmcid.kill()
    held.close()
    vmcid.start()
    assert not names(vmcid)
    assert not host.resume()
    assert try_hello(vmcid, OTHER, CID) == 0        # when the grace period is over
    assert host.connect((CID, port), host.new_socket()) == DST_UNREACHABLE
    assert not (vmcid.runtime / "port" / str(CID)).exists()
    listener.close()


def test_a_new_one_in_the_grace_period(vmcid, host):
    """It waits like others who wish an id, and has its socket then."""
    vmcid.kill()
    vmcid.start()
    held = made_by(os.geteuid())
    reply = ask_to_hold(vmcid, os.geteuid(), CID, held)
    assert (reply.status, reply.handle[0]) == (0, CID)
    assert not host.resume()
    assert has_context(host)
    held.close()
    until("the context to go", lambda: not has_context(host))


def test_one_that_resumes(vmcid, host):
    first = vmcid.connect(CID)
    token = first.token
    vmcid.kill()
    first.close()
    vmcid.clients.remove(first)
    vmcid.start()
    held, client = made_by(os.geteuid()), vmcid.connect(None)
    assert client.call(HELLO, size0=1, handle=(CID, 0), flags=HOLD | RESUME, token=token, fds=[held]).status == 0
    client.close()
    assert not host.resume()
    assert has_context(host)
    held.close()


@pytest.mark.parametrize("how", ["by token", "joined", "datagrams"])
def test_who_lost_it_does_not_win_it_back(vmcid, host, needs_root, how):
    """In the grace period the newer token is right. What the older one has had meanwhile is not found by the next."""
    before = connect_as(vmcid, OTHER, CID)
    old = before.token
    before.close()
    until("the context to be free", lambda: not has_context(host))
    owner = connect_as(vmcid, USER, CID)
    listener, port = owner.listener()
    vmcid.kill()
    vmcid.start()
    thief, held = connect_as(vmcid, OTHER), made_by(OTHER)
    if how == "by token":
        assert thief.call(HELLO, size0=1, handle=(CID, 0), flags=RESUME | HOLD, token=old, fds=[held]).status == 0
    else:
        thief.hello(CID, RESUME, old)
    if how == "joined":
        assert ask_to_hold(vmcid, OTHER, CID, held).status == 0
    elif how == "datagrams":
        held.close()
        held = made_by(OTHER, socket.SOCK_DGRAM)
        assert thief.call(DG_BIND, handle=(INVALID, INVALID), fds=[held]).status == 0
    folder = vmcid.runtime / ("dgram" if how == "datagrams" else "held")
    assert [path.name for path in folder.iterdir() if path.name.startswith(f"{CID}.")]
    assert not owner.resume()
    assert not [path.name for path in folder.iterdir() if path.name.startswith(f"{CID}.")]
    assert not host.resume()
    host.connected((CID, port)).close()
    vmcid.kill()
    vmcid.start()
    assert not owner.resume() and not host.resume()
    host.connected((CID, port)).close()
    assert try_hello(vmcid, OTHER, CID) == NO_ACCESS
    for each in held, listener:
        each.close()


def test_names_that_are_none(vmcid, host):
    """Left by somebody who may write there; and those of no socket."""
    held, _ = hold(vmcid)
    vmcid.kill()
    folder = vmcid.runtime / "held"
    bad = ["4711", "4711.0", "4711.0.x", "4711.0.7x", "4711.0.7rr", "4711.0.7r.", ".".join(["9" * 30] * 3), "-1.0.0",
           "0.0.0", "2.0.5r", "4294967295.0.1", "15.0.1", "a" * 200]
    for name in bad:
        (folder / name).touch()
    (folder / f"4712.{os.geteuid()}.1").touch()                  # no socket
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(folder / f"4713.{os.geteuid()}.1"))        # not ours
        vmcid.start()
        assert not host.resume()
        assert names(vmcid) == [f"{CID}.{os.geteuid()}.0"]
    assert has_context(host) and not has_context(host, 4712) and not has_context(host, 4713)
    held.close()


def odd_things():
    listening = socket.socket(socket.AF_UNIX, SEQPACKET)
    listening.bind("\0test of vmcid, listening")
    listening.listen()
    connected = socket.socket(socket.AF_UNIX, SEQPACKET)
    connected.connect("\0test of vmcid, listening")
    bound = socket.socket(socket.AF_UNIX, SEQPACKET)
    bound.bind("\0test of vmcid, bound")
    yield from (*socket.socketpair(socket.AF_UNIX, SEQPACKET), listening, connected, bound,
                socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
                socket.socket(socket.AF_INET), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
    for fd in (eventfd(), memfd(4096), os.open("/dev/null", os.O_RDWR), os.open("/", os.O_PATH), os.pipe2(0)[0]):
        yield fd


def test_odd_descriptors(vmcid, host):
    for thing in odd_things():
        assert ask_to_hold(vmcid, os.geteuid(), CID, thing).status == INVALID_ARGS, thing
        assert not names(vmcid) and not has_context(host)
        if isinstance(thing, int):
            os.close(thing)
        else:
            thing.close()
    held, _ = hold(vmcid)
    assert ask_to_hold(vmcid, os.geteuid(), CID + 1, held).status == INVALID_ARGS     # it holds something already
    assert not has_context(host, CID + 1) and has_context(host)
    held.close()


def test_sockets_of_others(vmcid, host, needs_root):
    for maker, shower in (0, USER), (USER, OTHER), (USER, 0):
        held = made_by(maker)
        assert ask_to_hold(vmcid, shower, CID, held).status == INVALID_ARGS
        held.close()
    assert not has_context(host)


def test_contexts_that_cannot_be_had(vmcid, host, needs_root):
    """What hello refuses is refused, and leaves nothing."""
    owner = connect_as(vmcid, USER, CID)
    for uid, cid, flags in (OTHER, CID, 0), (OTHER, 0, 0), (OTHER, 3, 0), (OTHER, HOST, RESTRICTED):
        held = made_by(uid)
        assert ask_to_hold(vmcid, uid, cid, held, flags).status < 0
        held.close()
    assert not names(vmcid) and has_context(host)
    held = made_by(USER)
    assert owner.call(HELLO, size0=1, handle=(CID + 1, 0), flags=HOLD, fds=[held]).status == INVALID_ARGS   # twice
    assert not names(vmcid) and not has_context(host, CID + 1)
    held.close()


def test_the_connection_is_good_for_nothing(vmcid, host):
    """As without a socket."""
    held, client = made_by(os.geteuid()), vmcid.connect(None)
    assert client.call(HELLO, size0=1, handle=(CID, 0), flags=HOLD, fds=[held]).status == 0
    bell = eventfd()
    client.send(Message(BELL_CREATE, serial=9, handle=(0, INVALID), fds=[bell]))
    with pytest.raises(Ended):
        client.recv()
    assert has_context(host)
    os.close(bell)
    held.close()


def accepted(held):
    held.settimeout(10)
    return held.accept()[0]


@pytest.mark.parametrize("how", ["close", "shutdown", "reset"])
def test_who_ends_what_vmcid_has_connected(vmcid, host, how):
    """That is no way to make others believe that a program has gone which goes on listening."""
    held, _ = hold(vmcid)
    member = vmcid.connect(CID)
    listener, port = member.listener()
    member.close()
    sock = accepted(held)
    if how == "shutdown":
        sock.shutdown(socket.SHUT_RDWR)
    elif how == "reset":
        sock.send(b"unread")
    if how != "shutdown":
        sock.close()
    until("the context to go", lambda: not has_context(host))
    assert f"held/{CID}.{os.geteuid()}.0: dropped: it was to hold its context and no more, and was used" \
        in vmcid.process.text()
    assert not names(vmcid)
    assert host.connect((CID, port), host.new_socket()) == DST_UNREACHABLE
    restart(vmcid, host)
    assert not has_context(host)
    for each in held, listener, sock:
        each.close()


def test_who_stops_listening(vmcid, host):
    """He is as good as gone, at the latest for the next vmcid."""
    held, _ = hold(vmcid)
    held.shutdown(socket.SHUT_RDWR)
    restart(vmcid, host)
    assert not has_context(host) and not names(vmcid)
    held.close()


def test_who_leaves_no_room(vmcid, host):
    """The queue is full of what earlier ones have left, so the next one cannot connect: it is his loss alone."""
    held, _ = hold(vmcid)
    held.listen(0)
    for _ in range(3):
        restart(vmcid, host)
    assert not has_context(host) and not names(vmcid)
    held.close()


def test_what_is_said_there(vmcid, host):
    """Nobody listens, and nobody waits: also not for descriptors whose close takes long."""
    held, _ = hold(vmcid)
    sock, tarpit = accepted(held), Tarpit()
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError, PermissionError):     # the kernel may refuse them (closer_refuse())
        tarpit.send(vmcid.process.pid, sock, b"x", 0, 50)
    with contextlib.suppress(BlockingIOError):
        for _ in range(100000):
            sock.send(bytes(1000))
    assert has_context(host)
    host.sock.settimeout(2 * LIMIT)
    began = time.monotonic()
    sock.close()
    held.close()
    until("the context to go", lambda: not has_context(host))
    assert time.monotonic() - began < LIMIT
    tarpit.close()


def test_as_many_as_a_user_may_have(vmcid, host, needs_root):
    """Each is a client of its own. Others have theirs, and who has let go of some gets new ones."""
    sockets, status = [], 0
    while status == 0:
        held = made_by(USER)
        status = ask_to_hold(vmcid, USER, CID, held).status
        sockets.append(held)
        assert len(sockets) < 5000
    assert status == NO_RESOURCES
    sockets.pop().close()
    assert len(names(vmcid)) == len(sockets) > 10
    other, _ = hold(vmcid, CID + 1, OTHER)
    restart(vmcid, host)
    assert len(names(vmcid)) == len(sockets) + 1
    for each in sockets[:3]:
        each.close()
    until("them to go", lambda: len(names(vmcid)) == len(sockets) - 2)
    sockets += [hold(vmcid, uid=USER)[0]]
    for each in other, *sockets:
        each.close()
    until("all to go", lambda: not names(vmcid))


def test_who_meddles_with_the_socket(vmcid, host):
    """It is bound, listens and accepts while vmcid looks: it holds, or it does not, and there is nothing in between."""
    stop, at = threading.Event(), []

    def meddle():
        n = 0
        while not stop.is_set():
            n += 1
            for held in at[-1:]:
                with contextlib.suppress(OSError):
                    held.bind(f"\0test of vmcid, {os.getpid()}, {n}")
                with contextlib.suppress(OSError):
                    held.listen(1)
                with contextlib.suppress(OSError):
                    held.accept()[0].close()
    thread = threading.Thread(target=meddle)
    thread.start()
    statuses = set()
    try:
        for _ in range(300):
            held = made_by(os.geteuid())
            held.setblocking(False)
            at.append(held)
            with contextlib.suppress(Ended):
                statuses.add(ask_to_hold(vmcid, os.geteuid(), CID, held).status)
    finally:
        stop.set()
        thread.join()
    assert statuses <= {0, INVALID_ARGS, NO_RESOURCES}, statuses
    for each in at:
        each.close()
    until("all to go", lambda: not names(vmcid) and not has_context(host))


def test_killed_again_and_again(vmcid, host):
    """While programs come and go."""
    kept, _ = hold(vmcid)
    for _ in range(10):
        gone = made_by(os.geteuid())
        client = vmcid.connect(None)
        client.send(Message(HELLO, serial=1, size0=1, handle=(CID + 1, 0), flags=HOLD, fds=[gone]))
        vmcid.kill()
        client.close()
        vmcid.clients.remove(client)
        gone.close()
        vmcid.start()
        assert not host.resume()
        assert has_context(host) and not has_context(host, CID + 1)
        assert names(vmcid) == [f"{CID}.{os.geteuid()}.0"]
    kept.close()


def test_vmcid_ends_in_order(vmcid, host):
    """The next one finds what is in use, and its key: it knows who comes back."""
    held, _ = hold(vmcid)
    gone, _ = hold(vmcid, CID + 1)
    token = vmcid.connect(CID).token
    gone.close()
    assert vmcid.process.terminate() == 0
    assert names(vmcid) == [f"{CID}.{os.geteuid()}.0"]
    assert (vmcid.runtime / "key").exists()
    vmcid.start()
    assert not host.resume()
    assert has_context(host)
    vmcid.connect(None).hello(CID, RESUME, token)
    held.close()
