/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What drivers do to the device, word for word: VMCI reference, 12. Each transcript is a text, one
 * step a line; numbers are hexadecimal:
 *
 *	config OFF = VALUE		16-bit write to config space
 *	R REG & MASK = VALUE		32-bit register read, and what is required of it
 *	W REG = VALUE			32-bit register write
 *	HC RESULT : WORDS		send the datagram of these words (8 digits: u32, 16: u64) on the
 *					driver's path, reading the result as the driver does
 *	deliver SIZE			the host sends a datagram to the guest
 *	ring CONTEXT RESOURCE		the host rings a doorbell
 *	attach CONTEXT RESOURCE SIZE	the host attaches to a queue pair with equal rings
 *	irq CAUSE N			N messages of CAUSE were sent since the last such line for it
 *	level N				level of INTx
 *	drain BYTES N			a drain of the ports reads BYTES and dispatches N datagrams
 *	receive N			a receive by DMA dispatches N datagrams
 *	byte ADDR = VALUE		a byte of guest memory
 *	pages N				pages of guest memory that the device refers to
 *	active N			is a driver there?
 */
#include "driver.h"

struct player {
	struct rig *rig;
	unsigned result_reads;	/* of RESULT_LOW after each datagram */
	unsigned irqs_seen[3];
	unsigned dispatched;
};

static void dispatch(void *ctx, const uint8_t *dg, size_t size)
{
	struct player *p = ctx;

	(void)dg;
	(void)size;
	p->dispatched++;
}

/* HC: everything behind the colon becomes a datagram. */
static int32_t play_call(struct player *p, const char *words)
{
	uint8_t dg[512];
	size_t size = 0;
	int32_t result = 0, again;
	int used;
	char word[32];

	while (sscanf(words, "%31s%n", word, &used) == 1) {
		uint64_t v = strtoull(word, NULL, 16);

		assert_true(strlen(word) == 8 || strlen(word) == 16);
		assert_true(size + 8 <= sizeof(dg));
		if (strlen(word) == 8)
			put_le32(dg + size, (uint32_t)v);
		else
			put_le64(dg + size, v);
		size += strlen(word) / 2;
		words += used;
	}
	assert_int_equal(get_le64(dg + 16), size - VMCI_DG_HEADER_SIZE);
	result = send_dg(p->rig, dg, size);
	for (unsigned i = 1; i < p->result_reads; i++) {
		again = (int32_t)in32(p->rig, VMCI_REG_RESULT_LOW);
		assert_int_equal(again, result);
	}
	return result;
}

static bool play_drain(struct player *p, unsigned bytes, unsigned n)
{
	static struct driver driver;

	driver = (struct driver){ .rig = p->rig, .dispatch = dispatch, .ctx = p };
	p->dispatched = 0;
	driver_drain_ports(&driver);
	return driver.bytes == bytes && p->dispatched == n;
}

static bool play_receive(struct player *p, unsigned n)
{
	static struct driver driver;

	driver = (struct driver){ .rig = p->rig, .dispatch = dispatch, .ctx = p };
	p->dispatched = 0;
	driver_drain_dma(&driver);
	return p->dispatched == n;
}

static bool play_irq(struct player *p, unsigned cause, unsigned n)
{
	unsigned seen = p->irqs_seen[cause];

	p->irqs_seen[cause] = p->rig->irqs[cause];
	return p->rig->irqs[cause] - seen == n;
}

static bool play_config(struct player *p, unsigned off, unsigned v)
{
	uint8_t word[2];

	put_le16(word, (uint16_t)v);
	dev_config_write(p->rig->dev, off, word, 2);
	return true;
}

static bool play_write(struct player *p, unsigned reg, unsigned v)
{
	out32(p->rig, reg, v);
	return true;
}

