# SPDX-License-Identifier: BSD-2-Clause
"""The program vmcid itself: start, end, and what can go wrong; how it is started by systemd and by libvmci."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from testbed.fabric import (HELLO, HOST, INVALID, NAME, NO_ACCESS, NO_RESOURCES, REGISTER, SHM_CREATE, AttachedPair,
                            Client, CreatedPair, Ended, Endpoint, Events, Name, Refused, as_user, discovery_request,
                            memfd)
from testbed.process import BUILD, Process, until

LIMIT = 20
PROGRAM = BUILD / "vmcid"


def is_sanitized():
    return b"__asan_init" in PROGRAM.read_bytes()


def run(*args, **options):
    """Runs it to its end."""
    return subprocess.run([PROGRAM, *map(str, args)], capture_output=True, text=True, timeout=LIMIT, check=False,
                          **options)


def fails(*args, **options):
    """It must end with status 1 and one line, which is returned."""
    done = run(*args, **options)
    assert (done.returncode, done.stdout) == (1, ""), done
    lines = [line for line in done.stderr.splitlines() if "sanitizer" not in line]
    assert len(lines) == 1 and lines[0].startswith("vmcid: err: "), done.stderr
    return lines[0].removeprefix("vmcid: err: ")


class Server(Process):
    """vmcid with the options of the test; its log is what it says."""

    def __init__(self, directory, *options, wrap=(), env=None):
        self.runtime = directory / "run"
        self.path = self.runtime / "control.sock"
        full = [*wrap, PROGRAM, "--runtime-dir", self.runtime, *options]
        if env:
            full = ["env", *(f"{key}={value}" for key, value in env.items()), *full]
        super().__init__(full, directory / "server.log")

    def connect(self, cid=HOST):
        def attempt():
            assert self.is_running(), self.text()
            with contextlib.suppress(OSError):
                return Client(self.path, cid)
            return None
        return until("vmcid to listen", attempt, LIMIT)

    def wait_for(self, text):
        until(f"{text!r}", lambda: text in self.text(), LIMIT)


@pytest.fixture
def server(directory):
    """Starts servers, which must end well."""
    servers = []

    def start(*options, **more):
        servers.append(Server(directory, *options, **more))
        return servers[-1]
    yield start
    for each in servers:
        if each.is_running():
            assert each.terminate() == 0
        assert "Sanitizer" not in each.text() and "runtime error" not in each.text(), each.text()


# --- Options -------------------------------------------------------------------------------------------------

def test_help():
    done = run("--help")
    assert done.returncode == 0 and not done.stderr
    for option in "--runtime-dir", "--vms", "--config", "--device", "--embedded", "--log", "--no-sandbox", "--version":
        assert option in done.stdout


def test_version():
    assert run("--version").stdout == "vmcid (OpenVMCI) 0.1.0\n"


@pytest.mark.parametrize("args,word", ((("--log", "loud"), "--log wants"), (("here",), "unexpected argument"),
                                       (("--runtime-dir", ""), "wants a directory"),
                                       (("--vms", ""), "wants a directory"),
                                       (("--config", ""), "wants a file"), (("--device", ""), "wants a program"),
                                       (("--what",), "unrecognized option")))
def test_wrong_options(args, word):
    done = run(*args)
    assert done.returncode == 1 and word in done.stderr


# --- The directory -------------------------------------------------------------------------------------------

def test_files(server):
    vmcid = server()
    client = vmcid.connect()
    names = {each.name: each.stat().st_mode & 0o777 for each in vmcid.runtime.iterdir()}
    assert names["control.sock"] == 0o660
    assert (names["key"], names["lock"], names["device"]) == (0o600, 0o600, 0o700)
    assert vmcid.runtime.stat().st_mode & 0o777 == names["vm"] == names["hybrid"]
    client.close()


def test_private_for_users(directory, needs_root):
    """A user's own directory is nobody else's; it is found by $XDG_RUNTIME_DIR."""
    os.chown(directory, 4242, 4242)
    log = open(directory / "log", "w", encoding="utf-8")
    child = subprocess.Popen(["setpriv", "--reuid", "4242", "--regid", "4242", "--clear-groups", "env",
                              f"XDG_RUNTIME_DIR={directory}", f"HOME={directory}", PROGRAM], stderr=log)
    try:
        until("its socket", (directory / "vmci" / "control.sock").exists, LIMIT)
        assert (directory / "vmci").stat().st_mode & 0o777 == 0o700
        with as_user(4242):
            until("it to listen", lambda: listens(directory / "vmci" / "control.sock"), LIMIT)
    finally:
        child.terminate()
        assert child.wait(LIMIT) == 0
        log.close()


def listens(path):
    with contextlib.suppress(OSError):
        Client(path, None).close()
        return True
    return False


def test_environment(directory):
    log = directory / "log"
    vmcid = Process(["env", f"VMCI_RUNTIME_DIR={directory}/there", PROGRAM], log)
    until("its socket", (directory / "there" / "control.sock").exists, LIMIT)
    until("it to listen", lambda: "listening at" in vmcid.text(), LIMIT)
    assert vmcid.terminate() == 0


def test_second_instance(server, directory):
    vmcid = server()
    client = vmcid.connect()
    assert fails("--runtime-dir", vmcid.runtime) == f"{vmcid.runtime}: another vmcid is running there"
    assert client.list()
    client.close()


def test_bad_directories(directory, needs_root):
    bad = directory / "bad"
    assert fails("--runtime-dir", bad / "deep") == f"{bad}/deep: cannot make it: No such file or directory"
    bad.write_text("a file")
    assert fails("--runtime-dir", bad) == f"{bad}: Not a directory"
    bad.unlink()
    (directory / "other").mkdir()
    bad.symlink_to("other")
    assert fails("--runtime-dir", bad) == f"{bad}: Not a directory"
    bad.unlink()
    bad.mkdir()
    bad.chmod(0o777)
    assert fails("--runtime-dir", bad) == f"{bad}: others may write there (mode 0777)"
    bad.chmod(0o755)
    os.chown(bad, 4242, 4242)
    assert fails("--runtime-dir", bad) == f"{bad}: belongs to user 4242, not to us (0)"
    long = directory / ("x" * 100)
    assert fails("--runtime-dir", long) == f"{long}/control.sock: File name too long"


def test_what_a_dead_one_left(server):
    """kill -9 leaves a socket in whose way nobody is."""
    first = server()
    first.connect().close()
    first.kill()
    assert first.path.exists()
    server().connect().close()


# --- Configuration -------------------------------------------------------------------------------------------

def test_bad_configurations(directory):
    conf, run_dir = directory / "vmcid.conf", directory / "run"
    assert fails("--config", conf, "--runtime-dir", run_dir) == f"{conf}: No such file or directory"
    assert fails("--config", directory, "--runtime-dir", run_dir) == f"{directory}: Is a directory"
    for text, line in (("nonsense", "line 1: = is missing behind the key"),
                       ('\nsocket.mode = "0777"\n', "line 2: socket.mode: neither 0600, 0660 nor 0666"),
                       ('socket.group = "nobody-has-this"\n', "line 1: socket.group: no such group"),
                       ('trusted.users = "nobody-has-this"\n', "line 1: trusted.users: no such user"),
                       ('trusted.user = "root"\n', "line 1: trusted.user: not known here"),
                       ('device.program = "relative"\n', "line 1: device.program: not an absolute path")):
        conf.write_text(text)
        assert fails("--config", conf, "--runtime-dir", run_dir) == f"{conf}: {line}"
    conf.write_text("#" * 300000)
    assert fails("--config", conf, "--runtime-dir", run_dir) == f"{conf}: File too large"
    assert not run_dir.exists()


def test_bad_definitions_directory(directory):
    run_dir = directory / "run"
    none = directory / "none"
    assert fails("--vms", none, "--runtime-dir", run_dir) == f"{none}: No such file or directory"


def test_socket_mode_and_group(server, directory, needs_root):
    conf = directory / "vmcid.conf"
    conf.write_text('socket.mode = "0660"\nsocket.group = "4242"\n')
    vmcid = server("--config", conf)
    vmcid.connect().close()
    stat = vmcid.path.stat()
    assert (stat.st_mode & 0o777, stat.st_gid) == (0o660, 4242)
    with as_user(4242):
        Client(vmcid.path).close()
    with as_user(4343), pytest.raises(PermissionError):
        Client(vmcid.path)


def test_trusted_users(server, directory, needs_root):
    conf = directory / "vmcid.conf"
    conf.write_text('socket.mode = "0666"\ntrusted.users = "4242"\n')
    vmcid = server("--config", conf)
    vmcid.connect().close()
    for uid, status in (4242, 0), (4343, NO_ACCESS):
        with as_user(uid):
            client = Client(vmcid.path)
            try:
                Endpoint(client, 100)       # below 1024: for trusted ones only
                got = 0
            except Refused as refused:
                got = refused.status
            client.close()
        assert got == status


def test_quotas(server, directory):
    """Lowered by the configuration, at their edges."""
    conf = directory / "vmcid.conf"
    conf.write_text('quota.connections = "4"\nquota.contexts = "2"\nquota.names = "1"\nquota.endpoints = "2"\n')
    vmcid = server("--config", conf)
    host = vmcid.connect()
    endpoints = [Endpoint(host) for _ in range(2)]
    with pytest.raises(Refused) as refused:
        Endpoint(host)
    assert refused.value.status == NO_RESOURCES
    assert endpoints[0].destroy() == 0
    Endpoint(host)
    Name(host, b"one", (HOST, 5))
    with pytest.raises(Refused) as refused:
        Name(host, b"two", (HOST, 6))
    assert refused.value.status == NO_RESOURCES
    clients = [vmcid.connect(INVALID) for _ in range(2)]
    third = Client(vmcid.path, None)
    with pytest.raises(Refused) as refused:
        third.hello(INVALID)
    assert refused.value.status == NO_RESOURCES
    with pytest.raises((Ended, OSError)):
        Client(vmcid.path)
    vmcid.wait_for("turned away: too many connections of this user")
    for client in (host, third, *clients):
        client.close()


def test_trusted_names(server, directory, needs_root):
    """SDK reference, 6.3: the host's switch of 2009."""
    conf = directory / "vmcid.conf"
    conf.write_text('socket.mode = "0666"\ndiscovery.trustedOnly = "TRUE"\n')
    vmcid = server("--config", conf)
    trusted = vmcid.connect()
    name = Name(trusted, b"mine", (HOST, 5))
    with as_user(4242):
        client = Client(vmcid.path)
    with pytest.raises(Refused) as refused:
        Name(client, b"not mine", (HOST, 6))
    assert refused.value.status == NO_ACCESS
    assert client.lookup(b"mine") == name.handle
    for each in client, trusted:
        each.close()


