# SPDX-License-Identifier: BSD-2-Clause
"""The samples, and by them the SDK of 2007: samples/*/README.md, SDK reference 3.3 and 4.3."""

import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

from testbed.fabric import ALREADY_EXISTS, LOOKUP, NOT_FOUND, PAGE, CreatedPair, Endpoint, Name, Region
from testbed.process import BUILD, LIMIT, ROOT, Process, Workdir, until

SDK = ["datagramApp", "sharedMemApp"]
MODERN = ["qpairApp", "doorbellApp"]
USAGE, INIT = 255, 254          # -1 and -2
NOBODY = 65534

TO_SERVER, TO_CLIENT = b"HELLO, SERVER!\0", b"HELLO, CLIENT!\0"
FROM_CLIENT = re.compile(r"^(\d+):(\d+) says: HELLO, SERVER!$", re.MULTILINE)
FROM_SERVER = "the server says: HELLO, CLIENT!\n"
THE_TIME = re.compile(r"^the time is \w{3} \w{3} \d\d \d\d:\d\d:\d\d \S+ \d{4}$", re.MULTILINE)


# --- Running them ------------------------------------------------------------------------------------------------

class Place:
    """Where samples run: a build of them, the broker that they find, and who they are."""

    def __init__(self, directory, *prefix, programs=BUILD, **environment):
        self.directory, self.prefix, self.programs = directory, prefix, pathlib.Path(programs)
        self.environment = environment
        self.running = []

    def command(self, name, *options, context=None):
        environment = dict(self.environment, **({"VMCI_CONTEXT": context} if context else {}))
        return [*self.prefix, "env", "-u", "VMCI_RUNTIME_DIR", "-u", "VMCI_CONTEXT", "-u", "VMCI_VMCID",
                *(f"{key}={value}" for key, value in environment.items()), self.programs / name, *options]

    def start(self, name, *options, context=None):
        process = Process(self.command(name, *options, context=context),
                          self.directory / f"{pathlib.Path(name).name}-{len(self.running)}.log")
        self.running.append(process)
        return process

    def serve(self, name, *options, context=None):
        """A server that has registered its name; also the handle that has it."""
        server = self.start(name, *options, context=context)

        def is_registered():
            assert server.is_running(), server.text()
            return re.search(r'^".*" is (\d+):(\d+)$', server.text(), re.MULTILINE)
        found = until(f"{name} to serve", is_registered)
        return server, (int(found[1]), int(found[2]))

    def run(self, name, *options, context=None, **arguments):
        """A sample that ends; its status and what it wrote."""
        argv = [str(arg) for arg in self.command(name, *options, context=context)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL,
                              **arguments)

    def close(self):
        for process in self.running:
            process.kill()
            text = process.text()
            assert "Sanitizer" not in text and "runtime error" not in text, text


@pytest.fixture
def place(vmcid):
    """By a broker of the test's own."""
    place = Place(vmcid.directory, VMCI_RUNTIME_DIR=vmcid.runtime)
    yield place
    place.close()


@pytest.fixture
def restarting(vmcid, host):
    """A broker to be restarted under samples: it has a client of ours, else it would count theirs as nobody's."""
    return vmcid


def good(result, pattern=None):
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert pattern is None or re.fullmatch(pattern, result.stdout), result.stdout


