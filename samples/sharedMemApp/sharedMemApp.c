/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sharedMemApp - a clock in shared memory, with the VMCI SDK. See README.md.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <vmci/vmci.h>
#include <vmci/vmcilib.h>

#define EXIT_USAGE (-1)
#define EXIT_INIT (-2)

#define SERVER_NAME "HOST TIME"
#define REGION_SIZE 128
#define SERVER_TICKS 10
#define CLIENT_TICKS 3
#define PATIENCE_MS 10000	/* a client may be started a little before its server */

static void usage(const char *program)
{
	fprintf(stderr,
		"usage: %s [-d DEVICE] -s | -c\n"
		"  -s         be the server: write the time for %d seconds\n"
		"  -c         be a client: read it %d times\n"
		"  -d DEVICE  the VMCI device, or the runtime directory of the broker\n"
		"  -h         this text\n",
		program, SERVER_TICKS, CLIENT_TICKS);
}

static int failed(const char *what, int code)
{
	fprintf(stderr, "%s: %s (%d)\n", what, VMCI_ErrorString(code), code);
	return EXIT_FAILURE;
}

static void write_time(char *region)
{
	char text[REGION_SIZE] = "";
	time_t now = time(NULL);
	struct tm local;

	if (localtime_r(&now, &local))
		strftime(text, sizeof(text), "%a %b %d %H:%M:%S %Z %Y", &local);
	/* its end too, so that whatever a reader sees half changed still is a string */
	memcpy(region, text, sizeof(text));
}

static int serve(VMCIHandle handle, char *region)
{
	VMCIHandle group;
	int result;

	/* Here the server of 2007 found whom to allow to attach; who allows nobody in particular allows everybody. */
	result = VMCIDs_Lookup(VMCI_PUBLIC_GROUP_NAME, &group);
	if (result < 0)
		fprintf(stderr, "\"%s\": %s\n", VMCI_PUBLIC_GROUP_NAME, VMCI_ErrorString(result));

	result = VMCIDs_Register(SERVER_NAME, handle);
	if (result < 0)
		return failed("register \"" SERVER_NAME "\"", result);
	printf("\"%s\" is %u:%u\n", SERVER_NAME, handle.context, handle.resource);
	fflush(stdout);
	for (int i = 0; i < SERVER_TICKS; i++) {
		write_time(region);
		sleep(1);
	}
	result = VMCIDs_Unregister(SERVER_NAME);
	return result < 0 ? failed("unregister", result) : EXIT_SUCCESS;
}

static int run_server(void)
{
	void *region;
	VMCIHandle handle = VMCISharedMem_Create(REGION_SIZE, &region);
	int status;

	if (VMCI_HANDLE_INVALID(handle)) {
		fprintf(stderr, "no shared memory could be made\n");
		return EXIT_FAILURE;
	}
	memset(region, 0, REGION_SIZE);
	status = serve(handle, region);
	/* the creator has no other end than this, either; who is attached keeps the memory */
	VMCISharedMem_Detach(handle);
	return status;
}

/* The server may write meanwhile, and may be anybody: look at a copy. */
static void print_time(const char *region)
{
	char text[REGION_SIZE + 1];

	memcpy(text, region, REGION_SIZE);
	text[REGION_SIZE] = '\0';
	printf("the time is ");
	for (const char *c = text; *c; c++)
		putchar(isprint((unsigned char)*c) ? *c : '?');
	putchar('\n');
	fflush(stdout);
}

static int run_client(void)
{
	VMCIHandle handle;
	uint32_t size;
	void *region;
	int result;

	result = VMCIDs_LookupTimeout(SERVER_NAME, &handle, PATIENCE_MS);
	if (result < 0)
		return failed("look up \"" SERVER_NAME "\"", result);
	result = VMCISharedMem_Query(handle, &size);
	if (result < 0)
		return failed("query", result);
	if (size != REGION_SIZE) {
		fprintf(stderr, "query: %u bytes instead of %d\n", size, REGION_SIZE);
		return EXIT_FAILURE;
	}
	result = VMCISharedMem_Attach(handle, &region, &size);
	if (result < 0)
		return failed("attach", result);
	for (int i = 0; i < CLIENT_TICKS; i++) {
		print_time(region);
		sleep(1);
	}
	result = VMCISharedMem_Detach(handle);
	return result < 0 ? failed("detach", result) : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	int server = 0, client = 0, option, result, status;
	const char *device = NULL;

	while ((option = getopt(argc, argv, "d:hsc")) != -1) {
		switch (option) {
		case 'd':
			device = optarg;
			break;
		case 's':
			server = 1;
			break;
		case 'c':
			client = 1;
			break;
		default:
			usage(argv[0]);
			return EXIT_USAGE;
		}
	}
	if (server == client || optind != argc) {
		usage(argv[0]);
		return EXIT_USAGE;
	}

	result = VMCI_InitApp(device);
	if (result < 0) {
		failed("VMCI_InitApp", result);
		/* which paths were tried */
		if (result == VMCI_ERROR_DEVICE_NOT_FOUND)
			fprintf(stderr, "%s\n", vmci_errmsg());
		return EXIT_INIT;
	}
	status = server ? run_server() : run_client();
	VMCI_CleanupApp();
	return status;
}
