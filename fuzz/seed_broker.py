#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Writes the seeds of corpus/broker: what has many steps, so that a fuzzer would be long in finding it.

The format is that of broker.c. Usage: seed_broker.py FOLDER
"""

import pathlib
import sys

ANY, HOST, TOKEN = 0, 3, 100    # as arguments: any id; context 2; a token instead of none
RESTART = bytes([39, 0, 0, 1])


def join(who, uid=1, wish=HOST):
    return bytes([0, who, uid, 2, wish, 0])


def vm(who, cid=b"\x14", rules=()):
    head = bytes([0, who, 0x80, 1 | len(rules) << 5]) + cid
    return head + b"".join(bytes(rule) for rule in rules) + bytes([0, 0, 0])


def token(index, count):
    """The token that was given as number @index, of @count."""
    return next(b for b in range(TOKEN, 240) if b % count == index)


def resource(index, count):
    """As an id: the resource of the handle that was given as number @index, of @count."""
    return next(b for b in range(128, 192) if b % count == index)


def create(what, who, rid=ANY, resume=0, more=b""):
    return bytes([what, who, 0, rid, resume]) + more


def region(who, rid=ANY, resume=0):
    return create(2, who, rid, resume, bytes([1, 0]))


def pair(who, rid=ANY, resume=0, handle=0):
    return create(3, who, rid, resume, bytes([handle, ANY, 3, 4, 0]))


def other_end(handle, peer=ANY):
    return bytes([handle, peer, 4, 3, 0])


def name(who, action, text, handle=0, resume=0):
    return bytes([18, who, action | text << 2, handle, resume, 63])


def hold_pair(who):
    return bytes([23, who]) + other_end(3, HOST) + bytes([token(3, 6)])


TWO = join(0) + join(1, 2)
PAIR = TWO + pair(0) + bytes([24, 1]) + other_end(2)
REGION = TWO + region(0) + bytes([21, 1, 2])
RIGHTS = TWO + create(0, 0) + create(0, 1) + create(4, 0)

# vm/vm, of 1 MiB: made, and a page in it; its token becomes the first, that of the region is the second
WINDOW_MADE = bytes([39, 0, 0, 0, 18, 0, 5, 3, ANY, 0])
WINDOW_SHOWN = bytes([39, 0, 0, 0, 3, 0, 5, token(0, 3), 9])

SEEDS = {
    "pair": PAIR + bytes([13, 0, 2]) + bytes([13, 1, 2]),
    "pair-death": PAIR + bytes([34, 0]) + bytes([34, 1]),
    "pair-held": PAIR + RESTART + TWO + hold_pair(1) + pair(0, resource(2, 6), token(2, 6)),
    "pair-offered": PAIR + RESTART + TWO + pair(0, resource(2, 6), token(2, 6)) + hold_pair(1) + bytes([37, 0, 0]),
    "pair-guest": join(0) + vm(1) + bytes([24, 0, 192, 20, 9, 0, 4, 3, 0, 1]) + bytes([34, 1]),
    "region": REGION + bytes([34, 0]) + bytes([12, 1, 2]),
    "region-held": REGION + RESTART + TWO + bytes([22, 1, 3, 0, 1, 0, token(3, 6)])
                   + region(0, resource(2, 6), token(2, 6)),
    "names": TWO + create(0, 0) + name(0, 1, 0, 2) + name(1, 0, 0) + name(1, 2, 0) + name(0, 2, 0) + name(0, 1, 1, 2)
             + bytes([10, 0, 2]) + name(1, 0, 1) + name(1, 0, 2) + name(0, 2, 2) + name(0, 1, 3, 2),
    "names-grace": join(0) + name(0, 1, 0, 0) + RESTART + join(0) + join(1, 2) + name(1, 1, 0, 0) + name(1, 0, 0),
    "rights": RIGHTS + bytes([26, 0, 2, 4, 0x10, 0]) + bytes([30, 0, 4, 192, HOST, 0, 1, 0])
              + bytes([29, 1, 2, 193, HOST, 16, 0]) + bytes([14, 0, 4]),
    "datagram": RIGHTS + bytes([15, 0, 33, 4, 3, 2]) + bytes(4) + bytes([16, 0, 35, 4, 3, 2]) + bytes(40),
    "firewall": join(0) + vm(1, rules=[(1, 3, 2, 0, 9), (1, 5, 2, 8, 9)]) + create(0, 0)
                + bytes([15, 0, 35, 0, 193, 20, 1, 0])
                + bytes([20, 0, 193, 20, 9]) + bytes([33, 0, 0]),
    "streams": TWO + vm(2, rules=[(1, 4, 2, 8, 9)]) + b"".join(
        bytes([40, who, 192, cid, port, listener]) for who in range(3) for cid in (HOST, 20) for port in (8, 9, 10)
        for listener in range(3)),
    "watch": join(0) + bytes([35, 0, 0]) + bytes([36, 0, 20, 1]) + vm(1) + bytes([34, 1]) + bytes([33, 0, 0]),
    "window": join(0) + WINDOW_MADE + RESTART + join(0) + WINDOW_SHOWN
              + create(2, 0, resource(1, 3), token(1, 3), bytes([3, 0]))
              + bytes([37, 0, 0]) + WINDOW_MADE + bytes([34, 0]),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for seed, data in SEEDS.items():
        (folder / f"seed-{seed}").write_bytes(data)


main()