class Own(Place):
    """No broker: the first program starts one of its own, in a runtime directory of the user's."""

    def __init__(self, directory):
        # Not everybody can look into a build folder.
        programs = directory / "bin"
        programs.mkdir()
        for name in [*SDK, *MODERN, "vmcid", *(path.name for path in BUILD.glob("libvmci.so*") if path.is_file())]:
            shutil.copy(BUILD / name, programs / name)
        self.home = directory / "home"
        self.home.mkdir(mode=0o700)
        prefix = []
        if os.geteuid() == 0:
            os.chown(self.home, NOBODY, NOBODY)
            prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
        super().__init__(directory, *prefix, programs=programs, XDG_RUNTIME_DIR=self.home, HOME=self.home)

    def vmcid_pid(self):
        """The process that serves, or None."""
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            pid = int((self.home / "vmci" / "lock").read_text().split()[1])
            if b"vmcid" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None

    def has_left(self):
        return self.vmcid_pid() is None

    def log(self):
        log = self.home / "vmci" / "vmcid.log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def own(directory):
    if os.path.exists("/run/vmci/control.sock"):
        pytest.skip("this machine has a vmcid of the system, which would be found first")
    place = Own(directory)
    try:
        yield place
        place.close()
        until("vmcid to leave after its last client", place.has_left)
        assert "Sanitizer" not in place.log() and "runtime error" not in place.log(), place.log()
    finally:
        pid = place.vmcid_pid()
        if pid:
            os.kill(pid, signal.SIGKILL)


# --- Command lines -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", SDK)
@pytest.mark.parametrize("options", [[], ["-h"], ["-s", "-c"], ["-d", "/dev/vmci"], ["-s", "-d"], ["-x"],
                                     ["-s", "more"], ["-c", "-h"], ["-q", "-s"]], ids=" ".join)
def test_usage(own, name, options):
    result = own.run(name, *options)
    assert result.returncode == USAGE
    assert result.stdout == ""
    assert re.search(rf"^usage: \S*{name} \[-d DEVICE\] -s \| -c$", result.stderr, re.MULTILINE)
    for option in ("-s", "-c", "-d DEVICE", "-h"):
        assert f"\n  {option} " in result.stderr
    # nobody was asked, so nobody was started
    assert list(own.home.iterdir()) == []


@pytest.mark.parametrize("name, options, status", [
    *((name, options, 2) for name in MODERN for options in ([], ["-s", "-c"], ["-x"], ["-s", "more"], ["-d"])),
    *((name, ["-h"], 0) for name in MODERN),
    ("qpairApp", ["-c", "-m", "0"], 2), ("qpairApp", ["-c", "-m", "x"], 2), ("qpairApp", ["-c", "-m", "65537"], 2),
    ("doorbellApp", ["-c", "-n", "0"], 2), ("doorbellApp", ["-c", "-n", "-1"], 2)])
def test_usage_of_modern_ones(vmcid, place, name, options, status):
    result = place.run(name, *options)
    assert result.returncode == status
    assert result.stdout == "" and f"{name} [-d DIRECTORY]" in result.stderr


@pytest.mark.parametrize("name", SDK)
@pytest.mark.parametrize("role", ["-s", "-c"])
def test_init_fails(directory, name, role):
    place = Place(directory, XDG_RUNTIME_DIR=directory, VMCI_VMCID="/nonexistent/vmcid")
    for device, message in [("vmci", "invalid arguments (-2)"), ("", "invalid arguments (-2)"),
                            ("/nonexistent/run", "no broker and no device found (-39)")]:
        result = place.run(name, "-d", device, role)
        assert result.returncode == INIT
        assert result.stdout == "" and result.stderr.startswith(f"VMCI_InitApp: {message}\n")
        if device.startswith("/"):
            assert f" {device}/control.sock" in result.stderr       # where it was looked for
    for context in ["1", "15", "-3", "guest", "4294967295"]:
        assert place.run(name, role, context=context).returncode == INIT


@pytest.mark.parametrize("name", [*SDK, *MODERN])
def test_no_broker_to_start(directory, name):
    if os.path.exists("/run/vmci/control.sock"):
        pytest.skip("this machine has a vmcid of the system, which would be found")
    place = Place(directory, XDG_RUNTIME_DIR=directory, VMCI_VMCID="/nonexistent/vmcid")
    result = place.run(name, "-c")
    assert result.returncode == (INIT if name in SDK else 1)
    assert f"{directory}/vmci/control.sock" in result.stderr and "/nonexistent/vmcid" in result.stderr


# --- No service, no root -----------------------------------------------------------------------------------------

