/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LIB_NAME_H
#define LIB_NAME_H

#include "proto/handle.h"

struct vmci;

/* name_forget() - @handle is no more: the broker has dropped its names, and no new one shall hear of them */
void name_forget(struct vmci *vmci, struct vmci_handle handle);

#endif /* LIB_NAME_H */