# --- The end -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
def test_signals(server, number):
    vmcid = server()
    client = vmcid.connect()
    os.kill(vmcid.pid, number)
    assert vmcid.wait(LIMIT) == 0
    with pytest.raises(Ended):
        client.recv()
    assert not vmcid.path.exists()
    # Somebody may come back.
    assert (vmcid.runtime / "key").exists()
    client.close()


def test_nobody_is_left(server):
    """Then there is nobody whom the next one would have to wait for."""
    vmcid = server("--log", "debug")
    vmcid.connect().close()
    vmcid.wait_for(": gone")
    assert vmcid.terminate() == 0
    assert not (vmcid.runtime / "key").exists()
    begin = time.monotonic()
    client = server().connect()
    Name(client, b"at once", (HOST, 5))
    client.close()
    print(f"{time.monotonic() - begin:.2f} s")


def test_end_tells_nobody_that_others_have_gone(server):
    """Design, rule 2: clients go on and come back; that the broker ends is no event of any of them."""
    vmcid = server()
    first, second = vmcid.connect(INVALID), vmcid.connect(INVALID)
    events = Events(second)
    assert events.watch(first.cid) == 0
    pair = CreatedPair(first)
    attached = AttachedPair(second, pair.handle)
    assert vmcid.terminate() == 0
    assert events.is_empty()
    assert not attached.is_left()
    for each in first, second:
        each.close()


