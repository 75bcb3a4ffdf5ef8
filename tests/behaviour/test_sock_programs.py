# SPDX-License-Identifier: BSD-2-Clause
"""vmci-run(1): socat and ncat, contexts of one's own, what fails closed, and vmcid killed amid everything."""

import pathlib
import re
import shutil
import subprocess
import time

import pytest

from testbed.fabric import BELL_CREATE, HELLO, LIST
from testbed.process import BUILD, LIMIT, ROOT, until
from testbed.sockets import Runner, sanitizer


def echo_through(run, server, client, data=b"one\ntwo\n"):
    """Data through a client that has them on its standard input, and a server that echoes them."""
    command = [str(arg) for arg in run.command(*client)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(data)
        process.stdin.flush()
        got = b""
        while len(got) < len(data):
            piece = process.stdout.read1(1 << 16)
            assert piece, (process.stderr.read(), server.text())
            got += piece
        process.stdin.close()
        process.wait(LIMIT)
    assert got == data


def test_socat(run):
    server = run.start("socat", "VSOCK-LISTEN:5000,fork,reuseaddr", "EXEC:cat")
    run.wait_port(5000)
    for cid in 2, 1:
        echo_through(run, server, ["socat", "-", f"VSOCK-CONNECT:{cid}:5000"])
    # What ssh makes of 2
    echo_through(run, server, ["socat", "-", "VSOCK-CONNECT:0.0.0.2:5000"])
    big = bytes(range(256)) * 1000
    echo_through(run, server, ["socat", "-", "VSOCK-CONNECT:2:5000"], big)
    text = run.run("socat", "-", "VSOCK-CONNECT:2:4999", status=1)
    assert "Connection reset by peer" in text


def test_socat_says_who_is_there(run):
    server = run.start("socat", "-d", "-d", "VSOCK-LISTEN:5000", "SYSTEM:echo $SOCAT_PEERADDR")
    run.wait_port(5000)
    run.run("socat", "-d", "-d", "-u", "VSOCK-CONNECT:2:5000,bind=2:6000", "-")
    server.wait()
    assert re.search(r"accepting connection from .*cid:2 port:6000", server.text()), server.text()


def test_ncat(run):
    server = run.start("ncat", "-v", "--vsock", "-l", "-k", "5000", "--exec", "/bin/cat")
    run.wait_port(5000)
    for _ in range(2):
        echo_through(run, server, ["ncat", "--vsock", "2", "5000"])
    assert "Connection from 2:" in server.text()
    text = run.run("ncat", "-v", "--vsock", "2", "4999", status=1)
    assert "Connection reset by peer" in text


def test_ncat_and_socat(run):
    server = run.start("socat", "VSOCK-LISTEN:5001", "EXEC:cat")
    run.wait_port(5001)
    echo_through(run, server, ["ncat", "--vsock", "2", "5001"])


def test_socket_activation(run):
    """A listener that systemd makes, and passes to others over exec."""
    if not shutil.which("systemd-socket-activate"):
        pytest.skip("systemd-socket-activate is not there")
    if sanitizer():
        pytest.skip("a library of systemd's opens files when it is loaded, before a sanitizer is ready for it")
    server = run.start("systemd-socket-activate", "-l", "vsock::5000", "--inetd", "-a", "cat")
    run.wait_port(5000)
    echo_through(run, server, ["socat", "-", "VSOCK-CONNECT:2:5000"])
    assert re.search(r"Connection from vsock:2:\d+ to vsock:2:5000", server.text()), server.text()


def test_contexts_of_their_own(run):
    server = run.start_python("""
        assert struct.unpack("I", fcntl.ioctl(os.open("/dev/vsock", os.O_RDONLY), 1977, bytes(4))) == (42,)
        server = listener(5000)
        print("ready")
        for _ in range(2):
            sock, address = server.accept()
            print("from", address)
            sock.send(b"%d %d" % sock.getsockname())
    """, cid=42)
    run.wait_text(server, "ready")
    assert run.python("""
        print(error_of(client, 5000, HOST), client(5000, 42).recv(100))
    """) == "ECONNRESET b'42 5000'\n"
    assert run.python("""
        sock = client(5000, 42)
        print(sock.recv(100), sock.getsockname()[0], make(port=7000, cid=43).getsockname())
    """, cid=43) == "b'42 5000' 43 (43, 7000)\n"
    assert server.wait() == 0, server.text()
    assert re.search(r"from \(2, \d+\)\nfrom \(43, \d+\)", server.text())
    text = run.python("print(socket.socket(V).getsockname() and 'fine')", cid="new")
    assert text == "fine\n"


def test_the_command_line(run, needs_root):
    vmci_run = BUILD / "vmci-run"

    def said(*argv, status=125):
        got = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, timeout=LIMIT,
                             env={**run.environment, "VMCI_RUNTIME_DIR": str(run.runtime)})
        assert got.returncode == status, (got.returncode, got.stdout, got.stderr)
        return got.stdout + got.stderr
    assert "Usage: vmci-run [OPTION...] PROGRAM [ARG...]" in said(vmci_run, "--help", status=0)
    assert "vmci-run (OpenVMCI) " in said(vmci_run, "--version", status=0)
    said(vmci_run)
    for wrong in "1", "15", "x", "4294967295", "", "-1", "4294967338", "42x":
        assert "--cid" in said(vmci_run, "--cid", wrong, "true")
    said(vmci_run, "/nonexistent/program", status=127)
    said(vmci_run, "/etc/passwd", status=126)
    # What comes behind the program is the program's.
    assert said(vmci_run, "echo", "--cid", "-x", status=0) == "--cid -x\n"
    said(vmci_run, "sh", "-c", "exit 7", status=7)
    elsewhere = run.directory / "nobody"
    assert "no broker" in said(vmci_run, "--no-start", "-d", elsewhere, "sh", "-c", "exit 0", status=0)
    # Another user's context
    server = run.start("sleep", "60", cid=42)
    until("context 42", lambda: said(vmci_run, "--cid", "42", "true", status=0) == "")
    other = said("setpriv", "--reuid", "65534", "--clear-groups", vmci_run, "--cid", "42", "true")
    assert "does not let us join context 42" in other
    server.kill()


