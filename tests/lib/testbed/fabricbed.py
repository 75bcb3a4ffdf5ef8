# SPDX-License-Identifier: BSD-2-Clause
"""A vmcid with its VMs: guests, their devices, and host programs in one fabric."""

import os
import pathlib
import signal

from .bed import COMPLAINT
from .device import is_listening
from .host import Answer, Host, check
from .process import BUILD, Process, TestbedError, Workdir, share_processor, until
from .vm import VM


# What vmcid says when it waits no longer for those who were there before it.
GRACE = "the grace period is over"


def children(pid):
    """Processes below a process, whatever their depth."""
    try:
        own = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return set(map(int, own)).union(*(children(child) for child in own))


def is_device(pid):
    """Whether a process is a vmci-device that lives."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "Name:\tvmci-device\n" in status and "State:\tZ" not in status


class Broker(Process):
    """vmcid in a directory: run/ is its runtime directory, vms/ has the definitions."""

    def __init__(self, directory, *options):
        self.directory = pathlib.Path(directory)
        self.runtime = self.directory / "run"
        self.control = self.runtime / "control.sock"
        program = BUILD / "vmcid"
        if not program.exists():
            raise TestbedError(f"{program} does not exist: run make first")
        super().__init__([program, "--runtime-dir", self.runtime, "--vms", self.directory / "vms",
                          "--log", "debug", *options], self.directory / "vmcid.log")
        until(f"vmcid to listen; it says:\n{self.tail()}",
              lambda: is_listening(self.control) or not self.is_running())
        if not self.is_running():
            raise TestbedError(f"vmcid did not start:\n{self.tail()}")


class Probe:
    """A command of a guest's probe, like host.Pending."""

    def __init__(self, machine, text):
        self.machine, self.text = machine, text
        self.command = machine.vm.start(f"probe {text} || true")

    def wait(self, limit=None):
        """The answer, whatever it is."""
        return Answer(self.command.check(limit))

    def check(self, limit=None):
        """The answer, which must be success."""
        return check(self.wait(limit), f"{self.machine.name}: {self.text}")


class Machine:
    """A VM of a fabric bed: its definition, its guest, and its device."""

    def __init__(self, bed, name, kernel, cid, keys, **vm_options):
        self.bed, self.name, self.kernel, self.cid = bed, name, kernel, cid
        self.qemu_options = vm_options.pop("options", ())
        # Several VMs on few CPUs: QEMU's 5 seconds without a turn for the device have been seen.
        self.vm_options = {"memory": 512, "probe": True, "x-msg-timeout": 30000, **vm_options}
        self.directory = bed.work.path / name
        self.directory.mkdir()
        self.socket = bed.work.path / "run/vm" / f"{name}.sock"
        self.hybrid = bed.work.path / "run/hybrid" / f"{name}.sock"
        self.vm = self.device = None
        self.is_classic = "openvmci.classic" in keys
        keys = {"vmci0.present": "TRUE", "vmci0.id": cid, **keys}
        lines = [f'{key} = "{value}"\n' for key, value in keys.items()]
        (bed.work.path / "vms" / f"{name}.vmx").write_text("".join(lines))

    def boot(self):
        """Starts QEMU; finds out which process is the device."""
        until(f"vmcid to listen for {self.name}", lambda: is_listening(self.socket))
        before = children(self.bed.broker.pid)
        self.vm = VM(self.directory, self.kernel, self.socket, *self.qemu_options, **self.vm_options)

        def device():
            new = children(self.bed.broker.pid) - before
            found = [pid for pid in new if is_device(pid)]
            return found[0] if found else None
        self.device = until(f"the device of {self.name}", device)
        if self.is_classic:
            share_processor(self.vm.pid, self.device)
        return self

    def ready(self):
        self.vm.ready()
        return self

    def restart(self):
        """A new QEMU."""
        self.stop()
        return self.boot().ready()

    def stop(self):
        if self.vm:
            self.vm.kill()
        if self.device:
            until(f"the device of {self.name} to end", lambda: not is_device(self.device))
        self.vm = self.device = None

    def kill_device(self):
        os.kill(self.device, signal.SIGKILL)

    def start(self, text):
        """Starts a command of the guest's probe."""
        return Probe(self, text)

    def run(self, text, limit=None):
        """Runs a command of the guest's probe, which must succeed; its answer."""
        return self.start(text).check(limit)

    def fails(self, text, limit=None):
        """Runs a command of the guest's probe, which must not succeed; its code."""
        answer = self.start(text).wait(limit)
        if answer.code >= 0:
            raise TestbedError(f"success of {text!r} in {self.name}: {answer}")
        return answer.code

    def start_anew(self):
        """Starts to load the probe again, which ends all that it has."""
        return self.vm.start("rmmod vmci_probe && insmod /lib/vmci_probe.ko")

    def complaints(self):
        text = self.vm.console.read_text(errors="replace")
        return [line for line in text.splitlines() if COMPLAINT.search(line)]


