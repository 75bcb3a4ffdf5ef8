# SPDX-License-Identifier: BSD-2-Clause
"""Child processes that never outlive us, and waits that never last for ever."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))

# Seconds that anything which has to happen may take. Only failures ever wait so long.
LIMIT = float(os.environ.get("LIMIT", 180))

# To be terminated is no reason to leave anything behind.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


class TestbedError(Exception):
    """Something that had to happen did not."""

    __test__ = False    # it is no test, whatever its name


def until(what, predicate, limit=None, step=0.02):
    """Waits for predicate() to be true and returns its value."""
    limit = limit or LIMIT
    end = time.monotonic() + limit
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise TestbedError(f"waited {limit:g} seconds for: {what}")
        time.sleep(step)


def share_processor(*pids):
    """Keeps processes on one processor, before others there. For a guest behind ports and its device: they speak in turns,
    thousands of times for a datagram. To wake another processor takes ten times as long as to switch on the same, and
    on a busy machine each turn would wait for somebody's slice.
    """
    processors = sorted(os.sched_getaffinity(0))
    for pid in pids:
        for task in map(int, os.listdir(f"/proc/{pid}/task")):
            os.sched_setaffinity(task, {processors[os.getpid() % len(processors)]})
            with contextlib.suppress(PermissionError):      # without root
                os.setpriority(os.PRIO_PROCESS, task, -20)


def tail(path, lines=60):
    """The last lines of a file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


class Workdir:
    """A short-named directory, for socket paths are short; removed at the end."""

    live = []

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="vmci-"))
        self.live.append(self)

    def close(self):
        self.live.remove(self)
        shutil.rmtree(self.path, ignore_errors=True)

    def logs(self):
        """The last lines of every log in it."""
        return "\n".join(f"-- {log.relative_to(self.path)}\n{tail(log)}"
                         for log in sorted(self.path.rglob("*.log")))


class Process:
    """A child with its output in a file (or our terminal). It dies with us, whatever kills us."""

    def __init__(self, argv, log, terminal=False):
        self.argv = [str(arg) for arg in argv]
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--"] + self.argv,
                stdin=None if terminal else subprocess.DEVNULL,
                stdout=None if terminal else out, stderr=out)

    @property
    def pid(self):
        return self.child.pid

    def is_running(self):
        return self.child.poll() is None

    def wait(self, limit=None):
        """Waits for its end; returns the exit status, negative for a signal."""
        try:
            return self.child.wait(limit or LIMIT)
        except subprocess.TimeoutExpired:
            raise TestbedError(f"{self.argv[0]} did not end") from None

    def terminate(self, limit=None):
        """The orderly end; returns the exit status."""
        self.child.terminate()
        return self.wait(limit)

    def kill(self):
        if self.is_running():
            self.child.kill()
        self.child.wait()

    def text(self):
        return self.log.read_text(errors="replace")

    def tail(self, lines=60):
        return tail(self.log, lines)
