/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What another device has to know in order to go on for this one in the middle of a transfer over the ports, when this
 * one's process has ended without a word: see dev_ports.carry and dev_adopt().
 */
#ifndef DEVICE_CARRY_H
#define DEVICE_CARRY_H

#include "device/drain.h"

/**
 * struct dev_carry - the state of both byte streams
 * @drain:   DATA_IN
 * @sending: DATA_OUT: a datagram has begun, and its result was not asked for
 */
struct dev_carry {
	struct dev_drain drain;
	unsigned sending;
};

/**
 * dev_carry_taken() - did a read of one byte of DATA_IN take its byte?
 * @left: what a process left behind that may have ended during the read; need not make sense
 * @pos:  @left->drain.pos when the read began
 *
 * Return: was the byte taken? It is *@ret_byte then
 */
bool dev_carry_taken(const struct dev_carry *left, size_t pos, uint8_t *ret_byte);

#endif /* DEVICE_CARRY_H */
