/* SPDX-License-Identifier: MIT
 *
 * line_file.h: the file under a log: opening it again after a rotation, and writing whole lines to
 * a disk that may be full or a pipe that may have no reader. For one thread at a time. The plugin
 * log is compiled with this file: it uses the C library only.
 */
#ifndef SEGUE_OS_LINE_FILE_H
#define SEGUE_OS_LINE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct segue__line_file {
  int fd;          /* -1: none */
  bool is_regular; /* a regular file that was opened by its path */
  bool torn;       /* the last line that was written is not complete */
  uint64_t bytes;  /* written so far, to this file and to those before it */
  /* NULL: a write that fails is not tried again. Else it is called after a write that failed, with
   * the negative code, after waiting as long as it likes; true: the rest is tried again, so that
   * the line is not torn. */
  bool (*again)(void *data, int error);
  void *data;
} segue__line_file;

/* Opens the file for appending, and creates it, with this mode, if it is missing. The file that was
 * open is closed; if the new one cannot be opened it stays in use. Never blocks: a FIFO without a
 * reader fails with UV_ENXIO. Returns 0 or a negative code. */
int segue__line_file_open(segue__line_file *file, const char *path, unsigned mode);
/* The same for a descriptor, which is closed with the file. */
void segue__line_file_set(segue__line_file *file, int fd);
/* Returns whether the file has no name any more. A log that was deleted cannot be read: after a
 * rotation that deletes the file and sends no signal, all later lines would be lost. */
bool segue__line_file_is_deleted(const segue__line_file *file);
/* Writes whole lines by one call, if the system takes them at once. Returns 0, or a negative code
 * after a failure that `again` did not want to try again; then *lines_lost, which may be NULL, is
 * the number of lines of text that are not complete in the file, else 0. After a write that failed
 * in the middle of a line, a newline is written first, because the next line must not continue the
 * torn one. */
int segue__line_file_write(segue__line_file *file, const char *text, size_t len,
                           size_t *lines_lost);
void segue__line_file_close(segue__line_file *file); /* also if none is open */

#endif
