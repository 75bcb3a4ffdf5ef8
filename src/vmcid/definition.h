/* SPDX-License-Identifier: BSD-2-Clause */
/* What a VM is to be: vms/<name>.vmx, read. Pure. The keys: vmcid(8), DEFINITIONS. */
#ifndef VMCID_DEFINITION_H
#define VMCID_DEFINITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/uuid.h"
#include "broker/broker.h"
#include "proto/limits.h"

/* uuid.bios and uuid.location */
#define DEFINITION_UUIDS 2u

/* Name of a VM, as it stands in paths of sockets; their length is bounded by the kernel (107 bytes). */
#define DEFINITION_NAME_MAX 48u
/* VMCI SDK reference, 9: at most 31 characters. */
#define DEFINITION_DOMAIN_MAX 31u
/* A rule is looked at for every datagram; nobody knows more than a handful in use. */
#define DEFINITION_RULES_MAX 64u
/* The N of vmci.filter<N>. */
#define DEFINITION_RANK_MAX 65535u
/*
 * A window is an address range of the guest's PCI bus, and memory of the host. When somebody goes, all that he had in
 * it is cleared at once, and vmcid does nothing else meanwhile: 0.4 ms for each MiB that was used, measured on a busy
 * machine. So all of the largest is a fifth of what a device waits for vmcid (LIMIT_FABRIC_CALL_MS).
 */
#define DEFINITION_WINDOW_MIN 65536u
#define DEFINITION_WINDOW_MAX (256ull << 20)

/**
 * struct definition - a VM
 * @present:      false: it has no VMCI device
 * @id:           wished context id (16 or more), or VMCI_INVALID_ID: none
 * @bumped:       @id stands for a wish below 16
 * @window:       bytes of the shared-memory window; 0: none
 * @uuid:         the first @n_uuids are there: what a VM is known by to other tools
 * @rules:        of the device firewall, in the order in which they are looked at; none unless vmci.filter.enable is
 *		  TRUE
 */
struct definition {
	char name[DEFINITION_NAME_MAX + 1];
	bool present;
	bool bumped;
	uint32_t id;
	char domain[DEFINITION_DOMAIN_MAX + 1];
	bool unrestricted;
	bool restricted;
	bool classic;
	bool msi;
	bool hybrid;
	uint64_t window;
	uint8_t uuid[DEFINITION_UUIDS][UUID_SIZE];
	unsigned n_uuids;
	struct brk_filter_rule rules[DEFINITION_RULES_MAX];
	size_t n_rules;
};

/**
 * definition_name() - the VM's name from a file's name "NAME.vmx"
 *
 * Names have 1..DEFINITION_NAME_MAX letters, digits and "._-+@ ", and begin with a letter or digit.
 * Return: 0; -ENOENT: this is no definition's file (no .vmx, or hidden); -EINVAL: not a name for a VM
 */
int definition_name(const char *file, char ret_name[static DEFINITION_NAME_MAX + 1]);

#define DEFINITION_REASON_SIZE 200u

/* definition_warn_fn - something in a definition is odd, though not wrong */
typedef void definition_warn_fn(void *ctx, const char *line);

/**
 * definition_parse() - read a definition
 * @text: @len bytes
 * @warn: called for what is odd
 * @ret_reason: written on -EBADMSG: "line 7: ..."
 *
 * What is not ours is ignored, what is ours must be right: a mistake in a rule must not become a rule less.
 * Return: 0; -EBADMSG; -ENOMEM
 */
int definition_parse(const char *name, const char *text, size_t len, definition_warn_fn *warn, void *ctx,
		     struct definition *ret_definition, char ret_reason[static DEFINITION_REASON_SIZE]);

#endif /* VMCID_DEFINITION_H */
