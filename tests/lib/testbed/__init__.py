# SPDX-License-Identifier: BSD-2-Clause
"""What tests, demo and bench drive: device, QEMU, guest, and the host end of streams."""

from . import names, onhost
from .bed import PATHS, Bed
from .device import Device
from .fabricbed import FabricBed
from .hybrid import Listener, connect, echo_server
from .process import Process, TestbedError, until
from .vm import DRIVERS, KERNELS, VM

__all__ = ["Bed", "DRIVERS", "Device", "FabricBed", "KERNELS", "Listener", "PATHS", "Process", "TestbedError", "VM",
           "connect", "echo_server", "names", "onhost", "until"]
