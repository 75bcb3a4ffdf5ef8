/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The names of the fabric's sockets: which VMCI address, and who, is at an end of a stream. One codec for vmcid, which
 * gives the names, and for those who read them. Pure.
 *
 *	of a port	the path RUNTIME-DIRECTORY "/port/" CONTEXT "/" PORT: of listeners and of what they accept
 *	of who connects	abstract: "\0vmci/" CONTEXT "/" PORT "/" WHO "/" UNIQUE [ "/" VM ]
 *			WHO: UID "." GID "." PID of a program, "vm" of a guest; UNIQUE: 13 hexadecimal digits;
 *			VM: its name, as configured, only of a guest
 *
 * Numbers are decimal, without zeros in front. What can be believed of a name: fabric protocol, 13.
 */
#ifndef FABRIC_ADDRESS_H
#define FABRIC_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The folder of ports in the runtime directory. */
#define FAB_PORT_FOLDER "port"

#define FAB_VM_NAME_MAX 64u

enum fab_address_kind {
	FAB_ADDRESS_PORT,	/* a path: a port that was bound, or a guest that was connected to */
	FAB_ADDRESS_PROGRAM,
	FAB_ADDRESS_VM,
};

/**
 * struct fab_address - what a name says
 * @uid, @gid, @pid: of a program; else 0
 * @vm: name of the VM, of a guest; else ""
 */
struct fab_address {
	enum fab_address_kind kind;
	uint32_t context;
	uint32_t port;
	uint32_t uid;
	uint32_t gid;
	int32_t pid;
	char vm[FAB_VM_NAME_MAX + 1];
};

/**
 * fab_address_build() - the abstract name of who connects (not FAB_ADDRESS_PORT)
 * @unique: its lower 52 bits count; random, so that nobody has the name already
 *
 * Return: the length of the address
 */
socklen_t fab_address_build(const struct fab_address *address, uint64_t unique, struct sockaddr_un *ret_sun);

/**
 * fab_address_parse() - read a name, as getsockname(2), getpeername(2) or accept(2) give it
 *
 * Return: 0; -EINVAL: it is not one of the fabric's
 */
int fab_address_parse(const struct sockaddr_un *sun, socklen_t len, struct fab_address *ret_address);

#endif /* FABRIC_ADDRESS_H */
