# SPDX-License-Identifier: BSD-2-Clause
"""Shared memory in guests: regions in the window of their VMs, by libvmci over the in-box driver, and the SDK's sample.

bookworm and trixie share a window, in which regions of the host's programs lie, too; backports has one of its own;
classic has none.
"""

import struct

import pytest
from beds import SHARED_MEM, SHMX, WINDOW
from testbed import onhost, until
from testbed.fabric import Client
from testbed.process import BUILD

NO_ACCESS, DST_UNREACHABLE, NO_RESOURCES, UNAVAILABLE = -7, -10, -19, -20
NOT_FOUND, ALREADY_EXISTS, INVALID_SIZE, OBSOLETE = -21, -22, -24, -30

APP, X = f"/lib/{SHARED_MEM.name}", f"/lib/{SHMX.name}"
INNER = ("bookworm", "trixie")
WITH_WINDOW = (*INNER, "backports")


class OnHost(onhost.OnHost):
    """A program on the host: one of ours, or the sample."""

    alive = []

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.alive.append(self)

    def ready(self):
        """The handle of a shmx that waits."""
        word, handle = (self.child.stdout.readline().split() + ["", ""])[:2]
        assert word == "ready", self.check_fails()
        return handle

    def check_fails(self):
        assert self.wait() == 1, self.output
        return self.output

    def kill(self):
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()
        self.alive.remove(self)


class InGuest:
    """shmx in a guest, that waits until the file is there."""

    number = 0

    def __init__(self, machine, *args):
        InGuest.number += 1
        self.machine, self.file = machine, f"/tmp/go-{InGuest.number}"
        quoted = " ".join(f"'{arg}'" for arg in args)
        self.command = machine.vm.start(f"mkdir -p /tmp; mkfifo {self.file}; exec {X} {quoted} <>{self.file}")

    def ready(self):
        self.command.expect("\n")
        word, handle = (self.command.output.split() + ["", ""])[:2]
        assert word == "ready", self.command.output
        return handle

    def check(self):
        self.machine.vm.run(f"echo >{self.file}")
        return self.command.check()

    def kill(self):
        self.command.kill()
        self.command.wait()


def code(output):
    return int(output.split(":")[0])


def guest_fails(machine, *args):
    """The code, and the whole text."""
    output = machine.vm.start(f"{X} {' '.join(map(str, args))} </dev/null").check_fails()
    return code(output), output


def host_fails(fabric, *args):
    return code(OnHost(fabric, SHMX, *map(str, args)).check_fails())


def listed(fabric, kind):
    """Lines of vmcid's list."""
    client = Client(fabric.broker.control)
    try:
        return [line for line in client.list() if line.startswith(kind)]
    finally:
        client.close()


def regions(fabric, window="domain/inner"):
    """What is in a window: handle -> (bytes, offset, has it an owner?)."""
    found = {}
    for line in listed(fabric, "region"):
        words = line.split()
        if f"window {window}" in line:
            found[words[1]] = (int(words[words.index("bytes") + 1]), int(words[-1]), "client" in words)
    return found


def are_apart(found):
    """No two of them overlap."""
    ends = sorted((offset, offset + size) for size, offset, _ in found.values())
    return all(one[1] <= two[0] for one, two in zip(ends, ends[1:])) and ends[-1][1] <= WINDOW


@pytest.fixture(autouse=True)
def leaves_nothing(fabric):
    """Whatever happens in the windows, afterwards they are empty."""
    yield
    for program in OnHost.alive[:]:
        program.kill()
    if not fabric.is_alive:
        return
    for name in WITH_WINDOW:
        fabric[name].vm.agent.kill_all()
        # It clears up after those that were killed.
        fabric[name].vm.run(f"{X} create 1 x </dev/null")
    until("the windows to be empty", lambda: not regions(fabric) and not regions(fabric, "domain/outer"))


# --- The sample -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INNER)
def test_server_on_the_host(fabric, name):
    server = OnHost(fabric, BUILD / "sharedMemApp", "-s")
    output = fabric[name].vm.run(f"{APP} -c")
    assert output.count("the time is ") == 3 and len(set(output.splitlines())) > 1, output
    assert "attach" not in server.check()


@pytest.mark.parametrize("name", WITH_WINDOW)
def test_server_in_the_guest(fabric, name):
    server = fabric[name].vm.start(f"exec {APP} -s")
    output = OnHost(fabric, BUILD / "sharedMemApp", "-c").check()
    assert output.count("the time is ") == 3 and len(set(output.splitlines())) > 1, output
    server.check()