/* Play one line. Return: did the device do what it says? */
static bool play_line(struct player *p, const char *line)
{
	struct rig *rig = p->rig;
	unsigned a, b, c;
	int result, used = 0;

	if (sscanf(line, "config %x = %x", &a, &b) == 2)
		return play_config(p, a, b);
	if (sscanf(line, "R %x & %x = %x", &a, &b, &c) == 3)
		return (in32(rig, a) & b) == c;
	if (sscanf(line, "W %x = %x", &a, &b) == 2)
		return play_write(p, a, b);
	if (sscanf(line, "HC %d : %n", &result, &used) == 1 && used)
		return play_call(p, line + used) == result;
	if (sscanf(line, "deliver %x", &a) == 1)
		return deliver(rig, a, 1) == (int32_t)a;
	if (sscanf(line, "ring %x %x", &a, &b) == 2)
		return dev_ring(rig->dev, handle_make(a, b)) == VMCI_SUCCESS;
	if (sscanf(line, "attach %x %x %x", &a, &b, &c) == 3)
		return dev_qp_attach(rig->dev, handle_make(a, b), c, c, p) == VMCI_SUCCESS_QUEUEPAIR_ATTACH;
	if (sscanf(line, "irq %x %x", &a, &b) == 2)
		return play_irq(p, a, b);
	if (sscanf(line, "level %x", &a) == 1)
		return rig->intx == a;
	if (sscanf(line, "drain %x %x", &a, &b) == 2)
		return play_drain(p, a, b);
	if (sscanf(line, "receive %x", &a) == 1)
		return play_receive(p, a);
	if (sscanf(line, "byte %x = %x", &a, &b) == 2)
		return rig->ram[a] == b;
	if (sscanf(line, "pages %x", &a) == 1)
		return rig->pages_taken == a;
	if (sscanf(line, "active %x", &a) == 1)
		return dev_is_active(rig->dev) == a;
	return false;
}

static void play(struct player *p, const char *const *lines)
{
	for (unsigned i = 0; lines[i]; i++)
		if (!play_line(p, lines[i]))
			fail_msg("step %u: %s", i + 1, lines[i]);
}

/* --- Transcripts ----------------------------------------------------------------------------- */

#define ANON "ffffffff ffffffff "
#define HC_BITMAP(result, upper) "HC " #result " : 00000000 00000002 " ANON "0000000000000008 00000010 " upper
#define HC_QUERY(pad) "HC 1 : 00000000 00000000 " ANON "000000000000000c 00000001 " pad " 00000001"
#define HC_CID "HC 77 : 00000000 00000001 " ANON "0000000000000000"
#define HC_LINK "HC 0 : 00000000 00000003 " ANON "0000000000000010 0000004d 00000800 0000000000000005"
#define HC_UNLINK "HC 0 : 00000000 00000004 " ANON "0000000000000008 0000004d 00000800"
#define HC_ALLOC \
	"HC 4 : 00000000 0000000a " ANON "0000000000000038 0000004d 00000900 00000002 00000000 " \
	"0000000000001000 0000000000001000 0000000000000004 00000100 00000105 00000102 00000107"
#define HC_DETACH(result) "HC " #result " : 00000000 0000000b " ANON "0000000000000008 0000004d 00000900"
#define CONTROL_PACKET(src) \
	"HC 56 : 00000002 00000001 " src " 00000001 0000000000000020 00000b01 00000400 00000050 00000000 " \
	"0000000000040000 0000000000000000"
#define HYPERVISOR_PACKET \
	"HC -1 : 00000000 0000000f ffffffff 00000001 0000000000000020 00000b01 00000400 000003d0 00000000 " \
	"0000000000040000 0000000000000000"

/* 12.1, steps 1 to 9; @caps is what the driver writes back. */
#define PROBE_PORTS(caps, bitmap_upper, query_pad, imr) \
	"config 4 = 7", "R 18 & 4 = 4", "W 18 = " caps, HC_BITMAP(0, bitmap_upper), HC_QUERY(query_pad), \
		"W c = " imr, "active 0", "W 4 = 2", "active 1"

static const char *const linux_ports_old[] = {
	PROBE_PORTS("2c", "deadbeef", "12345678", "3"),	/* 3.9 .. 4.19: echoes all; garbage in padding */
	HC_CID,
	/* 12.5, exclusive vectors: no ICR read */
	"deliver 38", "irq 0 1", "drain 1000 1", "irq 0 0",
	"deliver 38", "deliver 38", "irq 0 2", "drain 1000 2",
	"deliver 1100", "irq 0 1", "drain 11000 1",
	HC_LINK, "ring 4d 800", "irq 1 1", "byte 10005 = 1",
	CONTROL_PACKET("0000004d"), HYPERVISOR_PACKET,
	HC_ALLOC, "pages 4", "attach 4d 900 1000", "irq 0 1", "drain 1000 1",
	/* 12.6 */
	HC_DETACH(0), "pages 0", HC_UNLINK, "W 4 = 1", "active 0",
	NULL,
};

