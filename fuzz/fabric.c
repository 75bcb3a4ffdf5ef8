/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The fabric's codec, and a client of it under a hostile vmcid.
 *
 * The input is a list of records: one byte of control, two of length, data. Bits 0 and 1 of the control say what it is:
 *
 *   0  vmcid sends the data as they are; bits 2-5: number of descriptors (0..15)
 *   1  vmcid sends a message that is right but for what the data say: type, kind, serial (counted from the last request
 *      that was sent), status, flags, then pairs of offset in the header and a byte that goes there, then, with
 *      bit 6, message data. Bits 2-5: number of descriptors, or, when 15, as many as the type has
 *   2  the client calls; data: type, flags. It does not wait. Bit 2: questions are answered at once meanwhile
 *   3  the client looks for questions, and answers; bit 2: with a descriptor; bit 3: then vmcid closes its side
 *
 * Every packet goes through the codec alone, too: what is parsed and built again gives the same bytes. And through that
 * of socket names.
 *
 * Checked: what the sanitizers see; the codec's round trip; results and state of the client agree; no descriptor leaked.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fd.h"
#include "fabric/address.h"
#include "fabric/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MOST_RECORDS 300u
#define MOST_FDS 15u

struct world {
	struct fab_client *client;
	int vmcid;
	uint32_t serial;	/* of the last request that was sent */
};

static uint8_t packet[FAB_MSG_MAX + 65536];

static void check(bool is_so)
{
	if (!is_so)
		abort();
}

/* --- Codec --------------------------------------------------------------------------------------------------- */

static void round_trip(const uint8_t *buf, size_t len, unsigned n_fds)
{
	struct fab_msg msg = { .fd = { 1, 2, 3, 4 } }, again = { 0 };
	uint8_t head[FAB_HEADER_SIZE];
	const char *why = fab_parse_why(buf, len, n_fds, &msg);

	check(fab_parse(buf, len, n_fds, &again) == (why ? -EBADMSG : 0));
	check(msg.fd[0] == 1 && msg.fd[FAB_FDS_MAX - 1] == 4);
	if (why) {
		check(*why && !msg.type && !msg.data);
		return;
	}
	check(!fab_check(&msg));
	check(*fab_type_to_string(msg.type) != '?');
	check(msg.n_fds == n_fds && n_fds <= FAB_FDS_MAX && msg.len == len - FAB_HEADER_SIZE);
	check(!msg.len || msg.data == buf + FAB_HEADER_SIZE);
	check(msg.status >= 0 || (!msg.len && !n_fds));
	fab_build(&msg, head);
	check(!memcmp(head, buf, sizeof(head)));
}

/* The same bytes as the name of a socket: what is read from an abstract one can be written, and read again. */
static void name(const uint8_t *buf, size_t len)
{
	struct fab_address address, again;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	socklen_t size;

	if (len > sizeof(sun.sun_path))
		return;
	memcpy(sun.sun_path, buf, len);
	size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	if (fab_address_parse(&sun, size, &address)) {
		check(fab_address_parse(&sun, size, &address) == -EINVAL);
		return;
	}
	if (address.kind == FAB_ADDRESS_PORT)
		return;
	size = fab_address_build(&address, 1, &sun);
	check(size <= sizeof(sun) && !fab_address_parse(&sun, size, &again));
	check(again.kind == address.kind && again.context == address.context && again.port == address.port);
	check(again.uid == address.uid && again.gid == address.gid && again.pid == address.pid);
	check(!strncmp(again.vm, address.vm, strlen(again.vm)));
}

/* --- vmcid --------------------------------------------------------------------------------------------------- */