# --- Restart -------------------------------------------------------------------------------------------------

def test_same_key(server):
    first = server()
    client = first.connect(INVALID)
    endpoint, name = Endpoint(client, 5000), Name(client, b"mine", (client.cid, 5000))
    key = (first.runtime / "key").read_bytes()
    assert len(key) == 32
    first.kill()
    second = server()
    assert client.resume() == []
    assert (first.runtime / "key").read_bytes() == key
    assert endpoint.send(endpoint.handle, b"again") == 29
    assert client.lookup(b"mine") == name.handle
    client.close()
    assert second.is_running()


def test_owners_come_first(server):
    """Right after a restart a stranger's wish for an id or a name waits until the owner has had his second."""
    first = server()
    owner = first.connect(4711)
    Endpoint(owner, 5000)
    Name(owner, b"mine", (4711, 5000))
    first.kill()
    second = server()
    stranger = second.connect(INVALID)
    # It knows nobody who is called that; the answer waits.
    stranger.post(NAME, data=discovery_request(REGISTER, b"mine", (stranger.cid, 1)))
    assert owner.resume() == []
    reply = stranger.recv()
    assert int.from_bytes(reply.data[4:8], "little", signed=True) == -22     # ALREADY_EXISTS
    assert owner.lookup(b"mine") == (4711, 5000)
    for each in owner, stranger:
        each.close()


