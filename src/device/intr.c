/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DOC: Theory of operation
 *
 * A guest with several vectors never reads ICR, so each event sends its message whatever is still
 * pending there. A guest with one vector reads ICR once per interrupt; the read acknowledges. The
 * INTx line is the level of what is pending and allowed (VMCI reference, 1.3 and 2).
 *
 * Events before INT_ENABLE stay pending in ICR, and fire when they are enabled and unmasked.
 */
#include "device/priv.h"

/* Send the messages of @causes. */
static void fire(struct dev *dev, uint32_t causes)
{
	for (unsigned i = 0; causes >> i; i++)
		if (causes >> i & 1)
			dev->ports.interrupt(dev->ports.ctx, i);
}

static uint32_t allowed(const struct dev *dev)
{
	return dev->intr.enabled ? dev->intr.imr & VMCI_CAUSE_ALL : 0;
}

void dev_intr_update(struct dev *dev)
{
	bool pending = (dev->intr.icr & allowed(dev)) != 0;
	bool level = pending && dev_space_has_intx(&dev->space);

	dev_space_set_pending(&dev->space, pending && dev->config.intx);
	if (level == dev->intr.level)
		return;
	dev->intr.level = level;
	dev->ports.intx(dev->ports.ctx, level);
}

void dev_intr_clear(struct dev *dev)
{
	dev->intr.icr = 0;
	dev->intr.imr = 0;
	dev->intr.enabled = false;
	dev_intr_update(dev);
}

void dev_intr_raise(struct dev *dev, uint32_t cause)
{
	dev->intr.icr |= cause;
	dev_intr_update(dev);
	fire(dev, cause & allowed(dev));
}

uint32_t dev_intr_ack(struct dev *dev)
{
	uint32_t icr = dev->intr.icr;

	dev->intr.icr = 0;
	dev_intr_update(dev);
	return icr;
}

/* Causes that become allowed and are pending fire. */
static void allow(struct dev *dev, uint32_t before)
{
	dev_intr_update(dev);
	fire(dev, dev->intr.icr & allowed(dev) & ~before);
}

void dev_intr_set_mask(struct dev *dev, uint32_t imr)
{
	uint32_t before = allowed(dev);

	dev->intr.imr = imr;
	allow(dev, before);
}

void dev_intr_set_enabled(struct dev *dev, bool enabled)
{
	uint32_t before = allowed(dev);

	dev->intr.enabled = enabled;
	/* A guest that read ICR before it enabled interrupts still has to learn what waits for it. */
	if (enabled && dev->inbox.count)
		dev->intr.icr |= VMCI_CAUSE_DATAGRAM;
	allow(dev, before);
}
