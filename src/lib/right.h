/* SPDX-License-Identifier: BSD-2-Clause */
/* What a membership has granted, and its groups: kept to tell it to a new broker. */
#ifndef LIB_RIGHT_H
#define LIB_RIGHT_H

#include "fabric/client.h"

struct rights;

/* right_new() - 0; VMCI_ERROR_NO_MEM, with vmci_errmsg() */
int right_new(struct rights **ret_rights);

/* right_free() - NULL is fine */
void right_free(struct rights *rights);

/* right_resume() - as resume() of an object; after all objects, which the grants are about */
int right_resume(struct rights *rights, struct fab_client *client);

/* right_forget() - @handle is no more, and nothing that was granted on it */
void right_forget(struct rights *rights, struct vmci_handle handle);

#endif /* LIB_RIGHT_H */
