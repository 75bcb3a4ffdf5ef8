/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * datagramApp - two programs say hello, with the datagrams and the discovery service of the VMCI SDK. See README.md.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vmci/vmci.h>
#include <vmci/vmcilib.h>

#define EXIT_USAGE (-1)
#define EXIT_INIT (-2)

#define SERVER_NAME "HOST INFO"
#define TO_SERVER "HELLO, SERVER!"
#define TO_CLIENT "HELLO, CLIENT!"
#define CLIENTS 3		/* the server has seen enough then */
#define BUFFER_SIZE 4096
#define PATIENCE_MS 10000	/* a client may be started a little before its server */

static void usage(const char *program)
{
	fprintf(stderr,
		"usage: %s [-d DEVICE] -s | -c\n"
		"  -s         be the server: answer %d clients\n"
		"  -c         be a client: greet the server\n"
		"  -d DEVICE  the VMCI device, or the runtime directory of the broker\n"
		"  -h         this text\n",
		program, CLIENTS);
}

static int failed(const char *what, int code)
{
	fprintf(stderr, "%s: %s (%d)\n", what, VMCI_ErrorString(code), code);
	return EXIT_FAILURE;
}

/* What came from others is anything at all: not a string, not printable, not for the terminal. */
static void print_text(const char *text, int size)
{
	for (int i = 0; i < size && text[i]; i++)
		putchar(isprint((unsigned char)text[i]) ? text[i] : '?');
	putchar('\n');
	fflush(stdout);
}

static int answer_clients(VMCIHandle endpoint)
{
	char buffer[BUFFER_SIZE];
	VMCIHandle client;
	int result;

	for (int i = 0; i < CLIENTS; i++) {
		result = VMCIDatagram_RecvFrom(endpoint, &client, buffer, sizeof(buffer));
		if (result < 0)
			return failed("receive", result);
		printf("%u:%u says: ", VMCI_HANDLE_TO_CONTEXT_ID(client), VMCI_HANDLE_TO_RESOURCE_ID(client));
		print_text(buffer, result);

		result = VMCIDatagram_SendTo(client, endpoint, sizeof(TO_CLIENT), TO_CLIENT);
		if (result < 0)
			return failed("send", result);
	}
	return EXIT_SUCCESS;
}

static int run_server(void)
{
	VMCIHandle endpoint = VMCIDatagram_CreateHnd(0), group;
	int result, status;

	if (VMCI_HANDLE_INVALID(endpoint)) {
		fprintf(stderr, "no endpoint could be made\n");
		return EXIT_FAILURE;
	}
	/* Here the server of 2007 found whom to allow to send to it. Who allows nobody in particular allows all. */
	result = VMCIDs_Lookup(VMCI_PUBLIC_GROUP_NAME, &group);
	if (result < 0)
		fprintf(stderr, "\"%s\": %s\n", VMCI_PUBLIC_GROUP_NAME, VMCI_ErrorString(result));

	result = VMCIDs_Register(SERVER_NAME, endpoint);
	if (result < 0) {
		status = failed("register \"" SERVER_NAME "\"", result);
	} else {
		printf("\"%s\" is %u:%u\n", SERVER_NAME, endpoint.context, endpoint.resource);
		fflush(stdout);
		status = answer_clients(endpoint);
		VMCIDs_Unregister(SERVER_NAME);
	}
	VMCIDatagram_DestroyHnd(endpoint);
	return status;
}

static int greet(VMCIHandle endpoint, VMCIHandle server)
{
	char buffer[BUFFER_SIZE];
	int result = VMCIDatagram_SendTo(server, endpoint, sizeof(TO_SERVER), TO_SERVER);

	if (result < 0)
		return failed("send", result);
	result = VMCIDatagram_RecvFrom(endpoint, NULL, buffer, sizeof(buffer));
	if (result < 0)
		return failed("receive", result);
	printf("the server says: ");
	print_text(buffer, result);
	return EXIT_SUCCESS;
}

static int run_client(void)
{
	VMCIHandle endpoint, server;
	int result, status;

	result = VMCIDs_LookupTimeout(SERVER_NAME, &server, PATIENCE_MS);
	if (result < 0)
		return failed("look up \"" SERVER_NAME "\"", result);
	endpoint = VMCIDatagram_CreateHnd(0);
	if (VMCI_HANDLE_INVALID(endpoint)) {
		fprintf(stderr, "no endpoint could be made\n");
		return EXIT_FAILURE;
	}
	status = greet(endpoint, server);
	VMCIDatagram_DestroyHnd(endpoint);
	return status;
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
