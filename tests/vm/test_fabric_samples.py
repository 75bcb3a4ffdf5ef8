# SPDX-License-Identifier: BSD-2-Clause
"""The SDK's datagramApp, linked statically, in guests with the in-box driver, and its counterpart anywhere."""

import pytest
from beds import SAMPLE
from testbed.onhost import OnHost
from testbed.process import BUILD

IN_GUEST = f"/lib/{SAMPLE.name}"
TO_SERVER, TO_CLIENT = "HELLO, SERVER!", "HELLO, CLIENT!"
CLIENTS = 3     # that a server serves


def on_host(fabric, option, context):
    """datagramApp on the host, in the host's context or (new) in one of its own."""
    return OnHost(fabric, BUILD / "datagramApp", option, context=context)


@pytest.mark.parametrize("context", ["host", "new"])
def test_client_in_the_guest(fabric, machine, context):
    server = on_host(fabric, "-s", context)
    for _ in range(CLIENTS):
        assert TO_CLIENT in machine.vm.run(f"{IN_GUEST} -c")
    assert server.check().count(TO_SERVER) == CLIENTS


@pytest.mark.parametrize("context", ["host", "new"])
def test_server_in_the_guest(fabric, machine, context):
    server = machine.vm.start(f"exec {IN_GUEST} -s")
    for _ in range(CLIENTS):
        assert TO_CLIENT in on_host(fabric, "-c", context).check()
    assert server.check().count(TO_SERVER) == CLIENTS


def test_client_and_server_in_neighbours(fabric):
    one, two = fabric["bookworm"], fabric["trixie"]
    server = one.vm.start(f"exec {IN_GUEST} -s")
    for _ in range(CLIENTS):
        assert TO_CLIENT in two.vm.run(f"{IN_GUEST} -c")
    assert server.check().count(TO_SERVER) == CLIENTS
