/* SPDX-License-Identifier: MIT
 *
 * Loading plugins. The library loads the bytes that were read and checked, from a file in memory:
 * so a change of the file on disk has no effect, and a rollback loads the bytes of the old
 * generation. The descriptor of the file in memory stays open as long as the plugin: the system's
 * loader identifies objects by their path, /proc/self/fd/N, so the number must not be reused.
 */
#include "plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <uv.h>

#include "../options/options.h"
#include "../os/error.h"
#include "../os/write.h"
#include "module.h"

struct segue__plugins {
  segue__plugin *first;
};

struct segue__plugin {
  segue__plugins *owner; /* NULL: it was freed */
  segue__plugin *next;
  size_t refs;
  segue__hash hash;
  int fd;
  void *handle;
  bool has_module, has_source;
  segue_source_descriptor source;
  segue_module_descriptor descriptor; /* the part of the plugin's struct that this version knows */
};

int segue__plugins_new(segue__plugins **out) {
  *out = segue__calloc(1, sizeof **out);
  return *out ? 0 : UV_ENOMEM;
}

void segue__plugins_free(segue__plugins *plugins) {
  for (segue__plugin *p = plugins ? plugins->first : NULL; p; p = p->next)
    p->owner = NULL;
  segue__free(plugins);
}

segue__plugin *segue__plugin_ref(segue__plugin *plugin) {
  if (plugin) plugin->refs++;
  return plugin;
}

/* Writes the path by which the system's loader knows the plugin. */
static void plugin_name_of(const segue__plugin *plugin, char *out, size_t size) {
  snprintf(out, size, "/proc/self/fd/%d", plugin->fd);
}

/* Returns whether the loader never unloads the object, as for most objects in C++. It is then known
 * under the path of its descriptor, so that descriptor stays open: the next plugin must not get its
 * number. */
static bool plugin_stays(const segue__plugin *plugin) {
  char name[32];
  plugin_name_of(plugin, name, sizeof name);
  void *handle = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
  if (handle) dlclose(handle);
  return handle != NULL;
}

static void plugin_unload(segue__plugin *plugin) {
  if (plugin->handle) dlclose(plugin->handle);
  if (plugin->fd >= 0 && !(plugin->handle && plugin_stays(plugin))) close(plugin->fd);
  segue__free(plugin);
}

void segue__plugin_unref(segue__plugin *plugin) {
  if (!plugin || --plugin->refs > 0) return;
  if (plugin->owner) {
    segue__plugin **link = &plugin->owner->first;
    while (*link != plugin)
      link = &(*link)->next;
    *link = plugin->next;
  }
  plugin_unload(plugin);
}

const segue_module_descriptor *segue__plugin_descriptor(const segue__plugin *plugin) {
  return plugin->has_module ? &plugin->descriptor : NULL;
}

const segue_source_descriptor *segue__plugin_source(const segue__plugin *plugin) {
  return plugin->has_source ? &plugin->source : NULL;
}

segue__hash segue__plugin_hash(const segue__plugin *plugin) {
  return plugin->hash;
}

/* ---- Loading --------------------------------------------------------------------------------- */

/* One of the two descriptors that a plugin may export. */
typedef struct exported {
  const char *symbol, *interface, *magic_name, *type; /* type: of the descriptor */
  uint32_t magic, abi;
  size_t least; /* bytes of the oldest descriptor */
} exported;

/* `least` is the size of the oldest descriptor: fields behind it were added later and are zero for
 * older plugins. */
static const exported module_export = {"segue_module",
                                       "module",
                                       "SEGUE_MODULE_MAGIC",
                                       "segue_module_descriptor",
                                       SEGUE_MODULE_MAGIC,
                                       SEGUE_MODULE_ABI,
                                       offsetof(segue_module_descriptor, userdata)};
static const exported source_export = {"segue_source",
                                       "source",
                                       "SEGUE_SOURCE_MAGIC",
                                       "segue_source_descriptor",
                                       SEGUE_SOURCE_MAGIC,
                                       SEGUE_SOURCE_ABI,
                                       offsetof(segue_source_descriptor, userdata)};

