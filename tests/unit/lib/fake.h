/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A broker that obeys: a server in a thread of the test. It grants what is asked for, notes every request, and can be
 * told to fail at the n-th request of a type, in any way. It keeps nothing of what the rules of a broker are.
 */
#ifndef FAKE_H
#define FAKE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fabric/link.h"
#include "vmci/vmci.h"

/* No wait in a test is longer. */
#define LIMIT_MS 20000

enum fault {
	FAULT_NONE,
	FAULT_DIE_BEFORE,	/* end the connection instead of a reply */
	FAULT_DIE_AFTER,	/* end the connection after the reply */
	FAULT_GARBAGE,		/* bytes that are no message */
	FAULT_SHORT,		/* half a head */
	FAULT_TYPE,		/* a reply to something else */
	FAULT_SERIAL,		/* a reply to nothing */
	FAULT_KIND,		/* a request */
	FAULT_FDS,		/* too many descriptors */
	FAULT_NO_FDS,		/* none where some belong */
	FAULT_DATA,		/* data where none belongs */
	FAULT_REFUSE,		/* fake_fault()'s status */
	FAULT_SILENT,		/* no reply, ever */
	FAULT_NUM,
};

/* A request as it came; the descriptors are not kept, but the first one's identity is. */
struct seen {
	struct fab_msg msg;
	uint8_t data[400];
	dev_t dev;
	ino_t ino;
};

/* Resource ids that it chooses begin here. */
#define FAKE_FIRST_RID 10000u

struct fake;

/* fake_new() - listen in a new directory; fake_free() removes it */
struct fake *fake_new(void);
void fake_free(struct fake *fake);

/* fake_dir() - the runtime directory */
const char *fake_dir(const struct fake *fake);

/* fake_die(), fake_rise() - end and start, as vmcid would: memory is lost, the directory is not */
void fake_die(struct fake *fake);
void fake_rise(struct fake *fake);

/* fake_fault() - at the @nth request of @type from now on (1: the next), in this way */
void fake_fault(struct fake *fake, enum fab_type type, unsigned nth, enum fault fault, int32_t status);

/*
 * fake_seen() - copy the @nth (from 0) request of @type since fake_clear(); waits for it. Fails the test if none
 * comes.
 */
struct seen fake_seen(struct fake *fake, enum fab_type type, unsigned nth);

/* fake_count() - requests of @type since fake_clear() */
unsigned fake_count(struct fake *fake, enum fab_type type);
void fake_clear(struct fake *fake);

/* fake_hellos() - connections that said hello since fake_new() */
unsigned fake_hellos(struct fake *fake);

/* fake_connections() - that are open now */
unsigned fake_connections(struct fake *fake);

/* fake_wait_hellos() - wait until there are @n */
void fake_wait_hellos(struct fake *fake, unsigned n);

/* fake_deliver() - write a datagram to the newest endpoint: header as given, even if it is wrong */
void fake_deliver(struct fake *fake, struct vmci_handle src, uint64_t said, const void *payload, size_t size);
void fake_deliver_raw(struct fake *fake, const void *packet, size_t size);
void fake_shutdown_sink(struct fake *fake);

/* fake_event() - write a datagram of @size bytes to the newest queue of events */
void fake_event(struct fake *fake, const void *dg, size_t size);

/* fake_bell() - a copy of the newest doorbell's eventfd */
int fake_bell(struct fake *fake);

/* fake_give() - what the next BELL_OPEN or SHM_ATTACH hands out; the sizes of the latter. @fd is taken. */
void fake_give(struct fake *fake, int fd, uint64_t size, uint64_t offset);

/*
 * fake_serve() - for a process of its own, which libvmci has started: serve @dir until the last client has gone, or
 * until a datagram to FAKE_MORTAL_PORT comes
 */
#define FAKE_MORTAL_PORT 6666u
int fake_serve(const char *dir);

/* fds_open() - number of descriptors of this process */
unsigned fds_open(void);

/* in_time() - start of a wait with a limit; false when it is over, after a millisecond's nap otherwise */
bool in_time(unsigned *waited_ms);

#endif /* FAKE_H */
