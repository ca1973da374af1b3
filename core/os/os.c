/* SPDX-License-Identifier: MIT
 *
 * The real operating system, as the struct that tests replace.
 */
#include "os.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

static const char *os_get_variable(void *data, const char *name) {
  (void)data;
  return getenv(name);
}

static char **os_get_environment(void *data) {
  (void)data;
  return environ;
}

static int os_file_mode(void *data, const char *path, unsigned *mode) {
  struct stat st;
  (void)data;
  if (stat(path, &st) < 0) return -errno;
  *mode = st.st_mode & 07777;
  return 0;
}

static int os_spawn(void *data, segue__loop *loop, const segue__spawn_options *options,
                    segue__spawn **out, segue_error *err) {
  (void)data;
  return segue__spawn_start(loop, options, out, err);
}

static int start_child(void *data, segue__loop *loop, const segue__child_options *options,
                       segue__child **out, segue_error *err) {
  (void)data;
  return segue__child_start(loop, options, out, err);
}

const segue__os *segue__os_default(void) {
  static const segue__os os = {
      .read_file = segue__file_read,
      .read_whole = segue__file_read_whole,
      .list_files = segue__file_list,
      .write_file = segue__file_write,
      .getenv = os_get_variable,
      .environ = os_get_environment,
      .file_mode = os_file_mode,
      .spawn = os_spawn,
      .start_child = start_child,
  };
  return &os;
}

int segue__read_whole(const segue__os *os, const char *path, size_t max, segue__bytes *out,
                      segue_error *err) {
  return (os->read_whole ? os->read_whole : os->read_file)(os->data, path, max, out, err);
}

int segue__read_credential(const segue__os *os, const char *path, size_t max, segue__bytes *out,
                           segue_error *err) {
  if (!os->read_credential) return segue__read_whole(os, path, max, out, err);
  return os->read_credential(os->data, path, max, out, err);
}
