# SPDX-License-Identifier: BSD-2-Clause
"""One VM for each kernel and path, booted when first needed and shared by its tests."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from beds import BEDS, CORE, CORE_TESTS, FABRIC_TESTS, MACHINES, OURS, FabricHolder, Holder  # noqa: E402
from testbed.plugin import pytest_runtest_makereport, workdir  # noqa: E402,F401


def pytest_collection_modifyitems(config, items):
    """SHARD=i/n: only the tests of every n-th bed; fabric: only those of the machines under vmcid; ours-i/n and
    ours-fabric: the same with our modules in the guests."""
    shard = os.environ.get("SHARD")
    count = int(shard.partition("/")[2] or 1) if shard else 1

    def shard_of(item, params):
        holder, drivers = params.get("holder"), params.get("fabric_holder")
        if item.path.stem.startswith("test_ours") or holder in OURS:
            return f"ours-{OURS.index(holder) % count if holder else count - 1}/{count}"
        if item.path.stem.startswith("test_fabric"):
            return "ours-fabric" if drivers == "ours" else "fabric"
        return f"{BEDS.index(holder) % count if holder else 0}/{count}"

    def is_wanted(item):
        params = getattr(item, "callspec", None) and item.callspec.params or {}
        if params.get("holder") in CORE and item.path.stem not in CORE_TESTS:
            return False
        if params.get("fabric_holder") == "ours" and item.path.stem not in FABRIC_TESTS:
            return False
        return not shard or shard == shard_of(item, params)
    config.hook.pytest_deselected(items=[item for item in items if not is_wanted(item)])
    items[:] = [item for item in items if is_wanted(item)]


@pytest.fixture(scope="session", params=BEDS + OURS, ids="-".join)
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


@pytest.fixture(scope="session", params=["in-box", "ours"])
def fabric_holder(request):
    holder = FabricHolder(request.param)
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
