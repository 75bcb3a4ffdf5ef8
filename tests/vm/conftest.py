# SPDX-License-Identifier: BSD-2-Clause
"""One VM for each kernel and path, booted when first needed and shared by its tests."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from beds import BEDS, MACHINES, FabricHolder, Holder  # noqa: E402
from testbed.plugin import pytest_runtest_makereport, workdir  # noqa: E402,F401


def pytest_collection_modifyitems(config, items):
    """SHARD=i/n: only the tests of every n-th bed; most of the fabric's go with the last, others with the first."""
    index, count = map(int, os.environ.get("SHARD", "0/1").split("/"))

    def shard(item):
        if item.path.stem == "test_fabric":
            return count - 1
        holder = getattr(item, "callspec", None) and item.callspec.params.get("holder")
        return BEDS.index(holder) % count if holder else 0
    config.hook.pytest_deselected(items=[item for item in items if shard(item) != index])
    items[:] = [item for item in items if shard(item) == index]


@pytest.fixture(scope="session", params=BEDS, ids="-".join)
def holder(request):
    holder = Holder(*request.param)
    yield holder
    holder.close()


@pytest.fixture
def bed(holder):
    """A booted guest on the device. What a test leaves behind in either fails it."""
    bed = holder.get()
    yield bed
    try:
        if bed.is_alive:
            bed.settle()
    except BaseException:
        holder.close()
        raise


@pytest.fixture(scope="session")
def fabric_holder():
    holder = FabricHolder()
    yield holder
    holder.close()


@pytest.fixture
def fabric(fabric_holder):
    """vmcid with the machines of beds.py, all booted. What a test leaves behind in them fails it."""
    bed = fabric_holder.get()
    yield bed
    try:
        if bed.is_alive:
            bed.settle()
    except BaseException:
        fabric_holder.close()
        raise


@pytest.fixture(params=MACHINES)
def machine(request, fabric):
    """Each machine of the fabric in turn."""
    return fabric[request.param]