def test_arguments(run):
    """Only one of socat's addresses with an IPv4 address in it is changed, and the rest of it is not."""
    given = ["VSOCK-CONNECT:0.0.1.44:22,x=0.0.0.42:1", "-", "", "0.0.0.42", "TCP:0.0.0.42:22", "VSOCK-CONNECT:42:22",
             "a VSOCK-CONNECT:0.0.0.42:22", "vsock-connect:1.0.0.0:5"]
    got = run.run("printf", "<%s>\\n", *given).splitlines()
    assert got == [f"<{text}>" for text in ("VSOCK-CONNECT:300:22,x=0.0.0.42:1", *given[1:-1],
                                            "vsock-connect:16777216:5")]


def test_a_vmcid_is_started_and_leaves(directory):
    """Where none runs. It stays as long as the program, whatever that does with its descriptors or not."""
    runtime = directory / "own"
    runtime.mkdir(mode=0o700)
    runner = Runner(directory, runtime)
    process = runner.start_python("""
        server = listener(5000)
        print("ready")
        sock, _ = server.accept()
        time.sleep(1.5)
        print(sock.recv(10))
    """, options=(), VMCI_VMCID=str(BUILD / "vmcid"))
    try:
        runner.wait_text(process, "ready")
        runner.python("client(5000).send(b'hello')", options=(), VMCI_VMCID=str(BUILD / "vmcid"))
        assert process.wait() == 0, process.text()
        assert "b'hello'" in process.text()
        until("vmcid to leave", lambda: not (runtime / "control.sock").exists(), 20)
    finally:
        runner.close()


# What the program has from vmci-run, and what requests are answered with.
REQUESTS = f"""
    def sockets():
        for fd in sorted(int(name) for name in os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError):
                with socket.socket(fileno=os.dup(fd)) as sock:
                    if (sock.family, sock.type) == (socket.AF_UNIX, SEQPACKET):
                        yield fd, str(sock.getsockname()), error_of(sock.getpeername)
    def ask(sock, type_, context=0, resource=0, fds=(), size0=0):
        head = struct.pack("<HHIiIIIIIQQ16s", type_, 0, 9, 0, 0, context, resource, 0, 0, 0, size0, bytes(16))
        sock.settimeout(0.5)
        try:
            socket.send_fds(sock, [head], fds)
            return sock.recv(70000)[8:12].hex() or "end"
        except TimeoutError:
            return "silence"
        except OSError as error:
            return name_of(error.errno)
    HELLO, LIST, BELL_CREATE, BELL = {HELLO}, {LIST}, {BELL_CREATE}, os.eventfd(0, os.EFD_NONBLOCK)
    os.setgroups([]), os.setgid(4711), os.setuid(4711)
    (number, name, peer), = sockets()
    held = socket.socket(fileno=number)
"""


