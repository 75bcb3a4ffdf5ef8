# SPDX-License-Identifier: BSD-2-Clause
"""The SDK's datagramApp, linked statically, in guests with the in-box driver, and its counterpart anywhere."""

import os
import subprocess

import pytest
from beds import SAMPLE
from testbed.process import BUILD, LIMIT

IN_GUEST = f"/lib/{SAMPLE.name}"
TO_SERVER, TO_CLIENT = "HELLO, SERVER!", "HELLO, CLIENT!"
CLIENTS = 3     # that a server serves


class Sample:
    """datagramApp on the host, in the host's context or (new) in one of its own."""

    def __init__(self, fabric, option, context):
        self.child = subprocess.Popen(
            [BUILD / "datagramApp", option], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "VMCI_RUNTIME_DIR": str(fabric.broker.runtime), "VMCI_CONTEXT": context})

    def check(self):
        try:
            output = self.child.communicate(timeout=LIMIT)[0]
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise
        assert self.child.returncode == 0, output
        return output


@pytest.mark.parametrize("context", ["host", "new"])
def test_client_in_the_guest(fabric, machine, context):
    server = Sample(fabric, "-s", context)
    for _ in range(CLIENTS):
        assert TO_CLIENT in machine.vm.run(f"{IN_GUEST} -c")
    assert server.check().count(TO_SERVER) == CLIENTS


@pytest.mark.parametrize("context", ["host", "new"])
def test_server_in_the_guest(fabric, machine, context):
    server = machine.vm.start(f"exec {IN_GUEST} -s")
    for _ in range(CLIENTS):
        assert TO_CLIENT in Sample(fabric, "-c", context).check()
    assert server.check().count(TO_SERVER) == CLIENTS


def test_client_and_server_in_neighbours(fabric):
    one, two = fabric["bookworm"], fabric["trixie"]
    server = one.vm.start(f"exec {IN_GUEST} -s")
    for _ in range(CLIENTS):
        assert TO_CLIENT in two.vm.run(f"{IN_GUEST} -c")
    assert server.check().count(TO_SERVER) == CLIENTS
