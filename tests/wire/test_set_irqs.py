# SPDX-License-Identifier: BSD-2-Clause
"""DEVICE_SET_IRQS: reference, 7; VMCI reference, 1.3."""

import os
import struct

import pytest

from conftest import FDS
from vfio_user import BAR1, ERR, INTX, MSI, MSIX, REQ, SET_IRQS, irqs_body, until
from wrong import refused, short_bodies, silent, small_argsz

ASSIGN, DISABLE, BOOL_TRIGGER, RESAMPLE = 0x24, 0x21, 0x22, 0x14
MASK, UNMASK = 0x09, 0x11


def pba(client):
    return struct.unpack("=Q", client.read(BAR1, 0x10000, 8))[0]


def test_msix_as_qemu_sets_it_up(client, event):
    """Enable (a de-assign without fd), then one vector after the other."""
    events = [event() for _ in range(3)]
    client.set_irqs(ASSIGN, MSIX, 0, 1)
    for vector, each in enumerate(events):
        client.set_irqs(ASSIGN, MSIX, vector, 1, [each.fd])
    for cause in (0, 1, 2, 1, 1):
        client.cause(cause)
    assert [each.count() for each in events] == [1, 3, 1]


def test_only_vector_0(client, event):
    one = event()
    client.set_irqs(ASSIGN, MSIX, 0, 1)
    client.set_irqs(ASSIGN, MSIX, 0, 1, [one.fd])
    for cause in range(3):
        client.cause(cause)
    assert one.count() == 3
    assert pba(client) == 0


def test_pending_until_the_eventfd_arrives(client, event):
    first, second = event(), event()
    client.cause(1)                         # not enabled: nobody will ever know
    client.set_irqs(ASSIGN, MSIX, 0, 1)
    assert pba(client) == 0
    client.cause(1)
    assert pba(client) == 2
    client.set_irqs(ASSIGN, MSIX, 1, 1, [second.fd])
    assert (second.count(), pba(client)) == (1, 0)
    client.set_irqs(ASSIGN, MSIX, 0, 1, [first.fd])
    client.set_irqs(ASSIGN, MSIX, 1, 1)     # taken away
    client.cause(1)
    assert (first.count(), second.count(), pba(client)) == (0, 0, 2)
    client.set_irqs(DISABLE, MSIX, 0, 0)
    assert pba(client) == 0


def test_eventfd_is_replaced(client, event):
    old, new = event(), event()
    client.set_irqs(ASSIGN, MSIX, 0, 1, [old.fd])
    before = client.register(FDS)
    client.set_irqs(ASSIGN, MSIX, 0, 1, [new.fd])
    assert client.register(FDS) == before
    client.cause(0)
    assert (old.count(), new.count()) == (0, 1)


def test_all_at_once_and_disable(client, event):
    events = [event() for _ in range(3)]
    before = client.register(FDS)
    client.set_irqs(ASSIGN, MSIX, 0, 3, [each.fd for each in events])
    assert client.register(FDS) == before + 3
    client.cause(2)
    client.set_irqs(DISABLE, MSIX, 0, 0)
    assert client.register(FDS) == before
    client.cause(1)
    assert [each.count() for each in events] == [0, 0, 1]


def test_msi(client, event):
    one = event()
    client.set_irqs(ASSIGN, MSI, 0, 1, [one.fd])
    client.cause(0)
    client.cause(2)
    assert one.count() == 2
    client.set_irqs(DISABLE, MSI, 0, 0)
    client.cause(0)
    assert one.count() == 0


def test_intx_is_automasked(client, event):
    line = event()
    client.set_irqs(ASSIGN, INTX, 0, 1, [line.fd])
    client.level(1)
    assert line.count() == 1
    client.level(0)
    client.level(1)
    assert line.count() == 0
    client.set_irqs(UNMASK, INTX, 0, 1)
    assert line.count() == 1                # still asserted
    client.level(0)
    client.set_irqs(UNMASK, INTX, 0, 1)
    assert line.count() == 0
    client.set_irqs(MASK, INTX, 0, 1)
    client.level(1)
    assert line.count() == 0
    client.set_irqs(UNMASK, INTX, 0, 1)
    assert line.count() == 1


def test_intx_with_resample_eventfd(client, event):
    """KVM's group: trigger, mask, resample, unmask."""
    line, resample = event(), event()
    client.set_irqs(ASSIGN, INTX, 0, 1, [line.fd])
    client.set_irqs(MASK, INTX, 0, 1)
    client.set_irqs(RESAMPLE, INTX, 0, 1, [resample.fd])
    client.set_irqs(UNMASK, INTX, 0, 1)
    client.level(1)
    assert line.count() == 1
    resample.signal()
    until(lambda: line.count() == 1)        # without a message of ours
    client.level(0)
    resample.signal()
    until(lambda: not resample.is_pending())
    client.level(1)
    until(lambda: line.count() == 1)
    client.set_irqs(DISABLE, INTX, 0, 0)
    resample.signal()
    client.level(1)
    assert line.count() == 0


def test_trigger_by_message(client, event):
    events = [event() for _ in range(3)]
    client.set_irqs(ASSIGN, MSIX, 0, 3, [each.fd for each in events])
    client.set_irqs(DISABLE, MSIX, 1, 2)            # count > 0: raise them
    assert [each.count() for each in events] == [0, 1, 1]
    client.set_irqs(BOOL_TRIGGER, MSIX, 0, 3, data=b"\1\0\1")
    assert [each.count() for each in events] == [1, 0, 1]


