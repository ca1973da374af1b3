/* SPDX-License-Identifier: MIT
 *
 * Templates of rendered files. A template is read with its policy and is one of its inputs: a
 * changed template starts a reload where the policy is watched, changes the hash of the module, and
 * a rollback renders with the text that the generation had.
 */
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "../os/error.h"
#include "../os/suggest.h"
#include "module.h"

#define TEMPLATE_MAX ((size_t)16 << 20)

static const char *const missingkey_names[] = {"default", "zero", "error", "invalid"};

static const char *const language_names[] = {"go", "etlua"};

static bool template_is_input(const segue__policy *policy, const char *path) {
  for (size_t i = 0; i < policy->input_count; i++)
    if (!strcmp(policy->inputs[i].path, path)) return true;
  return false;
}

static char *template_dialect(int index) {
  const char *name = SEGUE__TEMPLATE_DIALECTS;
  while (index--)
    name = strchr(name, '|') + 1;
  return segue__strndup(name, strcspn(name, "|"));
}

static segue__hash template_hash(const segue__file_template *template) {
  const char *const texts[] = {template->path,  template->functions, template->missingkey,
                               template->left,  template->right,     template->config,
                               template->keys,  template->language,  template->helpers_path,
                               template->source};
  segue__hash hash = {0, 0};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    hash = segue__hash_bytes(texts[i] ? texts[i] : "", texts[i] ? strlen(texts[i]) + 1 : 0, hash);
  hash = segue__hash_bytes(template->helpers ? template->helpers : "", template->helpers_len, hash);
  return segue__hash_bytes(template->text ? template->text : "", template->len, hash);
}

/* Reads a file, which becomes an input of the policy. */
static int template_read(const char *from, const segue__file_module_place *place, char **path,
                         char **text, size_t *len, segue_error *err) {
  segue__bytes bytes = {0};
  int rc = place->os->read_file(place->os->data, from, TEMPLATE_MAX, &bytes, err);
  if (rc) return rc;
  *text = bytes.data;
  *len = bytes.len;
  *path = segue__strdup(from);
  const segue__input input = {
      .path = *path, .hash = segue__hash_bytes(bytes.data, bytes.len, (segue__hash){0, 0})};
  bool full = !*path;
  if (!full && !template_is_input(place->policy, from))
    full = segue__policy_add_input(place->policy, &input) != 0;
  return full ? segue__errorf(err, UV_ENOMEM, "%s: out of memory", from) : 0;
}

/* A name that no source has would read nothing for ever. */
static int template_check_source(const char *source, const segue__policy *policy,
                                 segue_error *err) {
  const char *names[16];
  size_t count = 0;
  for (size_t i = 0; i < policy->source_count; i++) {
    if (!strcmp(policy->sources[i].name, source)) return 0;
    if (count < sizeof names / sizeof *names) names[count++] = policy->sources[i].name;
  }
  const char *meant = segue__suggest(source, names, count);
  return segue__errorf(err, SEGUE_EPOLICY, "source: there is no source '%s'%s%s%s", source,
                       meant ? ": did you mean '" : "", meant ? meant : "", meant ? "'?" : "");
}

int segue__file_template_load(segue__file_template *template, const segue__file_options *options,
                              const segue__file_module_place *place, segue_error *err) {
  if (!options->template) return 0;
  int rc = options->source ? template_check_source(options->source, place->policy, err) : 0;
  if (rc) return rc;
  rc = template_read(options->template, place, &template->path, &template->text, &template->len,
                     err);
  if (!rc && options->helpers)
    rc = template_read(options->helpers, place, &template->helpers_path, &template->helpers,
                       &template->helpers_len, err);
  if (rc) return rc;
  template->left = segue__strdup(options->left);
  template->right = segue__strdup(options->right);
  template->keys = segue__strdup(options->keys);
  template->source = segue__strdup(options->source);
  template->functions = template_dialect(options->functions);
  template->missingkey = options->has_missingkey ? missingkey_names[options->missingkey] : NULL;
  template->language = language_names[options->language];
  bool full = !template->functions || (options->left && !template->left) ||
              (options->right && !template->right) || (options->keys && !template->keys) ||
              (options->source && !template->source);
  template->hash = template_hash(template);
  return full ? segue__errorf(err, UV_ENOMEM, "%s: out of memory", options->template) : 0;
}

void segue__file_template_clear(segue__file_template *template) {
  segue__free(template->path);
  segue__free(template->text);
  segue__free(template->left);
  segue__free(template->right);
  segue__free(template->functions);
  segue__free(template->keys);
  segue__free(template->source);
  segue__free(template->helpers_path);
  segue__free(template->helpers);
  *template = (segue__file_template){0};
}

const segue_node *segue__file_template_part(const segue__file_template *template,
                                            const segue_snapshot *snapshot) {
  return segue_node_get(segue_snapshot_root(snapshot), template->config);
}

static segue__config **template_view(const segue__file_template *template) {
  segue__source_views *views = template->views;
  size_t i = 0;
  while (i < views->count && strcmp(views->items[i].source, template->source) != 0)
    i++;
  if (i < views->count) return &views->items[i].merged;
  struct segue__source_view *items = segue__realloc(views->items, (i + 1) * sizeof *items);
  if (!items) return NULL;
  views->items = items;
  items[views->count++] = (struct segue__source_view){.source = template->source};
  return &items[i].merged;
}

void segue__source_views_deinit(segue__source_views *views) {
  for (size_t i = 0; i < views->count; i++)
    segue__config_unref(views->items[i].merged);
  segue__free(views->items);
}

int segue__file_template_keys(const segue__file_template *template, const segue_snapshot *snapshot,
                              const segue_node **out) {
  const segue_node *root = segue_snapshot_root(snapshot);
  *out = NULL;
  if (template->source) {
    segue__config **like = template_view(template);
    int rc =
        like ? segue__config_source(snapshot->config, template->source, like, &root) : UV_ENOMEM;
    if (rc) return rc;
  }
  *out = template->keys ? segue_node_get(root, template->keys) : root;
  return 0;
}

void segue__file_template_name(const segue__file_template *template, const char *path,
                               segue__buf *out) {
  for (const char *at = template->keys ? template->keys : ""; *at; at++)
    segue__buf_addc(out, *at == '.' ? '/' : *at);
  if (template->keys && *template->keys && *path) segue__buf_addc(out, '/');
  segue__buf_adds(out, path);
}
