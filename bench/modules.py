# SPDX-License-Identifier: BSD-2-Clause
"""Two guests with the same kernel, one with our modules and one with the kernel's own drivers, measured in turns."""

import contextlib

from bed import Bed

# Name of a column: whose drivers the guest has.
WAYS = {"vmci": "ours", "in-box": "in-box"}


class ModulesBed:
    """A device and a guest for each way; with ModulesBed(...) as bed."""

    def __init__(self, output, kernel, names, device_args, **options):
        self.beds = {name: Bed(output, kernel, ["vmci"], device_args, drivers=WAYS[name], **options) for name in names}
        self.stack = contextlib.ExitStack()
        self.ways = {}

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            for name, bed in self.beds.items():
                stack.enter_context(bed)
                self.ways[name] = bed.ways["vmci"]
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        return self.stack.__exit__(*error)

    @property
    def vm(self):
        return next(iter(self.beds.values())).vm

    def last_words(self):
        for bed in self.beds.values():
            bed.last_words()

    def measure(self, way, *args):
        return self.beds[way].measure("vmci", *args)
