# SPDX-License-Identifier: BSD-2-Clause
"""Other people's programs over vsock, with no network: sshd, scp, sftp and rsync of Debian in a guest, and iperf3."""

import hashlib
import json
import os
import re
import shlex
import socket
import subprocess

import pytest
from testbed import FabricBed, TestbedError
from testbed.process import BUILD, LIMIT, Workdir
from testbed.programs import ROOT, SSHD, Ssh, as_address, debian, programs, run, write
from testbed.sockets import Runner

MIB = 1 << 20


class Programs:
    """Two Debian guests of one domain, ssh's keys, and vmci-run."""

    def __init__(self):
        self.work, self.bed = Workdir(), None
        try:
            options = {"probe": False, "archives": (programs(),), "memory": 768}
            self.bed = FabricBed({name: ("6.12", cid, {"vmci0.domain": "programs"}, options)
                                  for name, cid in (("server", 121), ("neighbour", 122))})
            self.server, self.neighbour = self.bed["server"], self.bed["neighbour"]
            self.runner = Runner(self.work.path, self.bed.broker.runtime)
            self.keys = Ssh(self.work.path)
            for machine in self.server, self.neighbour:
                self.keys.prepare(machine.vm, machine.cid)
        except BaseException:
            self.close()
            raise

    def command(self, program):
        """ssh, scp or sftp, by way of vmci-run and socat."""
        return self.keys.command(program, *self.runner.command("socat", "-", "VSOCK-CONNECT:%h:22"))

    def ssh(self, command, *options):
        """A command of the guest; what it said."""
        return run([*self.command("ssh"), *options, f"root@{self.server.cid}", command])

    def rsync(self, *argv):
        return run(["rsync", "-aH", "--stats", "-e", shlex.join(map(str, self.command("ssh"))), *argv]).decode()

    def settle(self):
        self.runner.close()
        for machine in self.server, self.neighbour:
            machine.vm.agent.kill_all()
            if machine.complaints():
                raise TestbedError("\n".join(machine.complaints()))

    def close(self):
        if self.bed:
            self.bed.close()
        self.work.close()


@pytest.fixture(scope="module")
def programs_bed():
    bed = Programs()
    yield bed
    bed.close()


@pytest.fixture
def bed(programs_bed):
    yield programs_bed
    programs_bed.settle()


@pytest.fixture(params=SSHD)
def sshd(request, bed):
    return bed.keys.serve(bed.server.vm, request.param)


# --- ssh --------------------------------------------------------------------------------------------------------------

def test_ssh(bed, sshd):
    """A command, its status, its input and output; and nothing else could have carried it."""
    assert bed.server.vm.run("ls /sys/class/net").split() == ["lo"]
    assert bed.ssh("echo $SSH_CONNECTION; uname -r; exit 0").decode().split()[-1] == bed.server.vm.agent.release
    with pytest.raises(TestbedError, match="status 7"):
        bed.ssh("exit 7")
    data = os.urandom(4 * MIB)
    command = "sha256sum; cat /tmp/back; rm /tmp/back"
    argv = [str(arg) for arg in (*bed.command("ssh"), f"root@{bed.server.cid}", command)]
    bed.ssh(f"head -c {4 * MIB} /dev/urandom > /tmp/back")
    back = bed.server.vm.run(f"sha256sum {ROOT}/tmp/back").split()[0]
    done = subprocess.run(argv, input=data, capture_output=True, timeout=2 * LIMIT)
    first, _, rest = done.stdout.partition(b"\n")
    assert first.split()[0].decode() == hashlib.sha256(data).hexdigest(), done.stderr
    assert hashlib.sha256(rest).hexdigest() == back


def test_names_of_hosts(bed, sshd):
    """A number is an address to ssh, which %h then is, but for vmci-run; not where there are no IPv4 addresses. %n is
    what was typed."""
    argv = bed.command("ssh")
    assert run([*argv, f"root@{bed.server.cid}", "echo fine"]) == b"fine\n"
    assert run([*argv, "-6", f"root@{bed.server.cid}", "echo fine"]) == b"fine\n"
    assert run([*argv, f"root@{as_address(bed.server.cid)}", "echo fine"]) == b"fine\n"
    argv = [str(arg).replace("%h", "%n") for arg in argv]
    assert run([*argv, f"root@{bed.server.cid}", "echo fine"]) == b"fine\n"


def test_the_line_that_people_type(bed, sshd):
    """As README has it, through a shell; only the folders of this test are named besides."""
    line = "ssh {options} -o ProxyCommand='vmci-run socat - VSOCK-CONNECT:%h:22' root@{cid} 'echo $((6 * 7))'"
    options = f"-F {shlex.quote(str(bed.keys.config))}"
    environment = {**bed.runner.environment, "PATH": f"{BUILD}:{os.environ['PATH']}",
                   "VMCI_RUNTIME_DIR": str(bed.bed.broker.runtime)}
    done = subprocess.run(["sh", "-c", line.format(options=options, cid=bed.server.cid)], env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=2 * LIMIT)
    assert done.stdout == b"42\n", done.stderr


