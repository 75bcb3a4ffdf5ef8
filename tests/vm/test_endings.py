# SPDX-License-Identifier: BSD-2-Clause
"""How streams end: by the host, by the guest, by murder. Nobody hangs, nothing is lost."""

import hashlib
import os

from testbed import Listener, connect
from testbed.hybrid import read_all


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def hold(bed, port, count, what):
    """Guest streams that read or write until they end; the guest command and our ends."""
    with Listener(bed.device.hybrid, port) as listener:
        guest = bed.vm.start(f"exec vsx hold 2 {port} {count} {what}")
        streams = [listener.accept() for _ in range(count)]
        guest.expect(f"holding {count}")
    return guest, streams


def test_host_closes_first_and_reader_sees_the_end(bed):
    guest, streams = hold(bed, 800, 3, "read")
    for stream in streams:
        stream.close()
    assert guest.check().count("EOF") == 3


def test_host_closes_first_and_writer_sees_an_error(bed):
    guest, streams = hold(bed, 801, 3, "write")
    for stream in streams:
        assert stream.recv(4096)
        stream.close()
    assert guest.check().count("EPIPE") == 3


def test_one_of_many_closed_leaves_the_rest(bed):
    guest, streams = hold(bed, 802, 3, "write")
    streams[1].close()
    guest.expect("EPIPE")
    for _ in range(10):
        assert streams[0].recv(1 << 20) and streams[2].recv(1 << 20)
    streams[0].close()
    streams[2].close()
    assert "all ended" in guest.check()


def test_guest_reader_killed(bed):
    guest, streams = hold(bed, 803, 3, "read")
    guest.kill(9)
    assert guest.wait() == 128 + 9
    for stream in streams:
        assert read_all(stream) == b""
        stream.close()


def test_guest_writer_killed(bed):
    guest, streams = hold(bed, 804, 3, "write")
    for stream in streams:
        assert stream.recv(4096)
    guest.kill(9)
    assert guest.wait() == 128 + 9
    for stream in streams:
        read_all(stream)
        stream.close()


def test_guest_listener_killed(bed):
    guest = bed.vm.start("exec vsx echo 805").expect("listening")
    streams = [connect(bed.device.hybrid, 805) for _ in range(5)]
    guest.kill(9)
    guest.wait()
    for stream in streams:
        assert read_all(stream) == b""
        stream.close()


def test_unread_bytes_survive_the_guest_writer(bed):
    """The guest's pages go with the detach; what was in them must have been saved."""
    bed.vm.run("head -c 200000 /dev/urandom >/tmp/last")
    with Listener(bed.device.hybrid, 806) as listener:
        guest = bed.vm.start("socat -u OPEN:/tmp/last VSOCK-CONNECT:2:806; sha256sum </tmp/last")
        with listener.accept() as stream:
            sent = guest.check().split()[0]
            assert sha256(read_all(stream)) == sent


def test_unread_bytes_survive_the_host_writer(bed):
    guest = bed.vm.start("socat -d -d -u VSOCK-LISTEN:807 SYSTEM:"
                         "'while [ ! -e /tmp/read ]; do sleep 0.1; done; sha256sum' 2>&1")
    guest.expect("listening on")
    data = os.urandom(200000)
    with connect(bed.device.hybrid, 807) as stream:
        stream.sendall(data)
    bed.vm.run("touch /tmp/read")
    assert sha256(data) in guest.check()
    bed.vm.run("rm /tmp/read")


def test_connect_and_close_many_times(bed):
    for _ in range(5 if bed.path == "classic" else 50):
        guest, streams = hold(bed, 808, 4, "read")
        guest.kill(15)
        for stream in streams:
            assert read_all(stream) == b""
            stream.close()
