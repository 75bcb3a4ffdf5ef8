/* SPDX-License-Identifier: BSD-2-Clause */
/* Where streams enter and leave through the fabric: to other contexts, and from who connects. Theory: outlet.c */
#ifndef VMCI_DEVICE_OUTLET_H
#define VMCI_DEVICE_OUTLET_H

#include "end.h"
#include "fabric/msg.h"

struct outlet;

/**
 * struct outlet_ports - what an outlet asks of its surroundings
 */
struct outlet_ports {
	void *ctx;

	/* A call of vmcid, of bounded time. Return: 0 and a reply, with descriptors of the caller's; a negative errno */
	int (*ask)(void *ctx, struct fab_msg *request, struct fab_msg *ret_reply);

	/* Answer vmcid's question STREAM_CONNECT number @serial. */
	void (*answer)(void *ctx, uint32_t serial, int32_t status);
};

/* outlet_new() - for the guest in context @cid; @ends stays the caller's. Return: 0 or -ENOMEM */
int outlet_new(uint32_t cid, struct ends *ends, const struct outlet_ports *ports, struct outlet **ret_outlet);

/* outlet_free() - NULL is fine; its ends may go on. Returns NULL. */
struct outlet *outlet_free(struct outlet *outlet);

/* outlet_set_streams() - the guest that connections lead to from now on; NULL: there is none */
void outlet_set_streams(struct outlet *outlet, struct streams *streams);

/**
 * outlet_open() - stream_ports.open
 *
 * Waits for vmcid, as one call does. Return: as stream_ports.open; -ENOENT: nobody listens there; -EHOSTDOWN: vmcid is
 * not there, or does not answer: see outlet_postpone()
 */
int outlet_open(struct outlet *outlet, struct stream *s, uint32_t local_cid, uint32_t local_port, uint32_t peer_port,
		void **ret_end);

/*
 * outlet_postpone() - the same as soon as there is a vmcid, if that comes before the guest gives up. Return:
 * -EINPROGRESS and the end; -ENOBUFS, -ENOMEM
 */
int outlet_postpone(struct outlet *outlet, struct stream *s, void **ret_end);

/* outlet_joined() - there is a vmcid: outlet_run() goes on with who was postponed */
void outlet_joined(struct outlet *outlet);

/* outlet_asked() - vmcid's question STREAM_CONNECT, to be answered now or later; takes its descriptor. At any time */
void outlet_asked(struct outlet *outlet, struct fab_msg *question);

/* outlet_run() - let in who was asked for; not while the streams are at work */
void outlet_run(struct outlet *outlet);

/* outlet_lost() - vmcid has gone, and so have its questions: nobody will tell those who have connected that they are */
void outlet_lost(struct outlet *outlet);

#endif /* VMCI_DEVICE_OUTLET_H */