def test_a_terminal(bed, sshd):
    assert re.search(rb"/dev/pts/\d+", bed.ssh("tty", "-tt"))


def test_many_sessions_at_once(bed, sshd):
    argv = [str(arg) for arg in (*bed.command("ssh"), f"root@{bed.server.cid}", "sha256sum")]
    sessions = [subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                for _ in range(5)]
    try:
        for number, session in enumerate(sessions):
            data = bytes([number]) * MIB
            out, errors = session.communicate(data, timeout=2 * LIMIT)
            assert out.split()[:1] == [hashlib.sha256(data).hexdigest().encode()], errors
    finally:
        for session in sessions:
            session.kill()


def test_a_wrong_key_of_the_host(bed, sshd):
    """It is the guest's sshd that ssh talks to, so its key counts."""
    argv = bed.command("ssh")
    argv[1:1] = ["-o", "UserKnownHostsFile=/dev/null"]
    with pytest.raises(TestbedError, match="Host key verification failed"):
        run([*argv, f"root@{bed.server.cid}", "true"])


def test_nobody_listens(bed):
    with pytest.raises(TestbedError, match="Connection reset by peer"):
        bed.ssh("true")


def test_ssh_between_guests(bed, sshd):
    """Debian's ssh and socat in one guest, its sshd in the other; both as they are."""
    for name, mode in (bed.keys.key, "600"), (bed.keys.known, "644"):
        write(bed.neighbour.vm, f"/root/.ssh/{name.name}", name.read_text(), mode)
    text = debian(bed.neighbour.vm, "ssh -i /root/.ssh/key -o BatchMode=yes -o StrictHostKeyChecking=yes"
                  f" -o ProxyCommand='socat - VSOCK-CONNECT:%n:22' root@{bed.server.cid}"
                  " 'cat /etc/ssh/ssh_host_ed25519_key.pub'").check(120)
    assert text.split()[-2] in bed.keys.known.read_text()
    # The log of the guest's sshd names the key.
    sshd.expect("Accepted publickey for root")


# --- Files ------------------------------------------------------------------------------------------------------------

def make_tree(root):
    """Files of all sizes and odd names, links, modes and times."""
    root.mkdir()
    for size in 0, 1, 4095, 4096, 4097, 65536, MIB, 20 * MIB:
        (root / f"size-{size}").write_bytes(os.urandom(size))
    (root / "with a space, ü and 'quotes'").write_text("odd\n")
    (root / "many").mkdir()
    for number in range(300):
        (root / "many" / f"{number:03}").write_bytes(os.urandom(number * 7))
    (root / "deep/er/and/deeper").mkdir(parents=True)
    (root / "deep/er/and/deeper/file").write_text("deep\n")
    (root / "symlink").symlink_to("size-4096")
    os.link(root / "size-4097", root / "hardlink")
    (root / "size-1").chmod(0o751)
    os.utime(root / "size-0", (1, 1))
    with open(root / "hole", "wb") as file:
        file.truncate(3 * MIB)


def hashes(root):
    """Every file below a directory of the host: its name, its mode, and what is in it."""
    return {str(path.relative_to(root)): (path.lstat().st_mode, os.readlink(path) if path.is_symlink() else
                                          path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest())
            for path in root.rglob("*")}


def hashes_in_guest(machine, root):
    """The digests of a directory's files by the guest's busybox, by name."""
    text = machine.vm.run(f"cd {ROOT}/{root} && find . -type f -print0 | xargs -0 sha256sum", 120)
    return {name[2:]: digest for digest, _, name in (line.partition("  ") for line in text.splitlines())}


def test_rsync(bed, sshd, tmp_path):
    """A tree to the guest, hashed there; again, when nothing is to be sent; what has changed; and all of it back."""
    make_tree(tmp_path / "tree")
    there = f"root@{bed.server.cid}:/tmp/tree/"
    bed.rsync(f"{tmp_path}/tree/", there)
    wanted = {name: digest for name, (_, digest) in hashes(tmp_path / "tree").items()
              if digest and not (tmp_path / "tree" / name).is_symlink()}
    assert len(wanted) > 300
    assert hashes_in_guest(bed.server, "tmp/tree") == wanted
    assert "Number of regular files transferred: 0\n" in bed.rsync(f"{tmp_path}/tree/", there)
    with open(tmp_path / "tree" / f"size-{20 * MIB}", "r+b") as file:
        file.seek(7 * MIB)
        file.write(b"changed")
    (tmp_path / "tree/many/000").unlink()
    text = bed.rsync("--delete", f"{tmp_path}/tree/", there)
    assert "Number of regular files transferred: 1\n" in text and "Number of deleted files: 1 " in text, text
    assert int(re.search(r"Literal data: ([\d,]+)", text)[1].replace(",", "")) < MIB
    bed.rsync(there, f"{tmp_path}/back/")
    assert hashes(tmp_path / "back") == hashes(tmp_path / "tree")
    bed.server.vm.run(f"rm -r {ROOT}/tmp/tree")


