# SPDX-License-Identifier: BSD-2-Clause
"""Commands in the guest: the host end of tests/vm/guest/agent.c."""

import itertools
import threading
import time

from .process import LIMIT, TestbedError


class Command:
    """A command that runs in the guest."""

    def __init__(self, agent, number, text):
        self.agent, self.number, self.text = agent, number, text
        self.output, self.status, self.lost = "", None, None

    def _wait_for(self, what, predicate, limit):
        limit = limit or LIMIT
        with self.agent.changed:
            if not self.agent.changed.wait_for(lambda: predicate() or self.lost, limit):
                raise TestbedError(f"waited {limit:g} seconds for {what} of guest command:\n"
                                   f"  {self.text}\noutput so far:\n{self.output}")
        if not predicate():
            raise TestbedError(f"{self.lost} during guest command: {self.text}\n{self.output}")

    def wait(self, limit=None):
        """Waits for its end; returns the exit status."""
        self._wait_for("the end", lambda: self.status is not None, limit)
        return self.status

    def expect(self, text, limit=None):
        """Waits until the output holds text, or the command is over without."""
        self._wait_for(repr(text), lambda: text in self.output or self.status is not None, limit)
        if text not in self.output:
            raise TestbedError(f"no {text!r} from guest command: {self.text} "
                               f"(status {self.status})\n{self.output}")
        return self

    def check(self, limit=None):
        """Waits for success; returns the output."""
        if self.wait(limit) != 0:
            raise TestbedError(f"status {self.status} from guest command: {self.text}\n"
                               f"{self.output}")
        return self.output

    def check_fails(self, limit=None):
        """Waits for its end, which must not be success; returns the output."""
        if self.wait(limit) == 0:
            raise TestbedError(f"success of guest command: {self.text}\n{self.output}")
        return self.output

    def kill(self, signal=9):
        """Sends a signal to the command and its children in the guest."""
        self.agent.send("kill", self.number, str(signal))


class Agent:
    """The channel to one guest. A guest that boots anew loses the commands of the old."""

    def __init__(self, sock, log):
        sock.settimeout(None)
        self.log = open(log, "w")
        self.file = sock.makefile("rwb")
        self.changed = threading.Condition()
        self.numbers = itertools.count(1)
        self.commands = {}
        self.boots = 0
        self.release = None
        self.closed = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while self._read_frame():
                pass
        except (OSError, ValueError) as error:
            self._lose(f"broken agent channel ({error})")
        self.closed = True
        self._lose("QEMU ended")

    def _read_frame(self):
        line = self.file.readline()
        if not line:
            return False
        kind, number, size = line.split()
        data = self.file.read(int(size)).decode(errors="replace")
        self._note(f"[{number.decode()}] {kind.decode()}: {data}")
        if kind == b"hello":
            self._lose("the guest booted anew")
        with self.changed:
            if kind == b"hello":
                self.boots += 1
                self.release = data
            elif kind == b"out":
                self.commands[int(number)].output += data
            elif kind == b"exit":
                self.commands.pop(int(number)).status = int(data)
            else:
                raise ValueError(f"frame {line!r}")
            self.changed.notify_all()
        return True

    def _lose(self, why):
        with self.changed:
            for command in self.commands.values():
                command.lost = why
            self.commands.clear()
            self.changed.notify_all()

    def _note(self, text):
        print(text.rstrip("\n"), file=self.log, flush=True)

    def send(self, kind, number, text):
        self._note(f"[{number}] {kind}: {text}")
        data = text.encode()
        with self.changed:
            self.file.write(b"%s %d %d\n%s" % (kind.encode(), number, len(data), data))
            self.file.flush()

    def start(self, text):
        command = Command(self, next(self.numbers), text)
        with self.changed:
            if self.closed:
                raise TestbedError(f"the guest is gone, cannot run: {text}")
            self.commands[command.number] = command
        self.send("run", command.number, text)
        return command

    def kill_all(self):
        """Ends every command that still runs."""
        with self.changed:
            running = list(self.commands.values())
        for command in running:
            command.kill()
        for command in running:
            command.wait()

    def wait_boot(self, boots, limit, is_alive):
        """Waits for the guest's boots-th boot."""
        end = time.monotonic() + limit
        with self.changed:
            while self.boots < boots:
                if self.closed or not is_alive():
                    raise TestbedError("QEMU ended, or the guest panicked, while it booted")
                if time.monotonic() > end:
                    raise TestbedError(f"the guest did not boot in {limit:g} seconds")
                self.changed.wait(0.5)
