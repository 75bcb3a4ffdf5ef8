/* SPDX-License-Identifier: BSD-2-Clause */
/* The device firewall. SDK, 9. */
#include "broker/priv.h"

static bool fits(const struct brk_filter_rule *rule, enum brk_filter_protocol protocol,
		 enum brk_filter_direction direction, uint32_t port)
{
	bool has_direction = protocol != BRK_FILTER_HYPERVISOR && protocol != BRK_FILTER_PAIR;

	if (rule->protocol != BRK_FILTER_ANY_PROTOCOL && rule->protocol != protocol)
		return false;
	if (has_direction && rule->direction != BRK_FILTER_ANY_DIRECTION && rule->direction != direction)
		return false;
	return port >= rule->first && port <= rule->last;
}

bool brk_filter_allows(const struct brk_filter_rule *rules, size_t n_rules, enum brk_filter_protocol protocol,
		       enum brk_filter_direction direction, uint32_t port)
{
	for (size_t i = 0; i < n_rules; i++)
		if (fits(&rules[i], protocol, direction, port))
			return rules[i].action == BRK_FILTER_ALLOW;
	return true;
}

bool brk_pass(const struct brk_context *from, const struct brk_context *to, enum brk_filter_protocol protocol,
	      uint32_t port)
{
	if (from == to)
		return true;
	return brk_filter_allows(from->rules, from->n_rules, protocol, BRK_FILTER_TO_HOST, port) &&
	       (!to || brk_filter_allows(to->rules, to->n_rules, protocol, BRK_FILTER_TO_GUEST, port));
}
