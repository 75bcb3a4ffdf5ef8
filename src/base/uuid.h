/* SPDX-License-Identifier: BSD-2-Clause */
/* UUIDs of VMs, as text. */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#define UUID_SIZE 16u

/**
 * uuid_parse() - read a UUID, in the order in which its bytes are written
 *
 * VMware's way, "56 4d 07 d8 cc d5 c4 0d-98 44 dc 1e 8f e0 da f3", that of RFC 4122,
 * "564d07d8-ccd5-c40d-9844-dc1e8fe0daf3", and all that is between: 16 bytes of two hexadecimal digits, and nothing, one
 * space or one dash before all but the first.
 *
 * Return: false: it is none, and @ret_uuid may have been written
 */
bool uuid_parse(const char *text, uint8_t ret_uuid[static UUID_SIZE]);

#endif /* BASE_UUID_H */
