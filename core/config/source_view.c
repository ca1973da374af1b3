/* SPDX-License-Identifier: MIT
 *
 * The documents of one source, merged by themselves: for code that reads a source by its name,
 * whatever other sources put over its values.
 */
#include <string.h>
#include <uv.h>

#include "config.h"

struct segue__config_view {
  segue__config_view *next;
  char *source;
  const segue_node *root;
  segue__config *merged; /* a reference; NULL: the root is that of a document */
};

void segue__config_views_free(segue__config_view *view) {
  while (view) {
    segue__config_view *next = view->next;
    segue__config_unref(view->merged);
    segue__free(view->source);
    segue__free(view);
    view = next;
  }
}

static bool view_is_of(const segue__config *merged, segue__document *const *docs, size_t n) {
  return merged && merged->document_count == n &&
         !memcmp(merged->documents, docs, n * sizeof(segue__document *));
}

/* Merging costs as much as the documents are large, so it is done once while they are the same. */
static int view_merge(segue__config_view *view, segue__document *const *docs, size_t n,
                      segue__config **like) {
  if (!view_is_of(*like, docs, n)) {
    segue__config *merged;
    segue_error ignored;
    int rc = segue__config_merge(&merged, docs, n, &ignored);
    if (rc) return rc;
    segue__config_unref(*like);
    *like = merged;
  }
  view->merged = segue__config_ref(*like);
  view->root = &view->merged->root;
  return 0;
}

static int view_fill(segue__config_view *view, const segue__config *config, segue__config **like) {
  static const segue_node nothing = {.type = SEGUE_MAP};
  size_t n = 0;
  segue__document **docs = segue__malloc((config->document_count + 1) * sizeof *docs);
  if (!docs) return UV_ENOMEM;
  for (size_t i = 0; i < config->document_count; i++)
    if (!strcmp(config->documents[i]->source, view->source)) docs[n++] = config->documents[i];
  int rc = 0;
  if (n > 1)
    rc = view_merge(view, docs, n, like);
  else
    view->root = n ? &docs[0]->root : &nothing;
  segue__free(docs);
  return rc;
}

int segue__config_source(segue__config *config, const char *source, segue__config **like,
                         const segue_node **out) {
  *out = NULL;
  for (const segue__config_view *view = config->views; view; view = view->next) {
    if (strcmp(view->source, source) != 0) continue;
    *out = view->root;
    return 0;
  }
  segue__config_view *view = segue__calloc(1, sizeof *view);
  if (!view) return UV_ENOMEM;
  view->source = segue__strdup(source);
  int rc = view->source ? view_fill(view, config, like) : UV_ENOMEM;
  if (rc) {
    segue__config_views_free(view);
    return rc;
  }
  view->next = config->views;
  config->views = view;
  *out = view->root;
  return 0;
}