/* Validates the first three fields of a descriptor. */
static int validate_head(const exported *e, uint32_t magic, uint32_t abi, size_t size,
                         segue_error *err) {
  if (magic != e->magic)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "has a %s that does not begin with %s: it is something else, or was not "
                         "initialised",
                         e->type, e->magic_name);
  if (abi != e->abi)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "was built for version %u of the %s interface, this is version %u: build "
                         "it again with the segue.h of segue %s",
                         abi, e->interface, e->abi, segue_version());
  if (size < e->least || size > SEGUE__STRUCT_MAX)
    return segue__errorf(err, SEGUE_EPOLICY,
                         "has a descriptor of %zu bytes, which no version of segue.h defines: set "
                         "its size to sizeof(%s), and build it again",
                         size, e->type);
  return 0;
}

static int validate_begin(const exported *e, const void *bytes, size_t len, segue_error *err) {
  uint32_t magic, abi;
  size_t size;
  int rc = segue__plugin_inspect(bytes, len, e->symbol, &magic, &abi, &size, err);
  return rc ? rc : validate_head(e, magic, abi, size, err);
}

/* A plugin without either of them gets the message about a module. */
static int validate_exports(const void *bytes, size_t len, bool *source, segue_error *err) {
  *source = segue__plugin_exports(bytes, len, source_export.symbol);
  bool module = !*source || segue__plugin_exports(bytes, len, module_export.symbol);
  int rc = module ? validate_begin(&module_export, bytes, len, err) : 0;
  return rc || !*source ? rc : validate_begin(&source_export, bytes, len, err);
}

static int map_file(segue__plugin *plugin, const char *path, const void *bytes, size_t len,
                    segue_error *err) {
  const char *slash = strrchr(path, '/');
  plugin->fd = memfd_create(slash ? slash + 1 : path, MFD_CLOEXEC);
  int rc = plugin->fd < 0 ? -errno : segue__write_all(plugin->fd, bytes, len, NULL);
  if (rc < 0) return segue__errorf(err, rc, "cannot be copied into memory: %s", segue_strerror(rc));
  return 0;
}

/* Reports the loader's message without the path of the file in memory, which means nothing to an
 * operator. */
static int loader_failed(const char *name, segue_error *err) {
  const char *why = dlerror();
  size_t len = strlen(name);
  if (why && !strncmp(why, name, len) && !strncmp(why + len, ": ", 2)) why += len + 2;
  return segue__errorf(err, SEGUE_EPOLICY,
                       "cannot be loaded: %s: link it with what it needs, and use nothing of "
                       "segue but segue.h",
                       why ? why : "the system's loader reports no reason");
}

static int validate_ops(const segue_module_descriptor *d, segue_error *err) {
  const char *wrong = NULL, *problem = d->options ? segue__options_problem(d->options) : NULL;
  if (!d->name || !*d->name)
    wrong = "has no name in its descriptor: set it";
  else if (!d->ops)
    wrong = "has no ops in its descriptor: set them";
  else if (!segue__module_ops_fit(d->ops))
    wrong = "has ops that cannot be used: set their size (and that of log and stats) to the sizeof "
            "of its struct, set enabled and write of log, record of stats, and build it again";
  if (!wrong && problem)
    return segue__errorf(err, SEGUE_EPOLICY, "has a table of options that %s", problem);
  return wrong ? segue__errorf(err, SEGUE_EPOLICY, "%s", wrong) : 0;
}

