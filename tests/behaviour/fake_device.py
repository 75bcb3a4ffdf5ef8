#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Plays vmci-device for vmcid: the same options, a context without a guest. What "the VMM" writes into its connection
are commands, one a line; each is answered by a line."""

import argparse
import json
import os
import pathlib
import select
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from testbed.fabric import (ANSWER, ASK, ATTACHED, BELL_OPEN, DEVICE, DG_SEND, HELLO, NO_TOKEN,    # noqa: E402
                            NOT_FOUND, REPLY, RESUME, VERSION, Ended, Link, Message, Sink, datagram, eventfd, memfd,
                            parse_datagram, parse_event, qp_memory_size)

parser = argparse.ArgumentParser()
for name in "conn-fd", "fabric-fd", "cid":
    parser.add_argument("--" + name, type=int, required=True)
for name in "rendezvous", "name", "log":
    parser.add_argument("--" + name, required=True)
parser.add_argument("--hybrid")
parser.add_argument("--window-fd", type=int)
for name in "once", "classic", "msi", "no-sandbox":
    parser.add_argument("--" + name, action="store_true")


class Fake:
    def __init__(self, options):
        self.options = options
        self.conn = socket.socket(fileno=options.conn_fd)
        self.conn.setblocking(True)
        self.datagrams, self.events = Sink(), Sink()
        self.link, self.token, self.flags = None, NO_TOKEN, DEVICE
        self.cid, self.label = options.cid, options.name.encode()
        self.how = "answer"
        self.bells, self.pairs, self.hellos = [], [], []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pathlib.Path(options.rendezvous).unlink(missing_ok=True)
        self.listener.bind(options.rendezvous)
        self.listener.listen()
        self.join(socket.socket(fileno=options.fabric_fd))

    def join(self, sock):
        sock.setblocking(True)
        self.link = Link(sock)
        try:
            self.link.send(Message(HELLO, serial=1, size0=VERSION, handle=(self.cid, 0), flags=self.flags,
                                   token=self.token, data=self.label, fds=[self.datagrams, self.events]))
            reply = self.link.recv()
        except Ended:
            self.leave()
            return
        self.hellos.append(reply.status)
        if reply.status < 0:
            self.leave()
        else:
            self.token, self.flags = reply.token, DEVICE | RESUME

    def leave(self):
        if self.link:
            self.link.close()
        self.link = None

    def answer(self, ask):
        assert ask.kind == ASK, ask
        if self.how == "silent":
            return
        reply = Message(ask.type, ANSWER, ask.serial)
        if self.how == "refuse":
            reply.status = NOT_FOUND
        elif self.how == "twice":
            self.link.send(Message(ask.type, ANSWER, ask.serial, NOT_FOUND))
            reply.status = NOT_FOUND
        elif self.how == "nonsense":
            reply.fds = [Sink() for _ in range(1 if ask.type == BELL_OPEN else 2)]
            reply.status = 0 if ask.type == BELL_OPEN else ATTACHED
        elif ask.type == BELL_OPEN:
            self.bells.append(eventfd())
            reply.fds = self.bells[-1:]
        else:
            ours, theirs = socket.socketpair()
            memory = memfd(qp_memory_size(ask.size0, ask.size1))
            self.pairs.append((memory, ours, ask.other[0]))
            reply.status, reply.fds = ATTACHED, [memory, theirs]
        self.link.send(reply)

    def send(self, line):
        """send CONTEXT RESOURCE: a datagram from resource 77; its status."""
        dst = tuple(int(word) for word in line)
        self.link.send(Message(DG_SEND, serial=9, data=datagram(dst, (self.cid, 77), b"from the guest")))
        while True:
            message = self.link.recv()
            if message.kind == REPLY:
                return str(message.status)
            self.answer(message)

    def command(self, line):
        word, *rest = line.split()
        if word == "options":
            return json.dumps(vars(self.options) | {"pid": os.getpid(), "sid": os.getsid(0), "argv": sys.argv})
        if word in ("answer", "silent", "refuse", "twice", "nonsense"):
            self.how = word
            return word
        if word == "hellos":
            return json.dumps(self.hellos)
        if word == "rung":
            return str(os.eventfd_read(self.bells[-1]))
        if word == "peer":
            return str(self.pairs[-1][2])
        if word == "send":
            return self.send(rest)
        if word == "received":
            return repr(parse_datagram(self.datagrams.ours.recv(70000)))
        if word == "event":
            return repr(parse_event(self.events.recv()))
        if word == "leave":
            self.leave()
            return word
        if word == "unasked":
            self.link.send(Message(BELL_OPEN, ANSWER, 4711, NOT_FOUND))
            return word
        if word == "forge":
            self.token = bytes(16)
            return word
        if word == "claim":
            self.label = rest[0].encode()
            return word
        if word == "linger":
            # The VM has gone, but not all that it said is delivered.
            self.conn.close()
            self.leave()
            self.listener.close()
            time.sleep(float(rest[0]))
            sys.exit(0)
        if word == "exit":
            sys.exit(int(rest[0]))
        raise ValueError(line)

    def turn(self):
        watched = [self.conn, self.listener] + ([self.link] if self.link else [])
        ready = select.select(watched, [], [])[0]
        if self.listener in ready:
            self.join(self.listener.accept()[0])
        elif self.link in ready:
            try:
                self.answer(self.link.recv())
            except Ended:
                self.leave()
        elif self.conn in ready:
            try:
                line = self.conn.recv(1000).decode()
            except ConnectionResetError:
                line = ""
            if not line:
                sys.exit(0)
            self.conn.sendall(self.command(line).encode() + b"\n")


def main():
    fake = Fake(parser.parse_args())
    try:
        while True:
            fake.turn()
    finally:
        pathlib.Path(fake.options.rendezvous).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
