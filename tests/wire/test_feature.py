# SPDX-License-Identifier: BSD-2-Clause
"""DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE: reference, 9.5. EINVAL means "no migration"."""

import struct

import pytest

from vfio_user import FEATURE, MIG_DATA_READ, MIG_DATA_WRITE
from wrong import refused, silent, unwanted_fds

GET, SET, PROBE = 1 << 16, 1 << 17, 1 << 18


@pytest.mark.parametrize("feature", [0, 1, 2, 6, 7, 8, 0xffff])
@pytest.mark.parametrize("what", [0, GET, SET, PROBE, PROBE | GET, PROBE | SET, 1 << 31])
def test_no_feature(client, feature, what):
    refused(client, FEATURE, struct.pack("=IIQ", 16, feature | what, 0))


@pytest.mark.parametrize("length", range(9))
def test_short_features(client, length):
    refused(client, FEATURE, struct.pack("=II", 8, 1 | GET)[:length])


@pytest.mark.parametrize("body", [b"", bytes(4), bytes(8), struct.pack("=II", 8, 100),
                                  struct.pack("=II", 8, 2 ** 32 - 1), struct.pack("=II", 12, 4) + b"data"])
@pytest.mark.parametrize("command", [MIG_DATA_READ, MIG_DATA_WRITE])
def test_no_migration_data(client, command, body):
    refused(client, command, body)


@pytest.mark.parametrize("command", [FEATURE, MIG_DATA_READ, MIG_DATA_WRITE])
def test_fds_and_no_reply(client, command):
    unwanted_fds(client, command, struct.pack("=II", 8, 1 | GET))
    silent(client, command, struct.pack("=II", 8, 1 | GET))
