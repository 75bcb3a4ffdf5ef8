/* SPDX-License-Identifier: BSD-2-Clause */
#include "mail.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/closer.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/dg.h"
#include "proto/limits.h"

int mail_open(struct mail *mail)
{
	int size = LIMIT_MAIL_BUFFER, fd[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd))
		return -errno;
	closer_refuse(fd[0]);
	closer_refuse(fd[1]);
	/* As much as the system allows: what does not fit waits in vmcid. */
	(void)setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	mail->fd = fd[0];
	mail->sink = fd[1];
	mail->held = 0;
	return 0;
}

void mail_close(struct mail *mail)
{
	fd_close(&mail->fd);
	fd_close(&mail->sink);
	mail->held = 0;
}

static bool is_datagram(const uint8_t *dg, size_t size)
{
	return size >= VMCI_DG_HEADER_SIZE && size <= VMCI_DG_MAX_SIZE &&
	       dg_parse(dg).payload_size == size - VMCI_DG_HEADER_SIZE;
}

size_t mail_peek(struct mail *mail)
{
	for (unsigned i = 0; !mail->held && i < LIMIT_MAIL_TURN; i++) {
		ssize_t n = recv(mail->fd, mail->dg, sizeof(mail->dg), MSG_DONTWAIT | MSG_TRUNC);

		if (n < 0)
			return 0;
		if (is_datagram(mail->dg, (size_t)n))
			mail->held = (size_t)n;
		else
			log_debug("fabric: %zd bytes that are no datagram", n);
	}
	return mail->held;
}

void mail_drop(struct mail *mail)
{
	mail->held = 0;
}

void mail_drain(struct mail *mail)
{
	char byte;

	mail->held = 0;
	for (unsigned i = 0; i < LIMIT_MAIL_DRAIN && recv(mail->fd, &byte, 1, MSG_DONTWAIT) >= 0; i++)
		;
}
