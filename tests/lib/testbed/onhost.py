# SPDX-License-Identifier: BSD-2-Clause
"""A program of ours on the host, with a fabric's vmcid; it ends with the test."""

import os
import subprocess

from .process import LIMIT


class OnHost:
    """Output and input are pipes. In the host's context, unless another is given ("new": one of its own)."""

    def __init__(self, fabric, program, *args, context="host"):
        self.output = ""
        self.child = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", program, *args], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "VMCI_RUNTIME_DIR": str(fabric.broker.runtime), "VMCI_CONTEXT": context})

    def wait(self):
        """Its exit status."""
        try:
            self.output += self.child.communicate("\n", timeout=LIMIT)[0]
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise
        return self.child.returncode

    def check(self):
        """Its output; it must succeed."""
        assert self.wait() == 0, self.output
        return self.output
