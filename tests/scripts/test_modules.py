# SPDX-License-Identifier: BSD-2-Clause
"""scripts/build-modules and make-dkms: what is wrong with the sources fails, and DKMS builds what we give it."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNEL = "trixie"       # the newest that Debian's sparse of today knows


def run(*argv, **environment):
    return subprocess.run([str(arg) for arg in argv], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, env={**os.environ, **environment})


@pytest.fixture
def tree(tmp_path):
    """A copy of what modules are built from, but for the sources themselves, and of what builds them."""
    for name in "kernel", "include", "scripts":
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.c"))
    return tmp_path


@pytest.mark.parametrize("text, complaint", [
    ("static u32 wrong(__le32 x) { return x; }\nu32 other(__le32 x);\nu32 other(__le32 x) { return wrong(x); }\n",
     "restricted __le32"),
    ("static int wrong(int __user *p) { return *p; }\nint other(int __user *p);\n"
     "int other(int __user *p) { return wrong(p); }\n", "dereference of noderef"),
    ("static int wrong;\n", "defined but not used"),
    ("int wrong(void) { return 0; }\n", "no previous prototype"),
], ids=["endianness", "user pointer", "unused", "no prototype"])
def test_warnings_are_errors(tree, text, complaint):
    (tree / "kernel/vmci/wrong.c").write_text(f"#include <linux/types.h>\n#include <linux/compiler.h>\n{text}")
    done = run(tree / "scripts/build-modules", KERNEL)
    assert done.returncode and complaint in done.stdout and "wrong.c" in done.stdout, done.stdout


def test_broken_source_names_the_line_and_is_not_cached(tree, tmp_path):
    (tree / "kernel/vmci/wrong.c").write_text("int\n")
    for _ in range(2):
        done = run(tree / "scripts/build-modules", KERNEL)
        assert done.returncode and "wrong.c:1" in done.stdout, done.stdout


def test_versions_agree():
    meson, dkms = ((ROOT / path).read_text() for path in ("meson.build", "kernel/dkms.conf"))
    version = re.search(r"^ *version: '(.*?)'", meson, re.M)[1]
    assert re.search(r'^PACKAGE_VERSION="(.*)"', dkms, re.M)[1] == version


@pytest.mark.parametrize("suite", ["bookworm", KERNEL, "trixie-backports"])
def test_dkms_builds(tmp_path, suite):
    """From a tree that has nothing of ours around it, with the kernel's headers and compiler of the cache."""
    dkms = shutil.which("dkms", path="/usr/sbin:/usr/bin")
    source, trees = tmp_path / "src", tmp_path / "dkms"
    for path in source, trees:
        path.mkdir()
    made = run(ROOT / "scripts/make-dkms", source)
    assert made.returncode == 0, made.stdout
    name, version = pathlib.Path(made.stdout.strip()).name.rsplit("-", 1)
    cached = pathlib.Path(run(ROOT / "scripts/fetch-headers", suite).stdout.split()[-1])
    release = cached.name.removeprefix("headers-")
    # What is special about the cache's headers (scripts/fetch-headers); no BTF, which would take pahole.
    environment = {"HEADERS": f"{cached}/usr/src", "CROSS_COMPILE": "x86_64-linux-gnu-",
                   "MAKEFLAGS": "CONFIG_DEBUG_INFO_BTF_MODULES=",
                   "PATH": f"{compiler(cached)}:/usr/sbin:/usr/bin:/sbin:/bin"}
    where = ["--dkmstree", trees, "--sourcetree", source]
    for arguments in (["add"], ["build", "-k", release, "--kernelsourcedir",
                                cached / "usr/src" / f"linux-headers-{release}"]):
        done = run(dkms, arguments[0], *where, f"{name}/{version}", *arguments[1:], **environment)
        logs = "".join(path.read_text() for path in trees.rglob("make.log"))
        assert done.returncode == 0, f"{done.stdout}\n{logs}"
    built = sorted(path.name.split(".")[0] for path in (trees / name / version / release).rglob("*.ko*"))
    assert built == ["vmci", "vmsock"]


def compiler(cached):
    """The folder of the compiler that the wrapper of make uses."""
    found = re.search(r"/(gcc-\d+)/usr/bin", (cached / "module-make").read_text())
    return cached.parent / found[1] / "usr/bin"
