# SPDX-License-Identifier: BSD-2-Clause
"""A vmcid for each test, and clients of it. BUILD names the build folder."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from testbed.fabric import Broker, Client, Endpoint     # noqa: E402
from testbed.process import Workdir, until    # noqa: E402
from testbed.sockets import Runner    # noqa: E402

pytest_plugins = ["testbed.plugin"]


def pytest_collection_modifyitems(config, items):
    """SHARD=i/n: every n-th test."""
    index, count = map(int, os.environ.get("SHARD", "0/1").split("/"))
    config.hook.pytest_deselected(items=[item for i, item in enumerate(items) if i % count != index])
    items[:] = items[index::count]


def check_log(text):
    assert "Sanitizer" not in text, text
    assert "runtime error" not in text, text


@pytest.fixture
def directory():
    work = Workdir()
    work.path.chmod(0o755)      # other users are let near the socket
    yield work.path
    work.close()


def finish(broker):
    """Whatever a test did, vmcid lives, holds nothing of clients that have gone, and ends in order."""
    broker.close()
    assert broker.process.is_running(), broker.process.text()
    last = Client(broker.path)
    endpoint = Endpoint(last)       # as Broker does it
    endpoint.send(endpoint.handle)
    endpoint.destroy()
    until(f"all objects to be gone, besides {broker.idle_list}", lambda: last.list() == broker.idle_list, 10)
    last.close()
    until("all descriptors to be closed", lambda: broker.fds() == broker.idle_fds)
    assert broker.process.terminate() == 0, broker.process.text()
    check_log(broker.process.text())


@pytest.fixture
def vmcid(directory):
    broker = Broker(directory)
    yield broker
    finish(broker)


@pytest.fixture
def host(vmcid):
    """A member of context 2."""
    return vmcid.connect()


@pytest.fixture
def soft(vmcid):
    """The only member of a software context."""
    return vmcid.connect(cid=0xffffffff)


@pytest.fixture
def run(directory, vmcid):
    """Unmodified programs."""
    runner = Runner(directory, vmcid.runtime)
    yield runner
    runner.close()


@pytest.fixture
def needs_root():
    if os.geteuid() != 0:
        pytest.skip("needs root: clients of several users")
