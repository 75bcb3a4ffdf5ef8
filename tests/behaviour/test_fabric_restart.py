# SPDX-License-Identifier: BSD-2-Clause
"""kill -9 of vmcid at every step of every exchange: what was introduced goes on, a new vmcid knows everything again.
doc/protocol-fabric.md, 5.
"""

import os
import random
import socket

import pytest
from testbed.fabric import (ADD, ALREADY_EXISTS, ASSIGN, BELL_CREATE, BELL_OPEN, CTX_REMOVED, DG_CREATE, DG_DESTROY,
                            DG_SEND, DST_UNREACHABLE, GROUP_CREATE, HELLO, INVALID, INVALID_ARGS, LAST_DETACH, NAME, NOT_FOUND,
                            NO_ACCESS, NO_TOKEN, PAGE, PEER_DETACH, QP_ATTACH, QP_CREATE, QP_DETACH, QP_HOLD,
                            QP_MISMATCH, QP_NOT_ATTACHED, REGISTER, RESUME, SHM_ATTACH, SHM_CREATE, SHM_HOLD,
                            UNREGISTER, AttachedPair, Bell, CreatedPair, Ended, Endpoint, Events, Group, Name,
                            Refused, Region, Sink, as_user, datagram, discovery_request, eventfd, is_same_file, memfd,
                            wait_readable)
from testbed.process import BUILD, Process, until


class World:
    """Two clients and what they have made of each other so far."""

    def __init__(self, vmcid, is_b_first):
        self.vmcid, self.is_b_first = vmcid, is_b_first
        self.a, self.b = vmcid.connect(INVALID), vmcid.connect(INVALID)

    def restart(self):
        self.vmcid.restart()
        for client in (self.b, self.a) if self.is_b_first else (self.a, self.b):
            assert client.resume() == []


def datagrams():
    def create(w):
        w.mine = Endpoint(w.a)

    def create_other(w):
        w.theirs = Endpoint(w.b)

    def send(w):
        assert w.mine.send(w.theirs.handle, b"one") == 27

    def send_again(w):
        assert w.mine.send(w.theirs.handle, b"two") == 27

    def receive(w):
        assert w.theirs.recv().payload == b"one"
        assert w.theirs.recv().payload == b"two"
        assert w.theirs.sink.is_empty()

    def answer(w):
        assert w.theirs.send(w.mine.handle, b"back") == 28
        assert w.mine.recv().src == w.theirs.handle

    def destroy(w):
        assert w.theirs.destroy() == 0
        assert w.mine.send(w.theirs.handle) < 0
    return create, create_other, send, send_again, receive, answer, destroy


def bells():
    def create(w):
        w.bell = Bell(w.a)

    def open_(w):
        w.fd = w.b.open_bell(w.bell.handle)

    def ring(w):
        os.eventfd_write(w.fd, 1)

    def hear(w):
        assert w.bell.rung() == 1

    def open_again(w):
        os.close(w.fd)
        w.fd = w.b.open_bell(w.bell.handle)
        os.eventfd_write(w.fd, 1)
        assert w.bell.rung() == 1
        os.close(w.fd)

    def destroy(w):
        assert w.bell.destroy() == 0
    return create, open_, ring, hear, open_again, destroy


def pairs(leaves_first):
    def listen(w):
        w.events = {w.a: Events(w.a), w.b: Events(w.b)}

    def create(w):
        w.mine = CreatedPair(w.a, 3 * PAGE, PAGE)
        w.bytes = os.urandom(100)
        w.mine.map[PAGE:PAGE + 100] = w.bytes

    def attach(w):
        w.theirs = AttachedPair(w.b, w.mine.handle, PAGE, 3 * PAGE)

    def meet(w):
        if w.mine.their_life:       # else the creator saw it when it resumed
            assert w.mine.wait_for_attach() == w.b.cid
        assert w.mine.peer == w.b.cid

    def talk(w):
        assert w.theirs.map[PAGE:PAGE + 100] == w.bytes
        w.theirs.ring()
        wait_readable(w.mine.life)
        assert w.mine.life.recv(1) == b"\0"

    def leave(w):
        first = w.mine if leaves_first == "creator" else w.theirs
        assert first.detach() == 0

    def notice(w):
        last = w.theirs if leaves_first == "creator" else w.mine
        wait_readable(last.life)
        assert last.is_left()

    def leave_last(w):
        last = w.theirs if leaves_first == "creator" else w.mine
        assert last.detach() in (0, LAST_DETACH)
    return listen, create, attach, meet, talk, leave, notice, leave_last


