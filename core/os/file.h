/* SPDX-License-Identifier: MIT
 *
 * file.h: the real functions behind segue__os, for os.c to list.
 */
#ifndef SEGUE_OS_FILE_H
#define SEGUE_OS_FILE_H

#include "fault.h"
#include "os.h"
#include "write.h"

int segue__file_read(void *data, const char *path, size_t max, segue__bytes *out, segue_error *err);
int segue__file_read_whole(void *data, const char *path, size_t max, segue__bytes *out,
                           segue_error *err);
int segue__file_list(void *data, const char *pattern, segue__names *out, segue_error *err);
int segue__file_write(void *data, const segue__write *w, segue_error *err);

#endif
