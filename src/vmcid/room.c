/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Room for descriptors that are sent: the kernel counts those that were not received yet, for the user who sends, which
 * is us. So they are taken from the user whose connection it is. Theory: peer.c
 */
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "peer_priv.h"

/* When a peer has read everything, it has received all descriptors, too. */
static void settle(struct peer *peer)
{
	int n;

	if (!peer->in_flight || ioctl(peer->fd, SIOCOUTQ, &n) || n)
		return;
	user_drop(peer->user, peer->in_flight);
	peer->in_flight = 0;
}

bool room_take(struct peer *peer, unsigned n)
{
	settle(peer);
	if (user_take(peer->user, n))
		return true;
	for (struct peer *other = peer->server->peers; other; other = other->next)
		settle(other);
	return user_take(peer->user, n);
}

bool room_reserve(struct peer *peer, unsigned n)
{
	if (!room_take(peer, n))
		return false;
	peer->reserved += n;
	return true;
}

void room_unreserve(struct peer *peer, unsigned n)
{
	if (n > peer->reserved)
		n = peer->reserved;
	user_drop(peer->user, n);
	peer->reserved -= n;
}
