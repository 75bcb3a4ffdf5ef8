/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doorbellApp - one program rings, another one hears it, with <vmci/vmci.h>. See README.md.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <vmci/vmci.h>

#define EXIT_USAGE 2

#define SERVER_NAME "DOORBELL"
#define RINGS 3			/* unless -n says otherwise */
#define RINGS_MAX 1000000ul
#define PATIENCE_MS 10000

static void usage(const char *program)
{
	fprintf(stderr,
		"usage: %s [-d DIRECTORY] [-o] [-n RINGS] -s | -c\n"
		"  -s            be the server: wait for the doorbell to be rung\n"
		"  -c            be the client: ring it\n"
		"  -n RINGS      so often (%d)\n"
		"  -o            in a context of one's own instead of the host's\n"
		"  -d DIRECTORY  the runtime directory of the broker\n"
		"  -h            this text\n",
		program, RINGS);
}

static int failed(const char *what, int64_t code)
{
	fprintf(stderr, "%s: %s (%s)\n", what, vmci_errmsg(), vmci_strerror((int)code));
	return EXIT_FAILURE;
}

static int listen_for(struct vmci_doorbell *doorbell, unsigned long rings)
{
	uint64_t heard = 0;

	while (heard < rings) {
		int64_t result = vmci_doorbell_wait(doorbell, -1);

		if (result < 0)
			return failed("wait", result);
		/* who rings twice while nobody listens is heard once, but counted twice */
		heard += (uint64_t)result;
		printf("rung %lld times, %llu in all\n", (long long)result, (unsigned long long)heard);
		fflush(stdout);
	}
	return EXIT_SUCCESS;
}

static int run_server(struct vmci *vmci, unsigned long rings)
{
	struct vmci_doorbell *doorbell;
	struct vmci_handle handle;
	int status, result;

	result = vmci_doorbell_open(vmci, VMCI_INVALID_ID, &doorbell);
	if (result < 0)
		return failed("open", result);
	handle = vmci_doorbell_handle(doorbell);
	result = vmci_name_register(vmci, SERVER_NAME, handle);
	if (result < 0) {
		status = failed("register", result);
	} else {
		printf("\"%s\" is %u:%u\n", SERVER_NAME, handle.context, handle.resource);
		fflush(stdout);
		status = listen_for(doorbell, rings);
		vmci_name_unregister(vmci, SERVER_NAME);
	}
	vmci_doorbell_close(doorbell);
	return status;
}

static int run_client(struct vmci *vmci, unsigned long rings)
{
	struct vmci_ringer *ringer;
	struct vmci_handle handle;
	int result;

	result = vmci_name_lookup(vmci, SERVER_NAME, PATIENCE_MS, &handle);
	if (result < 0)
		return failed("look up", result);
	result = vmci_ringer_open(vmci, handle, &ringer);
	if (result < 0)
		return failed("open", result);
	for (unsigned long i = 0; i < rings && result >= 0; i++)
		result = vmci_ringer_ring(ringer);
	vmci_ringer_close(ringer);
	if (result < 0)
		return failed("ring", result);
	printf("rung %lu times\n", rings);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	int server = 0, client = 0, option, result, status;
	const char *directory = NULL;
	uint32_t cid = VMCI_CID_HOST;
	unsigned long rings = RINGS;
	struct vmci *vmci;
	char *end;

	while ((option = getopt(argc, argv, "d:hn:osc")) != -1) {
		switch (option) {
		case 'd':
			directory = optarg;
			break;
		case 'n':
			rings = strtoul(optarg, &end, 10);
			if (*end || rings < 1 || rings > RINGS_MAX) {
				usage(argv[0]);
				return EXIT_USAGE;
			}
			break;
		case 'o':
			cid = VMCI_INVALID_ID;
			break;
		case 's':
			server = 1;
			break;
		case 'c':
			client = 1;
			break;
		default:
			usage(argv[0]);
			return option == 'h' ? EXIT_SUCCESS : EXIT_USAGE;
		}
	}
	if (server == client || optind != argc) {
		usage(argv[0]);
		return EXIT_USAGE;
	}

	result = vmci_open(directory, cid, 0, &vmci);
	if (result < 0)
		return failed("no membership", result);
	status = server ? run_server(vmci, rings) : run_client(vmci, rings);
	vmci_close(vmci);
	return status;
}