def test_must_show(own):
    """build/datagramApp -s & build/datagramApp -c"""
    server = own.start("datagramApp", "-s")
    client = own.start("datagramApp", "-c")
    assert client.wait() == 0, client.text()
    assert client.text() == FROM_SERVER
    # two more, and it has served its three
    for _ in range(2):
        good(own.run("datagramApp", "-c"), FROM_SERVER)
    assert server.wait() == 0, server.text()
    assert len(FROM_CLIENT.findall(server.text())) == 3
    until("vmcid to leave", own.has_left)
    # and all over
    server, _ = own.serve("datagramApp", "-s")
    good(own.run("datagramApp", "-c", "-d", "/dev/vmci"), FROM_SERVER)


def test_all_at_once(own):
    """Whoever is first starts the broker; all find the same one."""
    clients = [own.start("datagramApp", "-c") for _ in range(3)]
    server = own.start("datagramApp", "-s")
    for process in [*clients, server]:
        assert process.wait() == 0, process.text()
    assert [client.text() for client in clients] == [FROM_SERVER] * 3
    assert own.log().count("listening") == 1


def test_nobody_is_somebody(own):
    """Clients and their broker have no rights, and still work."""
    if os.geteuid() != 0:
        pytest.skip("runs as the user that we are, anyway: needs root to become another one")
    server, _ = own.serve("datagramApp", "-s")
    for pid in (server.pid, own.vmcid_pid()):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        assert re.search(rf"^Uid:\s+{NOBODY}\s+{NOBODY}\s", status, re.MULTILINE)
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    good(own.run("datagramApp", "-c"), FROM_SERVER)


def test_embedded_broker_is_killed(own):
    """The server starts another one, and is found there."""
    server, handle = own.serve("datagramApp", "-s")
    os.kill(own.vmcid_pid(), signal.SIGKILL)
    for _ in range(3):
        good(own.run("datagramApp", "-c"), FROM_SERVER)
    assert server.wait() == 0, server.text()
    assert f"is {handle[0]}:{handle[1]}\n" in server.text()


@pytest.mark.parametrize("context", [None, "new"])
def test_others_without_service(own, context):
    option = ["-o"] if context else []
    for name, pattern in [("qpairApp", r"16 MiB there and back: \d+ MB/s each way\n"),
                          ("doorbellApp", "rung 3 times\n")]:
        server = own.start(name, "-s", *option)
        size = ["-m", "16"] if name == "qpairApp" else []
        good(own.run(name, "-c", *option, *size), pattern)
        assert server.wait() == 0, server.text()


# --- datagramApp -------------------------------------------------------------------------------------------------

def test_datagrams_host_to_host(place, host):
    server, handle = place.serve("datagramApp", "-s")
    assert handle[0] == 2
    assert host.discovery(LOOKUP, b"HOST INFO")[:2] == (0, handle)
    for _ in range(3):
        good(place.run("datagramApp", "-c"), FROM_SERVER)
    assert server.wait() == 0
    assert [int(context) for context, _ in FROM_CLIENT.findall(server.text())] == [2, 2, 2]
    assert host.discovery(LOOKUP, b"HOST INFO")[0] == NOT_FOUND


def test_datagrams_between_software_contexts(place):
    server, (context, _) = place.serve("datagramApp", "-s", context="new")
    for wish in ["new", "4711", "host"]:
        good(place.run("datagramApp", "-c", context=wish), FROM_SERVER)
    assert server.wait() == 0
    clients = [int(cid) for cid, _ in FROM_CLIENT.findall(server.text())]
    assert context >= 16 and clients[0] >= 16 and clients[0] != context
    assert clients[1:] == [4711, 2]


@pytest.mark.parametrize("device", ["{0}", "{0}/", "{0}/control.sock"])
def test_device_names_the_broker(vmcid, directory, device):
    place = Place(directory, XDG_RUNTIME_DIR=directory)
    device = device.format(vmcid.runtime)
    server, _ = place.serve("datagramApp", "-s", "-d", device)
    good(place.run("datagramApp", "-d", device, "-c"), FROM_SERVER)
    place.close()
    assert not (directory / "vmci").exists()


