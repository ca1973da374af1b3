/* SPDX-License-Identifier: MIT
 *
 * Reading and comparing versions of a file, and their form in the journal.
 */
#include "version.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "../config/config.h"
#include "../os/explain.h"
#include "../os/file.h"

static const char *const kinds[] = {"none", "file", "link"};

static int version_of_link(const char *path, segue__file_version *out, segue_error *err) {
  char target[PATH_MAX];
  ssize_t len = readlink(path, target, sizeof target);
  if (len < 0) return segue__explain(err, -errno, "read", path);
  out->kind = SEGUE__FILE_LINK;
  out->mode = 0;
  out->size = (uint64_t)len;
  out->hash = segue__hash_bytes(target, (size_t)len, (segue__hash){0, 0});
  return 0;
}

int segue__file_version_read(const char *path, segue__file_version *out, segue__bytes *bytes,
                             segue_error *err) {
  struct stat st;
  segue__bytes content = {0};
  memset(out, 0, sizeof *out);
  if (bytes) *bytes = content;
  if (lstat(path, &st)) return errno == ENOENT ? 0 : segue__explain(err, -errno, "read", path);
  out->uid = st.st_uid;
  out->gid = st.st_gid;
  if (S_ISLNK(st.st_mode)) return version_of_link(path, out, err);
  int rc = segue__file_read(NULL, path, SEGUE__FILE_MAX, &content, err);
  if (rc) {
    memset(out, 0, sizeof *out);
    /* The remedy of the reader is one for sources. */
    if (rc == UV_EISDIR)
      segue__errorf(err, rc, "%s is a folder, not a file: move it away, or name a file in it",
                    path);
    return rc;
  }
  out->kind = SEGUE__FILE_REGULAR;
  out->mode = st.st_mode & 07777;
  out->size = content.len;
  out->hash = segue__hash_bytes(content.data, content.len, (segue__hash){0, 0});
  if (bytes)
    *bytes = content;
  else
    segue__free(content.data);
  return 0;
}

bool segue__file_read_failed(int rc) {
  return rc == UV_ENOMEM || rc == UV_EMFILE || rc == UV_ENFILE;
}

bool segue__file_version_equal(const segue__file_version *a, const segue__file_version *b) {
  if (a->kind != b->kind) return false;
  if (a->kind == SEGUE__FILE_NONE) return true;
  return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && a->size == b->size &&
         segue__hash_equal(a->hash, b->hash);
}

void segue__file_version_explain(const segue__file_version *a, const segue__file_version *b,
                                 char *out, size_t size) {
  if (b->kind == SEGUE__FILE_NONE)
    snprintf(out, size, "it was removed");
  else if (a->kind == SEGUE__FILE_NONE)
    snprintf(out, size, "it was made");
  else if (a->kind != b->kind)
    snprintf(out, size, "it was replaced by a %s",
             b->kind == SEGUE__FILE_LINK ? "symbolic link" : "file");
  else if (a->kind == SEGUE__FILE_LINK && !segue__hash_equal(a->hash, b->hash))
    snprintf(out, size, "it is a link to another place");
  else if (a->size != b->size || !segue__hash_equal(a->hash, b->hash))
    snprintf(out, size, "its content was changed");
  else if (a->mode != b->mode)
    snprintf(out, size, "its mode was changed from %04o to %04o", a->mode, b->mode);
  else
    snprintf(out, size, "its owner was changed from %u:%u to %u:%u", a->uid, a->gid, b->uid,
             b->gid);
}

void segue__file_version_write(const segue__file_version *version, segue__buf *json) {
  char hash[33];
  if (version->kind == SEGUE__FILE_NONE) {
    segue__buf_adds(json, "{\"kind\":\"none\"}");
    return;
  }
  segue__hash_hex(version->hash, hash);
  segue__buf_addf(json,
                  "{\"kind\":\"%s\",\"mode\":\"%04o\",\"uid\":%u,\"gid\":%u,\"size\":%" PRIu64
                  ",\"hash\":\"%s\"}",
                  kinds[version->kind], version->mode, version->uid, version->gid, version->size,
                  hash);
}

static const char *version_text(const segue_node *node, const char *name) {
  const char *text = NULL;
  return segue_node_string(segue_node_get(node, name), &text, NULL) ? NULL : text;
}

static bool version_number(const segue_node *node, const char *name, uint64_t max, uint64_t *out) {
  int64_t number;
  if (segue_node_int(segue_node_get(node, name), &number) || number < 0) return false;
  *out = (uint64_t)number;
  return *out <= max;
}

bool segue__file_version_parse(const segue_node *node, segue__file_version *out) {
  uint64_t uid, gid;
  memset(out, 0, sizeof *out);
  const char *kind = version_text(node, "kind");
  if (kind && !strcmp(kind, kinds[SEGUE__FILE_NONE])) return true;
  const char *mode = version_text(node, "mode"), *hash = version_text(node, "hash");
  if (!kind || !mode || !hash || !segue__hash_parse(hash, &out->hash)) return false;
  if (!strcmp(kind, kinds[SEGUE__FILE_REGULAR]))
    out->kind = SEGUE__FILE_REGULAR;
  else if (!strcmp(kind, kinds[SEGUE__FILE_LINK]))
    out->kind = SEGUE__FILE_LINK;
  else
    return false;
  char *end;
  out->mode = (unsigned)strtoul(mode, &end, 8) & 07777;
  if (*end || !version_number(node, "uid", UINT32_MAX, &uid) ||
      !version_number(node, "gid", UINT32_MAX, &gid) ||
      !version_number(node, "size", SEGUE__FILE_MAX, &out->size))
    return false;
  out->uid = (unsigned)uid;
  out->gid = (unsigned)gid;
  return true;
}
