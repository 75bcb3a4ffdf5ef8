/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * shmx - shared memory of libvmci, for tests: in guests and on the host
 *
 *	create SIZE TEXT		make a region, write TEXT to its beginning, say "ready C:R", and wait
 *	attach C:R [TEXT]		say "SIZE TEXT" of what is there; write TEXT behind the first 64 bytes
 *	hold C:R			attach, say "ready C:R", and wait
 *	query C:R			say the size
 *	twice C:R			attach twice; the second result
 *	fill N SIZE			make as many as there can be, N at most; how many, why no more; and just end
 *	nobody ...			any of these as a user without rights
 *	ask HEX				the payload HEX to the service; what it answers, in hexadecimal digits
 *
 * What waits ends with a line on standard input, or its end: first it says what has been written to its region, at 0
 * and at 64, and what detaching came to. An error is "CODE: reason", and status 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vmci/vmci.h>

static struct vmci *vmci;

static int failed(int code)
{
	printf("%d: %s\n", code, vmci_errmsg());
	return 1;
}

static struct vmci_handle handle_of(const char *text)
{
	struct vmci_handle h = { 0, 0 };

	if (sscanf(text, "%u:%u", &h.context, &h.resource) != 2)
		exit(2);
	return h;
}

static void say(const char *text, size_t size)
{
	for (size_t i = 0; i < size && i < 64 && text[i]; i++)
		putchar(text[i] >= ' ' && text[i] <= '~' ? text[i] : '?');
}

static int hold(struct vmci_shm *shm)
{
	struct vmci_handle h = vmci_shm_handle(shm);
	const char *address = vmci_shm_address(shm);
	int c;

	printf("ready %u:%u\n", h.context, h.resource);
	fflush(stdout);
	do
		c = getchar();
	while (c != EOF && c != '\n');
	printf("[");
	say(address, vmci_shm_size(shm));
	printf("] [");
	if (vmci_shm_size(shm) > 64)
		say(address + 64, vmci_shm_size(shm) - 64);
	printf("] detach %d\n", vmci_shm_detach(shm));
	return 0;
}

static int create(const char *size, const char *text)
{
	struct vmci_shm *shm;
	const char *address;
	int r = vmci_shm_create(vmci, VMCI_INVALID_ID, strtoull(size, NULL, 0), &shm);

	if (r)
		return failed(r);
	address = vmci_shm_address(shm);
	for (uint64_t i = 0; i < vmci_shm_size(shm); i++)
		if (address[i]) {
			printf("not zero at %llu\n", (unsigned long long)i);
			return 1;
		}
	strncpy(vmci_shm_address(shm), text, 64 < vmci_shm_size(shm) ? 64 : vmci_shm_size(shm));
	return hold(shm);
}

static int attach(struct vmci_handle handle, const char *text, int is_to_hold)
{
	struct vmci_shm *shm;
	int r = vmci_shm_attach(vmci, handle, &shm);

	if (r)
		return failed(r);
	if (is_to_hold)
		return hold(shm);
	printf("%llu ", (unsigned long long)vmci_shm_size(shm));
	say(vmci_shm_address(shm), vmci_shm_size(shm));
	printf("\n");
	if (text)
		strncpy((char *)vmci_shm_address(shm) + 64, text, 64);
	r = vmci_shm_detach(shm);
	return r < 0 ? failed(r) : 0;
}

static int query(struct vmci_handle handle)
{
	uint64_t size;
	int r = vmci_shm_query(vmci, handle, &size);

	if (r)
		return failed(r);
	printf("%llu\n", (unsigned long long)size);
	return 0;
}

static int twice(struct vmci_handle handle)
{
	struct vmci_shm *first, *second;
	int r = vmci_shm_attach(vmci, handle, &first);

	if (r)
		return failed(r);
	return failed(vmci_shm_attach(vmci, handle, &second));
}

static int fill(int n, uint64_t size)
{
	struct vmci_shm *shm;
	int i, r = 0;

	for (i = 0; i < n && !r; i++)
		r = vmci_shm_create(vmci, VMCI_INVALID_ID, size, &shm);
	printf("%d, then %d: %s\n", r ? i - 1 : i, r, r ? vmci_errmsg() : "");
	fflush(stdout);
	/* Neither detached nor closed. */
	_exit(0);
}

static unsigned char digits(const char *hex)
{
	unsigned byte;

	if (sscanf(hex, "%2x", &byte) != 1)
		exit(2);
	return (unsigned char)byte;
}

static int ask_from(uint32_t port, const unsigned char *payload, size_t size)
{
	struct vmci_handle service = { VMCI_CID_WELL_KNOWN, VMCI_RID_SHM }, src;
	unsigned char answer[2048];
	struct vmci_dgram *dgram;
	int r = vmci_dgram_open(vmci, port, &dgram);

	if (!r)
		r = vmci_dgram_send(dgram, service, payload, size);
	if (r >= 0)
		r = vmci_dgram_recv(dgram, answer, sizeof(answer), 10000, &src);
	if (r < 0)
		return failed(r);
	for (int i = 0; i < r; i++)
		printf("%02x", answer[i]);
	printf("\n");
	return 0;
}

static int ask(const char *hex)
{
	unsigned char payload[256];
	size_t n = strlen(hex) / 2;

	if (n > sizeof(payload))
		return 2;
	for (size_t i = 0; i < n; i++)
		payload[i] = digits(hex + 2 * i);
	return ask_from(VMCI_INVALID_ID, payload, n);
}

int main(int argc, char **argv)
{
	int r;

	if (argc > 2 && !strcmp(argv[1], "nobody")) {
		if (setuid(65534))
			return 2;
		argc--;
		argv++;
	}
	if (argc < 3)
		return 2;
	r = vmci_open(NULL, VMCI_CID_HOST, 0, &vmci);
	if (r)
		return failed(r);
	if (!strcmp(argv[1], "create") && argc == 4)
		r = create(argv[2], argv[3]);
	else if (!strcmp(argv[1], "attach"))
		r = attach(handle_of(argv[2]), argc == 4 ? argv[3] : NULL, 0);
	else if (!strcmp(argv[1], "hold"))
		r = attach(handle_of(argv[2]), NULL, 1);
	else if (!strcmp(argv[1], "query"))
		r = query(handle_of(argv[2]));
	else if (!strcmp(argv[1], "twice"))
		r = twice(handle_of(argv[2]));
	else if (!strcmp(argv[1], "fill") && argc == 4)
		r = fill(atoi(argv[2]), strtoull(argv[3], NULL, 0));
	else if (!strcmp(argv[1], "ask"))
		r = ask(argv[2]);
	else
		r = 2;
	fflush(stdout);
	vmci_close(vmci);
	return r;
}