def test_masked_vector_is_pending(client, event):
    events = [event() for _ in range(3)]
    client.set_irqs(ASSIGN, MSIX, 0, 3, [each.fd for each in events])
    client.set_irqs(MASK, MSIX, 1, 1)
    client.cause(1)
    assert (events[1].count(), pba(client)) == (0, 2)
    client.set_irqs(UNMASK, MSIX, 1, 1)
    assert (events[1].count(), pba(client)) == (1, 0)


@pytest.mark.parametrize("index", [ERR, REQ])
def test_err_and_req(client, event, index):
    one = event()
    client.set_irqs(ASSIGN, index, 0, 1, [one.fd])
    client.set_irqs(DISABLE, index, 0, 1)
    assert one.count() == 1
    for flags in (MASK, UNMASK):
        refused(client, SET_IRQS, irqs_body(flags, index, 0, 1))
    client.set_irqs(ASSIGN, index, 0, 1)


def test_full_eventfd_is_no_obstacle(client, event):
    one = event()
    os.eventfd_write(one.fd, 2 ** 64 - 2)
    client.set_irqs(ASSIGN, MSIX, 0, 1, [one.fd])
    client.cause(0)
    client.cause(0)
    assert one.count() == 2 ** 64 - 2


@pytest.mark.parametrize("flags", [
    0, 1, 2, 4, 8, 16, 32,                  # no action, or no data type
    0x23, 0x25, 0x26, 0x27, 0x19, 0x31, 0x29, 0x39, 0x3f,   # too many of one
    0x64, 0x124, 0x80000024])               # unknown ones
def test_bad_flags(client, event, flags):
    before = client.register(FDS)
    refused(client, SET_IRQS, irqs_body(flags, MSIX, 0, 1))
    refused(client, SET_IRQS, irqs_body(flags, MSIX, 0, 1), [event().fd])
    assert client.register(FDS) == before


@pytest.mark.parametrize("index, start, count", [
    (5, 0, 1), (2 ** 32 - 1, 0, 1), (MSIX, 3, 1), (MSIX, 0, 4), (MSIX, 2, 2), (MSI, 1, 1),
    (MSIX, 2 ** 32 - 1, 1), (MSIX, 1, 2 ** 32 - 1), (MSIX, 2 ** 32 - 1, 2 ** 32 - 1), (INTX, 0, 2)])
def test_bad_ranges(client, event, index, start, count):
    before = client.register(FDS)
    refused(client, SET_IRQS, irqs_body(ASSIGN, index, start, count))
    refused(client, SET_IRQS, irqs_body(ASSIGN, index, start, count), [event().fd])
    assert client.register(FDS) == before


@pytest.mark.parametrize("flags, index, count, fds", [
    (ASSIGN, MSIX, 3, 2), (ASSIGN, MSIX, 2, 3), (ASSIGN, MSIX, 0, 1), (ASSIGN, MSIX, 3, 16),
    (DISABLE, MSIX, 0, 1), (DISABLE, MSIX, 1, 1), (MASK, INTX, 1, 1),
    (0x0c, INTX, 1, 1), (RESAMPLE, MSIX, 1, 1), (RESAMPLE, MSI, 1, 1)])
def test_fds_that_do_not_fit(client, event, flags, index, count, fds):
    before = client.register(FDS)
    refused(client, SET_IRQS, irqs_body(flags, index, 0, count), [event().fd] * fds)
    assert client.register(FDS) == before


def test_what_is_no_eventfd(client, ram):
    reader, writer = os.pipe()
    before = client.register(FDS)
    for fd in (reader, writer, ram.fd, client.socket.fileno()):
        refused(client, SET_IRQS, irqs_body(ASSIGN, MSIX, 0, 1), [fd])
        refused(client, SET_IRQS, irqs_body(RESAMPLE, INTX, 0, 1), [fd])
    assert client.register(FDS) == before
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("data, count", [(b"", 3), (b"\1\1", 3), (b"\1\1\1\1", 3), (b"\1", 0),
                                         (b"\1\1\1", 2 ** 32 - 1)])
def test_bool_data_that_do_not_fit(client, data, count):
    refused(client, SET_IRQS, irqs_body(BOOL_TRIGGER, MSIX, 0, count, data))


def test_wrong_bodies(client, event):
    before = client.register(FDS)
    short_bodies(client, SET_IRQS, irqs_body(ASSIGN, MSIX, 0, 1), [event().fd])
    small_argsz(client, SET_IRQS, irqs_body(ASSIGN, MSIX, 0, 1), [event().fd])
    small_argsz(client, SET_IRQS, irqs_body(BOOL_TRIGGER, MSIX, 0, 3, b"\1\1\1"))
    assert client.register(FDS) == before
    # The Rust client counts the header.
    client.call(SET_IRQS, irqs_body(ASSIGN, MSIX, 0, 1, argsz=36), [event().fd])


def test_no_reply(client, event):
    one = event()
    silent(client, SET_IRQS, irqs_body(ASSIGN, MSIX, 0, 1), [one.fd])
    client.cause(0)
    assert one.count() == 1
    silent(client, SET_IRQS, irqs_body(0, MSIX, 0, 1), [one.fd])
