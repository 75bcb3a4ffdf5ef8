# SPDX-License-Identifier: BSD-2-Clause
"""A program of the host on libvmci: tests/vm/host/hostx.c, and what its answers say."""

import functools
import itertools
import os
import subprocess
import threading

from .process import BUILD, LIMIT, ROOT, TestbedError, tail

VM_TESTS = ROOT / "tests/vm"


class Answer:
    """CODE and words, as the guest's probe and the host's hostx give them."""

    def __init__(self, text):
        text, _, self.reason = text.partition(" # ")
        self.text = text
        self.code, *self.words = text.replace("\n", " ").split()
        self.code = int(self.code)

    def __repr__(self):
        return f"<{self.text[:200]!r}{' # ' * bool(self.reason)}{self.reason}>"

    @property
    def last(self):
        return self.words[-1]


def check(answer, what):
    if answer.code < 0:
        raise TestbedError(f"{what}: {answer}")
    return answer


@functools.lru_cache(None)
def host_program(name):
    """Builds a program of tests/vm on the host: hostx, or the guest's probe for `gen`."""
    source = VM_TESTS / ("host" if name == "hostx" else "guest") / f"{name}.c"
    out = BUILD / "vm" / name
    out.parent.mkdir(exist_ok=True)
    library = [f"-L{BUILD}", "-lvmci", "-Wl,-rpath", str(BUILD)] if name == "hostx" else []
    made = out.with_suffix(f".{os.getpid()}")
    subprocess.run([os.environ.get("CC", "gcc"), "-std=gnu11", "-O2", "-Wall", f"-I{ROOT}/include",
                    "-o", made, source, "-pthread", *library], check=True)
    made.rename(out)
    return out


class Pending:
    """A command that hostx has not answered yet."""

    def __init__(self, host, number, text):
        self.host, self.number, self.text, self.line = host, number, text, None

    def wait(self, limit=None):
        """The answer, whatever it is."""
        with self.host.changed:
            if not self.host.changed.wait_for(lambda: self.line or self.host.closed, limit or LIMIT):
                raise TestbedError(f"no answer to {self.text!r} of the host")
        if self.line is None:
            raise TestbedError(f"hostx ended during {self.text!r}:\n{tail(self.host.log)}")
        return Answer(self.line)

    def check(self, limit=None):
        """The answer, which must be success."""
        return check(self.wait(limit), f"host: {self.text}")


class Host:
    """A membership in a context of the fabric whose runtime directory is given."""

    def __init__(self, runtime, log, cid=2, uid=None):
        self.log = log
        self.changed = threading.Condition()
        self.numbers = itertools.count(1)
        self.pending = {}
        self.closed = False
        with open(log, "ab") as out:
            self.child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *([] if uid is None else [f"--reuid={uid}", "--clear-groups"]), "--",
                 host_program("hostx"), str(cid)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True,
                env={**os.environ, "VMCI_RUNTIME_DIR": str(runtime)})
        hello = Pending(self, 0, "hello")
        self.pending[0] = hello
        threading.Thread(target=self._read, daemon=True).start()
        self.cid = int(hello.check().last)

    @property
    def pid(self):
        return self.child.pid

    def _read(self):
        for line in self.child.stdout:
            number, _, rest = line.partition(" ")
            with self.changed, open(self.log, "a") as log:
                log.write(line[:200].rstrip("\n") + "\n")
                self.pending.pop(int(number)).line = rest.rstrip("\n")
                self.changed.notify_all()
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def start(self, text):
        """Starts a command; others may run beside it."""
        with self.changed, open(self.log, "a") as log:
            command = Pending(self, next(self.numbers), text)
            self.pending[command.number] = command
            log.write(f"{command.number}: {text[:200]}\n")
            self.child.stdin.write(f"{command.number} {text}\n")
            self.child.stdin.flush()
        return command

    def run(self, text, limit=None):
        """Runs a command, which must succeed; its answer."""
        return self.start(text).check(limit)

    def fails(self, text, limit=None):
        """Runs a command, which must not succeed; its code."""
        answer = self.start(text).wait(limit)
        if answer.code >= 0:
            raise TestbedError(f"success of the host's {text!r}: {answer}")
        return answer.code

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.child.stdin.close()

    def close(self):
        """The orderly end."""
        if self.child.poll() is None:
            self.child.stdin.close()
            try:
                self.child.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.kill()
                raise TestbedError("hostx did not end") from None
