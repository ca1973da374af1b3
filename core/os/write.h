/* SPDX-License-Identifier: MIT
 *
 * write.h: writing to a descriptor.
 */
#ifndef SEGUE_OS_WRITE_H
#define SEGUE_OS_WRITE_H

#include <stddef.h>

/* Writes all of it; a signal does not end it. Returns 0 or a negative code: UV_EAGAIN if the
 * descriptor does not block and takes no more. *written, which may be NULL: how much was. [any
 * thread] */
int segue__write_all(int fd, const void *data, size_t len, size_t *written);

#endif