@pytest.mark.parametrize("cid", ["2", "new"])
def test_what_is_inherited_is_good_for_nothing(vmcid, run, needs_root, cid):
    """vmci-run was root, and the program gives that up. It has a socket that listens where it cannot get itself, and no
    connection to vmcid.
    """
    assert run.python(REQUESTS + """
    print(peer, "/held/" in name, number > 900)
    print(error_of(held.send, b"x"), error_of(held.connect, name), error_of(held.bind, "\\0x"))
    print(error_of(socket.socket(socket.AF_UNIX, SEQPACKET).connect, name), error_of(os.unlink, name))
    print(error_of(make, STREAM, 80))
    """, cid=cid) == ("ENOTCONN True True\nENOTCONN EACCES EINVAL\nEACCES EACCES\n"
                      + ("EPERM\n" if cid == "new" else "EACCES\n"))


def test_vmcid_does_not_listen_to_what_is_inherited(vmcid, run, needs_root):
    """It has connected to it, to hear of its end; whoever says something over that is not heard."""
    text = run.python(REQUESTS + """
    sock, _ = held.accept()
    print(ask(sock, HELLO, 2, size0=1), ask(sock, LIST), ask(sock, BELL_CREATE, 0, 0xffffffff), error_of(make))
    sock.close()
    held.settimeout(0.5)
    print(error_of(held.accept))
    end = time.monotonic() + 10
    while error_of(make, STREAM, 80) == "EPERM" and time.monotonic() < end:
        time.sleep(0.02)
    # Of root's context nothing is left to be joined by then: it is made anew, for 4711.
    print(error_of(make, STREAM, 80), error_of(make, STREAM, 8000))
    """, cid="new")
    assert text.splitlines()[0] == "silence silence silence EPERM", text
    assert text.splitlines()[2] == "EACCES success", text
    assert "dropped: it was to hold its context and no more, and was used" in vmcid.process.text()


# --- Failing closed ------------------------------------------------------------------------------------------------

def test_no_vmcid(directory):
    runner = Runner(directory, directory / "nobody")
    text = runner.python("""
        for kind in STREAM, DGRAM, SEQPACKET:
            began = time.monotonic()
            assert error_of(make, kind) == "ENODEV"
            assert time.monotonic() - began < 0.5
        assert error_of(os.open, "/dev/vsock", os.O_RDONLY) == "ENODEV"
        assert error_of(socket.socketpair, V) == "EOPNOTSUPP"
        left, right = socket.socketpair()
        left.send(b"others go on")
        assert right.recv(100) == b"others go on"
        print("fine")
    """)
    assert text.endswith("fine\n")
    text = runner.python("error_of(make)", VMCI_DEBUG="1")
    assert text.count("vmci: socket(AF_VSOCK): No such device (no vmcid)\n") == 1
    assert "vmci:" not in runner.python("error_of(make)").replace("vmci-run:", "")
    text = runner.run("socat", "-", "VSOCK-CONNECT:2:5000", status=1)
    assert "No such device" in text


def test_a_host_that_is_a_guest(directory, vmcid, run, needs_root):
    """With a bound VMCI device of another hypervisor: it is not who is asked when vmcid is away. EAFNOSUPPORT is
    vmci-run's filter, and so what would have reached the kernel.
    """
    device = directory / "pci" / "0000:00:07.7"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x15ad\n")
    (device / "device").write_text("0x0740\n")
    (device / "driver").symlink_to("/sys/bus/pci/drivers/vmw_vmci")
    wrap = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /sys/bus/pci/devices && exec "$@"', device.parent)
    empty = {"XDG_RUNTIME_DIR": str(directory)}
    assert not pathlib.Path("/run/vmci/control.sock").exists()
    script = run.script("""
        for what in sys.argv[1:]:
            if what == "unnamed":
                os.unsetenv("VMCI_RUNTIME_DIR")
                os.closerange(10, 1024)     # the library's own connection
            else:
                print(error_of(make))
    """)
    assert run.run(*script, "unnamed", "make", "make", wrap=wrap, **empty) == "EAFNOSUPPORT\nEAFNOSUPPORT\n"
    # It was there, and is found no more.
    assert run.run(*script, "make", "unnamed", "make", "make", wrap=wrap, **empty) == "success\nENODEV\nENODEV\n"
    vmcid.kill()
    # It is named, and not there.
    text = run.run(*script, "make", "unnamed", "make", wrap=wrap, **empty)
    assert text.endswith("\nENODEV\nEAFNOSUPPORT\n"), text
    vmcid.start()


