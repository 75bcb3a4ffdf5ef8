# SPDX-License-Identifier: BSD-2-Clause
"""Other people's programs: a Debian root in the guest (scripts/fetch-programs), and ssh to its sshd over vsock."""

import functools
import ipaddress
import shlex
import subprocess

from .process import LIMIT, TestbedError
from .vm import script

ROOT = "/debian"        # where they are in the guest

# Keys only; nothing of PAM, which would want to be configured.
SSHD_CONFIG = """\
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
Subsystem sftp internal-sftp
LogLevel VERBOSE
"""

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
"""

# Who serves port 22. "socket": standard input is the AF_VSOCK socket itself, as where systemd listens for sshd;
# "pipe": socat copies.
SSHD = {
    "socket": "socat -d -d VSOCK-LISTEN:22,fork EXEC:'/usr/sbin/sshd -i -e',nofork",
    "pipe": "socat -d -d VSOCK-LISTEN:22,fork EXEC:'/usr/sbin/sshd -i -e'",
}


@functools.lru_cache(None)
def programs():
    """The archive for VM(archives=...)."""
    return script("fetch-programs")


def write(vm, path, text, mode="644"):
    """Writes a text of some lines below the guest's Debian root."""
    vm.run(f"cat >{ROOT}{path} <<'END' && chmod {mode} {ROOT}{path}\n{text}END\n")


def debian(vm, command):
    """Starts a command in the guest's Debian root."""
    return vm.start(f"exec chroot {ROOT} {command}")


def as_address(cid):
    """What ssh makes of a number in the place of a host: an IPv4 address. %h of its commands is that, %n is as it
    was given; with -6 it lets numbers alone."""
    return str(ipaddress.IPv4Address(cid))


class Ssh:
    """A key, the keys of hosts that are known, and a configuration with both; prepare() makes a guest's sshd ready."""

    def __init__(self, directory):
        self.key, self.known, self.config = (directory / name for name in ("key", "known_hosts", "ssh_config"))
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", self.key])
        self.config.write_text(f"IdentityFile {self.key}\nIdentitiesOnly yes\nUserKnownHostsFile {self.known}\n"
                               "StrictHostKeyChecking yes\nBatchMode yes\n")

    def prepare(self, vm, cid):
        """A root for sshd: names, keys, terminals. Its key is known from here, under the context's number."""
        vm.run(f"cd {ROOT} && mkdir -p dev proc sys tmp run/sshd root/.ssh && chmod 700 root root/.ssh"
               " && chmod 1777 tmp && for at in dev proc sys; do mount --bind /$at $at; done"
               " && mkdir -p dev/pts && mount -t devpts devpts dev/pts && ip link set lo up")
        write(vm, "/etc/passwd", PASSWD)
        write(vm, "/etc/group", "root:x:0:\ntty:x:5:\n")
        write(vm, "/etc/ssh/sshd_config", SSHD_CONFIG)
        write(vm, "/root/.ssh/authorized_keys", self.key.with_suffix(".pub").read_text(), "600")
        debian(vm, "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key").check()
        kind, key, *_ = vm.run(f"cat {ROOT}/etc/ssh/ssh_host_ed25519_key.pub").split()
        with open(self.known, "a") as known:
            known.write(f"{as_address(cid)},{cid} {kind} {key}\n")

    @staticmethod
    def serve(vm, how="socket"):
        """Starts sshd at port 22; returns when it listens."""
        return debian(vm, SSHD[how]).expect("listening on")

    def command(self, program, *proxy):
        """ssh, scp or sftp; @proxy is the command line that reaches %h, or %n."""
        return [program, "-F", self.config, "-o", f"ProxyCommand={shlex.join(map(str, proxy))}"]


def run(argv, limit=None):
    """A program of the host, to its end, which must be success; what it said on standard output, in bytes."""
    argv = [str(arg) for arg in argv]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit or 2 * LIMIT)
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f"no end of {shlex.join(argv)}\n{error.stderr}") from None
    if done.returncode:
        raise TestbedError(f"status {done.returncode} of {shlex.join(argv)}\n{done.stdout[-2000:]}\n"
                           f"{done.stderr.decode(errors='replace')}")
    return done.stdout