def test_wire(place, host):
    """What the two say, byte by byte, seen from the other side."""
    server, handle = place.serve("datagramApp", "-s")
    endpoint = Endpoint(host)
    assert endpoint.send(handle, TO_SERVER) > 0
    answer = endpoint.recv()
    assert (answer.src, answer.payload) == (handle, TO_CLIENT)
    server.kill()

    # the dead server's name is free at once
    until("the name to be free", lambda: host.discovery(LOOKUP, b"HOST INFO")[0] == NOT_FOUND)
    name = Name(host, b"HOST INFO", endpoint.handle)
    client = place.start("datagramApp", "-c")
    greeting = endpoint.recv()
    assert greeting.payload == TO_SERVER
    endpoint.send(greeting.src, b"")
    assert client.wait() == 0
    assert client.text() == "the server says: \n"
    name.unregister()


def test_hostile_datagrams(place, host):
    """Not text, no end, terminal sequences; and what does not fit."""
    server, handle = place.serve("datagramApp", "-s")
    endpoint = Endpoint(host)
    assert endpoint.send(handle, b"\x1b[2J\xff\n%s%n" + b"x" * 4086) > 0    # 4096 bytes without an end
    assert endpoint.recv().payload == TO_CLIENT
    assert endpoint.send(handle, b"") > 0
    assert endpoint.recv().payload == TO_CLIENT
    lines = server.text().splitlines()
    assert lines[-2].endswith(" says: ?[2J??%s%n" + "x" * 4086)
    assert lines[-1].endswith(" says: ")
    assert endpoint.send(handle, bytes(4097)) > 0
    assert server.wait() == 1
    assert "receive: " in server.text() and "(-3)" in server.text()
    # it has gone in order
    assert host.discovery(LOOKUP, b"HOST INFO")[0] == NOT_FOUND


def test_second_server(place):
    server, _ = place.serve("datagramApp", "-s")
    result = place.run("datagramApp", "-s")
    assert result.returncode == 1
    assert f"({ALREADY_EXISTS})" in result.stderr and "HOST INFO" in result.stderr
    good(place.run("datagramApp", "-c"), FROM_SERVER)


def test_nobody_serves(place):
    """The client has patience, ten seconds; then it says what it looked for."""
    result = place.run("datagramApp", "-c")
    assert result.returncode == 1
    assert "HOST INFO" in result.stderr and f"({NOT_FOUND})" in result.stderr


def test_broker_restarts(restarting, place):
    server, handle = place.serve("datagramApp", "-s")
    for _ in range(3):
        restarting.restart()
        good(place.run("datagramApp", "-c"), FROM_SERVER)
    assert server.wait() == 0


def test_static(place):
    program = BUILD / "samples" / "datagramApp-static"
    if not program.exists():
        pytest.skip("no static program in a build with sanitizers")
    image = program.read_bytes()
    offset, = struct.unpack_from("<Q", image, 32)
    size, number = struct.unpack_from("<HH", image, 54)
    kinds = [struct.unpack_from("<I", image, offset + i * size)[0] for i in range(number)]
    assert 3 not in kinds and 1 in kinds       # no interpreter
    server, _ = place.serve("samples/datagramApp-static", "-s")
    good(place.run("samples/datagramApp-static", "-c"), FROM_SERVER)


# --- sharedMemApp ------------------------------------------------------------------------------------------------

def test_shared_memory(place, host):
    """Ten seconds of a server, host to host and from a software context; read by us, too."""
    server, handle = place.serve("sharedMemApp", "-s")
    began = time.monotonic()
    soft = place.start("sharedMemApp", "-c", context="new")
    good(place.run("sharedMemApp", "-c"), rf"({THE_TIME.pattern.strip('^$')}\n){{3}}")
    assert soft.wait() == 0 and len(THE_TIME.findall(soft.text())) == 3
    assert len(set(THE_TIME.findall(soft.text()))) > 1      # it goes on
    region = Region(host, handle=handle)
    assert region.size == 128
    text = region.map[:128].split(b"\0")[0].decode()
    assert THE_TIME.match(f"the time is {text}"), text

    assert server.wait() == 0
    assert time.monotonic() - began > 8         # ten times, a second apart
    assert host.discovery(LOOKUP, b"HOST TIME")[0] == NOT_FOUND
    # whoever is still attached keeps it
    assert region.map[:3] == text[:3].encode()
    assert region.detach() == 3
    region.close()


