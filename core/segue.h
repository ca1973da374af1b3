/* SPDX-License-Identifier: MIT
 *
 * segue.h: the public C interface of libsegue. Segue changes the configuration and the modules of a
 * running server without losing a request. A host includes this header and no other one.
 *
 * A whole program, which reloads config.yaml when the file is saved, and prints each log line:
 *
 *     static void on_log(void *data, const segue_log_entry *entry) {
 *       (void)data;
 *       fprintf(stderr, "%s: %s\n", entry->group, entry->message);
 *     }
 *
 *     int main(void) {
 *       segue_options options;
 *       segue_error error;
 *       segue *s;
 *       segue_options_init(&options);
 *       options.config = "config.yaml";
 *       options.on_log = on_log;
 *       int rc = segue_new(&s, &options, &error);
 *       if (rc == 0) rc = segue_start(s, &error);
 *       if (rc < 0)
 *         fprintf(stderr, "%s\n", error.message);
 *       else
 *         rc = segue_run(s); // until another thread or a callback calls segue_stop(s)
 *       segue_close(s);
 *       return rc < 0;
 *     }
 *
 * The following holds for every function, unless its comment states something else.
 *
 * Threads. The thread that runs the loop (inside segue_run, or running the host's loop) is the
 * control thread of the instance. A function marked [any thread] may be called from every thread,
 * also in callbacks, but not in a signal handler. Every other function must be called on the
 * control thread. The library calls the host on the control thread, except where a callback is
 * marked [any thread].
 *
 * Errors. A function that returns int returns 0 or a count on success, and a negative code on
 * failure: one of SEGUE_E* below, or a code of libuv for an error of the system (UV_ENOENT is
 * -ENOENT on Linux). A function that takes a segue_error describes the failure there: file, line,
 * column and one sentence; NULL is allowed. After a failure the outputs are NULL, the caller has
 * nothing to release, and no callback of that call runs. After success the callback runs once,
 * never before the function has returned.
 *
 * Memory. new: the caller frees the result. acquire, ref: the caller releases it. get: the result
 * is borrowed, and is valid until the object that it belongs to changes or is freed. Strings that
 * are passed in are copied, and must be UTF-8. free, unref and close accept NULL; another function
 * accepts NULL for an object only if its comment names that case. Running out of memory is the
 * error UV_ENOMEM; the library never exits or aborts because of it.
 *
 * Cost. Functions for hot paths state what they cost.
 *
 * Units are in the names: _ms is milliseconds; bytes and len count bytes.
 *
 * Versions. A struct with a size field may grow: it begins with the sizeof that the caller was
 * compiled with, and the library uses the part that both know. The other structs keep their layout
 * as long as the library keeps its soname. SEGUE_MODULE_ABI is the version of the module interface.
 *
 * Fork. An instance belongs to the process that made it. In a child after fork, functions with an
 * error code return SEGUE_ECLOSED, functions that return a pointer return NULL, the others do
 * nothing. A read section of a thread that had one before the fork still reads the configuration of
 * that time. A child has no listening socket, no client connection and no lock of the state folder,
 * even if it calls no function of the library: a handler of pthread_atfork(3) replaces them by
 * unconnected sockets (a child of a raw clone(2) has them until it calls segue_close).
 * segue_close in a child closes the remaining descriptors, and frees the library's copy of the
 * host's options. It changes no file and runs no code of modules or of Lua. The memory of
 * configurations and modules is not freed before the child ends: the pages are shared with the
 * parent, and freeing them would copy them.
 *
 * The library never prints, exits, aborts or installs a signal handler.
 */