class FabricBed:
    """vmcid, and machines: name -> (kernel, cid, keys of the definition, options of the VM); conf: text of vmcid.conf."""

    def __init__(self, machines, *options, conf=None):
        self.work = Workdir()
        if conf is not None:
            (self.work.path / "vmcid.conf").write_text(conf)
            options += "--config", self.work.path / "vmcid.conf"
        self.options = options
        self.broker, self.machines, self.hosts = None, {}, []
        self.graces = 0     # that must have ended, says the log
        try:
            for directory in "run", "vms":
                (self.work.path / directory).mkdir()
            for name, (kernel, cid, keys, vm_options) in machines.items():
                self.machines[name] = Machine(self, name, kernel, cid, keys, **vm_options)
            self.broker = Broker(self.work.path, *options)
            for machine in self.machines.values():
                machine.boot()
            for machine in self.machines.values():
                machine.ready()
        except BaseException as error:
            logs = self.work.logs()
            self.close()
            if isinstance(error, (TestbedError, OSError)):
                raise TestbedError(f"{error}\n{logs}") from None
            raise

    def __getitem__(self, name):
        return self.machines[name]

    def host(self, cid=2, uid=None):
        """A host program in context cid (any: a new one), perhaps another user's; it ends with settle()."""
        host = Host(self.broker.runtime, self.work.path / f"host{len(self.hosts)}.log", cid, uid)
        self.hosts.append(host)
        return host

    def kill_broker(self):
        """The hard way."""
        os.kill(self.broker.pid, signal.SIGKILL)
        self.broker.wait()

    def restart_broker(self):
        self.broker = Broker(self.work.path, *self.options)
        self.graces = self.broker.text().count(GRACE) + 1

    @property
    def is_alive(self):
        return self.broker.is_running() and all(
            m.vm and m.vm.is_running() and not m.vm.agent.closed and is_device(m.device)
            for m in self.machines.values())

    def settle(self):
        """After a test: ends host programs, guest commands and guest objects; nobody may complain."""
        for host in self.hosts:
            host.close()
        self.hosts.clear()
        until("a new broker to know everybody", lambda: self.broker.text().count(GRACE) >= self.graces)
        for machine in self.machines.values():
            machine.vm.agent.kill_all()
        reloads = [machine.start_anew() for machine in self.machines.values()]      # all at once
        for reload in reloads:
            reload.check()
        for machine in self.machines.values():
            if machine.complaints():
                raise TestbedError(f"the kernel of {machine.name} complains:\n"
                                   + "\n".join(machine.complaints()))

    def close(self):
        for host in self.hosts:
            host.kill()
        for machine in self.machines.values():
            if machine.vm:
                machine.vm.kill()
        if self.broker:
            self.broker.kill()
        for machine in self.machines.values():
            if machine.device:
                until(f"the device of {machine.name} to end with its VM",
                      lambda: not is_device(machine.device), 10)
        self.work.close()