/* The fields after the head. */
static int validate_source(const segue_source_descriptor *d, segue_error *err) {
  const char *wrong = NULL, *problem = d->options ? segue__options_problem(d->options) : NULL;
  if (!d->name || !*d->name)
    wrong = "has no name in the descriptor of its source: set it";
  else if (!d->ops)
    wrong = "has no ops in the descriptor of its source: set them";
  else if (d->ops->size < offsetof(segue_source_ops, watch) || d->ops->size > SEGUE__STRUCT_MAX)
    wrong = "has a source with ops of a size that no version of segue.h defines: set it to "
            "sizeof(segue_source_ops), and build it again";
  else if (!d->ops->fetch)
    wrong = "has a source without the operation fetch: set it";
  if (!wrong && problem)
    return segue__errorf(err, SEGUE_EPOLICY, "has a table of options of its source that %s",
                         problem);
  return wrong ? segue__errorf(err, SEGUE_EPOLICY, "%s", wrong) : 0;
}

int segue__module_descriptor_validate(const segue_module_descriptor *d,
                                      segue_module_descriptor *out, segue_error *err) {
  int rc = validate_head(&module_export, d->magic, d->abi, d->size, err);
  memset(out, 0, sizeof *out);
  if (rc) return rc;
  memcpy(out, d, d->size < sizeof *out ? d->size : sizeof *out);
  return validate_ops(out, err);
}

int segue__source_descriptor_validate(const segue_source_descriptor *d, segue_error *err) {
  int rc = validate_head(&source_export, d->magic, d->abi, d->size, err);
  return rc ? rc : validate_source(d, err);
}

/* The descriptor was checked in the bytes of the file before. It is copied up to the size that the
 * plugin knows, so that a shorter, older descriptor is not read beyond its end. */
static int open_object(segue__plugin *plugin, bool source, segue_error *err) {
  char name[32];
  plugin_name_of(plugin, name, sizeof name);
  plugin->handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!plugin->handle) return loader_failed(name, err);
  const segue_module_descriptor *theirs = dlsym(plugin->handle, "segue_module");
  const segue_source_descriptor *of_source = source ? dlsym(plugin->handle, "segue_source") : NULL;
  if (!theirs && !of_source) return loader_failed(name, err);
  int rc = 0;
  if (theirs) {
    plugin->has_module = true;
    rc = segue__module_descriptor_validate(theirs, &plugin->descriptor, err);
  }
  if (of_source && !rc) {
    size_t size = of_source->size < sizeof *of_source ? of_source->size : sizeof *of_source;
    memcpy(&plugin->source, of_source, size);
    plugin->has_source = true;
    rc = validate_source(&plugin->source, err);
  }
  return rc;
}

/* Puts the name of the plugin before a message: "plugin log.so was built ...". */
static int plugin_reported(const char *path, int rc, segue_error *err) {
  char why[sizeof err->message];
  if (!err) return rc;
  snprintf(why, sizeof why, "%s", err->message);
  return segue__errorf(err, rc, "plugin %s %s", path, why);
}

/* The same bytes are loaded once: dlopen would run the constructors again and give the code two
 * sets of static variables. */
int segue__plugin_load(segue__plugins *plugins, const char *path, const void *bytes, size_t len,
                       segue__plugin **out, segue_error *err) {
  segue__hash hash = segue__hash_bytes(bytes, len, (segue__hash){0, 0});
  *out = NULL;
  for (segue__plugin *p = plugins->first; p; p = p->next) {
    if (!segue__hash_equal(p->hash, hash)) continue;
    *out = segue__plugin_ref(p);
    return 0;
  }
  bool source;
  int rc = validate_exports(bytes, len, &source, err);
  if (rc) return plugin_reported(path, rc, err);
  segue__plugin *plugin = segue__calloc(1, sizeof *plugin);
  if (!plugin) return segue__errorf(err, UV_ENOMEM, "plugin %s: out of memory", path);
  *plugin = (segue__plugin){.owner = plugins, .refs = 1, .hash = hash, .fd = -1};
  rc = map_file(plugin, path, bytes, len, err);
  if (!rc) rc = open_object(plugin, source, err);
  if (rc) {
    plugin_unload(plugin);
    return plugin_reported(path, rc, err);
  }
  plugin->next = plugins->first;
  plugins->first = plugin;
  *out = plugin;
  return 0;
}