def test_no_socket_of_the_kernel_s_family_is_ever_made(run):
    """A filter that kills who tries is loaded before everything."""
    killer = [BUILD / "tests" / "behaviour" / "kill-vsock"]
    text = run.python("""
        server, dgram, seqpacket = listener(5000), make(DGRAM, 5000), listener(6000, SEQPACKET)
        client(5000), client(6000, kind=SEQPACKET)
        dgram.sendto(b"x", (2, 5000))
        error_of(client, 4999), error_of(client, 5000, 99), error_of(make, socket.SOCK_RAW)
        error_of(socket.socketpair, V)
        os.open("/dev/vsock", os.O_RDONLY)
        print("alive")
    """, wrap=killer)
    assert text == "alive\n"
    server = run.start("socat", "VSOCK-LISTEN:5000", "EXEC:cat", wrap=killer)
    run.wait_port(5000)
    echo_through(run, server, ["ncat", "--vsock", "2", "5000"])


def test_the_kernel_is_guarded_too(run):
    """Programs that no library can be put before, and those that are started by others."""
    expected = "stream EAFNOSUPPORT\ndgram EAFNOSUPPORT\nhigh EAFNOSUPPORT\npair EAFNOSUPPORT\nring EPERM\n" \
               "unix success\ninet success\n"
    raw = BUILD / "tests" / "behaviour" / "raw-vsock"
    assert run.run(raw) == expected
    assert run.run("env", "-u", "LD_PRELOAD", "sh", "-c", f"exec {raw}") == expected


def test_the_helper_that_kills_does(run):
    """Only under vmci-run, whose guard is loaded later and says errno; the kernel takes the strictest."""
    raw = BUILD / "tests" / "behaviour" / "raw-vsock"
    run.run(raw, wrap=[BUILD / "tests" / "behaviour" / "kill-vsock"], status=-31)


# --- vmcid killed ----------------------------------------------------------------------------------------------------

def test_streams_and_listeners_outlive_vmcid(vmcid, host, run):
    process = run.start_python("""
        server = listener(5000)
        one = client(5000)
        two, _ = server.accept()
        dgram = make(DGRAM, 5001)
        print("ready")
        while not os.path.exists(sys.argv[1] + "/killed"):
            time.sleep(0.02)
        one.send(b"still")
        assert two.recv(10) == b"still"
        assert two.getpeername() == one.getsockname()
        began = time.monotonic()
        assert error_of(client, 5000) == "ENODEV"       # socket()
        assert 0.9 < time.monotonic() - began < 5
        made = None
        assert error_of(dgram.sendto, b"x", (HOST, 5001)) == "ENETUNREACH"
        print("waited")
        while not os.path.exists(sys.argv[1] + "/restarted"):
            time.sleep(0.02)
        three = client(5000)
        assert server.accept()[1] == three.getsockname()
        assert dgram.sendto(b"x", (HOST, 5001)) == 1 and dgram.recv(1) == b"x"
        print("again")
        # Killed while somebody waits for its return
        while not os.path.exists(sys.argv[1] + "/twice"):
            time.sleep(0.02)
        four = client(5000)
        assert server.accept()[1] == four.getsockname()
    """, str(run.directory))
    run.wait_text(process, "ready")
    vmcid.kill()
    (run.directory / "killed").touch()
    run.wait_text(process, "waited")
    vmcid.start()
    (run.directory / "restarted").touch()
    run.wait_text(process, "again")
    vmcid.kill()
    (run.directory / "twice").touch()
    time.sleep(0.3)
    vmcid.start()
    assert process.wait() == 0, process.text()


def echo(sock):
    sock.settimeout(LIMIT)
    sock.send(b"x")
    assert sock.recv(1) == b"x"
    sock.close()


@pytest.mark.parametrize("cid", [42, "new"])
def test_a_context_of_its_own_outlives_vmcid(vmcid, host, run, cid):
    """With a program that does not know of it, and what it has started."""
    server = run.start("socat", "VSOCK-LISTEN:5000,fork", "EXEC:cat", cid=cid)

    def find():
        found = [path for path in (vmcid.runtime / "port").glob("*/5000") if path.parent.name != "2"]
        return found and int(found[0].parent.name)
    number = until("the listener", find)
    run.wait_port(5000, number)
    echo(host.connected((number, 5000)))
    for _ in range(3):
        vmcid.kill()
        vmcid.start()
        assert not host.resume()
        echo(host.connected((number, 5000)))
    assert run.python("""
        with client(5000, int(sys.argv[1])) as sock:
            sock.send(b"y")
            print(sock.recv(1))
    """, str(number)) == "b'y'\n"
    # While somebody is left, it stays; then everything goes.
    last = host.connected((number, 5000))
    last.send(b"z")
    assert last.recv(1) == b"z"
    server.kill()
    assert [line for line in host.list() if line.startswith(f"context {number} ")]
    last.close()
    until("the context to go",
          lambda: not [line for line in host.list() if line.startswith(f"context {number} ")])
    assert not list((vmcid.runtime / "held").iterdir())
    # At the latest when the grace period is over, for somebody else of the context could have come back.
    until("its ports to go", lambda: not (vmcid.runtime / "port" / str(number)).exists())


