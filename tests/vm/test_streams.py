# SPDX-License-Identifier: BSD-2-Clause
"""Streams that do what streams should: bulk, many at once, half-closed, slow readers."""

import hashlib
import os
import socket

import pytest
from testbed import Listener, TestbedError, connect, echo_server, until
from testbed.hybrid import read_all
from testbed.transfer import guest_to_host, host_to_guest

MIB = 1 << 20


def bulk_size(bed):
    return 4 * MIB if bed.path == "classic" else 64 * MIB


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def open_stream(bed, opener, port, command):
    """A stream between a guest command and us; VSOCK in command is its address for socat."""
    if opener == "guest":
        with Listener(bed.device.hybrid, port) as listener:
            running = bed.vm.start(command.replace("VSOCK", f"VSOCK-CONNECT:2:{port}"))
            return listener.accept(), running
    running = bed.vm.start(command.replace("VSOCK", f"VSOCK-LISTEN:{port}"))

    def attempt():
        try:
            return connect(bed.device.hybrid, port)
        except ConnectionError:
            return None
    return until("the guest to listen", attempt), running


def test_driver_binds_and_knows_its_context(bed):
    assert {bed.vm.driver, bed.vm.transport} <= {line.split()[0] for line in bed.vm.run("lsmod").splitlines()}
    assert bed.vm.run(f"ls -d /sys/bus/pci/drivers/{bed.vm.driver}/0000:*").count("0000:") == 1
    with Listener(bed.device.hybrid, 700) as listener:
        bed.vm.run("vsx connect 2 700")
        listener.accept().close()


def test_guest_to_host(bed):
    transfer = guest_to_host(bed.device, bed.vm, bulk_size(bed))
    assert transfer.received == transfer.sent


def test_host_to_guest(bed):
    transfer = host_to_guest(bed.device, bed.vm, bulk_size(bed))
    assert transfer.received == transfer.sent


def test_short_bulks_to_the_guest_do_not_stall(bed):
    """Its driver may take a WROTE for data that it has read already, and then sleep."""
    for _ in range(1 if bed.path == "classic" else 20):
        assert host_to_guest(bed.device, bed.vm, 2 * MIB).is_right


def test_one_stream_both_ways_at_once(bed):
    with echo_server(bed.device.hybrid, 701):
        assert "ok 1 streams" in bed.vm.run(f"vsx streams 2 701 1 {bulk_size(bed) // 8}")


def test_hundred_streams_of_the_guest(bed):
    with echo_server(bed.device.hybrid, 702) as server:
        size = bulk_size(bed) // 1024
        assert f"ok 100 streams, {size} bytes" in bed.vm.run(f"vsx streams 2 702 100 {size}")
        assert len(server.accepted) == 100


def test_hundred_streams_of_the_host(bed):
    bed.vm.start("vsx echo 703").expect("listening")
    streams = [connect(bed.device.hybrid, 703) for _ in range(100)]
    content = [os.urandom(20000) for _ in streams]
    for stream, data in zip(streams, content):
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
    for stream, data in zip(streams, content):
        assert read_all(stream) == data
        stream.close()


@pytest.mark.parametrize("opener", ["guest", "host"])
def test_guest_half_closes_first(bed, opener):
    stream, guest = open_stream(bed, opener, 704, "echo question | socat -t60 - VSOCK | sha256sum")
    with stream:
        assert read_all(stream) == b"question\n"
        answer = os.urandom(MIB)
        stream.sendall(answer)
    assert guest.check().split()[0] == sha256(answer)


@pytest.mark.parametrize("opener", ["guest", "host"])
def test_host_half_closes_first(bed, opener):
    stream, guest = open_stream(bed, opener, 705, "socat -t60 VSOCK EXEC:sha256sum")
    with stream:
        question = os.urandom(MIB)
        stream.sendall(question)
        stream.shutdown(socket.SHUT_WR)
        assert read_all(stream).split()[0].decode() == sha256(question)
    guest.check()


def test_slow_host_reader_holds_nobody_up_and_loses_nothing(bed):
    bed.vm.run(f"head -c {4 * MIB} /dev/urandom >/tmp/slow")
    sent = bed.vm.run("sha256sum </tmp/slow").split()[0]
    stream, guest = open_stream(bed, "guest", 706, "socat -u OPEN:/tmp/slow VSOCK")
    with stream:
        transfer = guest_to_host(bed.device, bed.vm, MIB, port=707)
        assert transfer.is_right
        assert guest.status is None, "4 MiB went into a stream that nobody reads"
        assert sha256(read_all(stream)) == sent
    guest.check()
    bed.vm.run("rm /tmp/slow")


def test_slow_guest_reader_holds_nobody_up_and_loses_nothing(bed):
    stream, guest = open_stream(
        bed, "host", 708,
        "socat -u VSOCK SYSTEM:'while [ ! -e /tmp/go ]; do sleep 0.1; done; sha256sum'")
    data = os.urandom(4 * MIB)
    with stream:
        stream.setblocking(False)
        sent = 0
        while True:
            try:
                sent += stream.send(data[sent:])
            except BlockingIOError:
                break
        assert sent < len(data), "4 MiB went into a stream that nobody reads"
        assert host_to_guest(bed.device, bed.vm, MIB, port=709).is_right
        bed.vm.run("touch /tmp/go")
        stream.settimeout(180)
        stream.sendall(data[sent:])
    assert guest.check().split()[0] == sha256(data)
    bed.vm.run("rm /tmp/go")


def test_single_bytes_arrive_at_once(bed):
    """Nothing waits for more to come: each byte crosses before the next is sent."""
    stream, guest = open_stream(bed, "guest", 710, "socat VSOCK EXEC:cat")
    with stream:
        for byte in b"interactive":
            stream.send(bytes([byte]))
            assert stream.recv(100) == bytes([byte])
    guest.check()


def test_nobody_listens_on_the_host(bed):
    # After an INVALID, the guest's driver takes the RST for its echo and waits on.
    error = "ETIMEDOUT" if bed.path == "legacy" else "ECONNRESET"
    with pytest.raises(TestbedError, match=error):
        bed.vm.run("vsx connect 2 711")


def test_nobody_listens_in_the_guest(bed):
    with pytest.raises(ConnectionError):
        connect(bed.device.hybrid, 712)
