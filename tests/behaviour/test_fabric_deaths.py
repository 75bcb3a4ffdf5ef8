# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of a client at every step of every exchange: what it owned is freed, who dealt with it is told, others go on.

An exchange is a list of steps of two parties. The first one runs in a process of its own, which is killed after each
of its steps in turn, also between a request and its reply; the second one is the test itself.
"""

import os
import signal
import socket
import struct

import pytest
from testbed.fabric import (ADD, ASSIGN, BELL_CREATE, BELL_DESTROY, BELL_OPEN, CTX_REMOVED, DG_CREATE, DG_DESTROY,
                            DG_SEND, EVENTS, GROUP_CREATE, GROUP_MEMBER, HELLO, INVALID, NAME, PAGE, PEER_DETACH,
                            PRIV, QP_ATTACH, QP_CREATE, QP_DETACH, REGISTER, SHM_ATTACH, SHM_CREATE, SHM_DETACH,
                            UNREGISTER, WATCH, AttachedPair, Bell, Client, CreatedPair, Endpoint, Events, Region,
                            Sink, datagram, discovery_request, eventfd, memfd, qp_memory_size, wait_readable)
from testbed.process import until


class Doomed:
    """The party that dies: a child that carries out steps, one at a time."""

    def __init__(self, path, steps):
        self.ours, theirs = socket.socketpair()
        self.ours.settimeout(30)
        self.pid = os.fork()
        if self.pid:
            theirs.close()
            return
        try:
            self.ours.close()
            self.path, self.handle, self.client = path, (0, 0), None
            while (word := theirs.recv(64)):
                number, context, resource = struct.unpack("<III", word)
                self.peer = (context, resource)
                steps[number](self)
                cid = self.client.cid if self.client and self.client.cid is not None else INVALID
                theirs.send(struct.pack("<III", cid, *self.handle))
        finally:
            os._exit(1)

    def step(self, number, handle):
        """Lets it carry out a step, with the handle of the other party; returns its context and handle."""
        self.ours.send(struct.pack("<III", number, *handle))
        word = self.ours.recv(64)
        assert word, "the doomed one failed before its time"
        cid, context, resource = struct.unpack("<III", word)
        return cid, (context, resource)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.ours.close()

    # What a step is made of, in the child.

    def post(self, type_, **fields):
        self.client.post(type_, **fields)

    def reply(self):
        """The handle in it is what the other party is told; descriptors stay open."""
        reply = self.client.recv()
        assert reply.status >= 0, reply
        if reply.handle != (0, 0):
            self.handle = reply.handle
        return reply


def connect(d):
    d.client = Client(d.path, None)


def hello(cid):
    return [connect, lambda d: d.post(HELLO, size0=1, handle=(cid, 0)), joined]


def joined(d):
    d.client.cid = d.reply().handle[0]
    d.handle = (0, 0)


def reply(d):
    d.last = d.reply()


def post(type_, **fields):
    """A step: fields may be functions of the party."""
    return lambda d: d.post(type_, **{key: value(d) if callable(value) else value for key, value in fields.items()})


def own(d):
    return d.handle


def peer(d):
    return d.peer


class Survivor:
    """What the other party has."""

    def __init__(self, vmcid):
        self.client = vmcid.connect(INVALID)
        self.events = Events(self.client)
        self.handle = (0, 0)        # told to the doomed one
        self.doomed = (0, 0)        # its handle
        self.cid = INVALID          # and context
        self.thing = None


def make(kind, **fields):
    def step(s):
        s.thing = kind(s.client, **fields)
        s.handle = s.thing.handle
    return step


def take(kind):
    def step(s):
        s.thing = kind(s.client, handle=s.doomed)
    return step


def send_datagram(s):
    assert s.thing.send(s.doomed, b"x") == 25


def receive_datagram(s):
    assert s.thing.recv().src == s.doomed


def open_bell(s):
    fd = s.client.open_bell(s.doomed)
    os.eventfd_write(fd, 1)
    os.close(fd)


def sink(d):
    d.sink = Sink()
    return [d.sink]


def pair_fds(d):
    d.life = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return [memfd(qp_memory_size(PAGE, PAGE)), d.life[1]]


def say_hello(d):
    d.life = socket.socket(fileno=d.last.fds[1])
    d.life.send(struct.pack("<I", d.client.cid))


def watch(s):
    assert s.events.watch(s.cid) == 0


def lookup(s):
    assert s.client.lookup(b"name") == (s.doomed[0], 5000)


PAIR = dict(other=(INVALID, 0), size0=PAGE, size1=PAGE)
D, S = "doomed", "survivor"


def doomed(*steps):
    return [(D, step) for step in steps]


def survivor(*steps):
    return [(S, step) for step in steps]


def remember_context(d):
    d.handle = (d.client.cid, 0)


EXCHANGES = {
    "nothing": [],
    "datagrams": [
        *survivor(make(Endpoint)),
        *doomed(post(DG_CREATE, handle=(0, INVALID), fds=sink), reply,
                post(DG_SEND, data=lambda d: datagram(d.peer, d.handle, b"x")), reply),
        *survivor(receive_datagram, send_datagram, send_datagram),
        *doomed(lambda d: d.sink.recv(), post(DG_DESTROY, handle=own), reply)],
    "a doorbell": [
        *doomed(post(BELL_CREATE, handle=(0, INVALID), fds=lambda d: [eventfd()]), reply),
        *survivor(open_bell),
        *doomed(post(BELL_DESTROY, handle=own), reply)],
    "a ringer": [
        *survivor(make(Bell)),
        *doomed(post(BELL_OPEN, handle=peer), reply, lambda d: os.eventfd_write(d.last.fds[0], 1))],
    "a queue pair, creator": [
        *doomed(post(QP_CREATE, handle=(INVALID, INVALID), fds=pair_fds, **PAIR), reply),
        *survivor(take(AttachedPair), lambda s: s.thing.ring()),
        *doomed(lambda d: d.life[0].recv(5), lambda d: d.life[1].close(), post(QP_DETACH, handle=own), reply)],
    "a queue pair, attacher": [
        *survivor(make(CreatedPair)),
        *doomed(post(QP_ATTACH, handle=peer, **PAIR), reply, say_hello),
        *survivor(lambda s: s.thing.wait_for_attach(), lambda s: s.thing.ring()),
        *doomed(lambda d: d.life.recv(1), post(QP_DETACH, handle=peer), reply)],
    "a region, creator": [
        *doomed(post(SHM_CREATE, handle=(0, INVALID), size0=PAGE, fds=lambda d: [memfd(PAGE)]), reply),
        *survivor(take(Region)),
        *doomed(post(SHM_DETACH, handle=own), reply)],
    "a region, attacher": [
        *survivor(make(Region)),
        *doomed(post(SHM_ATTACH, handle=peer), reply, post(SHM_DETACH, handle=peer), reply)],
    "a name": [
        *doomed(post(NAME, data=lambda d: discovery_request(REGISTER, b"name", (d.client.cid, 5000))),
                reply, remember_context),
        *survivor(lookup),
        *doomed(post(NAME, data=discovery_request(UNREGISTER, b"name")), reply)],
    "a group": [
        *survivor(make(Endpoint)),
        *doomed(post(GROUP_CREATE), reply,
                post(GROUP_MEMBER, flags=ADD | ASSIGN, handle=own, other=lambda d: (d.peer[0], 0)), reply)],
    "a grant": [
        *survivor(make(Endpoint)),
        *doomed(post(DG_CREATE, handle=(0, INVALID), fds=sink), reply,
                post(PRIV, flags=ADD, handle=own, other=lambda d: (d.peer[0], 0), size0=1 << 4), reply),
        *survivor(send_datagram)],
    "events": [
        *survivor(make(Endpoint)),
        *doomed(post(EVENTS, fds=sink), reply, post(WATCH, handle=lambda d: (d.peer[0], 0)), reply)],
}


def play(vmcid, steps, deaths_step):
    """Runs until the doomed one has made so many steps; returns survivor and the exchange's number of its steps."""
    party = Survivor(vmcid)
    mine = [step for who, step in steps if who == D]
    child = Doomed(vmcid.path, mine)
    done = 0
    try:
        for who, step in steps:
            if who == S:
                step(party)
                continue
            if done == deaths_step:
                break
            party.cid, party.doomed = child.step(done, party.handle)
            done += 1
            if done == 3:
                watch(party)
    finally:
        child.kill()
    return party, child.pid