def test_a_context_of_its_own_is_the_user_s(vmcid, host, run, needs_root):
    """While vmcid is away, and when it is back, nobody else gets it; and it gets new ports in it."""
    as_4711 = ("setpriv", "--reuid", "4711", "--regid", "4711", "--clear-groups")
    process = run.start_python("""
        server = listener(5000)
        print("ready")
        while not os.path.exists(sys.argv[1] + "/restarted"):
            time.sleep(0.02)
        print(error_of(make, STREAM, 6000), error_of(make, STREAM, 5000), error_of(make, STREAM, 80))
        print(server.accept()[1][0])
    """, str(run.directory), cid=42, wrap=as_4711)
    run.wait_text(process, "ready")
    vmcid.kill()
    vmcid.start()
    assert "does not let us join context 42" in run.run("true", cid=42, status=125)
    (run.directory / "restarted").touch()
    run.wait_text(process, "success EADDRINUSE EACCES")
    assert not host.resume()
    host.connected((42, 5000)).close()
    assert process.wait() == 0, process.text()
    assert "\n2\n" in process.text()


def test_killed_again_and_again(vmcid, host, run):
    """Whatever the moment: a connect either fails in a way that it may, or there is a stream."""
    process = run.start_python("""
        server = listener(5000, backlog=100)
        server.settimeout(30)
        good = bad = 0
        end = time.monotonic() + 6
        while time.monotonic() < end:
            try:
                sock = client(5000)
            except OSError as error:
                assert name_of(error.errno) in ("ENODEV", "ENETUNREACH", "EHOSTUNREACH", "ECONNRESET"), error
                bad += 1
                continue
            while True:
                child, address = server.accept()
                if address == sock.getsockname():
                    break
            sock.send(b"x")
            assert child.recv(1) == b"x"
            good += 1
        print("good", good, "bad", bad)
        assert good > 10
    """)
    while process.is_running():
        time.sleep(0.7)
        vmcid.restart()
    assert process.wait() == 0, process.text()


# --- vmci_sockets.h --------------------------------------------------------------------------------------------------

PROGRAM = pathlib.Path(__file__).with_name("vmci_sockets_program.c")


@pytest.mark.parametrize("compiler, options", [("gcc", ["-std=c11"]),
                                               ("gcc", ["-std=gnu11", "-O2", "-D_FORTIFY_SOURCE=2"]),
                                               ("g++", ["-xc++", "-std=c++17"]), ("clang", ["-std=c11"])])
def test_a_program_of_the_programming_guide(run, compiler, options):
    """Compiles without a warning and without a library, and runs."""
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not there")
    program = run.directory / "program"
    subprocess.run([compiler, *options, "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", f"-I{ROOT / 'include'}", "-o",
                    program, PROGRAM], check=True)
    assert run.run(program) == "cid 2, version 1.0.1, echo: hello, datagram: hello\n"
    # Without vmci-run it finds nothing, and tries nothing.
    bare = subprocess.run([BUILD / "tests" / "behaviour" / "kill-vsock", program], capture_output=True, text=True,
                          timeout=LIMIT)
    assert (bare.returncode, bare.stdout) == (2, "no VMCI Sockets\n")
    # Linked with the library, it needs no vmci-run.
    linked = run.directory / "linked"
    subprocess.run([compiler, *options, "-D_GNU_SOURCE", f"-I{ROOT / 'include'}", "-o", linked, PROGRAM,
                    "-x", "none", BUILD / "libvmci-preload.so", f"-Wl,-rpath,{BUILD}"], check=True)
    environment = {**run.environment, "VMCI_RUNTIME_DIR": str(run.runtime)}
    got = subprocess.run([BUILD / "tests" / "behaviour" / "kill-vsock", linked], capture_output=True, text=True,
                         timeout=LIMIT, env=environment)
    assert got.stdout == "cid 2, version 1.0.1, echo: hello, datagram: hello\n", got
