/* SPDX-License-Identifier: MIT
 *
 * syscalls.h: how often the code under test called what leaves no trace: fsync of a file and of a
 * folder. The spec library is linked with --wrap=fsync,
 * and with --wrap=fdatasync.
 */
#ifndef SPEC_SUPPORT_SYSCALLS_H
#define SPEC_SUPPORT_SYSCALLS_H

int spec_fsyncs_of_files(void);
int spec_fsyncs_of_folders(void);
int spec_fdatasyncs(void);

#endif
