# SPDX-License-Identifier: BSD-2-Clause
"""One VM for each kernel and path, booted when first needed and shared by its tests."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from testbed import KERNELS, Bed  # noqa: E402
from testbed.plugin import pytest_runtest_makereport, workdir  # noqa: E402,F401

# The newest kernel runs on two CPUs, which only TCG's threads keep in order.
CPUS = {"newest": 2}


class Holder:
    """Boots the bed anew when a test has destroyed it."""

    def __init__(self, kernel, path):
        self.kernel, self.path, self.bed = kernel, path, None

    def get(self):
        if self.bed and not self.bed.is_alive:
            self.close()
        if not self.bed:
            self.bed = Bed(self.kernel, self.path, cpus=CPUS.get(self.kernel, 1))
        return self.bed

    def close(self):
        if self.bed:
            self.bed.close()
        self.bed = None


BEDS = [(kernel, path) for kernel in KERNELS for path in ("mmio", "classic")]
BEDS.append(("6.12", "legacy"))     # the handshake and notifications of before 2009


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


# For tests that one kernel and path are enough for.
one_bed = pytest.mark.parametrize("holder", [("6.12", "mmio")], indirect=True, ids=["6.12-mmio"])
