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

check: deps
	@scripts/check

bench: deps
	@scripts/build build
	@bench/run

fuzz: deps
	@fuzz/run

clean:
	rm -rf build build-gcc build-clang build-asan build-fuzz

.PHONY: all deps demo demo-shell check bench fuzz clean