def test_shared_memory_of_a_dead_server(vmcid, place, host):
    server, _ = place.serve("sharedMemApp", "-s", context="new")
    client = place.start("sharedMemApp", "-c", context="new")
    until("the client to read", lambda: THE_TIME.search(client.text()))
    server.kill()
    assert client.wait() == 0, client.text()
    assert len(THE_TIME.findall(client.text())) == 3
    # its name and its region have gone
    until("the name to be free", lambda: host.discovery(LOOKUP, b"HOST TIME")[0] == NOT_FOUND)


def test_shared_memory_over_restarts(restarting, place):
    server, _ = place.serve("sharedMemApp", "-s")
    client = place.start("sharedMemApp", "-c")
    until("the client to read", lambda: THE_TIME.search(client.text()))
    restarting.restart()
    assert client.wait() == 0, client.text()
    restarting.restart()
    good(place.run("sharedMemApp", "-c"))


def test_hostile_region(place, host):
    region = Region(host, 128)
    region.map[:128] = b"\x1b\xff\n\x7f" * 32       # no end
    name = Name(host, b"HOST TIME", region.handle)
    good(place.run("sharedMemApp", "-c"), rf"(the time is {re.escape('?' * 128)}\n){{3}}")
    name.unregister()

    for size in (127, 129, PAGE):
        wrong = Region(host, size)
        name = Name(host, b"HOST TIME", wrong.handle)
        result = place.run("sharedMemApp", "-c")
        assert result.returncode == 1
        assert result.stderr == f"query: {size} bytes instead of 128\n" and result.stdout == ""
        name.unregister()
        assert wrong.detach() == 3
        wrong.close()
    name = Name(host, b"HOST TIME", Endpoint(host).handle)       # no region at all
    result = place.run("sharedMemApp", "-c")
    assert result.returncode == 1 and result.stderr.startswith("query: ")
    region.close()


# --- qpairApp and doorbellApp ------------------------------------------------------------------------------------

@pytest.mark.parametrize("server_option, client_option", [([], []), (["-o"], ["-o"]), ([], ["-o"])])
def test_queue_pair(place, server_option, client_option):
    server, (context, _) = place.serve("qpairApp", "-s", *server_option)
    assert (context == 2) == (not server_option)
    good(place.run("qpairApp", "-c", "-m", "32", *client_option), r"32 MiB there and back: \d+ MB/s each way\n")
    assert server.wait() == 0
    assert f"{32 << 20} bytes sent back\n" in server.text()


def test_queue_pair_over_restarts(restarting, place):
    """Broker killed in the middle: no byte is lost."""
    server, _ = place.serve("qpairApp", "-s")
    client = place.start("qpairApp", "-c", "-m", "1024")
    until("some bytes to go", lambda: is_mapped(client.pid))
    restarting.restart()
    assert client.is_running(), client.text()
    assert client.wait() == 0, client.text()
    assert server.wait() == 0, server.text()


def is_mapped(pid):
    with contextlib.suppress(FileNotFoundError):
        return "memfd:" in pathlib.Path(f"/proc/{pid}/maps").read_text()
    return False


def test_queue_pair_of_the_dead(place):
    server, _ = place.serve("qpairApp", "-s")
    client = place.start("qpairApp", "-c", "-m", "65536")
    until("some bytes to go", lambda: is_mapped(client.pid))
    client.kill()
    assert server.wait() == 0, server.text()

    server, _ = place.serve("qpairApp", "-s")
    client = place.start("qpairApp", "-c", "-m", "65536")
    until("some bytes to go", lambda: is_mapped(client.pid))
    server.kill()
    assert client.wait() == 1
    assert "queue pair: " in client.text()


