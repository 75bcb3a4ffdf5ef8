# SPDX-License-Identifier: BSD-2-Clause
# A front for meson and the scripts. `make demo` and `make check` need nothing but git,
# make and apt: they install what is missing (scripts/packages.txt) first.

all:
	@scripts/build build

deps:
	@scripts/install-deps

demo demo-shell: deps
	@scripts/build build
	@scripts/$@

# The guest modules, for every kernel that is tested, or with KDIR for the one whose headers lie there: build/modules.
modules: deps
ifdef KDIR
	@scripts/build-modules --headers "$(KDIR)" build/modules
else
	@scripts/build-modules --out build/modules
endif

# A source tree of the modules for DKMS: build/openvmci-<version>.
dkms:
	@scripts/make-dkms build

check: deps
	@scripts/check

# The same with every guest that there is, and in full length.
check-all: deps
	@scripts/check --all

bench: deps
	@scripts/build build
	@bench/run

fuzz: deps
	@fuzz/run

clean:
	rm -rf build build-gcc build-clang build-asan build-fuzz

.PHONY: all deps demo demo-shell modules dkms check check-all bench fuzz clean