@pytest.mark.parametrize("serves, asks", [INNER, INNER[::-1]])
def test_server_and_client_in_neighbours(fabric, serves, asks):
    server = fabric[serves].vm.start(f"exec {APP} -s")
    output = fabric[asks].vm.run(f"{APP} -c")
    assert output.count("the time is ") == 3 and len(set(output.splitlines())) > 1, output
    server.check()


def test_two_programs_of_one_guest(fabric):
    server = fabric["trixie"].vm.start(f"exec {APP} -s")
    assert fabric["trixie"].vm.run(f"{APP} -c").count("the time is ") == 3
    server.check()


# --- Who may, and who may not ---------------------------------------------------------------------------------------


def test_another_domain(fabric):
    mine = InGuest(fabric["bookworm"], "create", 128, "secret")
    handle = mine.ready()
    other = fabric["backports"]
    for verb in "query", "attach":
        assert guest_fails(other, verb, handle)[0] == DST_UNREACHABLE
    # Nor what the host has in that window.
    host = OnHost(fabric, SHMX, "create", "128", "secret")
    handle = host.ready()
    for verb in "query", "attach":
        assert guest_fails(other, verb, handle)[0] == UNAVAILABLE
    mine.check()
    host.check()


def test_a_machine_without_a_window(fabric):
    machine = fabric["classic"]
    host = OnHost(fabric, SHMX, "create", "128", "text")
    for what in ("create", 128, "text"), ("attach", host.ready()):
        number, text = guest_fails(machine, *what)
        assert number == UNAVAILABLE and "openvmci.window" in text, text
    assert guest_fails(machine, "query", "2:5000")[0] == UNAVAILABLE
    output = machine.vm.start(f"{APP} -s").check_fails()
    assert "no shared memory could be made" in output
    host.check()


def test_a_software_context_has_memory_of_its_own(fabric):
    """It is not in the window, whoever asks."""
    server = OnHost(fabric, BUILD / "sharedMemApp", "-s", context="new")
    until("the server", lambda: any("HOST TIME" in line for line in listed(fabric, "name")))
    output = fabric["trixie"].vm.start(f"{APP} -c").check_fails()
    assert "query" in output, output
    handle = listed(fabric, "region")[0].split()[1]
    assert guest_fails(fabric["trixie"], "query", handle)[0] == UNAVAILABLE
    assert guest_fails(fabric["trixie"], "attach", handle)[0] == UNAVAILABLE
    server.kill()


def test_it_takes_root(fabric):
    machine = fabric["trixie"]
    host = OnHost(fabric, SHMX, "create", "128", "text")
    handle = host.ready()
    machine.vm.run("chmod 666 /dev/vsock")      # as distributions have it
    number, text = guest_fails(machine, "nobody", "attach", handle)
    assert number == NO_ACCESS and "root" in text, text
    assert guest_fails(machine, "nobody", "create", 128, "text")[0] == NO_ACCESS
    # To know its size it does not.
    assert machine.vm.run(f"{X} nobody query {handle}").strip() == "128"
    host.check()


# --- What is in it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_WINDOW)
def test_both_ways_and_sizes(fabric, name):
    machine = fabric[name]
    for size in 128, 4096, 4097, 3 << 20:
        mine = InGuest(machine, "create", size, "from the guest")
        handle = mine.ready()
        assert OnHost(fabric, SHMX, "query", handle).check().strip() == str(size)
        assert OnHost(fabric, SHMX, "attach", handle, "from the host").check().strip() == f"{size} from the guest"
        assert mine.check().splitlines()[-1] == "[from the guest] [from the host] detach 3"
    if name == "backports":
        return
    host = OnHost(fabric, SHMX, "create", "10000", "from the host")
    handle = host.ready()
    assert machine.vm.run(f"{X} attach {handle} back </dev/null").strip() == "10000 from the host"
    assert "[from the host] [back] detach 3" in host.check()


def test_regions_are_apart_and_zeroed(fabric):
    """shmx looks whether what it gets is all zeroes."""
    for _ in range(3):
        users = [InGuest(fabric[name], "create", 1 << 20, name) for name in INNER]
        users.append(OnHost(fabric, SHMX, "create", str(1 << 20), "host"))
        handles = [user.ready() for user in users]
        found = regions(fabric)
        assert sorted(found) == sorted(handles) and are_apart(found), found
        for handle, text in zip(handles, (*INNER, "host")):
            assert OnHost(fabric, SHMX, "attach", handle, "x").check().strip() == f"{1 << 20} {text}"
        for user, text in zip(users, (*INNER, "host")):
            assert f"[{text}] [x] detach 3" in user.check()


