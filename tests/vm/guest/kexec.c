// SPDX-License-Identifier: BSD-2-Clause
/*
 * kexec KERNEL INITRAMFS: boots another kernel at once, with our command line. The drivers' shutdown has been called;
 * nobody resets the devices.
 */
#include <err.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char line[2048] = "";
	FILE *file = fopen("/proc/cmdline", "r");
	int kernel, initramfs;

	if (argc != 3 || !file || !fgets(line, sizeof(line), file))
		errx(1, "usage: kexec KERNEL INITRAMFS");
	line[strcspn(line, "\n")] = 0;
	kernel = open(argv[1], O_RDONLY);
	initramfs = open(argv[2], O_RDONLY);
	if (kernel < 0 || initramfs < 0)
		err(1, "%s, %s", argv[1], argv[2]);
	if (syscall(SYS_kexec_file_load, kernel, initramfs, strlen(line) + 1, line, 0))
		err(1, "kexec_file_load");
	syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, NULL);
	err(1, "reboot");
}
