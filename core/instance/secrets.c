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

/* The oldest gives way: what drains still may speak of the generations before. */
void segue__secrets_add(segue__secrets *secrets, const segue__mask *mask) {
  if (!segue__mask_knows(mask)) return;
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

void segue__secrets_log(segue__secrets *secrets, const segue__log_entry *entry,
                        void (*sink)(void *data, const segue__log_entry *entry), void *data) {
  segue__mask *masks[SEGUE__SECRETS_KEPT];
  segue__log_field fields[SEGUE__LOG_FIELDS_MAX];
  segue__log_entry out = *entry;
  pthread_mutex_lock(&secrets->lock);
  for (size_t i = 0; i < SEGUE__SECRETS_KEPT; i++)
    masks[i] = segue__mask_ref(secrets->masks[i]);
  pthread_mutex_unlock(&secrets->lock);
  char *message = clean(masks, entry->message);
  char *keys[SEGUE__LOG_FIELDS_MAX] = {NULL}, *texts[SEGUE__LOG_FIELDS_MAX] = {NULL};
  out.message = message ? message : SEGUE__MASKED;
  out.fields = fields;
  for (size_t i = 0; i < entry->field_count; i++) {
    fields[i] = entry->fields[i];
    /* A policy chooses the keys too: a table that it logs may have a secret as its key. */
    keys[i] = clean(masks, fields[i].key);
    fields[i].key = keys[i] ? keys[i] : SEGUE__MASKED;
    if (!fields[i].text) continue;
    texts[i] = clean(masks, fields[i].text);
    fields[i].text = texts[i] ? texts[i] : SEGUE__MASKED;
  }
  sink(data, &out);
  for (size_t i = 0; i < entry->field_count; i++) {
    segue__free(keys[i]);
    segue__free(texts[i]);
  }
  segue__free(message);
  for (size_t i = 0; i < SEGUE__SECRETS_KEPT; i++)
    segue__mask_unref(masks[i]);
}
