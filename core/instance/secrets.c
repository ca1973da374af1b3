/* SPDX-License-Identifier: MIT
 *
 * Keeps secrets out of the log and the metrics: whatever a policy, a module or a command writes is
 * searched for the secret values of the configurations that were live or validated last, before the
 * host's sink or the module that keeps the metrics gets it.
 *
 * The masks are one immutable block, replaced as a whole. A log line takes a reference under the
 * lock. A metric is recorded on hot paths of many threads: it reads the block inside a read section
 * without a lock, so an old block is freed after a grace period.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "instance.h"

enum { SECRETS_KEPT = 4 };

struct segue__secret_masks {
  int refs; /* atomic */
  size_t count;
  segue__mask *items[SECRETS_KEPT]; /* the newest first */
  segue__secret_masks *older;       /* could not be deferred: freed with this block */
};

/* If an old block could not be given to the grace period (out of memory), the new block owns it:
 * then both are freed when the new one has passed its own grace period. */
static void masks_unref(void *data) {
  segue__secret_masks *masks = data;
  while (masks && __atomic_sub_fetch(&masks->refs, 1, __ATOMIC_ACQ_REL) == 0) {
    segue__secret_masks *older = masks->older;
    for (size_t i = 0; i < masks->count; i++)
      segue__mask_unref(masks->items[i]);
    segue__free(masks);
    masks = older;
  }
}

void segue__secrets_init(segue__secrets *secrets) {
  memset(secrets, 0, sizeof *secrets);
  pthread_mutex_init(&secrets->lock, NULL);
}

void segue__secrets_deinit(segue__secrets *secrets) {
  masks_unref(secrets->masks);
  pthread_mutex_destroy(&secrets->lock);
}

static segue__secret_masks *masks_new(const segue__secret_masks *old, const segue__mask *newest) {
  segue__secret_masks *masks = segue__calloc(1, sizeof *masks);
  if (!masks) return NULL;
  masks->refs = 1;
  masks->items[masks->count++] = segue__mask_ref(newest);
  for (size_t i = 0; old && i < old->count && masks->count < SECRETS_KEPT; i++)
    masks->items[masks->count++] = segue__mask_ref(old->items[i]);
  return masks;
}

/* Adds the mask of a generation and releases the oldest one: modules that drain may still log
 * values of earlier generations. Most generations have the same secrets as the previous one; then
 * no second mask is kept, because each one costs every log line a pass. Only the control thread
 * writes here, so it may read without the lock. */
void segue__secrets_add(segue__secrets *secrets, segue__publication *publication,
                        const segue__mask *mask) {
  segue__secret_masks *old = secrets->masks;
  if (!segue__mask_knows(mask)) return;
  if (old && !secrets->stuck && segue__mask_knows_same(old->items[0], mask)) return;
  segue__secret_masks *masks = masks_new(old, mask);
  __atomic_store_n(&secrets->stuck, !masks, __ATOMIC_RELEASE);
  if (!masks) return;
  pthread_mutex_lock(&secrets->lock);
  __atomic_store_n(&secrets->masks, masks, __ATOMIC_SEQ_CST);
  pthread_mutex_unlock(&secrets->lock);
  if (old && segue__publication_defer(publication, masks_unref, old) < 0) masks->older = old;
}

bool segue__secrets_any(const segue__secrets *secrets) {
  return __atomic_load_n(&secrets->masks, __ATOMIC_ACQUIRE) ||
         __atomic_load_n(&secrets->stuck, __ATOMIC_ACQUIRE);
}

/* ---- Metrics --------------------------------------------------------------------------------- */

bool segue__secrets_find(const segue__secrets *secrets, const char *text) {
  const segue__secret_masks *masks = __atomic_load_n(&secrets->masks, __ATOMIC_SEQ_CST);
  for (size_t i = 0; masks && i < masks->count; i++)
    if (segue__mask_finds(masks->items[i], text)) return true;
  return false;
}

char *segue__secrets_clean(const segue__secrets *secrets, const char *text) {
  const segue__secret_masks *masks = __atomic_load_n(&secrets->masks, __ATOMIC_SEQ_CST);
  char *copy = segue__strdup(text);
  for (size_t i = 0; copy && masks && i < masks->count; i++)
    segue__mask_scrub(masks->items[i], copy, false);
  return copy;
}

/* ---- Log lines ------------------------------------------------------------------------------- */

/* Returns a copy without secrets. A long text is cut, because a sink formats the whole line: one of
 * 200 MiB would take more than a gigabyte. It is cut first, so that the cost is bounded, and what a
 * secret may have left at the cut is removed. */
static char *secrets_clean(const segue__secret_masks *masks, const char *text) {
  if (!masks) return NULL; /* no memory for the masks: the caller shows no text at all */
  bool was_cut = strnlen(text, SEGUE__LOG_TEXT_MAX + 1) > SEGUE__LOG_TEXT_MAX;
  char *copy = segue__malloc(strnlen(text, SEGUE__LOG_TEXT_MAX) + sizeof "...");
  if (!copy) return NULL;
  snprintf(copy, SEGUE__LOG_TEXT_MAX + 1, "%s", text);
  for (size_t i = 0; i < masks->count; i++)
    segue__mask_scrub(masks->items[i], copy, was_cut);
  if (was_cut) strcat(copy, "...");
  return copy;
}

/* Copies of a field without secrets; NULL if memory ran out. */
typedef struct clean_field {
  char *key, *text;
} clean_field;

/* Keys are cleaned too, because a policy or module chooses them: a table that it logs may have a
 * secret as its key. */
static void clean_fields(const segue__secret_masks *masks, const segue_log_entry *entry,
                         segue_log_field *fields, clean_field *copies) {
  for (size_t i = 0; i < entry->field_count; i++) {
    fields[i] = entry->fields[i];
    copies[i].key = secrets_clean(masks, fields[i].key);
    fields[i].key = copies[i].key ? copies[i].key : SEGUE__MASKED;
    if (!fields[i].text) continue;
    copies[i].text = secrets_clean(masks, fields[i].text);
    fields[i].text = copies[i].text ? copies[i].text : SEGUE__MASKED;
  }
}

/* If memory runs out anywhere here, a text is replaced by SEGUE__MASKED and the fields are left
 * out: a line is never written without having been searched. */
int segue__secrets_log(segue__secrets *secrets, const segue_log_entry *entry,
                       int (*sink)(void *data, const segue_log_entry *entry), void *data) {
  segue_log_entry out = *entry;
  pthread_mutex_lock(&secrets->lock);
  segue__secret_masks *masks = secrets->stuck ? NULL : secrets->masks;
  if (masks) __atomic_add_fetch(&masks->refs, 1, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&secrets->lock);
  char *message = secrets_clean(masks, entry->message), *group = secrets_clean(masks, entry->group);
  segue_log_field *fields = segue__calloc(entry->field_count + 1, sizeof *fields);
  clean_field *copies = segue__calloc(entry->field_count + 1, sizeof *copies);
  out.message = message ? message : SEGUE__MASKED;
  out.group = group ? group : SEGUE__MASKED;
  out.fields = fields;
  out.field_count = fields && copies ? entry->field_count : 0;
  if (out.field_count) clean_fields(masks, entry, fields, copies);
  int rc = sink(data, &out);
  for (size_t i = 0; copies && i < out.field_count; i++) {
    segue__free(copies[i].key);
    segue__free(copies[i].text);
  }
  segue__free(copies);
  segue__free(fields);
  segue__free(message);
  segue__free(group);
  masks_unref(masks);
  return rc;
}
