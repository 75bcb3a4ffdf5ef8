/* SPDX-License-Identifier: BSD-2-Clause */
#include "driver.h"

static void read_bytes(struct driver *d, uint8_t *to, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (d->before)
			d->before(d->ctx);
		to[i] = inb(d->rig, VMCI_REG_DATA_IN);
		d->bytes++;
	}
	d->bursts++;
}

/* Reference 3.5, steps 1 to 3. Positions are offsets into the buffer B. */
void driver_drain_ports(struct driver *d)
{
	uint8_t *b = d->buffer;
	size_t cur = PAGE, dg = 0, rem;

	/* 1 */
	read_bytes(d, b, cur);
	rem = cur;

	/* 2 */
	while (get_le32(b + dg + 4) != VMCI_INVALID_ID || rem > PAGE) {
		uint64_t size;
		size_t len;

		/* 2.1 */
		if (get_le32(b + dg + 4) == VMCI_INVALID_ID) {
			dg = (dg / PAGE + 1) * PAGE;
			rem = cur - dg;
			continue;
		}
		/* 2.2 */
		size = VMCI_DG_HEADER_SIZE + get_le64(b + dg + 16);
		/* 2.4 is for datagrams that a device never sends. */
		assert_true(size <= VMCI_DG_MAX_SIZE);
		len = (size_t)(size + 7) / 8 * 8;
		/* 2.3 */
		if (len > rem) {
			memmove(b, b + dg, rem);
			cur = VMCI_DG_MAX_SIZE;
			read_bytes(d, b + rem, cur - rem);
			dg = 0;
			rem = cur;
		}
		d->dispatch(d->ctx, b + dg, (size_t)size);
		dg += len;
		/* 2.5 */
		rem = cur - dg;
		if (rem < VMCI_DG_HEADER_SIZE) {
			read_bytes(d, b, cur);
			dg = 0;
			rem = cur;
		}
	}
}

/* Reference 3.6: dispatch up to the end marker; ask again if there was no room for one. */
void driver_drain_dma(struct driver *d)
{
	size_t off;

	do {
		const uint8_t *area = receive_dma(d->rig);

		d->receives++;
		for (off = 0; AREA_SIZE - off >= VMCI_DG_HEADER_SIZE;) {
			size_t size = VMCI_DG_HEADER_SIZE + (size_t)get_le64(area + off + 16);

			if (get_le32(area + off + 4) == VMCI_INVALID_ID)
				return;
			assert_true(size <= AREA_SIZE - off);
			d->dispatch(d->ctx, area + off, size);
			off += dg_padded(size);
		}
	} while (AREA_SIZE - off < VMCI_DG_HEADER_SIZE);
}