def regions():
    def create(w):
        w.mine = Region(w.a, 5000)
        w.mine.map[:5] = b"hello"

    def attach(w):
        w.theirs = Region(w.b, handle=w.mine.handle)

    def look(w):
        assert w.theirs.map[:5] == b"hello"
        w.theirs.map[:5] = b"world"
        assert w.mine.map[:5] == b"world"

    def detach_creator(w):
        assert w.mine.detach() == 0

    def detach(w):
        assert w.theirs.detach() == LAST_DETACH
    return create, attach, look, detach_creator, detach


def names():
    def register(w):
        w.endpoint = Endpoint(w.a)
        w.name = Name(w.a, b"HOST INFO", w.endpoint.handle)

    def look_up(w):
        assert w.b.lookup(b"HOST INFO") == w.endpoint.handle

    def unregister(w):
        assert w.name.unregister() == 0

    def look_again(w):
        assert w.b.lookup(b"HOST INFO") == NOT_FOUND
    return register, look_up, unregister, look_again


def groups():
    def create(w):
        w.group = Group(w.a)

    def add(w):
        assert w.group.change(ADD | ASSIGN, (w.b.cid, 0)) == 0
        w.group.members.append((w.b.cid, 0))

    def check(w):
        assert w.group.has((w.b.cid, 0)) == 1

    def destroy(w):
        assert w.group.destroy() == 0
    return create, add, check, destroy


EXCHANGES = {
    "datagrams": datagrams, "doorbells": bells, "queue pairs, the creator leaves": lambda: pairs("creator"),
    "queue pairs, the attacher leaves": lambda: pairs("attacher"), "regions": regions, "names": names, "groups": groups,
}


@pytest.mark.parametrize("is_b_first", [False, True], ids=["in order", "the other way round"])
@pytest.mark.parametrize("name", EXCHANGES)
def test_killed_at_every_step(vmcid, name, is_b_first):
    steps = EXCHANGES[name]()
    for at in range(len(steps) + 1):
        world = World(vmcid, is_b_first)
        for step in steps[:at]:
            step(world)
        world.restart()
        for step in steps[at:]:
            step(world)
        for client in world.a, world.b:
            client.close()
            vmcid.clients.remove(client)


@pytest.mark.parametrize("name", EXCHANGES)
def test_killed_after_every_step(vmcid, name):
    """The same clients through as many restarts as there are steps."""
    world = World(vmcid, False)
    for step in EXCHANGES[name]():
        world.restart()
        step(world)
    world.restart()


def test_killed_between_request_and_reply(vmcid, host):
    """Nobody knows whether it was carried out; either way it can be said again."""
    for type_, fields in ((DG_CREATE, dict(handle=(0, INVALID), fds=[Sink()])),
                          (BELL_CREATE, dict(handle=(0, INVALID), fds=[eventfd()])),
                          (SHM_CREATE, dict(handle=(0, INVALID), size0=PAGE, fds=[memfd(PAGE)])),
                          (GROUP_CREATE, {}),
                          (NAME, dict(data=discovery_request(REGISTER, b"name", (2, 5000))))):
        host.post(type_, **fields)
        vmcid.restart()
        with pytest.raises(Ended):
            host.recv().close()
            host.recv()
        assert host.resume() == []
        assert host.call(type_, **fields).status == 0
        vmcid.restart()
        assert host.resume() == []
        for fd in fields.get("fds", []):
            os.close(fd) if isinstance(fd, int) else fd.close()


