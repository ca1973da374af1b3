/* SPDX-License-Identifier: MIT
 *
 * Kinds `file` and `dir`. The content decides whether a document is new: the same bytes, under the
 * same values of the variables they mention, are the document that is there already.
 */
#include <string.h>
#include <uv.h>

#include "kinds.h"
#include "source_options.h"

enum { BYTES_DEFAULT = 64 << 20, LISTINGS = 3 };

typedef struct fetcher {
  const segue__source *source;
  const segue__os *os;
  size_t bytes_max;
  const segue__documents *previous;
  size_t hint; /* where in previous the next file is: both are sorted */
  uint32_t *next_id;
  segue__documents *out;
  segue_error *err;
} fetcher;

static segue__format format_of(const segue__source *source, const char *path, bool *guessed) {
  *guessed = false;
  if (source->format >= 0) return (segue__format)source->format;
  return segue__format_of(path, guessed);
}

static bool same_variables(const segue__document *doc, const segue__os *os) {
  for (const segue__variable *v = doc->variables; v; v = v->next) {
    const char *now = os->getenv(os->data, v->name);
    if (!now != !v->value || (now && strcmp(now, v->value) != 0)) return false;
  }
  return true;
}

static bool same_document(const fetcher *f, const segue__document *doc, const char *path,
                          const segue__bytes *bytes) {
  bool guessed;
  segue__format format = format_of(f->source, path, &guessed);
  return doc->guessed == guessed && (guessed || doc->format == format) &&
         doc->expand == f->source->expand && doc->by_file == f->source->by_file &&
         doc->allow_empty == f->source->allow_empty && doc->len == bytes->len && doc->data &&
         !strcmp(doc->source, f->source->name) && !memcmp(doc->data, bytes->data, bytes->len) &&
         same_variables(doc, f->os);
}

/* Names come in order and are in order in previous, so each is passed once. */
static segue__document *file_known(fetcher *f, const char *path, const segue__bytes *bytes) {
  size_t n = f->previous ? f->previous->count : 0;
  for (; f->hint < n; f->hint++) {
    segue__document *doc = f->previous->items[f->hint];
    int order = strcmp(doc->name, path);
    if (order == 0 && same_document(f, doc, path, bytes)) return doc;
    if (order >= 0) return NULL;
  }
  return NULL;
}

static int file_fail_memory(const fetcher *f, const char *path) {
  int rc = segue__errorf(f->err, UV_ENOMEM, "out of memory while reading %s", path);
  segue__error_source(f->err, f->source->name);
  return rc;
}

/* Delivers one file. err is set by the reader where it fails. */
static int fetch_file(fetcher *f, const char *path) {
  segue__bytes bytes = {NULL, 0};
  int rc = f->source->allow_writing
               ? f->os->read_file(f->os->data, path, f->bytes_max, &bytes, f->err)
               : segue__read_whole(f->os, path, f->bytes_max, &bytes, f->err);
  if (rc) {
    segue__error_set_place(f->err, path, 0, 0);
    segue__error_source(f->err, f->source->name);
    return rc;
  }
  segue__document *doc = file_known(f, path, &bytes);
  if (doc) {
    segue__free(bytes.data);
    segue__document_ref(doc);
  } else {
    bool guessed;
    segue__format format = format_of(f->source, path, &guessed);
    rc = segue__document_new(&doc, (*f->next_id)++, f->source->name, path, format, bytes.data,
                             bytes.len);
    if (rc) return file_fail_memory(f, path);
    doc->guessed = guessed;
    doc->expand = f->source->expand;
    doc->by_file = f->source->by_file;
    doc->allow_empty = f->source->allow_empty;
  }
  return segue__documents_add(f->out, doc) ? file_fail_memory(f, path) : 0;
}

static fetcher fetcher_of(const segue__source *source, const segue__os *os,
                          const segue__limits *limits, const segue__documents *previous,
                          uint32_t *next_id, segue__documents *out, segue_error *err) {
  size_t max = limits && limits->bytes ? limits->bytes : (size_t)BYTES_DEFAULT;
  return (fetcher){source, os, max, previous, 0, next_id, out, err};
}

/* Forgives that something is absent, not that it cannot be read. */
static int forgive_absence(const segue__source *source, int rc, segue_error *err) {
  if (!source->optional || rc != UV_ENOENT) return rc;
  if (err) memset(err, 0, sizeof *err);
  return 0;
}

static int fetch_one(const segue__source *source, const segue__os *os, const segue__limits *limits,
                     const segue__documents *previous, uint32_t *next_id, segue__documents *out,
                     segue_error *err) {
  fetcher f = fetcher_of(source, os, limits, previous, next_id, out, err);
  return forgive_absence(source, fetch_file(&f, source->path), err);
}

static int fetch_listing(fetcher *f, const segue__names *names) {
  int rc = 0;
  f->hint = 0;
  for (size_t i = 0; !rc && i < names->count; i++)
    rc = fetch_file(f, names->items[i]);
  return rc;
}

/* An emptied folder, a volume that is not mounted and a misspelt pattern look alike, so no match
 * counts as absence, as for a missing file. */
static int fail_no_match(const segue__source *source, segue_error *err) {
  int rc = segue__errorf(err, UV_ENOENT,
                         "no file matches %s: is the folder filled and the pattern right? "
                         "(optional = true allows none)",
                         source->path);
  segue__error_source(err, source->name);
  return forgive_absence(source, rc, err);
}

static void drop_from(segue__documents *docs, size_t count) {
  while (docs->count > count)
    segue__document_unref(docs->items[--docs->count]);
}

/* A match that is no file fails as it would under its own name: a container runtime makes a
 * directory where the file of a mount is missing, and without an error its part of the
 * configuration would be gone. */
static int fail_odd(fetcher *f, const char *path) {
  int rc = fetch_file(f, path);
  if (rc) return rc;
  rc = segue__errorf(f->err, UV_ENOENT, "%s became a file while its folder was listed", path);
  segue__error_source(f->err, f->source->name);
  return rc;
}

/* A file that goes between listing and reading is no error: the folder is listed again. */
static int fetch_dir(const segue__source *source, const segue__os *os, const segue__limits *limits,
                     const segue__documents *previous, uint32_t *next_id, segue__documents *out,
                     segue_error *err) {
  fetcher f = fetcher_of(source, os, limits, previous, next_id, out, err);
  size_t before = out->count;
  int rc = UV_ENOENT;
  for (int i = 0; i < LISTINGS && rc == UV_ENOENT; i++) {
    segue__names names = {0};
    drop_from(out, before);
    rc = os->list_files(os->data, source->path, &names, err);
    if (rc) {
      segue__error_source(err, source->name);
      return forgive_absence(source, rc, err);
    }
    bool none = !names.count && !names.odd;
    rc = names.odd ? fail_odd(&f, names.odd) : fetch_listing(&f, &names);
    segue__names_deinit(&names);
    if (none) return fail_no_match(source, err);
  }
  if (rc) drop_from(out, before);
  return rc;
}

static int watch_path(const segue__source *source, segue__names *paths) {
  return segue__names_add(paths, "", 0, source->path);
}

const segue__source_kind segue__source_file = {.name = "file",
                                               .options = &segue__source_file_options,
                                               .fetch = fetch_one,
                                               .watch = watch_path};
const segue__source_kind segue__source_dir = {
    .name = "dir", .options = &segue__source_dir_options, .fetch = fetch_dir, .watch = watch_path};