#ifndef SEGUE_H
#define SEGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define SEGUE__CAST(type, value) (reinterpret_cast<type>(value))
extern "C" {
#else
#define SEGUE__CAST(type, value) ((type)(value))
#endif

#define SEGUE_VERSION_MAJOR 0
#define SEGUE_VERSION_MINOR 1
#define SEGUE_VERSION_PATCH 0
#define SEGUE_VERSION "0.1.0"

#if defined(SEGUE_CDEF)
#define SEGUE_API
#else
#define SEGUE_API __attribute__((visibility("default")))
#endif

/* ---- Errors ---------------------------------------------------------------------------------- */

/* SEGUE_ERRORS(X) expands to X(name, number, meaning) for each error. The codes of libuv are above
 * -5000, so that one int holds both. The numbers never change. */
#define SEGUE_ERRORS(X)                                                                            \
  X(SYNTAX, -5001, "the text is not well formed")                                                  \
  X(ENCODING, -5002, "the text is not valid UTF-8")                                                \
  X(LIMIT, -5003, "a limit was exceeded")                                                          \
  X(TYPE, -5004, "the value has another type")                                                     \
  X(RANGE, -5005, "the value does not fit")                                                        \
  X(PATH, -5006, "no value at this path")                                                          \
  X(EMPTY, -5007, "the document is empty")                                                         \
  X(USAGE, -5008, "the call or option is wrong")                                                   \
  X(POLICY, -5009, "the policy has an error")                                                      \
  X(VETO, -5010, "the policy rejected the configuration")                                          \
  X(HELD, -5011, "a guard holds the last good data")                                               \
  X(TIMEOUT, -5012, "a time limit passed")                                                         \
  X(MODULE, -5013, "a module failed")                                                              \
  X(UNDO, -5014, "undoing a change failed")                                                        \
  X(PROBE, -5015, "the new generation was not confirmed")                                          \
  X(CONFLICT, -5016, "the live generation is another one")                                         \
  X(FROZEN, -5017, "reloads are frozen")                                                           \
  X(CLOSED, -5018, "the instance is shutting down")                                                \
  X(RECORD, -5019, "the durable record could not be written")                                      \
  X(CANCELLED, -5020, "the operation was cancelled")                                               \
  X(DEFERRED, -5021, "the reload was postponed")                                                   \
  X(SCHEMA, -5022, "the configuration breaks its schema")                                          \
  X(SOURCE, -5023, "a source could not be read")                                                   \
  X(UNCONFIRMED, -5024, "the new generation is live and waits for an operator")                    \
  X(CONFIG, -5025, "a module rejected its configuration or its code")                              \
  X(DENIED, -5026, "a source refused the credentials")                                             \
  X(GONE, -5027, "the revision does not exist any more")                                           \
  X(BUSY, -5028, "a source requests a pause")                                                      \
  X(ENDED, -5029, "a watch ended by the time limit of its server")

#define SEGUE__ERROR_ENUM(name, number, meaning) SEGUE_E##name = number,
enum segue_error_code { SEGUE_ERRORS(SEGUE__ERROR_ENUM) };
#undef SEGUE__ERROR_ENUM

/* One failure, described so that a person can act on it. Plain data, owned by the caller; it holds
 * no pointer and need not be initialised or freed. Strings are cut to fit and always terminated.
 * Fields that do not apply are "" or 0. */
typedef struct segue_error {
  int code;          /* negative */
  uint32_t line;     /* from 1; 0: unknown */
  uint32_t column;   /* from 1, in bytes */
  char source[96];   /* name of the source or module */
  char file[256];    /* file or document name */
  char path[256];    /* of the value: listen[0].port; a long one lacks its middle */
  char message[512]; /* one sentence: the problem and the remedy */
} segue_error;

/* Return the name ("SEGUE_ESYNTAX", "ENOENT") and the meaning of a code; "OK" for 0. The text is
 * static: never NULL, never freed. [any thread] */
SEGUE_API const char *segue_error_name(int code);
SEGUE_API const char *segue_strerror(int code);

/* Writes "file:line:column: message (at path)" into buf, cut to size bytes and terminated. Returns
 * the length in bytes of the whole text, as snprintf does. [any thread] */
SEGUE_API size_t segue_error_format(const segue_error *error, char *buf, size_t size);

/* Returns the version of the library that is linked, "0.1.0"; compare it with SEGUE_VERSION.
 * [any thread] */
SEGUE_API const char *segue_version(void);

/* ---- Configuration: nodes and snapshots ------------------------------------------------------ */

typedef struct segue segue;
typedef struct segue_snapshot segue_snapshot; /* one configuration; never changes */
typedef struct segue_node segue_node;         /* a value in it; valid as long as its snapshot */

typedef enum segue_type {
  SEGUE_NULL,
  SEGUE_BOOL,
  SEGUE_INT,
  SEGUE_FLOAT,
  SEGUE_STRING,
  SEGUE_LIST,
  SEGUE_MAP
} segue_type;

/* Returns "null", "boolean", "integer", "float", "string", "list" or "map". [any thread] */
SEGUE_API const char *segue_type_name(segue_type type);

/* Functions of nodes. [any thread] that holds the snapshot by a reference or an open read section.
 * A node that is NULL is a value that does not exist: its type is SEGUE_NULL, its count 0, its
 * children NULL, so calls can be nested without a check between them. None of these functions
 * allocates or locks. Example:
 *
 *     static int64_t read_workers(segue *s) {
 *       int64_t workers = 4; // the default: stays if the value does not exist or has another type
 *       const segue_snapshot *snapshot = segue_read_begin(s);
 *       const segue_node *root = segue_snapshot_root(snapshot);
 *       segue_node_int(segue_node_get(root, "pool.workers"), &workers);
 *       segue_read_end(s);
 *       return workers;
 *     }
 */
SEGUE_API segue_type segue_node_type(const segue_node *node);
/* Returns the number of items, members or bytes of text; 0 for other types. */
SEGUE_API size_t segue_node_count(const segue_node *node);
/* Returns an item of a list, or the value of a member of a map in the order of the document; NULL
 * past the end. key may be NULL; else *key becomes the key of the member, borrowed, or NULL for an
 * item. O(1). */
SEGUE_API const segue_node *segue_node_at(const segue_node *node, size_t index, const char **key);
/* Returns the value of the member of a map with this key, or NULL. O(1). */
SEGUE_API const segue_node *segue_node_member(const segue_node *node, const char *key);
/* Returns the node at a path such as listen[0].port or a."odd key".b; "" is the node itself. NULL:
 * no value has this path, or the path is malformed. Costs one look-up for each part of the path. */
SEGUE_API const segue_node *segue_node_get(const segue_node *node, const char *path);
/* Read a value by type. SEGUE_EPATH: node is NULL. SEGUE_ETYPE: the value has another type.
 * SEGUE_ERANGE: the number does not fit. On failure *out stays as it is, so that it can hold a
 * default. An integer can be read as a double; a float cannot be read as an integer. A string is
 * borrowed from the snapshot and terminated; length (in bytes) may be NULL. */
SEGUE_API int segue_node_bool(const segue_node *node, bool *out);
SEGUE_API int segue_node_int(const segue_node *node, int64_t *out);
SEGUE_API int segue_node_uint(const segue_node *node, uint64_t *out);
SEGUE_API int segue_node_double(const segue_node *node, double *out);
SEGUE_API int segue_node_string(const segue_node *node, const char **out, size_t *length);
/* Finds the place that a value was read from. Outputs may be NULL; source and file are borrowed
 * from the snapshot. A column behind 16,777,215 is reported as 16,777,215. SEGUE_EPATH: snapshot or
 * node is NULL, or no document has the value. [any thread] */
SEGUE_API int segue_node_origin(const segue_snapshot *snapshot, const segue_node *node,
                                const char **source, const char **file, uint32_t *line,
                                uint32_t *column);
/* Fills error with a code, one sentence (formatted as by printf) and, if node is in the snapshot,
 * its file, line, column and path. If snapshot or node is NULL, error gets the sentence alone.
 * error may be NULL. Returns code, for `return segue_error_at(...)`. Searches the whole tree for
 * the path: for failures, not for hot paths. [any thread] Example, in `prepare` of a module:
 *
 *     static void check_port(segue_op *op, const segue_slice *next) {
 *       segue_error error;
 *       int64_t port = 0;
 *       const segue_node *node = segue_node_member(next->config, "port");
 *       int rc = segue_node_int(node, &port);
 *       if (rc < 0 || port < 1 || port > 65535)
 *         rc = segue_error_at(&error, SEGUE_ECONFIG, next->snapshot, node,
 *                             "port must be between 1 and 65535");
 *       segue_op_done(op, rc, rc < 0 ? &error : NULL);
 *     }
 */
SEGUE_API int segue_error_at(segue_error *error, int code, const segue_snapshot *snapshot,
                             const segue_node *node, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
#define segue_error_set(error, code, ...) segue_error_at(error, code, NULL, NULL, __VA_ARGS__)

/* Return the top of the tree (a map), the number of the generation, and the hash of the content (32
 * lower-case hex digits; equal hash: equal content). The node and the text are borrowed. For NULL,
 * which a read section returns before the first generation, they return NULL, 0 and "". [any
 * thread] */
SEGUE_API const segue_node *segue_snapshot_root(const segue_snapshot *snapshot);
SEGUE_API uint64_t segue_snapshot_generation(const segue_snapshot *snapshot);
SEGUE_API const char *segue_snapshot_hash(const segue_snapshot *snapshot);
/* A counted reference keeps a snapshot and its memory until unref, and delays no reload. The
 * argument of ref must not be freed meanwhile: the caller holds a reference to it, or is inside the
 * read section that returned it. ref returns its argument; NULL returns NULL. [any thread] */
SEGUE_API const segue_snapshot *segue_snapshot_ref(const segue_snapshot *snapshot);
SEGUE_API void segue_snapshot_unref(const segue_snapshot *snapshot);
/* Returns a reference to the live snapshot, which the caller releases by segue_snapshot_unref; NULL
 * before the first generation. [any thread] */
SEGUE_API const segue_snapshot *segue_snapshot_acquire(segue *s);

/* ---- Options --------------------------------------------------------------------------------- */

/* An option is declared once, as a row of a table. Segue validates what a user wrote by the table
 * (unknown keys, types, ranges, missing options; each error with file, line and path), fills a C
 * struct from it, and makes the manual, the types for editors and the JSON Schema from the same
 * rows. Tables and everything they point to are constants that outlive their users. Zero in a field
 * means that it does not apply.
 *
 * The type of a row decides which C type lies at its offset. Pointers in the struct are owned by it
 * and are freed with it; a string is terminated. */
typedef enum segue_option_type {
  SEGUE_OPTION_TEXT,     /* char *: not empty, without NUL; NULL: not given */
  SEGUE_OPTION_PATH,     /* char *: the same; a relative one gets the folder of the policy */
  SEGUE_OPTION_STRING,   /* segue_option_string: any bytes, also none */
  SEGUE_OPTION_DURATION, /* uint64_t, milliseconds; written "1h30m", or a number of seconds */
  SEGUE_OPTION_SIZE,     /* uint64_t, bytes; written "16MiB", or a number */
  SEGUE_OPTION_COUNT,    /* uint64_t: a whole number, at least 1, or min if that is set */
  SEGUE_OPTION_INTEGER,  /* int64_t */
  SEGUE_OPTION_NUMBER,   /* double */
  SEGUE_OPTION_BOOLEAN,  /* bool */
  SEGUE_OPTION_CHOICE,   /* int: the index of the text in choices */
  SEGUE_OPTION_SWITCH,   /* bool: true for the last of its one or two choices */
  SEGUE_OPTION_FLAGS,    /* unsigned: a list of choices; bit n stands for choice n */
  SEGUE_OPTION_RATE,     /* double, per second; written "10/s", "600/m", "1000/h" or "none" (0) */
  SEGUE_OPTION_MODE,     /* unsigned: permissions of a file; written "0644" */
  SEGUE_OPTION_LIST,     /* T *items; size_t count: T by the type `of` */
  SEGUE_OPTION_MAP,      /* the same: of tables that keep their key, or of segue_option_pair: its
                            items are texts, or nodes that only their user validates */
  SEGUE_OPTION_TABLE,    /* the struct of the table, in place */
  SEGUE_OPTION_FUNCTION, /* int: a number that the language of the policy gave it; 0: not given */
  SEGUE_OPTION_ANY       /* const segue_node *: borrowed from the tree; validated by its user */
} segue_option_type;

typedef struct segue_option_string {
  char *data; /* terminated; NULL: not given */
  size_t len;
} segue_option_string;

typedef struct segue_option_pair {
  char *key;
  char *value; /* NULL: false was written, where the row allows it */
} segue_option_pair;

enum {
  SEGUE_OPTION_REQUIRED = 1, /* must be given wherever its table is */
  SEGUE_OPTION_SECRET = 2,   /* errors do not show the value */
  SEGUE_OPTION_ONE = 4,      /* LIST: a single item stands for a list of one. MAP of texts: a list
                                as a value is several values of that key */
  SEGUE_OPTION_TRUE = 8,     /* TABLE: true stands for the table with its defaults */
  SEGUE_OPTION_FALSE = 16,   /* MAP of texts: false is allowed as a value */
  SEGUE_OPTION_NUMBERS = 32, /* texts in it may be written as numbers */
  SEGUE_OPTION_KEYLESS = 64, /* MAP of texts: items without a key are allowed; their key is NULL */
  SEGUE_OPTION_HIDDEN = 128  /* not in the manual: written by constructors */
};

#define SEGUE_OPTION_NOT_STORED ((size_t)-1)

struct segue_option_table;
typedef struct segue_option {
  const char *name;
  segue_option_type type;
  segue_option_type of; /* LIST, MAP: type of the items: a type that has no items itself */
  unsigned flags;
  size_t offset;        /* in the struct; SEGUE_OPTION_NOT_STORED */
  size_t given;         /* 1 + offset of a bool that becomes true if the option is given; 0: none */
  const char *fallback; /* the default, as a user would write it */
  const char *absent;   /* for the manual: the effect of leaving it out, if that is no value */
  /* Limits of a number, of milliseconds, of bytes, or of the items of a list or map. max 0: none.
   */
  double min, max;
  const char *unit;      /* of a number, for the manual */
  const char *choices;   /* CHOICE: "swap|handover|restart" */
  const char *signature; /* FUNCTION: "next, prev"; with types: "next: segue.Config" */
  const char *doc;       /* one line: a phrase without a full stop */
  const char *example;   /* for the error where it is missing or empty: sources = { ... } */
  const struct segue_option_table *table; /* TABLE, and LIST and MAP of it */
  const char *shorthand; /* TABLE: a value that is no table stands for a table with this option; a
                            function for one with the option that takes a function */
} segue_option;

/* For checks that rows cannot express: called after the rows of the table are filled without an
 * error. May correct the struct. Reports by segue_option_wrong; report is valid during the call. */
typedef struct segue_option_report segue_option_report;
typedef void (*segue_option_check)(void *options, segue_option_report *report);

typedef struct segue_option_table {
  size_t size;     /* sizeof(segue_option_table) */
  size_t row_size; /* sizeof(segue_option) */
  const char *name;
  const char *doc; /* one line */
  const segue_option *rows;
  size_t count;
  size_t struct_size; /* of the C struct; 0: its rows lie in the struct of the table before it */
  const struct segue_option_table *include; /* more rows for the same struct; may include others */
  segue_option_check check;
  const char *positional; /* the option that items without a key are for */
  size_t key_offset;      /* in a MAP: of a char * that takes the key; SEGUE_OPTION_NOT_STORED */
  /* A family: `kind` in the table names one of the kinds of the family `name`, whose rows count
   * too. kind_offset: of a segue_option_kind_value. tag: the table is made by a constructor; the
   * text is an example of one. */
  bool family;
  bool in_family; /* included by kinds with a struct of their own: these rows lie in the family's */
  size_t kind_offset;
  const char *tag;
} segue_option_table;

/* A family stores the kind of an element in this form. */
typedef struct segue_option_kind_value {
  const char *name;                /* NULL: not filled */
  const segue_option_table *table; /* of the kind */
  const void *data;                /* that the kind was registered with */
  void *options;                   /* struct of the table, owned; NULL: it has none of its own */
} segue_option_kind_value;

/* The fields of a table that its rows decide. */
#define SEGUE_OPTION_ROWS(type, array)                                                             \
  .size = sizeof(segue_option_table), .row_size = sizeof(segue_option), .rows = (array),           \
  .count = sizeof(array) / sizeof *(array), .struct_size = sizeof(type),                           \
  .key_offset = SEGUE_OPTION_NOT_STORED, .kind_offset = SEGUE_OPTION_NOT_STORED

/* In a check: adds an error about the option `key` of the table ("tls.cert" and "hosts[1]" reach
 * further down; NULL: the table itself). The sentence continues after the path: "must be shorter
 * than within". */
SEGUE_API void segue_option_wrong(segue_option_report *report, const char *key, const char *format,
                                  ...) __attribute__((format(printf, 3, 4)));
/* In a check: whether the option was written, also where its value is the default. */
SEGUE_API bool segue_option_given(const segue_option_report *report, const char *key);

/* ---- Reading the live snapshot --------------------------------------------------------------- */

/* A read section is the cheap way to read the configuration on a hot path. begin returns the live
 * snapshot (NULL before the first generation), and the library frees nothing that is reachable from
 * it before end. Neither blocks, fails, allocates (after the first section of a thread) or writes
 * to memory that another thread reads often: a few nanoseconds. A reload does not wait for
 * sections; only the freeing of the snapshot that it replaced waits. So keep sections short,
 * without waits and I/O. To keep the snapshot for longer, take a reference inside the section.
 * Sections nest; an inner one may return a newer snapshot than the outer one. One thread calls
 * begin and end of a section. All sections must have ended before segue_close.
 *
 * segue_read_begin/end work on any thread: the library makes the thread's slot at its first section
 * and frees it when the thread exits. segue_reader_begin/end use a slot that the caller made, and
 * cost about half as much. The functions are inline, so the layout of the structs below is part of
 * the library's binary interface. With SEGUE_NO_INLINE they are declared as ordinary functions,
 * which the library exports as well. */
typedef struct segue_reader segue_reader;

/* Makes a slot, which the caller frees while no section of it is open. One thread at a time may use
 * it. Returns NULL if memory runs out. After segue_close a slot may only be freed. [any thread] */
SEGUE_API segue_reader *segue_reader_new(segue *s);
SEGUE_API void segue_reader_free(segue_reader *reader); /* NULL allowed. [any thread] */

#ifdef SEGUE_NO_INLINE
SEGUE_API const segue_snapshot *segue_reader_begin(segue_reader *reader);
SEGUE_API void segue_reader_end(segue_reader *reader);
SEGUE_API const segue_snapshot *segue_read_begin(segue *s); /* [any thread] */
SEGUE_API void segue_read_end(segue *s);                    /* [any thread] */
#else

/* Private; in this header because the functions below are inline. An instance begins with a pointer
 * to its segue__live: the live snapshot, and the epoch that orders sections and replacements. */
typedef struct segue__live {
  const segue_snapshot *snapshot;
  uint64_t epoch; /* never 0 */
} segue__live;

struct segue_reader {
  uint64_t epoch; /* at the begin of the open section; 0: none is open */
  uint32_t nested;
  uint32_t fenced; /* the system has no membarrier(2): begin needs a fence */
  segue__live *live;
} __attribute__((aligned(64)));

SEGUE_API extern __thread segue_reader *segue__thread_reader
    __attribute__((tls_model("initial-exec")));
SEGUE_API const segue_snapshot *segue__section_begin(segue__live *live);
SEGUE_API void segue__section_end(segue__live *live);

/* ThreadSanitizer does not know membarrier(2) and would report a race: builds with it order the two
 * accesses by themselves. */
#if defined(__SANITIZE_THREAD__)
#define SEGUE__TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SEGUE__TSAN 1
#endif
#endif

static inline const segue_snapshot *segue_reader_begin(segue_reader *reader) {
  if (reader->epoch) {
    reader->nested++;
    return __atomic_load_n(&reader->live->snapshot, __ATOMIC_ACQUIRE);
  }
  /* The writer replaces the snapshot, then advances the epoch, so a reader that loads the new epoch
   * loads the new snapshot. The store of the epoch must be visible before the snapshot is loaded:
   * otherwise the writer sees an empty slot and frees the snapshot that this thread is about to
   * load. No fence is needed here, because the writer executes one in all threads by membarrier(2)
   * before it reads the slots. */
  uint64_t epoch = __atomic_load_n(&reader->live->epoch, __ATOMIC_ACQUIRE);
#ifdef SEGUE__TSAN
  __atomic_store_n(&reader->epoch, epoch, __ATOMIC_SEQ_CST);
  return __atomic_load_n(&reader->live->snapshot, __ATOMIC_SEQ_CST);
#else
  __atomic_store_n(&reader->epoch, epoch, __ATOMIC_RELEASE);
  if (__builtin_expect(reader->fenced, 0)) __atomic_thread_fence(__ATOMIC_SEQ_CST);
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  return __atomic_load_n(&reader->live->snapshot, __ATOMIC_ACQUIRE);
#endif
}

static inline void segue_reader_end(segue_reader *reader) {
  if (reader->nested)
    reader->nested--;
  else
    __atomic_store_n(&reader->epoch, UINT64_C(0), __ATOMIC_RELEASE);
}

static inline const segue_snapshot *segue_read_begin(segue *s) {
  segue__live *live = *SEGUE__CAST(segue__live **, s);
  segue_reader *reader = segue__thread_reader;
  if (__builtin_expect(reader && __atomic_load_n(&reader->live, __ATOMIC_RELAXED) == live, 1))
    return segue_reader_begin(reader);
  return segue__section_begin(live);
}

static inline void segue_read_end(segue *s) {
  segue__live *live = *SEGUE__CAST(segue__live **, s);
  segue_reader *reader = segue__thread_reader;
  if (__builtin_expect(reader && __atomic_load_n(&reader->live, __ATOMIC_RELAXED) == live, 1))
    segue_reader_end(reader);
  else
    segue__section_end(live);
}
#endif

/* ---- Log entries ----------------------------------------------------------------------------- */

typedef enum segue_level { SEGUE_ERROR, SEGUE_WARN, SEGUE_INFO, SEGUE_DEBUG } segue_level;

typedef struct segue_log_field {
  const char *key;
  const char *text; /* NULL: the value is number */
  int64_t number;
} segue_log_field;

/* One entry for a log. The function that receives it borrows it while it runs. A host receives at
 * most 16 fields. */
typedef struct segue_log_entry {
  segue_level level;
  const char *group; /* "reload", "http", "watch" ... */
  const char *message;
  const segue_log_field *fields;
  size_t field_count;
} segue_log_entry;

/* ---- Modules --------------------------------------------------------------------------------- */

/* One call of a module operation. Segue calls each operation on the control thread; the operation
 * must not block, and ends by exactly one segue_op_done, from any thread, during the call or later.
 * A second completion is ignored and logged. When a deadline of the policy passes, the reload
 * continues without the operation and segue_op_cancelled returns true; a late segue_op_done is
 * still required, because the instance is not destroyed before it. segue_op_cancelled also returns
 * true when the instance of the library stops during prepare or start: their result is not needed
 * any more. */
typedef struct segue_op segue_op;

/* Ends an operation: status is 0 or a negative code; error describes a failure, is copied, and may
 * be NULL. op must not be used after this call. [any thread] */
SEGUE_API void segue_op_done(segue_op *op, int status, const segue_error *error);
/* Returns whether the result is not needed any more. [any thread], before segue_op_done. */
SEGUE_API bool segue_op_cancelled(const segue_op *op);
/* For a source, before segue_op_done with SEGUE_EBUSY: the pause that the server requests
 * (Retry-After). Segue keeps it, up to an hour. */
SEGUE_API void segue_op_retry_after(segue_op *op, uint64_t ms);
/* Returns the instance of the library that runs the module, for segue_log, segue_count and
 * segue_gate_get. It outlives every instance of the module, so the module may keep the pointer. A
 * module that calls another one lists it in `needs` of the policy: then it starts after that one
 * and stops before it. [any thread], before segue_op_done. */
SEGUE_API segue *segue_op_owner(const segue_op *op);
/* Reports that an instance which serves has failed by itself: its child process has exited, its
 * device is gone. op is the op of its prepare or start; for this call it stays valid after
 * segue_op_done, until destroy returns. error describes the failure, is copied, and may be NULL.
 * The gate of the module then refuses calls, or lets them wait (on_failure of the policy), the
 * instance is drained, stopped and destroyed, and a fresh one is built from the live configuration:
 * at once, then again with a growing delay as long as it fails. /-/ready answers 503 meanwhile.
 * While a reload runs: a new instance that fails makes the reload fail; a live one that fails while
 * the new generation waits for its confirmation undoes that generation; any other is replaced when
 * the reload has ended. Only the first call for an instance counts, and none while the instance
 * drains. [any thread] */
SEGUE_API void segue_module_failed(segue_op *op, const segue_error *error);

/* The configuration of a module: the whole snapshot, and the module's part of it (NULL if the path
 * that the policy names is not in the configuration). options: the struct that the table of the
 * module's descriptor filled from `options` of the module in the policy, defaults included; NULL
 * without a table, and always in the previous slice, because a previous version of the plugin may
 * have another struct. All are owned by Segue, read-only, and valid as long as the instance of the
 * module, also inside destroy. Later versions may add members at the end: only Segue makes slices.
 * [any thread] */
typedef struct segue_slice {
  const segue_snapshot *snapshot;
  const segue_node *config;
  const void *options;
} segue_slice;

/* One HTTP request that a module serves, see "Serving" below. */
typedef struct segue_request segue_request;

/* The operations of a module. An operation that is NULL succeeds at once. */
typedef struct segue_module_ops {
  size_t size; /* sizeof(segue_module_ops) */
  /* Builds the next instance beside the live one, and stores it in *instance before segue_op_done.
   * Takes no exclusive resource (a port, a lock), because the live instance still has it, and has
   * no effect outside of the process: a plan prepares too, and destroys the instance without
   * starting it. prev is NULL at the first start. Status SEGUE_ECONFIG: the configuration is wrong;
   * the reload is rejected, and not retried before a source changes (segue_error_at names the
   * place). Any other failure fails the reload, which is retried after a delay. */
  void (*prepare)(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                  void **instance);
  /* Begins to serve. May take exclusive resources. */
  void (*start)(void *instance, segue_op *op);
  /* Finishes the work that has begun. No new call passes the gate, except calls of modules that
   * need this one, for requests that are inside them (segue_gate_enter_from), until stop. Segue
   * does not call drain for a restart that is undone because a caller did not leave (drain = { over
   * = "undo" } of the policy): then the instance continues to serve. */
  void (*drain)(void *instance, segue_op *op);
  /* Releases exclusive resources. */
  void (*stop)(void *instance, segue_op *op);
  /* Frees the instance; cannot fail. Called once for every instance that prepare stored, after all
   * its operations are done. stop need not have been called: an instance whose start failed or
   * exceeded its deadline is destroyed with all resources that it holds. */
  void (*destroy)(void *instance);

  /* The following members may be missing (a smaller size) or NULL. */

  /* Copies state that must survive the replacement, such as counters, from the previous instance.
   * The previous one continues to serve meanwhile, and stays live if the reload is undone. Called
   * once, after prepare, on the control thread, if the same plugin or the same registered module
   * made both. Cannot fail. */
  void (*inherit)(void *instance, void *prev);
  /* Opens its files again, after logrotate moved them. Called on the control thread, while it is
   * live. */
  void (*reopen)(void *instance);
  /* Adds its metrics to /metrics: lines in the text format of Prometheus, by any number of calls of
   * add, which copies the text. Segue sorts the lines of all modules into families, so HELP and
   * TYPE lines may stand in the text of each module. Called on the control thread, while it is
   * live. */
  void (*metrics)(void *instance, void (*add)(void *sink, const char *text, size_t len),
                  void *sink);
  /* Services that every thread may call while the module is live. Such a module can only be
   * swapped: Segue drains the old instance when no thread can be inside it any more, and answers
   * the reload after that. */
  const struct segue_log_ops *log;
  const struct segue_stats_ops *stats;
  /* Serves a request of a listener of the module. [any thread]: several worker threads call it at
   * once, between start and the end of drain. Must not block. Answers before it returns or later,
   * on any thread. The instance is not destroyed before handle has returned. */
  void (*handle)(void *instance, segue_request *request);
} segue_module_ops;

/* ---- Plugins --------------------------------------------------------------------------------- */

/* A plugin is a module in a shared object, which exports one descriptor under the name
 * segue_module. Segue loads the bytes that it has read and checked, not the path: so overwriting
 * the file does not change running code, and a rollback loads the bytes of that generation. Segue
 * unloads the object when no instance of it remains (an object that the system's loader never
 * unloads, such as most in C++, keeps its memory and a descriptor). All fields are constants: Segue
 * reads magic, abi and size from the file before any code of it runs. Example:
 *
 *     typedef struct cache_options {
 *       uint64_t size;
 *     } cache_options;
 *     static const segue_option rows[] = {{.name = "size",
 *                                          .type = SEGUE_OPTION_SIZE,
 *                                          .offset = offsetof(cache_options, size),
 *                                          .fallback = "64KiB",
 *                                          .doc = "memory for cached answers"}};
 *     static const segue_option_table options = {SEGUE_OPTION_ROWS(cache_options, rows),
 *                                                .name = "cache", .doc = "A cache."};
 *
 *     static void on_prepare(void *userdata, segue_op *op, const segue_slice *next,
 *                            const segue_slice *prev, void **instance) {
 *       const cache_options *given = next->options;
 *       (void)userdata, (void)prev;
 *       *instance = calloc(1, given->size);
 *       segue_op_done(op, *instance ? 0 : -ENOMEM, NULL);
 *     }
 *
 *     static const segue_module_ops ops = {
 *         .size = sizeof(segue_module_ops), .prepare = on_prepare, .destroy = free};
 *
 *     const segue_module_descriptor segue_module = {
 *         SEGUE_MODULE_MAGIC, SEGUE_MODULE_ABI, sizeof(segue_module_descriptor), "cache", "1.0",
 *         &ops, NULL, &options};
 *
 * A policy sets options for each module of the plugin: modules = { sessions = { kind = "c", plugin
 * = "cache", options = { size = "1MiB" } } }. Segue validates them when it loads the policy, as it
 * validates its own: an unknown option, a wrong type or a missing one rejects the policy, with
 * file, line and "did you mean". `segue help options PLUGIN` shows them. A change of the options
 * replaces the module's instance. A module without a table has no options.
 */
#define SEGUE_MODULE_MAGIC 0x65756753u
#define SEGUE_MODULE_ABI 1
typedef struct segue_module_descriptor {
  uint32_t magic; /* SEGUE_MODULE_MAGIC */
  uint32_t abi;   /* SEGUE_MODULE_ABI */
  size_t size;    /* sizeof(segue_module_descriptor) */
  const char *name;
  const char *version;
  const segue_module_ops *ops;
  void *userdata; /* for prepare */
  /* The following members may be missing (a smaller size) or NULL. */
  const segue_option_table *options; /* NULL: the module has no options */
} segue_module_descriptor;

/* ---- Sources --------------------------------------------------------------------------------- */

/* A source reads configuration from a place that is no file: a store, a service, a device. It only
 * asks and reports. Retry with back-off, fallback from push to pull, guards, and the use of the
 * last delivery while the source is away are done by Segue, in the same way for all sources. A
 * policy names a source of C by segue.source { name = "kv", plugin = "NAME", options = { ... } }. A
 * plugin in Lua with this name (plugins/NAME/init.lua) comes first, then what the host registered
 * (segue_source_register), then plugins/NAME.so, which exports a segue_source_descriptor under the
 * name segue_source. */

/* The content of one answer of a source, or of one push: documents under names, and the revision
 * that they belong to. One thread at a time may use it. */
typedef struct segue_delivery segue_delivery;

/* Makes an empty delivery for segue_watch_emit; the caller frees it unless it was emitted. NULL:
 * out of memory. free accepts NULL. [any thread] */
SEGUE_API segue_delivery *segue_delivery_new(void);
SEGUE_API void segue_delivery_free(segue_delivery *delivery);
/* Adds a document. Name and data are copied. format is "yaml", "json" or "text". Without a base the
 * delivery is everything that the source has: a document that is not in it is gone. SEGUE_EUSAGE: a
 * name or format is missing or unknown. UV_ENOMEM: the delivery must not be used. [any thread] */
SEGUE_API int segue_delivery_add(segue_delivery *delivery, const char *name, const char *format,
                                 const void *data, size_t len);
/* Makes the delivery a list of changes against the revision `base`: segue_delivery_add puts the
 * document of a name in the place of an older one, segue_delivery_remove takes it away. Documents
 * of a source that does so are in the order of their names, bytewise, in every delivery. If Segue
 * holds another revision than `base`, changes are missing: it discards the delivery and fetches
 * everything. UV_ENOMEM. [any thread] */
SEGUE_API int segue_delivery_base(segue_delivery *delivery, const char *base);
SEGUE_API int segue_delivery_remove(segue_delivery *delivery, const char *name);
/* Sets the revision of the content: a text of the source's own, which fetch and watch get back.
 * UV_ENOMEM. [any thread] */
SEGUE_API int segue_delivery_revision(segue_delivery *delivery, const char *revision);
/* Reports that nothing has changed since the revision that fetch was called with; from a watch that
 * it lives, and, with a revision, that this one has the same content. [any thread] */
SEGUE_API void segue_delivery_unchanged(segue_delivery *delivery);

/* The receiver of the pushes of one watch; valid until the watch is done. */
typedef struct segue_watch segue_watch;
/* Delivers a push. The delivery belongs to Segue after this call, also if it fails. NULL:
 * something has changed, and Segue fetches it. Takes a lock and returns at once; deliveries arrive
 * in order. If a thousand wait, Segue discards them and fetches everything. SEGUE_ECANCELLED: the
 * result of this watch is not needed any more. UV_ENOMEM. [any thread] */
SEGUE_API int segue_watch_emit(segue_watch *watch, segue_delivery *delivery);

/* The result of a reload that used a delivery. Borrowed while the function runs. */
typedef struct segue_source_outcome {
  const char *revision;      /* of the delivery; NULL: it has none */
  const char *outcome;       /* "applied", "unchanged", "held", "rejected", "failed", "reverted" */
  uint64_t generation;       /* that is live now; 0: none */
  const segue_error *errors; /* secrets are masked */
  size_t error_count;
} segue_source_outcome;

/* The operations of a source, called on the control thread; none may block. fetch and watch end by
 * exactly one segue_op_done, from any thread, during the call or later. Segue decides by the status
 * of a failed one. SEGUE_EDENIED: the source refused the credentials; Segue logs an error and asks
 * again after the longest pause of the policy, because asking more often locks accounts; but once
 * at first, for credentials that were replaced at that moment. SEGUE_EBUSY: the server is
 * overloaded, or limits its clients; Segue asks again after the pause of segue_op_retry_after.
 * SEGUE_EGONE: the revision does not exist any more, because the history was compacted; that is no
 * failure: Segue forgets the revision and fetches everything at once. SEGUE_EENDED, of a watch: the
 * server has ended it by a time limit of its own; that is no failure: Segue starts it again.
 * SEGUE_ECONFIG: the content is invalid; a reload that was requested is rejected, and does not use
 * the last delivery. Any other code: the source is away; Segue uses its last delivery, and asks
 * again with back-off. */
typedef struct segue_source_ops {
  size_t size; /* sizeof(segue_source_ops) */
  /* Makes the source of one policy. name (of the source) is borrowed for the call. options is a map
   * of the policy, without positions; filled is the struct of the descriptor's table of options,
   * NULL without a table. Both are owned by Segue and valid until close has returned. Connects to
   * nothing: a check of a policy opens its sources too. A failure rejects the policy. NULL:
   * instance is userdata. */
  int (*open)(void *userdata, const char *name, const segue_node *options, void *filled,
              void **instance, segue_error *error);
  /* Fills out, which is empty, before segue_op_done with status 0. revision is that of the last
   * delivery; NULL: Segue holds none. Both are valid until segue_op_done; revision only for the
   * call. */
  void (*fetch)(void *instance, const char *revision, segue_delivery *out, segue_op *op);
  /* Frees the instance. Called once, when none of its operations is under way. NULL: nothing is to
   * be freed. */
  void (*close)(void *instance);

  /* The following members may be missing (a smaller size) or NULL. */

  /* Runs until it fails, ends or is cancelled, and emits what changes after `revision`. */
  void (*watch)(void *instance, const char *revision, segue_watch *watch, segue_op *op);
  /* The result of the operation op is not needed any more: it should end soon. An operation that
   * has not ended two seconds after the stop of the instance is abandoned: close is not called, and
   * the memory that the operation may use is never freed. */
  void (*cancel)(void *instance, segue_op *op);
  /* The names that templates request, such as "services/api" for `service "api"` and "app/port" for
   * `key "app/port"`: paths in the configuration whose keys are joined by "/". A later call
   * replaces the list. A source that delivers on demand begins to fetch and watch them, and ends
   * with names that are not in the list any more: no template has used these for three generations.
   * A fetch follows each call. The names are borrowed for the call. */
  void (*want)(void *instance, const char *const *names, size_t count);
  /* A reload that used a delivery of this source has settled. If it was rejected together with its
   * policy, the source of the same name in the live policy is called. */
  void (*outcome)(void *instance, const segue_source_outcome *outcome);
} segue_source_ops;

/* All fields are constants: Segue reads magic, abi and size before any code of the plugin runs. */
#define SEGUE_SOURCE_MAGIC 0x73656773u
#define SEGUE_SOURCE_ABI 1
struct segue_option_table;
typedef struct segue_source_descriptor {
  uint32_t magic; /* SEGUE_SOURCE_MAGIC */
  uint32_t abi;   /* SEGUE_SOURCE_ABI */
  size_t size;    /* sizeof(segue_source_descriptor) */
  const char *name;
  const char *version;
  const struct segue_option_table *options; /* NULL: open reads the options itself */
  const segue_source_ops *ops;
  void *userdata; /* for open */
} segue_source_descriptor;

/* ---- Services: log and metrics -------------------------------------------------------------- */

/* The service of a module that is a log. Both functions are required. [any thread], several at
 * once. */
typedef struct segue_log_ops {
  size_t size; /* sizeof(segue_log_ops) */
  bool (*enabled)(void *instance, segue_level level);
  /* Returns 1: the line will be written. SEGUE_ELIMIT: the log is full, and the line is counted as
   * dropped. UV_EAGAIN, only if may_wait: the log is full now, the caller tries again. Must not
   * block. */
  int (*write)(void *instance, const segue_log_entry *entry, bool may_wait);
} segue_log_ops;

/* The service of a module that keeps metrics. Required. [any thread], several at once; must not
 * block. */
typedef enum segue_metric { SEGUE_COUNTER, SEGUE_GAUGE, SEGUE_HISTOGRAM } segue_metric;
typedef struct segue_stats_ops {
  size_t size; /* sizeof(segue_stats_ops) */
  int (*record)(void *instance, segue_metric metric, const char *series, double value);
} segue_stats_ops;

/* Writes a line to the module that is a log; without one, to the host's on_log, on the calling
 * thread. Returns 1: the line will be written, once and whole. 0: its level is off. SEGUE_EMODULE:
 * neither a log module nor on_log exists. SEGUE_ELIMIT: the log was full, and the line is counted
 * as dropped. A full log makes the caller wait, unless the log's configuration drops lines; the
 * control thread never waits. No line is lost while modules are swapped: a line before the request
 * for a reload goes to the file of the old log, a line after its answer to the file of the new one.
 * Secrets of the configuration are replaced by "***". Costs some 200 ns, and where the
 * configuration has secrets about 1 us more for 100 bytes. Must not be called in a read section.
 * [any thread] */
SEGUE_API int segue_log(segue *s, segue_level level, const char *group, const char *message,
                        const segue_log_field *fields, size_t field_count);
/* Returns whether a line of this level would be written: call it before computing arguments that
 * are expensive. [any thread] */
SEGUE_API bool segue_log_enabled(segue *s, segue_level level);

/* Update metrics of the module that keeps them; /metrics shows them, and they survive swaps. A
 * series is a name, or a name with labels as Prometheus writes them: requests_total{code="200"}.
 * count adds n to a counter, gauge sets a value, observe adds a value to a histogram. Secrets of
 * the configuration in a label are replaced by "***".
 * SEGUE_EMODULE: no module keeps metrics. SEGUE_EUSAGE: series is malformed, or its name belongs to
 * a series of another kind. SEGUE_ELIMIT: the module has too many series. [any thread] */
SEGUE_API int segue_count(segue *s, const char *series, uint64_t n);
SEGUE_API int segue_gauge(segue *s, const char *series, double value);
SEGUE_API int segue_observe(segue *s, const char *series, double value);

/* ---- Gates ----------------------------------------------------------------------------------- */

/* The entrance to a module. segue_gate_enter() pins the module's instance and a snapshot until
 * segue_gate_leave(): no reload frees them meanwhile. A request passes the gate of its module once,
 * so one generation serves it from start to end. A request that arrives after the answer to a
 * reload is served by the generation of that reload or a newer one.
 * While a module restarts its gate is shut, and arrivals wait in a buffer, whose limits the policy
 * sets (buffer = { items =, bytes =, age = } of the module). A drain waits until all passes are
 * left, at most for the time that the policy sets. Then Segue stops the module although callers are
 * inside, and destroys it when they have left; or it undoes the reload (drain = { over = "undo" }).
 * At the end of every reload the gate is open, or refuses because its module failed or does not
 * exist. A gate is valid until segue_close; all passes must be left before. Functions return
 * SEGUE_EUSAGE for a gate that is NULL (memory ran out). Not for signal handlers. Example:
 *
 *     static int64_t ask_cache(segue_gate *cache) {
 *       segue_pass pass;
 *       int rc = segue_gate_enter(cache, &pass);
 *       if (rc < 0) return rc;
 *       int64_t answer = *(const int64_t *)pass.instance;
 *       segue_gate_leave(&pass);
 *       return answer;
 *     }
 */
typedef struct segue_gate segue_gate;

/* The right to be inside a module. Segue fills it. The caller may read it, copy it (and leave one
 * of the copies) and pass it to another thread. */
typedef struct segue_pass {
  void *instance;                 /* the one that the module's prepare stored */
  const segue_snapshot *snapshot; /* borrowed until leave */
  void *place;                    /* private; NULL: not inside */
} segue_pass;

/* Returns the gate of the module with this name, borrowed. The first call makes it, whether or not
 * such a module exists yet. Returns NULL if memory runs out. Takes a lock and searches: call it
 * once, not for each request. [any thread] */
SEGUE_API segue_gate *segue_gate_get(segue *s, const char *module);

/* Enters the module. Returns 0: pass is filled, and must be left. UV_EAGAIN: the gate is shut while
 * the module restarts; segue_gate_submit can wait. SEGUE_EMODULE: the module does not exist, or it
 * failed. SEGUE_ECLOSED: the instance stops. Never blocks. While the gate is open it takes no lock
 * and writes no memory that another thread writes: a few nanoseconds on any number of threads.
 * [any thread] */
SEGUE_API int segue_gate_enter(segue_gate *gate, segue_pass *pass);
/* Enters for a caller that is inside another module by the pass `from`: pass gets the caller's
 * snapshot and the instance of that generation, even if another generation is live by now. For that
 * the calling module lists this one in its `needs`; then no instance is drained while a caller of
 * its generation can still arrive. Otherwise the caller enters the live instance, and pass has
 * another snapshot than from: if this module was restarted meanwhile (callers wait at a shut gate
 * too), was stopped because its drain exceeded its time limit, or is swapped. from NULL or empty:
 * as segue_gate_enter. Costs the same, plus a lock while the generations differ. [any thread] */
SEGUE_API int segue_gate_enter_from(segue_gate *gate, const segue_pass *from, segue_pass *pass);
/* Leaves the module, and empties the pass. An empty pass ({0}) is ignored. Another thread than the
 * one that entered may leave. Costs the same as enter, plus a message to the control thread while a
 * drain waits. [any thread] */
SEGUE_API void segue_gate_leave(segue_pass *pass);

enum { SEGUE_RUN = 0, SEGUE_QUEUED = 1 };

/* A request to enter that may wait. The caller owns the memory, sets it to zero before the first
 * use, and must not move or free it while it waits. */
typedef struct segue_arrival segue_arrival;
struct segue_arrival {
  /* Called once, on the control thread, if submit returned SEGUE_QUEUED. status 0: the request is
   * inside, `pass` is filled and must be left. SEGUE_ETIMEOUT: the age limit of the buffer passed.
   * SEGUE_EMODULE: the module failed or was removed. SEGUE_ECLOSED: the instance stops. Must not
   * block. May free the request or submit it again. */
  void (*cb)(segue_arrival *request, int status);
  void *data;
  uint64_t key; /* requests with the same key (a connection) enter in order; 0: in any order */
  size_t bytes; /* memory that it holds while it waits, counted for the limit of the buffer */
  /* The caller's pass, as for segue_gate_enter_from; also used after a wait; NULL: none. */
  const segue_pass *from;
  segue_pass pass;

  /* Private. */
  segue_arrival *prev, *next;
  uint64_t since_ms;
  int state;
  bool stamped;
};

/* Enters, or waits. Returns SEGUE_RUN: the request is inside, and cb is not called. SEGUE_QUEUED:
 * the request waits, and cb is called once; because cb runs on the control thread, that can happen
 * before submit returns on another thread. Requests enter in the order of their arrival, and never
 * overtake one with the same key. SEGUE_ELIMIT: the buffer is full. SEGUE_EMODULE and SEGUE_ECLOSED
 * as for segue_gate_enter. After an error cb is not called. Does not allocate. Costs the same as
 * enter if it need not wait, else a lock. [any thread] */
SEGUE_API int segue_gate_submit(segue_gate *gate, segue_arrival *request);
/* Cancels a wait, for example because the client left. Returns true: cb will not be called. false:
 * the request does not wait; cb has run or will run, and the memory must stay valid until then.
 * [any thread] */
SEGUE_API bool segue_gate_cancel(segue_gate *gate, segue_arrival *request);

/* ---- Serving --------------------------------------------------------------------------------- */

/* A module with listen = "http://HOST:PORT" in the policy serves HTTP. Segue owns the sockets, so
 * connections stay open over every reload. A request that is complete (head and body) passes the
 * module's gate, waits in its buffer while the gate is shut, and reaches `handle` of exactly one
 * instance, which is pinned until the answer. A request that cannot enter is answered with 503 and
 * Retry-After.
 * A request is valid until it is answered by segue_request_answer, segue_request_end or
 * segue_request_abort, and must be answered also when its client has left. Until then any thread
 * may read it. Functions that answer may be called on any thread, but not by two at once for the
 * same request. All texts are borrowed and are valid as long as the request. Example:
 *
 *     static void on_handle(void *instance, segue_request *request) {
 *       (void)instance;
 *       const segue_answer answer = {
 *           .status = 200, .content_type = "text/plain", .body = "hello\n", .len = 6};
 *       if (segue_request_answer(request, &answer) < 0) segue_request_end(request);
 *     }
 */
typedef struct segue_text {
  const char *s; /* not terminated */
  size_t len;
} segue_text;

typedef struct segue_header {
  segue_text name, value;
} segue_header;

SEGUE_API segue_text segue_request_method(const segue_request *request); /* "GET" */
/* Returns the path, decoded except %2F and %25, and terminated. "//" becomes "/", then dot segments
 * are resolved, as nginx does it. */
SEGUE_API const char *segue_request_path(const segue_request *request);
SEGUE_API segue_text segue_request_query(const segue_request *request); /* raw, without "?" */
/* Decodes a parameter of the query into buf (size bytes), terminated. Returns false if it does not
 * exist, is malformed, or does not fit. */
SEGUE_API bool segue_request_parameter(const segue_request *request, const char *name, char *buf,
                                       size_t size);
/* Returns the first header of this name, in any case; s is NULL if there is none. */
SEGUE_API segue_text segue_request_header(const segue_request *request, const char *name);
/* Returns a header by its index, in the order of the request; false past the end. */
SEGUE_API bool segue_request_header_at(const segue_request *request, size_t index,
                                       segue_header *out);
SEGUE_API segue_text segue_request_body(const segue_request *request);
SEGUE_API const char *segue_request_peer(const segue_request *request); /* "127.0.0.1:53412" */
/* Returns whether the request came through TLS. */
SEGUE_API bool segue_request_tls(const segue_request *request);
/* Returns a name in the verified certificate of the client: 0 is the common name (or the whole
 * subject), DNS names, mail addresses and URIs follow. NULL past the end, or without a certificate.
 * A CA may sign the same text as a name of another kind for another client, so compare the kind
 * too: "cn", "subject", "dns", "mail" or "uri". */
SEGUE_API const char *segue_request_client(const segue_request *request, size_t index);
SEGUE_API const char *segue_request_client_kind(const segue_request *request, size_t index);
/* Returns the snapshot of the request's pass; the answer must be made from this one. */
SEGUE_API const segue_snapshot *segue_request_snapshot(const segue_request *request);
/* Returns the request's pass, for calls of other modules by segue_gate_enter_from. */
SEGUE_API const segue_pass *segue_request_pass(const segue_request *request);
/* Returns whether the client has left: then nothing reads the answer. */
SEGUE_API bool segue_request_gone(const segue_request *request);

typedef struct segue_answer {
  int status;                  /* 200 to 599 */
  const char *content_type;    /* NULL: none */
  const segue_header *headers; /* without Content-Length, Transfer-Encoding, Connection,
                                  Date and Content-Type, which segue writes */
  size_t header_count;
  const void *body; /* copied */
  size_t len;
} segue_answer;

/* Sends an answer. Returns 0: the request is not valid any more. After an error it is still valid
 * and must still be answered. SEGUE_EUSAGE: the status is out of range, or a header is malformed or
 * one that segue writes. UV_ENOMEM. */
SEGUE_API int segue_request_answer(segue_request *request, const segue_answer *answer);

/* Send an answer in chunks: stream once, write any number of times, end. stream fails as answer
 * does; its body is the first chunk. write copies the data. It returns UV_EAGAIN: the client has
 * not read 1 MiB yet, nothing was copied, segue_request_on_writable waits for the client;
 * UV_ECONNRESET: the client left; UV_ENOMEM. end is required in every case and cannot fail; without
 * an answer or a stream before it the client gets a 500. */
SEGUE_API int segue_request_stream(segue_request *request, const segue_answer *head);
SEGUE_API int segue_request_write(segue_request *request, const void *data, size_t len);
/* Waits until the kernel has taken everything that was written: then the next write is accepted,
 * whatever its length. cb runs once, on the worker thread of the request, also if nothing waits to
 * be sent now; on another thread than that one it may run before this function returns. It must not
 * block. It may write, wait again, and end the answer, or pass the request to another thread for
 * that. Its status is 0; UV_ECONNRESET: the client left, and the request must still be ended;
 * SEGUE_ECANCELLED: the request was answered or ended before, and must not be used any more (the
 * instance of the module still exists).
 * Returns 0, or cb does not run: UV_ECONNRESET: the client has left; SEGUE_EUSAGE: cb is NULL, or
 * an earlier cb of this request waits; SEGUE_ECLOSED. Allocates nothing; costs a lock and a message
 * to the worker thread. [any thread], as the functions that answer. Example:
 *
 *     typedef struct download {
 *       segue_request *request;
 *       const char *content;
 *       size_t len, at;
 *     } download;
 *
 *     static void send_more(void *data, int status) {
 *       download *d = data;
 *       while (status == 0 && d->at < d->len) {
 *         size_t left = d->len - d->at, piece = left < 65536 ? left : 65536;
 *         status = segue_request_write(d->request, d->content + d->at, piece);
 *         if (status == 0) d->at += piece;
 *       }
 *       if (status == -EAGAIN) {
 *         status = segue_request_on_writable(d->request, send_more, d);
 *         if (status == 0) return; // from here on another thread may be in send_more with d
 *       }
 *       if (status < 0)
 *         segue_request_abort(d->request);
 *       else
 *         segue_request_end(d->request);
 *       free(d);
 *     }
 */
SEGUE_API int segue_request_on_writable(segue_request *request, void (*cb)(void *data, int status),
                                        void *data);
SEGUE_API void segue_request_end(segue_request *request);
/* Ends a stream that cannot be completed: closes the connection (by a reset if the end of the
 * connection would be the end of the body), so that the client cannot take the part for the whole.
 */
SEGUE_API void segue_request_abort(segue_request *request);

/* ---- The instance ---------------------------------------------------------------------------- */

/* The result of a reload. The callback borrows it while it runs. */
typedef struct segue_report {
  uint64_t id;
  const char *outcome; /* "applied", "unchanged", "held", "rejected", "failed", "reverted" */
  uint64_t generation; /* the live one; 0: none */
  const char *hash;    /* of the live configuration; "": none */
  const segue_error *errors;
  size_t error_count;
} segue_report;

/* Receives the result of a reload, on the control thread. status 0: applied or unchanged. Else a
 * negative code, and report describes the reason; report is NULL if no reload ran (SEGUE_ECLOSED,
 * SEGUE_EDEFERRED). */
typedef void (*segue_report_cb)(void *data, int status, const segue_report *report);

/* Options of an instance: call segue_options_init, then set members. Zero means the default. The
 * library copies the struct and its strings. */
typedef struct segue_options {
  size_t size;
  void *uv_loop; /* the host's uv_loop_t *, which the host runs, in one thread, with SIGPIPE ignored
                    or blocked; NULL: the instance has a loop of its own, for segue_run */
  const char *policy;  /* path of a reload.lua; NULL: none */
  const char *config;  /* without a policy: a configuration file, which is watched; NULL: none */
  const char *state;   /* state folder; NULL: $STATE_DIRECTORY, else .segue beside the policy, and
                          without a policy none */
  const char *socket;  /* control socket; NULL: control.sock in the state folder */
  const char *lua_dir; /* folder of the Lua half; NULL: $SEGUE_LUA_DIR, else near the library */
  bool signals;      /* handle the signals that the policy names as triggers; false: ignore them */
  int budget_signal; /* a real-time signal that interrupts runaway scripts; the host installs
                        segue_on_budget_signal for it (SA_SIGINFO | SA_RESTART); 0: none, and
                        scripts run slower */
  segue_level log_level;                                    /* of on_log; SEGUE_INFO */
  void (*on_log)(void *data, const segue_log_entry *entry); /* [any thread]; NULL: no log */
  segue_report_cb on_start; /* result of the first load; the instance runs in either case. Called
                             * a second time, with a failure, if the reported generation waited
                             * for an operator, was not confirmed, and no other one exists */
  void (*on_stopped)(void *data); /* the last callback of an instance */
  void *data;                     /* for the callbacks */
  bool listen_fds; /* take the sockets that a service manager passes to this process (LISTEN_FDS,
                      sd_listen_fds(3)) for listeners with the same address. segue_new reads the
                      variables and removes them, so no other thread may use the environment
                      meanwhile; SEGUE_EUSAGE: a descriptor is not a socket to listen on */
} segue_options;

/* Sets every option to its default. The macro passes the sizeof that the host was compiled with; a
 * binding for another language passes that size itself. If the host sets an option that a library
 * of an older version does not have, the library ignores it and logs a warning. [any thread] */
SEGUE_API void segue_options_init_size(segue_options *options, size_t size);
#define segue_options_init(options) segue_options_init_size((options), sizeof(segue_options))

/* Interrupts the script that exceeded its time budget. The host's handler of options.budget_signal
 * calls it, with info->si_value.sival_ptr. [any thread], in a signal handler. */
SEGUE_API void segue_on_budget_signal(void *value);

/* Makes an instance that does nothing before segue_start. The caller frees it by segue_close.
 * SEGUE_EUSAGE: options has an impossible size. UV_ENOMEM. [any thread] */
SEGUE_API int segue_new(segue **out, const segue_options *options, segue_error *error);

/* Registers a module under a name, before segue_start. A policy refers to it by kind = "c", plugin
 * = name. Without a policy the module gets the whole configuration and is replaced by handover. The
 * library borrows ops and userdata until segue_close has freed the instance. SEGUE_EUSAGE: the
 * instance was started, the name is empty or taken, or the size of ops is impossible; on_log
 * receives the reason. */
SEGUE_API int segue_module_register(segue *s, const char *name, const segue_module_ops *ops,
                                    void *userdata);

/* The same for a module with options: registers it under descriptor->name. The library borrows the
 * descriptor and all that it points to until segue_close has freed the instance. Without a policy
 * the module gets the defaults of its options. SEGUE_EUSAGE: also if magic, abi or size is
 * impossible, if the table has a mistake, such as an option outside of its struct, or if there is
 * no policy and the defaults are no valid options, because a required one is missing; on_log
 * receives the reason. */
SEGUE_API int segue_module_register_descriptor(segue *s, const segue_module_descriptor *descriptor);

/* Registers a source under descriptor->name, before segue_start. A policy refers to it by
 * segue.source { plugin = name }. The library borrows the descriptor until segue_close has freed
 * the instance. SEGUE_EUSAGE: the instance was started, the name is empty, has a slash or is taken,
 * or magic, abi, size or ops are impossible; on_log receives the reason. UV_ENOMEM. */
SEGUE_API int segue_source_register(segue *s, const segue_source_descriptor *descriptor);

/* Locks the state folder, opens the control socket and requests the first load; on_start receives
 * its result. After an error the instance does nothing, and only segue_close may follow.
 * SEGUE_EUSAGE: it was started before. UV_EBUSY: another process uses the state folder. Reads and
 * writes files of the state folder before it returns. */
SEGUE_API int segue_start(segue *s, segue_error *error);

/* Runs the instance's own loop on the calling thread, which becomes the control thread, until the
 * instance has stopped; then returns 0. SEGUE_EUSAGE: the instance uses a host's loop, was not
 * started, or a thread is inside segue_run already (perhaps this one, in a callback).
 * SEGUE_ECLOSED: it has stopped. [any thread] */
SEGUE_API int segue_run(segue *s);

/* Requests a reload and returns at once. force: the reload runs even if the sources have not
 * changed. cb receives the result, and may be NULL. SEGUE_ECLOSED: before the start and after the
 * stop. UV_ENOMEM. On another thread than the control thread the request is posted to the loop; if
 * it fails there, cb gets the code, with report NULL. [any thread] */
SEGUE_API int segue_reload(segue *s, bool force, segue_report_cb cb, void *data);

/* Stops the instance: finishes or undoes the running reload, answers all requests, stops the
 * modules, closes sockets and files, then calls on_stopped. Returns at once. If the code of a
 * module does not return, its worker thread is abandoned after a few seconds, with an error in the
 * log: the thread continues, may still call that module, segue_log and on_log, and the memory that
 * it may use is never freed. Its listeners are closed, and another instance may use their
 * addresses. Only the first call has an effect. [any thread], until segue_close. */
SEGUE_API void segue_stop(segue *s);

/* Frees an instance; a running one is stopped first. While a thread is inside the loop (this one in
 * a callback, or another one) the work is deferred: the instance is freed before segue_run returns,
 * or by the last callback of a host's loop. If the instance has a loop of its own that no thread
 * runs, segue_close runs it to its end. The instance must not be used after this call. Read
 * sections, passes and calls of other threads must have ended before it. NULL is allowed.
 * [any thread] */
SEGUE_API void segue_close(segue *s);

#ifdef __cplusplus
}
#endif
#endif