def test_attached_twice(fabric):
    mine = InGuest(fabric["trixie"], "create", 128, "text")
    handle = mine.ready()
    # Another program of the same guest may, but once.
    assert guest_fails(fabric["trixie"], "twice", handle)[0] == ALREADY_EXISTS
    assert fabric["trixie"].vm.run(f"{X} attach {handle} </dev/null").strip() == "128 text"
    assert mine.check().splitlines()[-1] == "[text] [] detach 3"
    assert guest_fails(fabric["trixie"], "attach", handle)[0] == NOT_FOUND


def test_too_large(fabric):
    assert guest_fails(fabric["trixie"], "create", WINDOW + 1, "x")[0] == INVALID_SIZE
    assert guest_fails(fabric["trixie"], "create", WINDOW // 2 + 4096, "x")[0] == NO_RESOURCES
    assert guest_fails(fabric["trixie"], "create", 1 << 40, "x")[0] == INVALID_SIZE


# --- Deaths ---------------------------------------------------------------------------------------------------------


def test_what_dead_programs_leave_is_used_again(fabric):
    """Nobody tells the host. Those who come later in the guest find out."""
    machine = fabric["trixie"]
    for _ in range(2):
        # The second finds nothing of the first, or half of the window would not be there.
        output = machine.vm.run(f"{X} fill 100 {WINDOW // 16}")
        assert output.startswith(f"8, then {NO_RESOURCES}"), output
    holder = InGuest(machine, "create", 128, "alive")
    handle = holder.ready()
    assert list(regions(fabric)) == [handle]
    mine = InGuest(machine, "create", WINDOW // 4, "x")
    mine.ready()
    assert OnHost(fabric, SHMX, "attach", handle).check().strip() == "128 alive"
    mine.check()
    holder.check()


def test_a_killed_server_makes_room_for_the_next(fabric):
    """With its name."""
    machine = fabric["bookworm"]
    server = machine.vm.start(f"exec {APP} -s")
    server.expect("HOST TIME")
    server.kill()
    server.wait()
    server = machine.vm.start(f"exec {APP} -s")
    server.expect("\"HOST TIME\" is")
    assert OnHost(fabric, BUILD / "sharedMemApp", "-c").check().count("the time is ") == 3
    server.check()


@pytest.mark.parametrize("name, how", [("bookworm", "reboot -f"), ("trixie", "system_reset")])
def test_a_guest_that_starts_anew_has_nothing(fabric, name, how):
    machine = fabric[name]
    boots = machine.vm.agent.boots
    gone, held = InGuest(machine, "create", 128, "gone"), InGuest(machine, "create", 128, "held")
    handles = gone.ready(), held.ready()
    watcher = OnHost(fabric, SHMX, "hold", handles[1])
    watcher.ready()
    hosts = OnHost(fabric, SHMX, "create", "128", "from host")
    user = InGuest(machine, "hold", hosts.ready())
    user.ready()
    assert len(regions(fabric)) == 3
    if how == "system_reset":
        machine.vm.qmp.command(how)
    else:
        machine.vm.start(how)
    until("the guest's region to be free", lambda: len(regions(fabric)) == 2)
    assert host_fails(fabric, "attach", handles[0]) == NOT_FOUND
    machine.vm.ready(boots + 1)
    assert "[held] [] detach 3" in watcher.check()
    assert "detach 3" in hosts.check()
    again = InGuest(machine, "create", 128, "again")
    assert OnHost(fabric, SHMX, "attach", again.ready()).check().strip() == "128 again"
    again.check()


def test_a_device_that_dies(fabric):
    machine, neighbour = fabric["trixie"], fabric["bookworm"]
    mine = InGuest(machine, "create", 128, "mine")
    handle = mine.ready()
    user = InGuest(neighbour, "hold", handle)
    user.ready()
    machine.kill_device()
    until("the owner to be gone", lambda: not any(line[2] for line in regions(fabric).values()))
    assert user.check().splitlines()[-1] == "[mine] [] detach 3"
    machine.restart()
    again = InGuest(machine, "create", 128, "again")
    assert neighbour.vm.run(f"{X} attach {again.ready()} </dev/null").strip() == "128 again"
    again.check()


def test_host_program_murdered(fabric):
    host = OnHost(fabric, SHMX, "create", "128", "text")
    handle = host.ready()
    user = InGuest(fabric["trixie"], "hold", handle)
    user.ready()
    host.kill()
    until("the creator to be gone", lambda: not any(line[2] for line in regions(fabric).values()))
    assert user.check().splitlines()[-1] == "[text] [] detach 3"


# --- Without vmcid --------------------------------------------------------------------------------------------------


def test_vmcid_is_killed(fabric):
    """Regions stay, whoever has them, and where they are; new ones lie elsewhere."""
    one, two = (fabric[name] for name in INNER)
    mine, host = InGuest(one, "create", 5000, "from one"), OnHost(fabric, SHMX, "create", "5000", "from host")
    handles = mine.ready(), host.ready()
    users = [InGuest(two, "hold", handle) for handle in handles] + [OnHost(fabric, SHMX, "hold", handles[0])]
    for user in users:
        user.ready()
    before = regions(fabric)
    assert sorted(before) == sorted(handles)

    fabric.kill_broker()
    waits = InGuest(two, "create", 5000, "new")     # asks until somebody answers
    fabric.restart_broker()
    fresh = waits.ready()
    after = regions(fabric)
    assert sorted(after) == sorted((*handles, fresh)) and are_apart(after), after
    assert {handle: after[handle] for handle in handles} == before

    # Everybody is found, from everywhere.
    for handle, text in zip((*handles, fresh), ("from one", "from host", "new")):
        assert OnHost(fabric, SHMX, "attach", handle, "after").check().strip() == f"5000 {text}"
    for user, text in zip(users, ("from one", "from host", "from one")):
        assert f"[{text}] [after] detach 0" in user.check()
    assert "[from one] [after] detach 3" in mine.check()
    assert "[from host] [after] detach 3" in host.check()
    assert "[new] [after] detach 3" in waits.check()


def test_a_region_that_is_left_while_vmcid_is_away(fabric):
    machine = fabric["trixie"]
    mine, stays = InGuest(machine, "create", 128, "mine"), InGuest(machine, "create", 128, "stays")
    handle, other = mine.ready(), stays.ready()
    fabric.kill_broker()
    assert "detach 0" in mine.check()
    fabric.restart_broker()
    until("vmcid to know", lambda: len(regions(fabric)) == 1)
    assert host_fails(fabric, "attach", handle) == NOT_FOUND
    assert OnHost(fabric, SHMX, "attach", other).check().strip() == "128 stays"
    stays.check()


# --- Hostile guests -------------------------------------------------------------------------------------------------


def request(action, handle=(0xffffffff, 0xffffffff), size=0, version=1, number=7):
    return struct.pack("<HHIQIIQ", version, action, 0, number, *handle, size).hex()


def reply(text):
    return struct.unpack_from("<HHiQIIQQ", bytes.fromhex(text.strip()))


def test_nonsense(fabric):
    machine = fabric["trixie"]

    def ask(*args, **keys):
        return reply(machine.vm.run(f"{X} ask {request(*args, **keys)}"))
    assert ask(4, version=9)[:4] == (1, 4, OBSOLETE, 7)
    assert ask(5)[2] == -2
    assert ask(0xffff)[2] == -2
    for size in 0, (1 << 30) + 1, 1 << 63, (1 << 64) - 1:
        assert ask(0, size=size)[2] == INVALID_SIZE
    assert ask(1)[2] == -2 and ask(2)[2] == -2
    assert ask(1, (999, 5))[2] == DST_UNREACHABLE and ask(2, (1, 1))[2] == DST_UNREACHABLE
    assert ask(2, (0, 0))[2] == DST_UNREACHABLE
    for rid in 0, 1:
        assert ask(0, (machine.cid, rid), 100)[2] == NO_ACCESS
    assert ask(3)[2] == NOT_FOUND
    assert ask(4, size=1 << 63)[2] == 0
    assert machine.vm.start(f"{X} ask {request(4)[:62]}").wait() == 1


def test_somebody_elses_region_cannot_be_left(fabric):
    machine = fabric["trixie"]
    mine = InGuest(machine, "create", 128, "mine")
    handle = mine.ready()
    context, resource = map(int, handle.split(":"))
    assert reply(machine.vm.run(f"{X} ask {request(3, (context, resource))}"))[2] == NOT_FOUND
    assert reply(fabric['bookworm'].vm.run(f"{X} ask {request(3, (context, resource))}"))[2] == NOT_FOUND
    assert OnHost(fabric, SHMX, "attach", handle).check().strip() == "128 mine"
    mine.check()