static void send_packet(struct world *w, const uint8_t *buf, size_t len, unsigned n_fds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(MOST_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	round_trip(buf, len, n_fds);
	name(buf, len);
	if (n_fds) {
		memset(&control, 0, sizeof(control));
		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		for (unsigned i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &w->vmcid, sizeof(int));
	}
	/* What does not fit into the socket is lost. */
	sent = sendmsg(w->vmcid, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)sent;
}

/* How many descriptors does a message like this have? */
static unsigned right_fds(const uint8_t *buf, size_t len)
{
	struct fab_msg msg;

	for (unsigned n = 0; n <= FAB_FDS_MAX; n++)
		if (!fab_parse(buf, len, n, &msg))
			return n;
	return 0;
}

static void send_cooked(struct world *w, const uint8_t *data, size_t size, unsigned control)
{
	unsigned n_fds = control >> 2 & 15;
	size_t len = FAB_HEADER_SIZE;

	if (size < 5)
		return;
	memset(packet, 0, FAB_HEADER_SIZE);
	put_le16(packet, data[0]);
	put_le16(packet + 2, data[1]);
	put_le32(packet + 4, w->serial + (uint32_t)(int8_t)data[2]);
	put_le32(packet + 8, (uint32_t)(int8_t)data[3]);
	put_le32(packet + 12, data[4]);
	data += 5;
	size -= 5;
	if (control & 0x40) {
		memcpy(packet + FAB_HEADER_SIZE, data, size);
		len += size;
	} else {
		for (; size >= 2; data += 2, size -= 2)
			packet[data[0] % FAB_HEADER_SIZE] = data[1];
	}
	send_packet(w, packet, len, n_fds == 15 ? right_fds(packet, len) : n_fds);
}

/* Make room for what the client says. */
static void read_all(struct world *w)
{
	static uint8_t buf[FAB_MSG_MAX];
	struct fab_msg msg;

	while (!fab_recv(w->vmcid, buf, &msg)) {
		check(msg.kind == FAB_REQUEST || msg.kind == FAB_ANSWER);
		if (msg.kind == FAB_REQUEST)
			w->serial = msg.serial;
		fab_drop(&msg);
	}
}

/* --- Client -------------------------------------------------------------------------------------------------- */

static void answer_at_once(void *ctx, struct fab_msg *ask)
{
	struct world *w = ctx;
	struct fab_msg answer = { .type = ask->type, .serial = ask->serial, .status = VMCI_ERROR_NOT_FOUND };
	int r;

	check(ask->kind == FAB_ASK && fab_client_is_alive(w->client));
	r = fab_client_answer(w->client, &answer);
	check(fab_client_is_alive(w->client) == !r);
}

static void call(struct world *w, const uint8_t *data, size_t size, unsigned control)
{
	static const uint8_t zeros[FAB_HEADER_SIZE];
	struct fab_msg request = { 0 }, reply;
	bool was_alive = fab_client_is_alive(w->client);
	int r;

	if (size < 2)
		return;
	request.type = (enum fab_type)(data[0] % FAB_TYPE_NUM);
	request.flags = (uint32_t)data[1] << (data[0] & 0x80 ? 4 : 0);
	/* as much as the type has */
	for (request.n_fds = 0; fab_check(&request) && request.n_fds < FAB_FDS_MAX; request.n_fds++)
		request.fd[request.n_fds] = w->vmcid;
	if (fab_check(&request)) {
		request.n_fds = 0;
		request.data = zeros;
		request.len = 24;
		if (fab_check(&request))
			request.len = FAB_UUID_SIZE;
		if (fab_check(&request))
			return;
	}
	fab_client_on_ask(w->client, control & 4 ? answer_at_once : NULL, w);
	r = fab_client_call(w->client, &request, 0, &reply);
	check(r == 0 || r == -ETIMEDOUT || r == -ECONNRESET || r == -EPIPE);
	check(was_alive || r == -ECONNRESET);
	check(fab_client_is_alive(w->client) == (r == 0 || r == -ETIMEDOUT));
	if (!r) {
		volatile uint8_t sum = 0;

		check(reply.type == request.type && reply.kind == FAB_REPLY && reply.serial == request.serial);
		check(!fab_check(&reply));
		for (size_t i = 0; i < reply.len; i++)
			sum = (uint8_t)(sum + reply.data[i]);
		fab_drop(&reply);
	}
	read_all(w);
}

static void questions(struct world *w, unsigned control)
{
	struct fab_msg ask, answer;
	bool was_alive = fab_client_is_alive(w->client);
	unsigned n;
	int r;

	for (n = 0; !(r = fab_client_next(w->client, &ask)); n++) {
		check(ask.kind == FAB_ASK && !ask.len && !fab_check(&ask));
		fab_drop(&ask);
		answer = (struct fab_msg){ .type = ask.type, .serial = ask.serial, .status = VMCI_ERROR_NOT_FOUND };
		if (control & 4) {
			answer.kind = FAB_ANSWER;
			answer.status = ask.type == FAB_QP_ATTACH ? VMCI_SUCCESS_QUEUEPAIR_ATTACH : 0;
			for (; fab_check(&answer); answer.n_fds++)
				answer.fd[answer.n_fds] = w->vmcid;
		}
		r = fab_client_answer(w->client, &answer);
		check(r == 0 || r == -ECONNRESET);
		read_all(w);
	}
	check(r == (fab_client_is_alive(w->client) ? -EAGAIN : -ECONNRESET));
	check(was_alive || !n);
	if (control & 8)
		shutdown(w->vmcid, SHUT_RDWR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = { 0 };
	struct pollfd pollfd;
	int first, last, pair[2];

	/* The next descriptor number to be given is the same before and after, if none is leaked. */
	first = dup(0);
	close(first);
	check(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	check(!fab_client_new(pair[0], &w.client));
	w.vmcid = pair[1];
	round_trip(data, size, size & 3);
	for (unsigned i = 0; i < MOST_RECORDS && size >= 3; i++) {
		unsigned control = data[0];
		size_t len = get_le16(data + 1);
		const uint8_t *bytes = data + 3;

		if (len > size - 3)
			len = size - 3;
		data += 3 + len;
		size -= 3 + len;
		switch (control & 3) {
		case 0:
			send_packet(&w, bytes, len, control >> 2 & 15);
			break;
		case 1:
			send_cooked(&w, bytes, len, control);
			break;
		case 2:
			call(&w, bytes, len, control);
			break;
		default:
			questions(&w, control);
		}
	}
	questions(&w, 4);
	pollfd = (struct pollfd){ .fd = fab_client_fd(w.client), .events = POLLIN };
	check(poll(&pollfd, 1, 0) == !fab_client_is_alive(w.client));
	fab_client_free(w.client);
	fd_close(&w.vmcid);
	last = dup(0);
	close(last);
	check(first == last);
	return 0;
}
