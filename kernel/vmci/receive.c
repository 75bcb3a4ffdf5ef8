// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* receive.c - drains: what the device hands out, from it to the endpoints */
#include <linux/delay.h>

#include "datagram.h"
#include "device.h"

/* Reads without a pause, which a flood of datagrams must not go beyond: the thread has a real-time priority. */
#define READS_MAX 64

static void take(struct vmci_device *vd, struct ovmci_datagram *dg)
{
	memcpy(vd->bounce, dg->payload, dg->size);
	dg->payload = vd->bounce;
	vmci_datagram_dispatch(dg);
}

void vmci_receive(struct vmci_device *vd)
{
	struct ovmci_datagram dg;
	unsigned int reads = 0;
	struct burst burst;

	burst_start(&burst, vd->buffer, vd->path->page);
	while (!vmci_is_dead(vd)) {
		switch (burst_next(&burst, &dg)) {
		case BURST_READ:
			if (++reads % READS_MAX == 0)
				usleep_range(1000, 2000);
			if (vd->path->read(vd, burst.at, burst.want))
				return;
			break;
		case BURST_DATAGRAM:
			take(vd, &dg);
			break;
		case BURST_BAD:
			dev_warn_ratelimited(&vd->pdev->dev, "a datagram of %llu bytes: what is behind it is lost\n",
					     burst.size);
			return;
		case BURST_END:
			return;
		}
	}
}