@pytest.mark.parametrize("tail, message", [
    (100, "what came back is not what was sent"), (65536, "invalid size"), (1 << 63, "invalid size")])
def test_queue_pair_of_a_liar(place, host, tail, message):
    """Bytes that nobody sent, and indices that cannot be."""
    pair = CreatedPair(host, 65536, 65536)
    name = Name(host, b"QUEUE PAIR ECHO", pair.handle)
    client = place.start("qpairApp", "-c", "-m", "1")
    pair.wait_for_attach()
    # what we produce comes first: a page with the tail at 8, then the ring
    pair.map[PAGE:PAGE + 100] = b"\xee" * 100
    pair.map[8:16] = struct.pack("<Q", tail)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        pair.ring()         # it may have looked by itself, and left
    assert client.wait() == 1
    assert f"queue pair: {message}" in client.text()
    name.unregister()


@pytest.mark.parametrize("rings", [1, 1000])
@pytest.mark.parametrize("option", [[], ["-o"]])
def test_doorbell(place, rings, option):
    server, _ = place.serve("doorbellApp", "-s", "-n", rings, *option)
    good(place.run("doorbellApp", "-c", "-n", str(rings), *option), f"rung {rings} times\n")
    assert server.wait() == 0
    assert server.text().endswith(f", {rings} in all\n")


# --- AF_VSOCK belongs to the machine's own hypervisor ------------------------------------------------------------

def forbid_vsock():
    """In a child, before it becomes the program: socket(AF_VSOCK) is death by SIGSYS, before the kernel looks at it."""
    number = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
    code = [(0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 0, 1, socket.AF_VSOCK),
            (0x06, 0, 0, 0x80000000), (0x06, 0, 0, 0x7fff0000)]
    filters = b"".join(struct.pack("<HBBI", *line) for line in code)
    buffer = ctypes.create_string_buffer(filters, len(filters))
    program = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.create_string_buffer(program, len(program)), 0, 0):
        os._exit(99)


@pytest.fixture
def trap():
    if os.uname().machine not in ("x86_64", "aarch64"):
        pytest.skip("the number of socket() is not known here")
    probe = subprocess.run([sys.executable, "-c", "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_DGRAM)"],
                           preexec_fn=forbid_vsock, timeout=LIMIT)
    if probe.returncode == 99:
        pytest.skip("no seccomp filters here")
    assert probe.returncode == -signal.SIGSYS       # so it would be noticed
    return forbid_vsock


def has_vmci_device():
    def says(device, name, number):
        return (device / name).read_text().strip() == number
    return any(says(device, "vendor", "0x15ad") and says(device, "device", "0x0740")
               for device in pathlib.Path("/sys/bus/pci/devices").glob("*"))


@pytest.mark.parametrize("name", [*SDK, *MODERN, "samples/datagramApp-static"])
def test_no_vsock(directory, trap, name):
    """No broker, none to start, no VMCI device: the guest's way is not taken."""
    if has_vmci_device():
        pytest.skip("this machine has a VMCI device, and may use it")
    if os.path.exists("/run/vmci/control.sock"):
        pytest.skip("this machine has a vmcid of the system, which would be found")
    if not (BUILD / name).exists():
        pytest.skip("no static program in a build with sanitizers")
    place = Place(directory, XDG_RUNTIME_DIR=directory, VMCI_VMCID="/nonexistent/vmcid")
    result = place.run(name, "-c", preexec_fn=trap)
    assert result.returncode == (1 if name in MODERN else INIT), result.stderr


def test_no_vsock_with_a_broker(own, trap):
    """The whole thing, broker included."""
    if own.prefix:
        os.chown(own.directory, NOBODY, NOBODY)     # setpriv --no-new-privs comes after the filter
    server, _ = own.serve("datagramApp", "-s")
    good(own.run("datagramApp", "-c", preexec_fn=trap), FROM_SERVER)
    server.kill()
    until("vmcid to leave", own.has_left)
    result = own.run("sharedMemApp", "-s", "-d", "/nonexistent", preexec_fn=trap)
    assert result.returncode == INIT