@pytest.mark.parametrize("legacy", [False, True], ids=["sftp", "rcp"])
def test_scp(bed, sshd, tmp_path, legacy):
    """By SFTP, and by the protocol of before."""
    data = os.urandom(8 * MIB)
    (tmp_path / "there").write_bytes(data)
    scp = bed.command("scp")
    scp[1:1] = ["-O"] * legacy
    run([*scp, tmp_path / "there", f"root@{bed.server.cid}:/tmp/copy"])
    assert bed.server.vm.run(f"sha256sum {ROOT}/tmp/copy").split()[0] == hashlib.sha256(data).hexdigest()
    run([*scp, f"root@{bed.server.cid}:/tmp/copy", tmp_path / "back"])
    assert (tmp_path / "back").read_bytes() == data


# --- iperf3, through socat --------------------------------------------------------------------------------------------

def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def check_iperf(text, size):
    """What iperf3 says of itself: no error, and bytes came on every connection. What is in the buffers of all the
    sockets in between when everything is sent does not count as received: some megabytes for each."""
    said = json.loads(text)
    assert "error" not in said, said
    received = said["end"]["sum_received"]["bytes"]
    print(f"iperf3: {received} bytes, {said['end']['sum_received']['bits_per_second'] / 8e6:.1f} MB/s")
    assert received > size / 4, said["end"]
    assert all(stream["receiver"]["bytes"] > 0 for stream in said["end"]["streams"]), said["end"]


@pytest.mark.parametrize("options", [[], ["-R"], ["-P", "4"]], ids=["to", "from", "four"])
def test_iperf3_of_the_host(bed, options):
    """Its client here, its server in the guest: control and data are connections to one port. Not --bidir: iperf3 tells
    its two connections apart by their order, which forked socats do not keep; then both ends send into one."""
    debian(bed.server.vm, "iperf3 -s -B 127.0.0.1 --forceflush").expect("listening")
    debian(bed.server.vm, "socat -d -d VSOCK-LISTEN:5201,fork TCP:127.0.0.1:5201").expect("listening on")
    port, size = free_port(), 32 * MIB
    relay = bed.runner.start("socat", "-d", "-d", f"TCP-LISTEN:{port},bind=127.0.0.1,fork",
                             f"VSOCK-CONNECT:{bed.server.cid}:5201")
    bed.runner.wait_text(relay, "listening on")
    check_iperf(run(["iperf3", "-c", "127.0.0.1", "-p", port, "-J", "-n", size, *options]), size)


def test_iperf3_of_the_guest(bed):
    """Its client in the guest, its server here."""
    port, size = free_port(), 32 * MIB
    server = bed.runner.start("iperf3", "-s", "-B", "127.0.0.1", "-p", port, "--forceflush")
    bed.runner.wait_text(server, "listening")
    relay = bed.runner.start("socat", "-d", "-d", "VSOCK-LISTEN:5202,fork", f"TCP:127.0.0.1:{port}")
    bed.runner.wait_text(relay, "listening on")
    debian(bed.server.vm, "socat -d -d TCP-LISTEN:5202,bind=127.0.0.1,fork VSOCK-CONNECT:2:5202").expect("listening on")
    check_iperf(debian(bed.server.vm, f"iperf3 -c 127.0.0.1 -p 5202 -J -n {size}").check(120), size)


# --- socat in one guest, socat in the other ---------------------------------------------------------------------------

def test_guests_of_one_domain(bed):
    for one, two in (bed.server, bed.neighbour), (bed.neighbour, bed.server):
        debian(two.vm, "socat -d -d VSOCK-LISTEN:5300,fork EXEC:cat").expect("listening on")
        assert one.vm.run(f"echo hello | chroot {ROOT} socat -t 30 - VSOCK-CONNECT:{two.cid}:5300") == "hello\n"


def test_guests_of_two_domains(fabric):
    """With somebody who listens, and whom the host reaches."""
    inner, others = fabric["bookworm"], (fabric["backports"], fabric["classic"])
    for other in others:
        other.vm.start("exec socat -d -d VSOCK-LISTEN:5301,fork EXEC:cat").expect("listening on")
        text = inner.vm.start(f"echo hello | socat -t 30 - VSOCK-CONNECT:{other.cid}:5301").check_fails()
        assert "Invalid argument" in text
    neighbour = fabric["trixie"]
    neighbour.vm.start("exec socat -d -d VSOCK-LISTEN:5301,fork EXEC:cat").expect("listening on")
    assert inner.vm.run(f"echo hello | socat -t 30 - VSOCK-CONNECT:{neighbour.cid}:5301") == "hello\n"