static const char *const linux_ports_new[] = {
	PROBE_PORTS("c", "00000000", "00000000", "3"),
	HC_CID,
	/* 12.5, shared vector */
	"deliver 38", "irq 0 1", "R 8 & ffffffff = 1", "R 8 & ffffffff = 0", "drain 1000 1",
	HC_LINK, "ring 4d 800", "irq 1 1", "R 8 & ffffffff = 2", "byte 10005 = 1",
	CONTROL_PACKET("ffffffff"),
	HC_ALLOC, "pages 4", HC_DETACH(0), HC_DETACH(-21),
	"W 4 = 1", "pages 0",
	NULL,
};

static const char *const linux_mmio[] = {
	/* 12.2 */
	"config 4 = 7", "R 18 & 24 = 24", "W 18 = 2c", "W 34 = c", "W 30 = 0", "W 28 = 0",
	HC_BITMAP(0, "00000000"), HC_QUERY("00000000"),
	"W c = 7", "active 0", "W 4 = 2", "active 1",
	HC_CID,
	/* 12.5, exclusive: vector 0, receive, vector 2 */
	"deliver 38", "irq 0 1", "receive 1", "irq 2 1", "irq 0 0",
	/* The first fills the area, so there is no marker, and the driver asks again without being told. */
	"deliver 11000", "deliver 38", "irq 0 2", "receive 2", "irq 2 2", "irq 0 1",
	HC_LINK, "ring 4d 800", "irq 1 1", "byte 10005 = 1",
	CONTROL_PACKET("0000004d"), HYPERVISOR_PACKET,
	HC_ALLOC, "pages 4", "attach 4d 900 1000", "irq 0 1", "receive 1",
	HC_DETACH(0), "pages 0", "W 4 = 1", "active 0",
	NULL,
};

static const char *const linux_mmio_shared[] = {
	"config 4 = 7", "R 18 & 24 = 24", "W 18 = 2c", "W 34 = c", "W 30 = 0", "W 28 = 0",
	HC_BITMAP(0, "00000000"), HC_QUERY("00000000"), "W c = 7", "W 4 = 2",
	"deliver 38", "irq 0 1", "R 8 & ffffffff = 1", "receive 1", "irq 2 1", "R 8 & ffffffff = 4",
	"R 8 & ffffffff = 0",
	/* 12.6: kexec writes nothing; the next kernel probes again, with the old queue pair there */
	HC_ALLOC, HC_LINK, "pages 4", "deliver 38",
	"config 4 = 7", "R 18 & 24 = 24", "W 18 = 2c", "pages 0", "W 34 = c", "W 30 = 0", "W 28 = 0",
	HC_BITMAP(0, "00000000"), HC_QUERY("00000000"), "W c = 7", "W 4 = 2", "active 1",
	"irq 0 1", "receive 0", HC_ALLOC, HC_LINK, "pages 4", HC_DETACH(0), "W 4 = 1",
	NULL,
};

static const char *const freebsd[] = {
	/* 12.3 */
	"config 4 = 7", "R 18 & 4 = 4", "W 18 = c", HC_BITMAP(0, "a5a5a5a5"), HC_QUERY("a5a5a5a5"),
	"W c = 3", "W 4 = 2", "active 1", HC_CID,
	"deliver 38", "irq 0 1", "drain 1000 1",
	HC_ALLOC, "pages 4", HC_DETACH(0), "W 4 = 1", "config 4 = 3", "active 0",
	/* and attached again */
	"config 4 = 7", "R 18 & 4 = 4", "W 18 = c", HC_BITMAP(0, "a5a5a5a5"), HC_QUERY("a5a5a5a5"),
	"W c = 3", "W 4 = 2", "active 1", "W 4 = 1",
	NULL,
};

static const char *const freebsd_without_notifications[] = {
	"config 4 = 7", "R 18 & 4 = 4", "W 18 = 4", HC_QUERY("a5a5a5a5"), "W c = 1", "W 4 = 2", "active 1",
	"deliver 38", "irq 0 1", "R 8 & 1 = 1", "drain 1000 1", "W 4 = 1",
	NULL,
};

