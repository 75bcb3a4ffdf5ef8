# SPDX-License-Identifier: BSD-2-Clause
"""One VM for each kernel and path, booted when first needed and shared by its tests."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from beds import BEDS, Holder  # noqa: E402
from testbed.plugin import pytest_runtest_makereport, workdir  # noqa: E402,F401


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