def test_everything_at_once(vmcid, host, soft):
    """Some hundred objects of each kind, of two clients."""
    ours = []
    for n in range(100):
        for client in host, soft:
            endpoint, bell, region = Endpoint(client), Bell(client), Region(client, PAGE + n)
            ours.append((endpoint, bell, region))
    for n in range(50):
        Name(host, b"name %d" % n, ours[2 * n][0].handle)
    pairs_ = [CreatedPair(host) for _ in range(60)]
    ends = [AttachedPair(soft, pair.handle) for pair in pairs_[:40]]
    held = [Region(soft, handle=ours[2 * n][2].handle) for n in range(50)]

    def listed():
        # which end of a pair comes first depends on who came first
        return sorted(sorted(line.split()) for line in host.list() if not line.startswith("client "))
    before = listed()
    vmcid.restart()
    assert soft.resume() == []
    assert host.resume() == []
    assert listed() == before
    # and all of it works
    for n, (endpoint, bell, region) in enumerate(ours):
        assert ours[n - 1][0].send(endpoint.handle, b"x") == 25
        assert endpoint.recv().src == ours[n - 1][0].handle
        fd = soft.open_bell(bell.handle)
        os.eventfd_write(fd, 1)
        os.close(fd)
        assert bell.rung() == 1
    assert soft.lookup(b"name 7") == ours[14][0].handle
    assert AttachedPair(soft, pairs_[50].handle)
    assert [end.detach() for end in ends] == [0] * 40
    assert [region.detach() for region in held] == [0] * 50


def test_datagrams_that_had_arrived_stay(vmcid, host, soft):
    a, b = Endpoint(host), Endpoint(soft)
    for n in range(50):
        a.send(b.handle, b"%d" % n)
    vmcid.restart()
    assert [b.recv().payload for _ in range(25)] == [b"%d" % n for n in range(25)]
    assert soft.resume() == [] and host.resume() == []
    a.send(b.handle, b"50")
    assert [b.recv().payload for _ in range(26)] == [b"%d" % n for n in range(25, 51)]


def test_bytes_flow_while_there_is_no_vmcid(vmcid, host, soft):
    mine = CreatedPair(host, 1 << 16, 1 << 16)
    theirs = AttachedPair(soft, mine.handle, 1 << 16, 1 << 16)
    mine.wait_for_attach()
    vmcid.kill()
    rng = random.Random(1)
    for _ in range(100):
        data = rng.randbytes(1000)
        mine.map[PAGE:PAGE + 1000] = data
        mine.ring()
        wait_readable(theirs.life)
        assert theirs.life.recv(1) == b"\0" and theirs.map[PAGE:PAGE + 1000] == data
    vmcid.start()
    assert host.resume() == [] and soft.resume() == []


# --- Who may resume what -------------------------------------------------------------------------------------

def resumed(client, endpoint, token):
    return client.call(DG_CREATE, flags=RESUME, handle=(0, endpoint.handle[1]), token=token,
                       fds=[endpoint.sink]).status


def test_tokens(vmcid, host, soft):
    endpoint, other, bell = Endpoint(host), Endpoint(host), Bell(host)
    tokens = {each: each.token for each in (endpoint, other, bell)}
    host.objects = []
    vmcid.restart()
    assert host.resume() == []
    for wrong in NO_TOKEN, b"x" * 16, tokens[other], tokens[bell], host.token:
        assert resumed(host, endpoint, wrong) == NO_ACCESS
    assert host.call(BELL_CREATE, flags=RESUME, handle=(0, bell.handle[1]), token=tokens[endpoint],
                     fds=[bell.fd]).status == NO_ACCESS
    assert resumed(host, endpoint, tokens[endpoint]) == 0
    assert resumed(host, endpoint, tokens[endpoint]) == ALREADY_EXISTS
    assert soft.resume() == []
    assert resumed(soft, other, tokens[other]) == NO_ACCESS         # of another context
    for each in endpoint, other, bell:
        each.close()


def test_tokens_of_another_user(vmcid, needs_root):
    with as_user(12345):
        one = vmcid.connect()
    with as_user(12346):
        two = vmcid.connect()
    endpoint = Endpoint(one)
    stolen, one.objects = endpoint.token, []
    vmcid.restart()
    assert two.resume() == []
    with as_user(12346):
        sink = Sink()
    assert two.call(DG_CREATE, flags=RESUME, handle=(0, endpoint.handle[1]), token=stolen,
                    fds=[sink]).status == NO_ACCESS
    sink.close()
    endpoint.close()


