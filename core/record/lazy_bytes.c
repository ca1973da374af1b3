/* SPDX-License-Identifier: MIT
 *
 * Bytes that are made when something reads them first, once for all readers.
 */
#include "lazy_bytes.h"

#include <pthread.h>
#include <uv.h>

struct segue__lazy_bytes {
  long refs; /* atomic */
  const segue__lazy_ops *ops;
  void *data; /* NULL: the bytes are made */
  pthread_mutex_t lock;
  segue__buf bytes;
};

int segue__lazy_bytes_new(segue__lazy_bytes **out, const segue__lazy_ops *ops, void *data) {
  segue__lazy_bytes *lazy = *out = segue__calloc(1, sizeof *lazy);
  if (!lazy) {
    ops->free(data);
    return UV_ENOMEM;
  }
  lazy->refs = 1;
  lazy->ops = ops;
  lazy->data = data;
  segue__buf_init(&lazy->bytes);
  pthread_mutex_init(&lazy->lock, NULL);
  return 0;
}

segue__lazy_bytes *segue__lazy_bytes_ref(segue__lazy_bytes *lazy) {
  if (lazy) __atomic_add_fetch(&lazy->refs, 1, __ATOMIC_RELAXED);
  return lazy;
}

void segue__lazy_bytes_unref(segue__lazy_bytes *lazy) {
  if (!lazy || __atomic_sub_fetch(&lazy->refs, 1, __ATOMIC_ACQ_REL)) return;
  if (lazy->data) lazy->ops->free(lazy->data);
  segue__buf_deinit(&lazy->bytes);
  pthread_mutex_destroy(&lazy->lock);
  segue__free(lazy);
}

/* The lock is held while the bytes are made, so that two readers do not make them twice. The
 * origin is freed then: the documents of a generation must not live as long as its bytes. */
int segue__lazy_bytes_get(segue__lazy_bytes *lazy, const char **data, size_t *len) {
  int rc = 0;
  pthread_mutex_lock(&lazy->lock);
  if (lazy->data) {
    rc = lazy->ops->write(lazy->data, &lazy->bytes);
    if (!rc && lazy->bytes.failed) rc = UV_ENOMEM;
    if (rc) {
      segue__buf_deinit(&lazy->bytes);
      segue__buf_init(&lazy->bytes);
    } else {
      lazy->ops->free(lazy->data);
      lazy->data = NULL;
    }
  }
  *data = lazy->bytes.data ? lazy->bytes.data : "";
  *len = lazy->bytes.len;
  pthread_mutex_unlock(&lazy->lock);
  return rc;
}
