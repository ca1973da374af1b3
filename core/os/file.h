/* SPDX-License-Identifier: MIT
 *
 * file.h: the real functions behind segue__os, for os.c to list, and writing to a descriptor.
 */
#ifndef SEGUE_OS_FILE_H
#define SEGUE_OS_FILE_H

#include "fault.h"
#include "os.h"

int segue__file_read(void *data, const char *path, size_t max, segue__bytes *out, segue_error *err);
int segue__file_read_whole(void *data, const char *path, size_t max, segue__bytes *out,
                           segue_error *err);
int segue__file_list(void *data, const char *pattern, segue__names *out, segue_error *err);
int segue__file_write(void *data, const segue__write *w, segue_error *err);

/* Writes all of it; a signal does not end it. Returns 0 or a negative code: UV_EAGAIN if the
 * descriptor does not block and takes no more. *written, which may be NULL: how much was. [any
 * thread] */
int segue__write_all(int fd, const void *data, size_t len, size_t *written);

#endif