def test_old_tokens(vmcid, needs_root):
    """Who had an id once is the first to come back; but it is another's now."""
    with as_user(12345):
        thief = vmcid.connect()
    with as_user(12346):
        owner = vmcid.connect()
    old = Endpoint(thief, 5000), Bell(thief, 5001), Region(thief, rid=5002), CreatedPair(thief, rid=5003)
    thief.ok(NAME, data=discovery_request(REGISTER, b"name", (2, 5000)))
    stolen = [each.token for each in old]
    name = thief.discovery(UNREGISTER, b"name") and thief.discovery(REGISTER, b"name", (2, 5000))[2]
    thief.close()
    until("the ids to be free", lambda: "5000" not in "".join(owner.list()) and owner.lookup(b"name") == NOT_FOUND)
    endpoint, bell, region = Endpoint(owner, 5000), Bell(owner, 5001), Region(owner, rid=5002)
    pair = CreatedPair(owner, rid=5003)
    Name(owner, b"name", endpoint.handle)
    vmcid.restart()
    with as_user(12345):
        thief, sink, memory = vmcid.connect(), Sink(), memfd(PAGE)
        life = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    fields = [dict(type_=DG_CREATE, handle=(0, 5000), fds=[sink]),
              dict(type_=BELL_CREATE, handle=(0, 5001), fds=[eventfd()]),
              dict(type_=SHM_CREATE, handle=(0, 5002), size0=PAGE, fds=[memory]),
              dict(type_=QP_CREATE, handle=(2, 5003), other=(INVALID, 0), size0=PAGE, size1=PAGE,
                   fds=[memfd(4 * PAGE), life[0]])]
    for each, token in zip(fields, stolen):
        assert thief.call(flags=RESUME, token=token, **each).status >= 0
    assert thief.discovery(REGISTER, b"name", (2, 5000), flags=RESUME, token=name)[0] == 0
    assert owner.resume() == []
    for each, token in zip(fields, stolen):
        assert thief.call(flags=RESUME, token=token, **each).status == ALREADY_EXISTS
    third = vmcid.connect()
    sender = Endpoint(third)
    assert sender.send(endpoint.handle, b"secret") == 30
    assert endpoint.recv().payload == b"secret" and sink.is_empty()
    fd = third.open_bell(bell.handle)
    os.eventfd_write(fd, 1)
    os.close(fd)
    assert bell.rung() == 1
    assert is_same_file(Region(third, handle=region.handle).memory, region.memory)
    assert is_same_file(AttachedPair(third, pair.handle).memory, pair.memory)
    assert third.lookup(b"name") == endpoint.handle
    assert thief.call(DG_DESTROY, handle=endpoint.handle).status == NO_ACCESS
    assert thief.call(QP_DETACH, handle=pair.handle).status == QP_NOT_ATTACHED
    for fd in memory, fields[1]["fds"][0], fields[3]["fds"][0]:
        os.close(fd)
    for sock in *life, sink:
        sock.close()


def test_an_old_context(vmcid, needs_root):
    with as_user(12345):
        thief = vmcid.connect(4711)
    stolen = thief.token
    thief.close()
    with as_user(12346):
        owner = until("the context to be free", lambda: try_connect(vmcid, 4711))
    endpoint = Endpoint(owner)
    vmcid.restart()
    with as_user(12345):
        thief = vmcid.connect(None)
    thief.hello(4711, RESUME, stolen)
    assert owner.resume() == []
    assert thief.call(DG_SEND, data=datagram(endpoint.handle, endpoint.handle)).status == INVALID_ARGS
    third = Endpoint(vmcid.connect())
    assert third.send(endpoint.handle, b"x") == 25
    assert endpoint.recv().payload == b"x"


def try_connect(vmcid, cid):
    try:
        return vmcid.connect(cid)
    except Refused:
        return None


def test_a_context_of_another_user(vmcid, needs_root):
    with as_user(12345):
        one = vmcid.connect(4711)
    vmcid.restart()
    with as_user(12346):
        thief, forger = vmcid.connect(None), vmcid.connect(None)
    thief.post(HELLO, size0=1, handle=(4711, 0))
    forger.post(HELLO, size0=1, handle=(4711, 0), flags=RESUME, token=one.token)
    assert forger.recv().status == NO_ACCESS
    assert one.resume() == []
    assert thief.recv().status == NO_ACCESS