static const char *const legacy[] = {
	/* 12.4, hibernation detaches twice (11) */
	PROBE_PORTS("c", "77777777", "77777777", "3"),
	HC_CID, HC_ALLOC, "pages 4", HC_DETACH(0), HC_DETACH(-21),
	"deliver 38", "irq 0 1", "drain 1000 1", "W 4 = 1", "active 0",
	NULL,
};

static const char *const legacy_failed_attach[] = {
	"config 4 = 7", "R 18 & 4 = 4", "W 18 = c", HC_BITMAP(0, "77777777"), "W 4 = 1", "active 0",
	PROBE_PORTS("c", "77777777", "77777777", "3"),
	"W 4 = 1",
	NULL,
};

static const char *const guest_2009[] = {
	/* 12.4: INTx, no bitmap; 2 to 5 mean something else to it */
	"config 4 = 7", "R 18 & 4 = 4", "W 18 = 4", HC_QUERY("00000000"), "W c = 1", "W 4 = 2", "active 1",
	"level 0", "deliver 38", "level 1", "R 8 & ffffffff = 1", "level 0", "drain 1000 1", "level 0",
	"HC -20 : 00000000 00000002 " ANON "0000000000000008 00000010 00000000",
	"HC -20 : 00000000 00000005 " ANON "0000000000000008 00000010 00000000",
	"HC -30 : 00000000 00000006 " ANON "0000000000000008 00000010 00000000",
	HC_CID, "W 4 = 1", "level 0",
	NULL,
};

static void run(const struct dev_config *config, bool mmio, unsigned result_reads, const char *const *lines)
{
	struct rig *rig = rig_new(config);
	struct player p = { .rig = rig, .result_reads = result_reads };

	rig->mmio = mmio;
	set_command(rig, 0);
	play(&p, lines);
	rig_free(rig);
}

static const struct dev_config mmio_device = { .cid = CID };
static const struct dev_config msi_device = { .cid = CID, .irq = DEV_IRQ_MSI };
static const struct dev_config classic_device = { .cid = CID, .classic = true };
static const struct dev_config intx_device = { .cid = CID, .intx = true };

static void test_s12_1_linux_before_4_20_ports(void **state)
{
	(void)state;
	run(&mmio_device, false, 1, linux_ports_old);
	run(&classic_device, false, 1, linux_ports_old);
}

static void test_s12_1_linux_ports(void **state)
{
	(void)state;
	run(&mmio_device, false, 1, linux_ports_new);
	run(&classic_device, false, 2, linux_ports_new);	/* 5.18+ reads the result twice */
	run(&msi_device, false, 1, linux_ports_new);
}

static void test_s12_2_linux_mmio(void **state)
{
	(void)state;
	run(&mmio_device, true, 2, linux_mmio);
}

static void test_s12_2_linux_mmio_shared_vector_and_kexec(void **state)
{
	(void)state;
	run(&mmio_device, true, 2, linux_mmio_shared);
	run(&msi_device, true, 2, linux_mmio_shared);
}

static void test_s12_3_freebsd(void **state)
{
	(void)state;
	run(&mmio_device, false, 1, freebsd);
	run(&classic_device, false, 1, freebsd);
}

static void test_s12_3_freebsd_without_notifications(void **state)
{
	(void)state;
	run(&mmio_device, false, 1, freebsd_without_notifications);
}

static void test_s12_4_legacy(void **state)
{
	(void)state;
	run(&mmio_device, false, 1, legacy);
	run(&classic_device, false, 1, legacy);
	run(&mmio_device, false, 1, legacy_failed_attach);
}

static void test_s12_4_guest_of_2009(void **state)
{
	(void)state;
	run(&intx_device, false, 1, guest_2009);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_s12_1_linux_before_4_20_ports),
		cmocka_unit_test(test_s12_1_linux_ports),
		cmocka_unit_test(test_s12_2_linux_mmio),
		cmocka_unit_test(test_s12_2_linux_mmio_shared_vector_and_kexec),
		cmocka_unit_test(test_s12_3_freebsd),
		cmocka_unit_test(test_s12_3_freebsd_without_notifications),
		cmocka_unit_test(test_s12_4_legacy),
		cmocka_unit_test(test_s12_4_guest_of_2009),
	};

	return cmocka_run_group_tests_name("device transcripts", tests, NULL, NULL);
}
