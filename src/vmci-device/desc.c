/* SPDX-License-Identifier: BSD-2-Clause */
#include "desc.h"

void desc_make(const struct dev *dev, const char *name, bool intx, struct vus_desc *ret_desc)
{
	*ret_desc = (struct vus_desc){ .name = name };
	for (unsigned bar = 0; bar < 6; bar++)
		if (dev_bar_size(dev, bar))
			ret_desc->region[bar] = (struct vus_region){
				.size = dev_bar_size(dev, bar),
				.flags = VUS_REGION_READ | VUS_REGION_WRITE,
				.fd = -1,
			};
	ret_desc->region[VUS_REGION_CONFIG] = (struct vus_region){
		.size = 256,
		.flags = VUS_REGION_READ | VUS_REGION_WRITE,
		.fd = -1,
	};
	ret_desc->irq_count[VUS_IRQ_INTX] = intx;
	ret_desc->irq_count[VUS_IRQ_MSI] = dev_msi_count(dev);
	ret_desc->irq_count[VUS_IRQ_MSIX] = dev_msix_count(dev);
	ret_desc->irq_count[VUS_IRQ_ERR] = 1;
	ret_desc->irq_count[VUS_IRQ_REQ] = 1;
	ret_desc->pba_region = 1;
	ret_desc->pba_offset = dev_pba_offset(dev);
}