def test_key_that_others_could_read(server):
    """It is none any more: what it proves, anybody could."""
    first = server()
    client = first.connect(INVALID)
    Endpoint(client)
    first.kill()
    (first.runtime / "key").chmod(0o644)
    second = server()
    second.connect().close()
    with pytest.raises(Refused) as refused:
        client.resume()
    assert refused.value.status == NO_ACCESS
    client.close()


# --- systemd -------------------------------------------------------------------------------------------------

# LISTEN_PID is the process itself, which only it knows: set on the way.
EXEC = ("import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); "
        "[os.dup2(int(sys.argv[1]), 3 + n) for n in range(int(os.environ['LISTEN_FDS']))]; "
        "os.execv(sys.argv[2], sys.argv[2:])")


def activate(sock, directory, n=1):
    """vmcid with a socket that somebody else listens at."""
    os.set_inheritable(sock.fileno(), True)
    log = open(directory / "activated.log", "w", encoding="utf-8")
    return subprocess.Popen([sys.executable, "-c", EXEC, str(sock.fileno()), str(PROGRAM), "--runtime-dir",
                             str(directory / "run"), "--vms", str(directory)], pass_fds=[sock.fileno()], stderr=log,
                            env=os.environ | {"LISTEN_FDS": str(n)})


def test_socket_activation(directory):
    (directory / "run").mkdir(mode=0o755)
    path = directory / "run" / "control.sock"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(str(path))
    sock.listen()
    # Somebody comes, then vmcid is started.
    early = Client(path, None)
    early.post(HELLO, size0=1, handle=(HOST, 0))
    child = activate(sock, directory)
    try:
        assert early.recv().handle == (HOST, 0)
        late = Client(path)
        assert late.list()
        late.close()
        child.terminate()
        assert child.wait(LIMIT) == 0
        # The socket is systemd's: it stays, and the next client waits for the next vmcid.
        assert path.exists()
        waiting = Client(path, None)
        waiting.post(HELLO, size0=1, handle=(HOST, 0))
        child = activate(sock, directory)
        assert waiting.recv().status == 0
        waiting.close()
    finally:
        child.kill()
        child.wait()
    assert "Sanitizer" not in (directory / "activated.log").read_text()
    early.close()


@pytest.mark.parametrize("kind", ("stream", "not listening", "two"))
def test_wrong_socket(directory, kind):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_SEQPACKET)
    sock.bind(str(directory / "s"))
    if kind != "not listening":
        sock.listen()
    child = activate(sock, directory, 2 if kind == "two" else 1)
    assert child.wait(LIMIT) == 1
    assert ("passed was something else than one listening UNIX socket of type SEQPACKET"
            in (directory / "activated.log").read_text())


def test_readiness(server, directory):
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(directory / "notify"))
    notify.settimeout(LIMIT)
    (directory / "vms").mkdir()
    vmcid = server("--vms", directory / "vms", env={"NOTIFY_SOCKET": directory / "notify"})
    assert notify.recv(100) == b"READY=1"
    Client(vmcid.path).close()      # at once
    os.kill(vmcid.pid, signal.SIGHUP)
    assert notify.recv(100) == b"RELOADING=1"
    assert notify.recv(100) == b"READY=1"
    assert vmcid.terminate() == 0
    assert notify.recv(100) == b"STOPPING=1"