def test_owners_come_first(vmcid, host):
    """Who wishes an id right after the restart waits until its owner is back, and does not get it."""
    endpoint = Endpoint(host, 5000)
    Name(host, b"name", endpoint.handle)
    vmcid.restart()
    thief = vmcid.connect()
    sink = Sink()
    thief.post(DG_CREATE, handle=(0, 5000), fds=[sink])
    second = vmcid.connect()
    second.post(NAME, data=discovery_request(REGISTER, b"name", (2, 6000)))
    assert host.resume() == []
    assert thief.recv().status == ALREADY_EXISTS
    assert second.recv().data[4:8] == ALREADY_EXISTS.to_bytes(4, "little", signed=True)
    sink.close()


def test_who_looks_right_after_the_restart_finds(vmcid, host, soft):
    """What its owner has not told yet is waited for."""
    endpoint, bell, region, pair = Endpoint(host), Bell(host), Region(host), CreatedPair(host)
    Name(host, b"name", endpoint.handle)
    vmcid.restart()
    assert soft.resume() == []
    seekers = []
    for type_, fields in ((BELL_OPEN, dict(handle=bell.handle)), (SHM_ATTACH, dict(handle=region.handle)),
                          (QP_ATTACH, dict(handle=pair.handle, other=(INVALID, 0), size0=PAGE, size1=PAGE)),
                          (NAME, dict(data=discovery_request(0, b"name")))):
        seekers.append(vmcid.connect(INVALID))
        seekers[-1].post(type_, **fields)
    sender = Endpoint(soft)
    soft.post(DG_SEND, data=datagram(endpoint.handle, sender.handle, b"x"))
    assert host.resume() == []
    for seeker in seekers:
        reply = seeker.recv()
        assert reply.status >= 0
        if reply.type == NAME:
            assert reply.data[4:8] == bytes(4)
        reply.close()
    assert soft.recv().status == 25
    assert endpoint.recv().payload == b"x"


def test_what_nobody_resumes_is_free_after_a_while(vmcid, host):
    endpoint = Endpoint(host, 5000)
    host.close()
    endpoint.close()
    vmcid.restart()
    again = vmcid.connect()
    assert Endpoint(again, 5000).handle == (2, 5000)        # waits as long as owners have time
    assert again.lookup(b"nobody") == NOT_FOUND


def test_who_comes_late(vmcid, host, soft):
    endpoint, taken = Endpoint(host), Endpoint(host, 5000)
    vmcid.restart()
    early = vmcid.connect()
    assert Endpoint(early, 5000).handle == taken.handle      # when the time of grace is over
    assert host.resume() == [(taken, ALREADY_EXISTS)]
    assert soft.resume() == []
    assert Endpoint(soft).send(endpoint.handle) == 24


def test_a_peer_that_died_meanwhile(vmcid, host, soft):
    events = Events(host)
    mine = CreatedPair(host)
    AttachedPair(soft, mine.handle)
    mine.wait_for_attach()
    vmcid.kill()
    soft.close()
    vmcid.start()
    assert host.resume() == []
    wait_readable(mine.life)
    assert mine.is_left()
    assert events.sink.is_empty() or events.recv().id in (PEER_DETACH, 3)
    assert mine.detach() in (0, LAST_DETACH)


def test_a_hold_that_does_not_fit_the_other(vmcid, host, soft):
    mine = CreatedPair(host, PAGE, 2 * PAGE)
    theirs = AttachedPair(soft, mine.handle, 2 * PAGE, PAGE)
    mine.wait_for_attach()
    vmcid.restart()
    assert host.resume() == []
    soft.objects = []
    assert soft.resume() == []
    for sizes in (PAGE, 2 * PAGE), (2 * PAGE, 2 * PAGE), (0, 0), (1 << 40, PAGE):
        reply = soft.call(QP_HOLD, handle=theirs.handle, other=(2, 0), size0=sizes[0], size1=sizes[1],
                          token=theirs.token)
        assert reply.status < 0
    assert theirs.hold() == 0
    assert theirs.detach() == 0


