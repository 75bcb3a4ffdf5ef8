// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#include "qpair.h"
void vmci_qpairs_end(void) { }
