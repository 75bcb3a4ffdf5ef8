# SPDX-License-Identifier: BSD-2-Clause
"""A guest: stock Debian kernel, small initramfs, attached to a vmci-device."""

import functools
import os
import pathlib
import shutil
import subprocess

from .guest import Agent
from .process import BUILD, LIMIT, ROOT
from .qemu import Qemu, connect_unix, vmci_device_option

# Name of a kernel in tests: the Debian suite it comes from.
KERNELS = {"6.1": "bookworm", "6.12": "trixie", "newest": "trixie-backports"}
CHECKED = "checked"     # 6.12 with KASAN and lockdep: scripts/build-checked-kernel

# Whose drivers a guest has, and what they are called: the device's, and the transport.
DRIVERS = {"in-box": ("vmw_vmci", "vmw_vsock_vmci_transport"), "ours": ("vmci", "vmsock")}


def script(name, *args):
    """Runs a script; returns the path that it prints."""
    found = subprocess.run([ROOT / "scripts" / name, *args], stdout=subprocess.PIPE, check=True)
    return pathlib.Path(found.stdout.decode().strip())


@functools.lru_cache(None)
def kernel_files(kernel, probe=False, files=(), drivers="in-box"):
    """The vmlinuz and an initramfs of a kernel, fetched and built if need be.

    With probe, /lib/vmci_probe.ko is in it, the module of tests/vm/module; and so are the files. Our drivers
    are in it if wanted ("debug": those with self-tests).
    """
    suite = KERNELS.get(kernel, kernel)
    ours = {"in-box": [], "ours": [suite], "debug": ["--debug", suite]}[drivers]
    ours = [script("build-modules", *ours)] if ours else []              # may find a newer kernel
    modules = [script("build-guest-module", *["--ours"] * bool(ours), suite)] if probe else []
    directory = script("fetch-kernels", suite)
    names = [module.name for module in ours] + [module.parent.name for module in modules] + [f.name for f in files]
    initramfs = BUILD / "vm" / ("-".join(["initramfs", suite, *names]) + ".cpio")
    script("mkinitramfs", *(["--modules", *ours] if ours else []), directory, initramfs, *modules, *files)
    return directory / "vmlinuz", initramfs


def joined(path, archives):
    """Archives that a kernel unpacks one behind the other, in one file."""
    with open(path, "wb") as out:
        for archive in archives:
            with open(archive, "rb") as part:
                shutil.copyfileobj(part, out)
    return path


class VM(Qemu):
    """Boots at once; ready() waits until the guest takes commands.

    With shell=True the guest's console is a shell on our own terminal; with probe=True the guest
    has /dev/vmci_probe and the command of that name; files are to be found in its /lib, and
    what further archives hold where they say. drivers="ours": a guest with our vmci and vmsock in the place of
    the kernel's own drivers, and "debug" with their self-tests; their faults are panics. append: more words for
    the kernel's command line. packed: the vmlinuz itself is started, and unpacks itself, which takes a while; a machine
    that sleeps needs it, as QEMU copies the other into its memory again when it wakes. So do several processors: a guest
    with two, started the other way, did not always come up again after a reset.
    """

    def __init__(self, directory, kernel, socket=None, *options, memory=768, cpus=1,
                 share=True, shell=False, probe=False, files=(), archives=(), drivers="in-box", append="",
                 packed=False, **properties):
        directory = pathlib.Path(directory)
        vmlinuz, initramfs = kernel_files(kernel, probe, tuple(files), drivers)
        packed = packed or cpus > 1
        self.driver, self.transport = DRIVERS["in-box" if drivers == "in-box" else "ours"]
        # Behind ports on a busy machine, a datagram can take longer than what kernels take for a stall (21 seconds).
        words = ["console=ttyS0 loglevel=5 oops=panic no_timer_check cryptomgr.notests panic=-1",
                 "rcupdate.rcu_cpu_stall_timeout=200 watchdog_thresh=60",
                 "drivers=in-box" if drivers == "in-box" else "drivers=ours panic_on_warn=1",
                 *["shell"] * shell, append]
        if archives:
            initramfs = joined(directory / "initramfs", (initramfs, *archives))
        self.probe = probe
        self.console = directory / "console.log"
        device = ["-device", vmci_device_option(socket, **properties)] if socket else []
        super().__init__(
            directory, "-accel", os.environ.get("ACCEL", "tcg"), "-smp", str(cpus),
            "-kernel", vmlinuz if packed else script("unpack-kernel", vmlinuz.parent), "-initrd", initramfs,
            "-append", " ".join(words),
            "-serial", "mon:stdio" if shell else f"file:{self.console}",
            "-chardev", f"socket,id=agent,path={directory}/agent.sock,server=on,wait=off",
            "-device", "virtio-serial-pci",
            "-device", "virtserialport,chardev=agent,name=agent",
            *device, *options, memory=memory, share=share, terminal=shell)
        self.agent = Agent(connect_unix(self, directory / "agent.sock"),
                           directory / "agent.log")

    def ready(self, boots=1, limit=None):
        """Waits for the boots-th boot; returns self."""
        self.agent.wait_boot(boots, limit or 2 * LIMIT, self.is_sound)
        if self.probe:
            self.run("insmod /lib/vmci_probe.ko")
        return self

    def is_sound(self):
        """Whether QEMU runs, and the guest's kernel has not panicked."""
        return self.is_running() and not (self.console.exists() and b"Kernel panic" in self.console.read_bytes())

    def start(self, command):
        """Starts a shell command in the guest."""
        return self.agent.start(command)

    def run(self, command, limit=None):
        """Runs a shell command in the guest; returns its output, insists on success."""
        return self.start(command).check(limit)