def test_journal(server):
    vmcid = server(env={"JOURNAL_STREAM": "1:2"})
    vmcid.connect().close()
    vmcid.wait_for("<6>listening at")


CONTRIB = pathlib.Path(__file__).resolve().parents[2] / "contrib"


def test_units(directory):
    """What systemd says of our units, with the program where it is built."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    for name in "vmcid.service", "vmcid.socket":
        text = (CONTRIB / "systemd" / name).read_text()
        (directory / name).write_text(text.replace("/usr/sbin/vmcid", str(PROGRAM)))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no",
                           directory / "vmcid.service", directory / "vmcid.socket"],
                          capture_output=True, text=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    # The way in which devices survive a restart.
    text = (CONTRIB / "systemd" / "vmcid.service").read_text()
    for line in "KillMode=process", "RuntimeDirectoryPreserve=yes", "Type=notify":
        assert f"\n{line}\n" in text


def test_example_configuration(server, directory):
    """Each of its lines is one that vmcid understands."""
    text = (CONTRIB / "vmcid.conf").read_text()
    lines = re.findall(r'^# (\S+ = ".*")$', text, re.MULTILINE)
    assert len(lines) > 5
    conf = directory / "vmcid.conf"
    conf.write_text("\n".join(re.sub(r'group = ".*"', 'group = "0"', line) for line in lines))
    server("--config", conf).connect().close()


# --- Embedded ------------------------------------------------------------------------------------------------

def embedded(directory, *options):
    """As libvmci starts it; what it says before it has its log goes into a file of the test."""
    return Server(directory, "--embedded", *options)


def test_embedded_leaves(directory):
    vmcid = embedded(directory)
    client = vmcid.connect()
    assert (vmcid.runtime / "vmcid.log").stat().st_mode & 0o777 == 0o600
    assert vmcid.runtime.stat().st_mode & 0o777 == 0o700
    assert os.getsid(vmcid.pid) != os.getsid(0)
    assert os.readlink(f"/proc/{vmcid.pid}/cwd") == "/"
    second = vmcid.connect(INVALID)
    client.close()
    time.sleep(2)
    assert vmcid.is_running() and second.list()
    second.close()
    begin = time.monotonic()
    assert vmcid.wait(LIMIT) == 0
    assert time.monotonic() - begin > 0.5
    assert not vmcid.path.exists() and not (vmcid.runtime / "key").exists()
    assert "nobody is left" in (vmcid.runtime / "vmcid.log").read_text()
    assert not [line for line in vmcid.text().splitlines() if line], "nothing on the terminal of who started it"


def test_embedded_is_late(directory):
    """Another one was faster: no harm, no word."""
    first = embedded(directory)
    client = first.connect()
    second = run("--embedded", "--runtime-dir", first.runtime)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert client.list()
    client.close()
    assert first.wait(LIMIT) == 0


def test_embedded_again_and_again(directory):
    """Clients that come while it leaves find it, or find it gone: never one that does not answer."""
    children = []
    for delay in (0, 0.3, 0.9, 0.98, 1.0, 1.02, 1.1, 1.5):
        time.sleep(delay)

        def come():
            with contextlib.suppress(OSError, Ended):
                return Client(directory / "run" / "control.sock")
            children.append(subprocess.Popen([PROGRAM, "--embedded", "--runtime-dir", directory / "run"]))
            time.sleep(0.2)
            return None
        client = until("a client to be served", come, LIMIT)
        assert client.list()
        client.close()
    for child in children:
        assert child.wait(LIMIT) == 0


def test_embedded_gives_way(directory, server):
    """Who starts one by hand gets it, and clients find the new one."""
    first = embedded(directory)
    client = first.connect(INVALID)
    endpoint = Endpoint(client)
    second = server()
    assert first.wait(LIMIT) == 0
    assert client.resume() == []
    assert endpoint.send(endpoint.handle) == 24
    client.close()
    assert second.is_running()


def test_embedded_log_is_bounded(directory):
    (directory / "run").mkdir(mode=0o700)
    log = directory / "run" / "vmcid.log"
    log.write_text("x" * 2000000)
    vmcid = embedded(directory)
    vmcid.connect().close()
    assert vmcid.wait(LIMIT) == 0
    assert log.stat().st_size < 100000


# --- Bounds --------------------------------------------------------------------------------------------------

def test_log_is_no_flood(server):
    """Who connects and talks nonsense, a thousand times, gets a hundred lines; and the others are served."""
    vmcid = server()
    good = vmcid.connect()
    for _ in range(1000):
        bad = Client(vmcid.path, None)
        with contextlib.suppress(Ended):
            bad.send_raw(b"nonsense")
        bad.close()
    assert good.list()
    until("the last one to be served", lambda: len(good.list()) == 4, LIMIT)
    assert vmcid.text().count("shorter than a header") <= 100
    vmcid.wait_for("more lines about clients were left out")
    good.close()


def test_out_of_descriptors(server):
    """Few descriptors: who takes too many is refused, and nobody else is thrown out."""
    vmcid = server(wrap=["prlimit", "--nofile=512:512"])
    good = vmcid.connect()
    endpoint = Endpoint(good)
    bad, made, status = vmcid.connect(INVALID), 0, 0
    while not status and made < 1000:
        reply = bad.call(SHM_CREATE, handle=(0, INVALID), size0=4096, fds=[fd := memfd(4096)])
        os.close(fd)
        status = reply.status
        made += not status
    assert status == NO_RESOURCES and made < 512
    connections = []
    with contextlib.suppress(OSError, Ended, Refused):
        while len(connections) < 600:
            connections.append(Client(vmcid.path, None))
            connections[-1].sock.settimeout(2)
    assert endpoint.send(endpoint.handle, b"still here") == 34
    for each in connections:
        each.close()
    bad.close()

    def is_back():
        with contextlib.suppress(OSError, Ended, Refused):
            Client(vmcid.path).close()
            return True
        return False
    until("new clients to be served again", is_back, LIMIT)
    good.close()


def test_silence(server):
    """Who connects and says nothing is not kept."""
    vmcid = server()
    vmcid.connect().close()
    silent = Client(vmcid.path, None)
    vmcid.wait_for("it did not say HELLO")
    with pytest.raises(Ended):
        silent.recv()
    silent.close()


# --- The sandbox ---------------------------------------------------------------------------------------------

def status_of(pid):
    return dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())


def test_sandbox(server, directory):
    if is_sanitized():
        pytest.skip("built with a sanitizer: no sandbox")
    (directory / "vms").mkdir()
    vmcid = server("--vms", directory / "vms", "--log", "debug")
    vmcid.connect().close()
    status = status_of(vmcid.pid)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    # What it does then works there, too: definitions, sockets, events of the directory.
    (directory / "vms" / "late.vmx").write_text("")
    until("a socket for it", (vmcid.runtime / "vm" / "late.sock").exists, LIMIT)
    os.kill(vmcid.pid, signal.SIGHUP)
    vmcid.wait_for("reading the definitions")
    client = vmcid.connect()
    endpoint = Endpoint(client)
    while endpoint.send(endpoint.handle, bytes(1000)) > 0:
        pass
    for _ in range(10):
        endpoint.recv()
    client.close()
    # The process that starts devices has its own way to end.
    children = pathlib.Path(f"/proc/{vmcid.pid}/task/{vmcid.pid}/children").read_text().split()
    assert len(children) == 1
    assert vmcid.terminate() == 0
    until("the other process to end", lambda: not pathlib.Path(f"/proc/{children[0]}").exists(), LIMIT)


def test_no_sandbox(server):
    vmcid = server("--no-sandbox")
    vmcid.connect().close()
    assert status_of(vmcid.pid)["Seccomp"] == "0"


def test_nothing_leaks(server):
    """Descriptors and memory after many clients."""
    vmcid = server()
    first = vmcid.connect()
    fds = len(os.listdir(f"/proc/{vmcid.pid}/fd"))
    for _ in range(300):
        client = vmcid.connect(INVALID)
        Endpoint(client)
        client.close()
    until("all to be gone", lambda: len(first.list()) == 4, LIMIT)
    assert len(os.listdir(f"/proc/{vmcid.pid}/fd")) == fds
    first.close()
