/* SPDX-License-Identifier: MIT
 *
 * The deliveries of sources on a network among the files of a generation: their bytes are made on
 * the record thread, when the generation is live, and read back in a replay.
 */
#include <stdio.h>
#include <uv.h>

#include "collect.h"

/* The key of a cached delivery among the files of a generation. */
enum { KEY_BYTES = 300 };
static void cache_key(const segue__source *source, char out[KEY_BYTES]) {
  snprintf(out, KEY_BYTES, "source:%s", source->name);
}

int segue__cached_read(segue__inputs *inputs, const segue__source *source,
                       segue__cached_delivery *head, segue__documents *out) {
  char key[KEY_BYTES];
  segue__bytes bytes = {0};
  cache_key(source, key);
  *head = (segue__cached_delivery){0};
  int rc = segue__inputs_kept(inputs, key, &bytes);
  if (rc) return rc;
  rc = segue__cached_delivery_parse(bytes.data, bytes.len, source->name, head, out);
  segue__free(bytes.data);
  return rc;
}

/* A delivery whose bytes are made on the record thread. Documents that are parsed never change. */
typedef struct kept_delivery {
  segue__cached_delivery head;
  segue__documents documents;
} kept_delivery;

static int kept_write(const void *data, segue__buf *out) {
  const kept_delivery *kept = data;
  return segue__cached_delivery_write(out, &kept->head, &kept->documents);
}

static void kept_free(void *data) {
  kept_delivery *kept = data;
  segue__cached_delivery_deinit(&kept->head);
  segue__documents_deinit(&kept->documents);
  segue__free(kept);
}

int segue__cached_keep(segue__inputs *inputs, const segue__source *source,
                       const segue__cached_delivery *head, const segue__documents *documents) {
  static const segue__lazy_ops ops = {kept_write, kept_free};
  char key[KEY_BYTES];
  segue__lazy_bytes *lazy;
  kept_delivery *kept = segue__calloc(1, sizeof *kept);
  if (!kept) return UV_ENOMEM;
  kept->head.wall_ms = head->wall_ms;
  kept->head.revision = segue__strdup(head->revision);
  int rc = segue__documents_copy(&kept->documents, documents);
  if (rc || (head->revision && !kept->head.revision)) {
    kept_free(kept);
    return UV_ENOMEM;
  }
  rc = segue__lazy_bytes_new(&lazy, &ops, kept);
  if (rc) return rc;
  cache_key(source, key);
  segue__inputs_keep_lazy(inputs, key, lazy);
  return 0;
}
