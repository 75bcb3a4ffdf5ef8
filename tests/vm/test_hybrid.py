# SPDX-License-Identifier: BSD-2-Clause
"""Programs of the host that get the hybrid socket wrong, or are just in the way."""

import os
import socket

import pytest
from beds import one_bed
from testbed import Listener, TestbedError, connect
from testbed.hybrid import open_socket, read_all

pytestmark = one_bed


def raw(bed, data=b""):
    sock = open_socket(bed.device.hybrid)
    sock.sendall(data)
    return sock


def streams_work(bed, port):
    guest = bed.vm.start(f"exec vsx echo {port}").expect("listening")
    with connect(bed.device.hybrid, port) as stream:
        stream.sendall(b"still there?")
        stream.shutdown(socket.SHUT_WR)
        assert read_all(stream) == b"still there?"
    guest.kill()
    guest.wait()


@pytest.mark.parametrize("line", [
    b"\n", b"CONNECT\n", b"CONNECT \n", b"CONNECT x\n", b"CONNECT -1\n", b"CONNECT 12x\n",
    b"CONNECT 4294967295\n", b"CONNECT 4294967296\n", b"CONNECT 18446744073709551617\n",
    b"connect 900\n", b"CONNECT\t900\n", b"CONNECT  900\n", b"CONNECT 900\0\n", b"GET / HTTP/1.1\r\n\r\n",
    b"\0\xff" * 500, b"C" * 100000, b"CONNECT 000000000000000000000000000000000000000900\n"],
    ids=lambda line: repr(line[:24]))
def test_garbage_is_refused(bed, line):
    with raw(bed) as sock:
        try:
            sock.sendall(line)
            assert read_all(sock) == b""
        except (ConnectionResetError, BrokenPipeError):
            pass    # closed before it had read everything: as good
    streams_work(bed, 900)


def test_silent_programs_are_in_nobodys_way(bed):
    silent = [raw(bed, b"CONN"[:i % 5]) for i in range(200)]
    streams_work(bed, 901)
    for sock in silent:
        assert sock.recv(1) == b"", "the device must give up on a program that says nothing"
        sock.close()


def test_request_in_pieces_and_data_right_behind(bed):
    guest = bed.vm.start("exec vsx echo 902").expect("listening")
    with raw(bed) as sock:
        for byte in b"CONNECT 902":
            sock.send(bytes([byte]))
        sock.send(b"\nimpatient")
        sock.shutdown(socket.SHUT_WR)
        answer = read_all(sock)
    assert answer.startswith(b"OK ") and answer.endswith(b"\nimpatient")
    guest.kill()
    guest.wait()


def test_programs_that_leave_at_once(bed):
    guest = bed.vm.start("exec vsx echo 903").expect("listening")
    for _ in range(100):
        raw(bed).close()
        raw(bed, b"CONNECT 903").close()
        raw(bed, b"CONNECT 903\n").close()
        raw(bed, b"CONNECT 903\nand data").close()
    with connect(bed.device.hybrid, 903) as stream:
        stream.sendall(b"x")
        assert stream.recv(1) == b"x"
    guest.kill()
    guest.wait()


def test_guest_that_never_accepts(bed):
    """The guest's kernel completes connections up to the backlog; more are refused."""
    guest = bed.vm.start("exec socat VSOCK-LISTEN:904,backlog=3 EXEC:cat & wait").expect("")
    streams, refused = [], 0
    for _ in range(20):
        try:
            streams.append(connect(bed.device.hybrid, 904))
        except ConnectionError:
            refused += 1
    assert refused
    for stream in streams:
        stream.close()
    guest.kill()
    guest.wait()


@pytest.mark.parametrize("obstacle", ["file", "directory", "dead socket"])
def test_what_is_no_listener_refuses_the_guest(bed, obstacle):
    path = f"{bed.device.hybrid}_905"
    if obstacle == "file":
        open(path, "w").close()
    elif obstacle == "directory":
        os.mkdir(path)
    else:
        Listener(bed.device.hybrid, 905).socket.close()
    with pytest.raises(TestbedError, match="ECONNRESET"):
        bed.vm.run("vsx connect 2 905")
    os.rmdir(path) if obstacle == "directory" else os.unlink(path)


def test_host_program_that_never_accepts(bed):
    """Only as many streams wait as the program's backlog takes; the others are refused."""
    with Listener(bed.device.hybrid, 906) as listener:
        listener.socket.listen(2)
        guest = bed.vm.start("for i in 1 2 3 4 5 6 7 8; do vsx connect 2 906; done; true")
        output = guest.check()
        assert 2 <= output.count("connected") <= 4
        assert output.count("ECONNRESET") == 8 - output.count("connected")
    streams_work(bed, 907)


def test_guest_cannot_reach_the_hypervisor_or_a_neighbour(bed):
    for cid, errors in ("0", "EHOSTUNREACH"), ("43", "EHOSTUNREACH|EINVAL|ECONNRESET|ENODEV"):
        with pytest.raises(TestbedError, match=errors):
            bed.vm.run(f"vsx connect {cid} 908")
