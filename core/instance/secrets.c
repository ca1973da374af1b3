/* SPDX-License-Identifier: MIT
 *
 * Secrets do not reach the log: whatever a policy, a module or a command says is looked through for
 * the secret values of the configs that were live or judged last, before the host's sink sees it.
 */
#include <string.h>

#include "instance.h"

void segue__secrets_init(segue__secrets *secrets) {
  memset(secrets, 0, sizeof *secrets);
  pthread_mutex_init(&secrets->lock, NULL);
}

void segue__secrets_deinit(segue__secrets *secrets) {
  for (size_t i = 0; i < SEGUE__SECRETS_KEPT; i++)
    segue__mask_unref(secrets->masks[i]);
  pthread_mutex_destroy(&secrets->lock);
}

/* Adds the mask of a generation and releases the oldest one: modules that drain may still log
 * values of earlier generations. Most generations have the same secrets as the previous one; then
 * no second mask is kept, because each one costs every log line a pass. Only the control thread
 * writes here, so it may read without the lock. */
void segue__secrets_add(segue__secrets *secrets, const segue__mask *mask) {
  if (!segue__mask_knows(mask)) return;
  size_t last = (secrets->next + SEGUE__SECRETS_KEPT - 1) % SEGUE__SECRETS_KEPT;
  if (segue__mask_knows_same(secrets->masks[last], mask)) return;
  pthread_mutex_lock(&secrets->lock);
  segue__mask *old = secrets->masks[secrets->next];
  secrets->masks[secrets->next] = segue__mask_ref(mask);
  secrets->next = (secrets->next + 1) % SEGUE__SECRETS_KEPT;
  __atomic_store_n(&secrets->any, true, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&secrets->lock);
  segue__mask_unref(old);
}

bool segue__secrets_any(const segue__secrets *secrets) {
  return __atomic_load_n(&secrets->any, __ATOMIC_ACQUIRE);
}

static char *clean(segue__mask *const *masks, const char *text) {
  char *copy = segue__strdup(text);
  for (size_t i = 0; copy && i < SEGUE__SECRETS_KEPT; i++)
    segue__mask_scrub(masks[i], copy);
  return copy;
}

/* Copies of a field without secrets; NULL if memory ran out. */
typedef struct clean_field {
  char *key, *text;
} clean_field;

/* Keys are cleaned too, because a policy or module chooses them: a table that it logs may have a
 * secret as its key. */
static void clean_fields(segue__mask *const *masks, const segue_log_entry *entry,
                         segue_log_field *fields, clean_field *copies) {
  for (size_t i = 0; i < entry->field_count; i++) {
    fields[i] = entry->fields[i];
    copies[i].key = clean(masks, fields[i].key);
    fields[i].key = copies[i].key ? copies[i].key : SEGUE__MASKED;
    if (!fields[i].text) continue;
    copies[i].text = clean(masks, fields[i].text);
    fields[i].text = copies[i].text ? copies[i].text : SEGUE__MASKED;
  }
}

int segue__secrets_log(segue__secrets *secrets, const segue_log_entry *entry,
                       int (*sink)(void *data, const segue_log_entry *entry), void *data) {
  segue__mask *masks[SEGUE__SECRETS_KEPT];
  segue_log_entry out = *entry;
  pthread_mutex_lock(&secrets->lock);
  for (size_t i = 0; i < SEGUE__SECRETS_KEPT; i++)
    masks[i] = segue__mask_ref(secrets->masks[i]);
  pthread_mutex_unlock(&secrets->lock);
  char *message = clean(masks, entry->message);
  segue_log_field *fields = segue__calloc(entry->field_count + 1, sizeof *fields);
  clean_field *copies = segue__calloc(entry->field_count + 1, sizeof *copies);
  out.message = message ? message : SEGUE__MASKED;
  out.fields = fields;
  out.field_count = fields && copies ? entry->field_count : 0;
  if (out.field_count) clean_fields(masks, entry, fields, copies);
  int rc = sink(data, &out);
  for (size_t i = 0; i < out.field_count; i++) {
    segue__free(copies[i].key);
    segue__free(copies[i].text);
  }
  segue__free(copies);
  segue__free(fields);
  segue__free(message);
  for (size_t i = 0; i < SEGUE__SECRETS_KEPT; i++)
    segue__mask_unref(masks[i]);
  return rc;
}
