# SPDX-License-Identifier: BSD-2-Clause
"""The cache of scripts/lib.sh: whole or not at all, once, whoever runs beside."""

import os
import pathlib
import subprocess

LIB = pathlib.Path(__file__).resolve().parents[2] / "scripts/lib.sh"


def shell(cache, text, **kwargs):
    return subprocess.Popen(["sh", "-euc", f". {LIB}\n{text}\ncached thing make"],
                            env={**os.environ, "XDG_CACHE_HOME": str(cache)}, **kwargs)


def test_made_once(tmp_path):
    make = 'make() { echo run >>"$cache/runs"; touch "$1/file"; }'
    for _ in range(2):
        assert shell(tmp_path, make).wait(30) == 0
    assert (tmp_path / "openvmci/thing/file").exists()
    assert (tmp_path / "openvmci/runs").read_text() == "run\n"


def test_failure_leaves_nothing(tmp_path):
    assert shell(tmp_path, 'make() { touch "$1/half"; false; }').wait(30) != 0
    assert not (tmp_path / "openvmci/thing").exists()
    assert shell(tmp_path, 'make() { touch "$1/whole"; }').wait(30) == 0
    assert os.listdir(tmp_path / "openvmci/thing") == ["whole"]


def test_killed_run_leaves_nothing(tmp_path):
    killed = shell(tmp_path, 'make() { touch "$1/half"; echo; exec cat; }',
                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    killed.stdout.readline()
    killed.kill()
    killed.wait(30)
    killed.stdin.close()
    assert shell(tmp_path, 'make() { touch "$1/whole"; }').wait(30) == 0
    assert os.listdir(tmp_path / "openvmci/thing") == ["whole"]
    assert not (tmp_path / "openvmci/thing.tmp").exists()


def test_two_at_once_make_it_once(tmp_path):
    make = 'make() { echo run >>"$cache/runs"; echo; read line; touch "$1/file"; }'
    first = shell(tmp_path, make, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    first.stdout.readline()
    second = shell(tmp_path, make, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert b"waiting" in second.stderr.readline()
    first.communicate(b"go\n", timeout=30)
    assert first.returncode == 0
    assert second.wait(30) == 0
    assert (tmp_path / "openvmci/runs").read_text() == "run\n"