def test_a_region_that_is_another_memory(vmcid, host, soft):
    mine = Region(host)
    theirs = Region(soft, handle=mine.handle)
    soft.objects = []
    vmcid.restart()
    assert host.resume() == [] and soft.resume() == []
    fake = memfd(PAGE)
    fields = dict(handle=theirs.handle, size0=PAGE, token=theirs.token)
    assert soft.call(SHM_HOLD, fds=[fake], **fields).status == NO_ACCESS
    os.close(fake)
    assert soft.call(SHM_HOLD, fds=[theirs.memory], **fields).status == 0
    theirs.close()


def test_resume_without_any_restart(vmcid, host):
    """A client that lost its connection for another reason."""
    endpoint, bell = Endpoint(host), Bell(host)
    assert host.resume() == []
    assert endpoint.send(endpoint.handle) == 24
    assert host.open_bell(bell.handle) >= 0


def test_the_key_is_nobody_else_s(vmcid):
    key = vmcid.runtime / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_bytes()) >= 32


def test_a_damaged_key(vmcid, host):
    """Tokens are worth nothing then, but a broker there is."""
    Endpoint(host)
    vmcid.kill()
    (vmcid.runtime / "key").write_bytes(b"short")
    vmcid.start()
    try:
        refused = host.resume()
    except Refused as error:
        refused = error.status
    assert refused
    assert vmcid.connect().list()


def test_killed_again_and_again(vmcid, host, soft):
    a, b = Endpoint(host), Endpoint(soft)
    mine = CreatedPair(host)
    AttachedPair(soft, mine.handle)
    mine.wait_for_attach()
    for n in range(10):
        vmcid.restart()
        assert host.resume() == [] and soft.resume() == []
        assert a.send(b.handle, b"%d" % n) == 25
    assert [b.recv().payload for _ in range(10)] == [b"%d" % n for n in range(10)]


def test_killed_while_they_resume(vmcid, host):
    """Half of it has been told."""
    endpoints = [Endpoint(host) for _ in range(20)]
    for told in range(0, 20, 4):
        vmcid.restart()
        rest = host.objects[told:]
        host.objects = host.objects[:told]
        assert host.resume() == []
        host.objects += rest
    vmcid.restart()
    assert host.resume() == []
    assert all(endpoint.send(endpoint.handle) == 24 for endpoint in endpoints)


def test_a_second_vmcid_for_the_same_directory(vmcid, host):
    second = Process([BUILD / "vmcid", "--runtime-dir", vmcid.runtime, "--config", vmcid.config, "--vms", vmcid.vms],
                     vmcid.directory / "second.log")
    assert second.wait(20) != 0
    assert str(vmcid.runtime) in second.text()
    assert host.list()
    assert host.call(HELLO, size0=1, handle=(2, 0)).status < 0
    assert host.call(BELL_OPEN, handle=(4711, 1)).status == DST_UNREACHABLE
    until("no complaint", lambda: vmcid.process.is_running())


def test_mismatch_is_seen_before_it_is_attached(host, soft):
    mine = CreatedPair(host, PAGE, 0)
    reply = soft.call(QP_ATTACH, handle=mine.handle, other=(INVALID, 0), size0=PAGE, size1=0)
    assert reply.status == QP_MISMATCH
    assert soft.call(QP_CREATE, handle=mine.handle, other=(INVALID, 0), size0=PAGE, size1=0,
                     fds=[mine.memory, mine.their_life]).status < 0


def test_contexts_that_go_meanwhile(vmcid, host):
    """Who went while there was no vmcid has gone, for who watched it; who came back has not."""
    stays, goes = vmcid.connect(INVALID), vmcid.connect(INVALID)
    events = Events(host)
    for client in stays, goes:
        assert events.watch(client.cid) == 0
    vmcid.kill()
    goes.close()
    vmcid.start()
    assert host.resume() == [] and stays.resume() == []
    assert (got := events.recv()).context == goes.cid and got.id == CTX_REMOVED
    assert events.is_empty()
    stays.close()
    assert events.recv().context == stays.cid
    assert events.is_empty()
