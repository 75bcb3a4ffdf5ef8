# SPDX-License-Identifier: BSD-2-Clause
"""Privileges, groups, and who may talk to whom at all. VMCI SDK reference, 5 and 10.2."""

import pytest
from testbed.fabric import (ADD, ALREADY_EXISTS, ASSIGN, ASSIGN_CLIENT, BELL_OPEN, CHECK, CH_PRIV, DG_SEND_PRIV,
                            GRANTED, GROUP_DESTROY, GROUP_MEMBER, INVALID, INVALID_ARGS, INVALID_PRIV, NOT_FOUND,
                            NO_ACCESS, REMOVE, REMOVE_ALL, RESTRICTED, SHM_ATTACH, SM_ATTACH, Bell, Endpoint, Group,
                            Region, as_user)
from testbed.process import until

SEND, ATTACH = 1 << DG_SEND_PRIV, 1 << SM_ATTACH


@pytest.fixture
def third(vmcid):
    return vmcid.connect(INVALID)


def may_attach(client, handle):
    reply = client.call(SHM_ATTACH, handle=handle)
    reply.close()
    return reply.status


def test_open_until_the_first_grant(host, soft, third):
    target, sender, other = Endpoint(host), Endpoint(soft), Endpoint(third)
    assert sender.send(target.handle, b"x") == 25
    assert host.priv(ADD, target.handle, (soft.cid, 0), SEND) == 0
    assert sender.send(target.handle, b"x") == 25
    assert other.send(target.handle, b"x") == NO_ACCESS
    # the owner's context always passes
    assert Endpoint(host).send(target.handle, b"x") == 25
    assert host.priv(REMOVE_ALL, target.handle, (soft.cid, 0)) == 0
    # which does not make it open again
    assert sender.send(target.handle, b"x") == NO_ACCESS


def test_deny_goes_before_allow(host, soft, third):
    target = Endpoint(host)
    assert host.priv(ADD, target.handle, (soft.cid, 0), SEND, SEND) == 0
    assert Endpoint(soft).send(target.handle) == NO_ACCESS
    assert host.priv(ADD, target.handle, (soft.cid, 0), SEND) == 0
    assert Endpoint(soft).send(target.handle) == 24
    assert host.priv(REMOVE, target.handle, (soft.cid, 0), SEND) == 0
    assert Endpoint(soft).send(target.handle) == NO_ACCESS


def test_a_grant_for_a_context_that_is_not_there_yet(vmcid, host):
    target = Endpoint(host)
    assert host.priv(ADD, target.handle, (4711, 0), SEND) == 0
    assert Endpoint(vmcid.connect(4711)).send(target.handle) == 24


def test_regions(host, soft, third):
    region = Region(host)
    assert host.priv(ADD, region.handle, (soft.cid, 0), ATTACH) == 0
    assert may_attach(third, region.handle) == NO_ACCESS
    assert may_attach(soft, region.handle) == 0


def test_check(host, soft, third):
    target = Endpoint(host)
    host.priv(ADD, target.handle, (soft.cid, 0), SEND)
    for client in host, soft, third:
        assert client.priv(CHECK, target.handle, (soft.cid, 0), SEND) == GRANTED
        assert client.priv(CHECK, target.handle, (third.cid, 0), SEND) == NO_ACCESS
    assert host.priv(CHECK, target.handle, (soft.cid, 0), ATTACH) == INVALID_PRIV


def test_what_cannot_be(host, soft):
    target, region = Endpoint(host), Region(host)
    subject = (soft.cid, 0)
    assert host.priv(ADD, target.handle, subject) == INVALID_ARGS
    assert host.priv(ADD, target.handle, subject, ATTACH) == INVALID_PRIV
    assert host.priv(ADD, region.handle, subject, SEND) == INVALID_PRIV
    for mask in 1 << 7, 1 << 32, 1 << 63, (1 << 64) - 1:
        assert host.priv(ADD, target.handle, subject, mask) < 0
        assert host.priv(ADD, target.handle, subject, 0, mask) < 0
    for handle in (2, 4711), (INVALID, INVALID), (0, 0), (4711, 1024):
        assert host.priv(ADD, handle, subject, SEND) < 0
    for wrong in (INVALID, INVALID), (soft.cid, 1), (2, 4711):
        assert host.priv(ADD, target.handle, wrong, SEND) < 0
    assert Endpoint(soft).send(target.handle) == 24     # all of this closed nothing


def test_only_the_owner_grants(vmcid, host, soft, third, needs_root):
    with as_user(12345):
        owner, stranger = vmcid.connect(INVALID), vmcid.connect(INVALID)
    target = Endpoint(owner)
    for flags in ADD, REMOVE, REMOVE_ALL:
        assert stranger.priv(flags, target.handle, (stranger.cid, 0), 0 if flags == REMOVE_ALL else SEND) == NO_ACCESS
    # until it is given that right
    assert owner.priv(ADD, target.handle, (stranger.cid, 0), 1 << CH_PRIV) == 0
    assert Endpoint(stranger).send(target.handle) == NO_ACCESS
    assert stranger.priv(ADD, target.handle, (stranger.cid, 0), SEND) == 0
    assert Endpoint(stranger).send(target.handle) == 24