# --- The header --------------------------------------------------------------------------------------------------

# A program as they were written in 2007: the SDK's header alone, and no const anywhere.
OLD = """
#include <stdio.h>
#include "vmcilib.h"

static VMCIResourcePrivilegeType allow[] = { VMCI_PRIV_DG_SEND };

int main(void)
{
	VMCIHandle handle = VMCI_INVALID_HANDLE, group, client;
	char buffer[16];
	void *region;
	uint32_t size = 0;
	VMCIId id;
	int result;

	if (VMCI_InitApp(NULL) != VMCI_SUCCESS)
		return 1;
	handle = VMCIDatagram_CreateHnd(0);
	if (VMCI_HANDLE_EQUAL(handle, VMCI_INVALID_HANDLE) || VMCI_HANDLE_INVALID(handle))
		return 2;
	id = VMCI_HANDLE_TO_CONTEXT_ID(handle);
	client = VMCI_MAKE_HANDLE(id, 0);
	if (VMCIDs_Lookup(VMCI_PUBLIC_GROUP_NAME, &group) < VMCI_SUCCESS)
		return 3;
	result = VMCIResource_AddClientPrivileges(handle, group, 1, allow, 0, NULL);
	if (result < VMCI_SUCCESS)
		return 4;
	if (VMCIDatagram_SendTo(handle, handle, 3, "old") < VMCI_SUCCESS)
		return 5;
	if (VMCIDatagram_RecvFrom(handle, &client, buffer, sizeof buffer) != 3 || buffer[2] != 'd')
		return 6;
	group = VMCISharedMem_Create(128, &region);
	if (VMCI_HANDLE_INVALID(group) || VMCISharedMem_Query(group, &size) < VMCI_SUCCESS || size != 128)
		return 7;
	if (VMCISharedMem_Detach(group) != VMCI_SUCCESS_LAST_DETACH)
		return 8;
	if (VMCIDatagram_DestroyHnd(handle) < VMCI_SUCCESS)
		return 9;
	VMCI_CleanupApp();
	printf("%u\\n", id);
	return 0;
}
"""


def compiler(name):
    return shutil.which(name) or pytest.skip(f"no {name} here")


@pytest.mark.parametrize("program, language, standard", [
    *((cc, "c", std) for cc in ("gcc", "clang") for std in ("c99", "c11", "gnu17")),
    *((cc, "c++", std) for cc in ("g++", "clang++") for std in ("c++98", "c++11", "c++20"))])
def test_headers_compile(program, language, standard):
    """Each alone, with everything that compilers complain about."""
    # programs of 2007 include the SDK's only
    for header in ("vmcilib.h",) if standard == "c++98" else ("vmcilib.h", "vmci.h", "defs.h"):
        subprocess.run([compiler(program), f"-std={standard}", "-x", language, "-fsyntax-only", "-Werror", "-Wall",
                        "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wundef",
                        *(["-Wstrict-prototypes"] if language == "c" else ["-Wno-variadic-macros", "-Wno-long-long"]),
                        f"-I{ROOT}/include", "-"], input=f"#include <vmci/{header}>\n#include <vmci/{header}>\n",
                       text=True, check=True, timeout=LIMIT)


@pytest.mark.parametrize("program, language", [("gcc", "c"), ("g++", "c++")])
def test_old_program(place, directory, program, language):
    if "build-asan" in BUILD.name or b"__asan_init" in (BUILD / "libvmci.so").read_bytes():
        pytest.skip("a library with sanitizers needs programs with them")
    source = directory / "old.c"
    source.write_text(OLD)
    subprocess.run([compiler(program), "-x", language, source, "-x", "none", "-Wall", "-Wextra", "-Werror", "-o",
                    directory / "old", f"-I{ROOT}/include", f"-I{ROOT}/include/vmci", f"-L{BUILD}", "-lvmci",
                    f"-Wl,-rpath,{BUILD}"], check=True, timeout=LIMIT)
    place.programs = directory
    good(place.run("old"), "2\n")
    good(place.run("old", context="4000"), "4000\n")
