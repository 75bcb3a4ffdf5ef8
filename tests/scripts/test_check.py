# SPDX-License-Identifier: BSD-2-Clause
"""scripts/check itself: what it counts, and what it runs on which guests."""

import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def check(*argv):
    return subprocess.run([ROOT / "scripts/check", *argv], capture_output=True, text=True, timeout=60)


def beds(**environment):
    """What would run with guests, as pytest names it."""
    run = subprocess.run(["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only",
                          "tests/vm/test_lifecycle.py"],
                         cwd=ROOT, capture_output=True, text=True, timeout=60,
                         env={**{key: value for key, value in os.environ.items() if key not in ("SHARD", "EVERYTHING")},
                              "PYTHONDONTWRITEBYTECODE": "1", **environment})
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_counts_are_written_and_said(tmp_path):
    done = check("--counts", tmp_path / "counts", "includes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "counts").read_text()) == {"passed": 1, "failed": 0, "skipped": 0}
    assert done.stdout.endswith("1 passed, 0 failed\n")


def test_unknown_suite():
    done = check("includes", "nonsense")
    assert done.returncode == 2 and "nonsense" in done.stderr


def test_some_guests_are_for_all_only():
    usual, everything = beds(), beds(EVERYTHING="1")
    for bed in "6.1-mmio", "6.12-mmio", "newest-mmio", "newest-classic", "6.12-legacy":
        assert f"[{bed}]" in usual and f"[{bed}]" in everything
    for bed in "6.1-classic", "6.12-classic":
        assert f"[{bed}]" not in usual and f"[{bed}]" in everything