def test_a_new_resource_has_no_old_grants(host, soft, third):
    target = Endpoint(host, 5000)
    host.priv(ADD, target.handle, (soft.cid, 0), SEND)
    assert Endpoint(third).send(target.handle) == NO_ACCESS
    target.destroy()
    again = Endpoint(host, 5000)
    assert Endpoint(third).send(again.handle) == 24


# --- Groups --------------------------------------------------------------------------------------------------

def test_a_group(host, soft, third):
    group = Group(host)
    member = (soft.cid, 0)
    assert group.has(member) == 0
    assert group.add(member, ASSIGN) == 0
    assert group.has(member) == 1
    assert group.change(ADD, member) == ALREADY_EXISTS
    target = Endpoint(host)
    assert host.priv(ADD, target.handle, group.handle, SEND) == 0
    assert Endpoint(soft).send(target.handle) == 24
    assert Endpoint(third).send(target.handle) == NO_ACCESS
    assert group.remove(member) == 0
    assert group.remove(member) == NOT_FOUND
    assert group.has(member) == 0
    assert Endpoint(soft).send(target.handle) == NO_ACCESS


def test_a_member_without_assign(host, soft):
    group, target = Group(host), Endpoint(host)
    group.add((soft.cid, 0))
    host.priv(ADD, target.handle, group.handle, SEND)
    assert Endpoint(soft).send(target.handle) == NO_ACCESS


def test_one_s_own_entry_goes_before_the_group_s(host, soft):
    group, target = Group(host), Endpoint(host)
    group.add((soft.cid, 0), ASSIGN)
    host.priv(ADD, target.handle, group.handle, SEND)
    host.priv(ADD, target.handle, (soft.cid, 0), 0, SEND)
    assert Endpoint(soft).send(target.handle) == NO_ACCESS


def test_the_public_group(host, soft, third):
    target = Endpoint(host)
    group = host.lookup(b"vmci public group")
    assert host.priv(ADD, target.handle, group, SEND) == 0
    assert Endpoint(soft).send(target.handle) == 24
    assert host.priv(ADD, target.handle, (third.cid, 0), 0, SEND) == 0
    assert Endpoint(third).send(target.handle) == NO_ACCESS
    for flags in ADD, REMOVE:
        assert soft.call(GROUP_MEMBER, flags=flags, handle=group, other=(soft.cid, 0)).status < 0
    assert soft.call(GROUP_MEMBER, flags=CHECK, handle=group, other=(soft.cid, 0)).status == 1
    assert soft.call(GROUP_DESTROY, handle=group).status < 0
    assert host.call(GROUP_DESTROY, handle=group).status < 0


def test_a_destroyed_group(host, soft):
    group, target = Group(host), Endpoint(host)
    group.add((soft.cid, 0), ASSIGN)
    host.priv(ADD, target.handle, group.handle, SEND)
    assert group.destroy() == 0
    assert Endpoint(soft).send(target.handle) == NO_ACCESS
    assert group.has((soft.cid, 0)) == NOT_FOUND
    assert group.destroy() == NOT_FOUND


def test_groups_of_others(vmcid, host, needs_root):
    with as_user(12345):
        owner, stranger = vmcid.connect(INVALID), vmcid.connect(INVALID)
    group = Group(owner)
    for flags in ADD, REMOVE:
        assert stranger.call(GROUP_MEMBER, flags=flags, handle=group.handle,
                             other=(stranger.cid, 0)).status == NO_ACCESS
    assert stranger.call(GROUP_DESTROY, handle=group.handle).status == NO_ACCESS
    assert owner.priv(ADD, group.handle, (stranger.cid, 0), 1 << ASSIGN_CLIENT) == 0
    assert stranger.call(GROUP_MEMBER, flags=ADD, handle=group.handle, other=(stranger.cid, 0)).status == 0


def test_a_group_goes_with_its_client(vmcid, host, soft):
    other = vmcid.connect()
    handle = Group(other).handle
    other.close()
    until("the group to be gone",
          lambda: host.call(GROUP_MEMBER, flags=CHECK, handle=handle, other=(2, 0)).status == NOT_FOUND)


# --- The coarse rule -----------------------------------------------------------------------------------------

def test_restricted_and_not_trusted(vmcid, host, needs_root):
    with as_user(12345):
        recluse, stranger = vmcid.connect(INVALID, flags=RESTRICTED), vmcid.connect(INVALID)
    inside, outside, mine = Endpoint(recluse), Endpoint(stranger), Endpoint(host)
    bells = Bell(recluse), Bell(stranger)
    regions = Region(recluse), Region(stranger)
    assert inside.send(outside.handle) == NO_ACCESS
    assert outside.send(inside.handle) == NO_ACCESS
    assert recluse.call(BELL_OPEN, handle=bells[1].handle).status == NO_ACCESS
    assert stranger.call(BELL_OPEN, handle=bells[0].handle).status == NO_ACCESS
    assert may_attach(recluse, regions[1].handle) == NO_ACCESS
    assert may_attach(stranger, regions[0].handle) == NO_ACCESS
    # root is trusted
    assert inside.send(mine.handle) == 24
    assert mine.send(inside.handle) == 24
    assert inside.send(inside.handle) == 24
    text = vmcid.process.text()
    assert "info" in text and "restricted" in text, text
