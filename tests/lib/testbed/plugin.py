# SPDX-License-Identifier: BSD-2-Clause
"""For conftest.py: the logs of everything that runs go into the report of a failed test."""

import pytest

from .process import Workdir


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for work in Workdir.live:
            report.sections.append((f"logs in {work.path}", work.logs()))


@pytest.fixture
def workdir():
    work = Workdir()
    yield work.path
    work.close()