@pytest.mark.parametrize("name", EXCHANGES)
def test_killed_at_every_step(vmcid, name):
    steps = doomed(*hello(INVALID)) + EXCHANGES[name]
    n_steps = len([who for who, _ in steps if who == D])
    for at in range(n_steps + 1):
        party, pid = play(vmcid, steps, at)
        assert not party.client.is_ended()
        if at >= 3:
            # the context went, and with it a queue pair's other end
            seen = []
            while not seen or seen[-1].id != CTX_REMOVED:
                seen.append(party.events.recv())
            assert seen[-1].context == party.cid
            if isinstance(party.thing, (CreatedPair, AttachedPair)) and party.thing.is_left():
                party.thing.detach()
            if isinstance(party.thing, AttachedPair):
                assert PEER_DETACH in [event.id for event in seen]
        until(f"nothing to be left of the one that died after step {at}",
              lambda: not [line for line in party.client.list() if f"client {pid} " in line])
        party.client.close()
        vmcid.clients.remove(party.client)


def test_the_life_socket_tells_without_vmcid(vmcid):
    """The same, when there is no vmcid that could tell."""
    steps = doomed(*hello(INVALID)) + EXCHANGES["a queue pair, attacher"]
    party = Survivor(vmcid)
    child = Doomed(vmcid.path, [step for who, step in steps if who == D])
    done = 0
    for who, step in steps:
        if who == S:
            step(party)
        elif done < 6:
            child.step(done, party.handle)
            done += 1
    vmcid.kill()
    child.kill()
    wait_readable(party.thing.life)
    assert party.thing.is_left()
    vmcid.start()


def test_a_child_that_inherited_the_connection(vmcid, host):
    """The client is there as long as any process has its connection."""
    client = vmcid.connect(INVALID)
    cid = client.cid
    pid = os.fork()
    if not pid:
        try:
            signal.pause()
        finally:
            os._exit(0)
    try:
        client.close()
        for _ in range(10):
            assert [line for line in host.list() if line.startswith(f"context {cid} ")]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    until("the context to be gone",
          lambda: not [line for line in host.list() if line.startswith(f"context {cid} ")])
