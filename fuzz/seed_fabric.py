#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Writes the seeds of corpus/fabric: calls with their replies, questions, and what a vmcid can do wrong.

The format is that of fabric.c. Usage: seed_fabric.py FOLDER
"""

import pathlib
import struct
import sys

RAW, COOKED, CALL, QUESTIONS = range(4)
RIGHT = 15 << 2         # as many descriptors as the type has
REQUEST, REPLY, ASK, ANSWER = range(4)
TYPES = 31
HELLO, DG_CREATE, DG_DESTROY, DG_SEND, EVENTS, WATCH, BELL_CREATE, BELL_DESTROY, BELL_OPEN = range(1, 10)
QP_CREATE, QP_ATTACH, QP_HOLD, QP_DETACH, SHM_CREATE, SHM_QUERY, SHM_ATTACH = range(10, 17)
NAME, PRIV, GROUP_MEMBER, LIST, STREAM_CONNECT, SHM_ALLOC = 19, 20, 23, 24, 26, 28
STATUS = {QP_CREATE: 4, QP_ATTACH: 5}


def record(control, data=b""):
    return struct.pack("<BH", control, len(data)) + data


def raw(data, fds=0):
    return record(RAW | fds << 2, data)


def cooked(kind, type_, serial=1, status=None, flags=0, fds=RIGHT, tail=b"", data=b""):
    head = struct.pack("<BBbbB", type_, kind, serial,
                       STATUS.get(type_, 0) if status is None and kind != ASK else status or 0, flags)
    return record(COOKED | fds | (0x40 if data else 0), head + (data or tail))


def reply(type_, serial=1, **more):
    """To the next request: it is in the socket before."""
    return cooked(REPLY, type_, serial, **more)


def call(type_, flags=0, is_answering=False):
    return record(CALL | is_answering << 2, bytes([type_ | (0x80 if flags > 255 else 0), flags >> 4 if flags > 255 else flags]))


def questions(is_answered=True, is_end=False):
    return record(QUESTIONS | is_answered << 2 | is_end << 3)


FLAGS = {PRIV: 0x20, GROUP_MEMBER: 0x40}
DATA = {NAME: bytes(30), LIST: b"ctx 2\n", SHM_ALLOC: bytes(16) + b"vm/x"}


def seeds():
    for type_ in range(1, TYPES + 1):
        right = reply(type_, data=DATA.get(type_, b""))
        asked = call(type_, FLAGS.get(type_, 0))
        yield f"call-{type_}", right + asked + reply(type_, status=-19) + asked
        yield f"late-{type_}", asked + asked + reply(type_, 0, data=DATA.get(type_, b"")) + questions() + asked
        yield f"twice-{type_}", right + right + asked + asked
    yield "hello-device", call(HELLO, 3) + reply(HELLO, flags=0xf)
    yield "other-type", reply(BELL_OPEN) + call(LIST)
    yield "request", cooked(REQUEST, LIST) + questions()
    yield "answer", cooked(ANSWER, BELL_OPEN) + questions()
    for type_ in BELL_OPEN, QP_ATTACH, STREAM_CONNECT:
        for is_answered in False, True:
            yield f"ask-{type_}-{is_answered:d}", (
                cooked(ASK, type_, tail=b"\x10\x14\x14\x05") * 3 + reply(LIST) + call(LIST) + questions(is_answered))
        yield f"ask-{type_}-at-once", cooked(ASK, type_) * 3 + reply(LIST) + call(LIST, is_answering=True) + questions()
    # PENDING, and a stopper with it, or without
    pending, stopper = b"\x0d\x08", b"\x28\x05"
    connect = call(STREAM_CONNECT, 0x800)
    yield "connect-pending", reply(STREAM_CONNECT, tail=pending) + connect + reply(STREAM_CONNECT) + connect
    yield "ask-pending", cooked(ASK, STREAM_CONNECT, tail=pending + stopper) * 2 + questions()
    yield "ask-stopper", cooked(ASK, STREAM_CONNECT, tail=stopper) + questions()
    yield "asks-with-descriptors", cooked(ASK, STREAM_CONNECT) * 64 + questions(is_end=True)
    for name in (b"\0vmci/2/5000/1000.100.77/0123456789abc", b"\0vmci/42/1/vm/0123456789abc/guest",
                 b"/run/vmci/port/2/5000"):
        yield f"name-{len(name)}", raw(name)
    yield "asks", cooked(ASK, BELL_OPEN) * 64 + reply(LIST) + call(LIST) + questions()
    yield "too-many-asks", cooked(ASK, BELL_OPEN) * 65 + reply(LIST) + call(LIST)
    yield "pipeline", call(LIST) * 66 + reply(LIST, -65) + call(LIST)
    yield "end", call(LIST) + questions(is_end=True) + call(LIST)
    for fds in 0, 1, 4, 5, 8, 12, 15:
        yield f"raw-{fds}", raw(bytes(64), fds) + questions()
    yield "empty", raw(b"") + call(LIST)
    yield "short", raw(bytes(63)) + call(LIST)
    yield "big", raw(struct.pack("<HHIi", LIST, REPLY, 1, 0) + bytes(65000)) + call(LIST)
    for at in range(64):
        yield f"field-{at}", reply(WATCH, tail=bytes([at, 0x81])) + call(WATCH)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in seeds():
        (folder / name).write_bytes(data)


main()
