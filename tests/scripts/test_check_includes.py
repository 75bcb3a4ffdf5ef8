# SPDX-License-Identifier: BSD-2-Clause
"""scripts/check-includes: the direction of dependencies."""

import pathlib
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts/check-includes"


def check(src, **files):
    for name, text in files.items():
        path = src / name.replace("__", "/").replace("_h", ".h").replace("_c", ".c")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return subprocess.run([SCRIPT, src], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("include", ['"base/b.h"', '"b.h"', '"vmci/defs.h"', "<base/b.h>",
                                     '"../base/b.h"'])
def test_downwards_passes(tmp_path, include):
    result = check(tmp_path, base__b_h="", proto__b_h="", proto__p_c=f"#include {include}\n")
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize("include", ['"proto/p.h"', '"../proto/p.h"'])
def test_upwards_fails_and_names_the_line(tmp_path, include):
    result = check(tmp_path, proto__p_h="", base__b_c=f"\n #  include {include}\n")
    assert result.returncode == 1
    assert "base/b.c:2: base must not include proto/" in result.stdout


def test_sideways_fails(tmp_path):
    result = check(tmp_path, fabric__f_h="", vfio__v_c='#include "fabric/f.h"\n')
    assert result.returncode == 1


def test_unknown_folder_fails(tmp_path):
    result = check(tmp_path, stray__s_c="")
    assert result.returncode == 1
    assert "stray" in result.stdout


def test_this_tree_passes():
    assert subprocess.run([SCRIPT]).returncode == 0
