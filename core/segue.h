/* SPDX-License-Identifier: MIT
 *
 * segue.h: the whole public C surface of libsegue. Segue changes the configuration and the modules
 * of a running server without dropping a request; this header is the contract an embedder reads.
 *
 * Rules that hold for every function unless its comment says otherwise:
 *   - Thread: the control thread of the instance (the thread inside segue_run). Functions marked
 *     [any thread] may be called from every thread.
 *   - Errors: 0 or a count is success; a negative value is a libuv code (UV_ENOENT and the like) or
 *     one of SEGUE_E* below. The story (file, line, one sentence) goes into the caller's
 *     segue_error where a function takes one; it may be NULL.
 *   - Ownership is the verb: new -> you free; acquire/ref -> you give back; get borrows until the
 *     next change. Strings passed in are copied. free, unref and close accept NULL.
 *   - Units are in the names: _ms is milliseconds.
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

/* X(name, number, meaning). System failures use libuv's numbers (above -5000). */
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
  X(VETO, -5010, "the policy refused the configuration")                                           \
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
  X(DEFERRED, -5021, "the reload was put off")                                                     \
  X(SCHEMA, -5022, "the configuration breaks its schema")                                          \
  X(SOURCE, -5023, "a source could not be read")                                                   \
  X(UNCONFIRMED, -5024, "the new generation is live and waits for an operator")                    \
  X(CONFIG, -5025, "a module refuses its configuration or its code")

#define SEGUE__ERROR_ENUM(name, number, meaning) SEGUE_E##name = number,
enum segue_error_code { SEGUE_ERRORS(SEGUE__ERROR_ENUM) };
#undef SEGUE__ERROR_ENUM

/* One failure, told so that a person can act on it. Plain data, owned by the caller. Strings are
 * truncated to fit and always terminated; fields that do not apply are "" or 0. */
typedef struct segue_error {
  int code;
  uint32_t line;     /* 1-based; 0 = unknown */
  uint32_t column;   /* 1-based, in bytes */
  char source[96];   /* name of the source or module it concerns */
  char file[256];    /* file or document name */
  char path[256];    /* path in the tree: listen[0].port; a long one lacks its middle */
  char message[512]; /* one sentence: what is wrong and what to do */
} segue_error;

/* Name ("SEGUE_ESYNTAX", "ENOENT") and meaning of a code; never NULL. [any thread] */
SEGUE_API const char *segue_error_name(int code);
SEGUE_API const char *segue_strerror(int code);

/* Writes "file:line:column: message (at path)" into buf; returns the length it would have needed,
 * like snprintf. [any thread] */
SEGUE_API size_t segue_error_format(const segue_error *error, char *buf, size_t size);

/* Version of the library that is linked, "0.1.0". [any thread] */
SEGUE_API const char *segue_version(void);

/* ---- Configuration: nodes and snapshots ------------------------------------------------------ */

typedef struct segue segue;
typedef struct segue_snapshot segue_snapshot; /* one immutable config with generation and hash */
typedef struct segue_node segue_node;         /* a value in it; lives as long as its snapshot */

typedef enum segue_type {
  SEGUE_NULL,
  SEGUE_BOOL,
  SEGUE_INT,
  SEGUE_FLOAT,
  SEGUE_STRING,
  SEGUE_LIST,
  SEGUE_MAP
} segue_type;

/* "null", "boolean", "integer", "float", "string", "list", "map". [any thread] */
SEGUE_API const char *segue_type_name(segue_type type);

/* All node functions: [any thread] that holds the snapshot; NULL node is treated as "not there". */
SEGUE_API segue_type segue_node_type(const segue_node *node);
/* Number of items, members or bytes; 0 for other types. */
SEGUE_API size_t segue_node_count(const segue_node *node);
/* Item of a list, or member of a map in document order; NULL past the end. *key may be NULL. */
SEGUE_API const segue_node *segue_node_at(const segue_node *node, size_t index, const char **key);
/* Member by key (O(1)), or NULL. */
SEGUE_API const segue_node *segue_node_member(const segue_node *node, const char *key);
/* Node at a path such as listen[0].port or a."odd key".b; "" is the node itself. NULL if absent
 * or if the path is malformed. */
SEGUE_API const segue_node *segue_node_get(const segue_node *node, const char *path);
/* Typed reads: 0, SEGUE_EPATH (node NULL), SEGUE_ETYPE or SEGUE_ERANGE; *out untouched on failure.
 * An integer reads as a double; a float does not read as an integer. */
SEGUE_API int segue_node_bool(const segue_node *node, bool *out);
SEGUE_API int segue_node_int(const segue_node *node, int64_t *out);
SEGUE_API int segue_node_uint(const segue_node *node, uint64_t *out);
SEGUE_API int segue_node_double(const segue_node *node, double *out);
SEGUE_API int segue_node_string(const segue_node *node, const char **out, size_t *length);
/* Where a value came from. file borrows from the snapshot. */
SEGUE_API int segue_node_origin(const segue_snapshot *snapshot, const segue_node *node,
                                const char **source, const char **file, uint32_t *line,
                                uint32_t *column);
/* What is wrong with a value: code and one sentence, with its file, line, column and path. node
 * NULL (snapshot may be so too): the sentence alone. error may be NULL. Returns code, for `return
 * segue_error_at(...)`. Searches the whole tree for the path. [any thread] */
SEGUE_API int segue_error_at(segue_error *error, int code, const segue_snapshot *snapshot,
                             const segue_node *node, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
#define segue_error_set(error, code, ...) segue_error_at(error, code, NULL, NULL, __VA_ARGS__)

/* Snapshots. hash is 32 lower-case hex digits, borrowed. Of NULL, which a read section returns
 * before the first generation: NULL, 0 and "". [any thread] */
SEGUE_API const segue_node *segue_snapshot_root(const segue_snapshot *snapshot);
SEGUE_API uint64_t segue_snapshot_generation(const segue_snapshot *snapshot);
SEGUE_API const char *segue_snapshot_hash(const segue_snapshot *snapshot);
/* Counted references: may be kept for as long as you like, never delay a reload. ref wants a
 * snapshot that cannot go away meanwhile: one that is referenced, or inside of a read section.
 * [any thread] */
SEGUE_API const segue_snapshot *segue_snapshot_ref(const segue_snapshot *snapshot);
SEGUE_API void segue_snapshot_unref(const segue_snapshot *snapshot);
/* A reference to the live snapshot, NULL before the first generation. [any thread] */
SEGUE_API const segue_snapshot *segue_snapshot_acquire(segue *s);

/* ---- Reading the live snapshot ----------------------------------------------------------------
 */

/* A read section is the cheap way to read the configuration on a hot path: begin answers the live
 * snapshot (NULL before the first generation), and nothing reachable from it is freed before end.
 * Neither ever blocks, fails, allocates (after the first use by a thread) or writes to memory that
 * another thread reads often; a reload never waits for a section, only the freeing of what it
 * replaced does. So keep sections short: no waiting, no I/O. What has to last longer takes a
 * reference with segue_snapshot_ref inside of the section.
 * Sections nest; an inner one may see a newer snapshot than the outer one. Begin and end are called
 * by the same thread, and by threads only (not by signal handlers). In a child after fork, sections
 * may be ended and nothing else. All sections have ended before segue is closed.
 *
 * Two ways: segue_read_begin/end serve any thread; the thread's slot is made at its first section
 * and goes when the thread exits. segue_reader_begin/end use a slot that the caller made, and cost
 * about half as much. The functions are inline: the layout of the structs below is part of the
 * library's binary interface. SEGUE_NO_INLINE declares them as ordinary functions instead. */
typedef struct segue_reader segue_reader;

/* A slot for a thread: used by one thread at a time, freed outside of its sections. NULL: out of
 * memory. A slot that outlives its instance may only be freed. [any thread] */
SEGUE_API segue_reader *segue_reader_new(segue *s);
SEGUE_API void segue_reader_free(segue_reader *reader); /* [any thread]; NULL allowed */

#ifdef SEGUE_NO_INLINE
SEGUE_API const segue_snapshot *segue_reader_begin(segue_reader *reader);
SEGUE_API void segue_reader_end(segue_reader *reader);
SEGUE_API const segue_snapshot *segue_read_begin(segue *s); /* [any thread] */
SEGUE_API void segue_read_end(segue *s);                    /* [any thread] */
#else

/* What readers look at, and the clock that tells old sections from new ones. Every instance begins
 * with a pointer to its own. Private; here because the functions below are inline. */
typedef struct segue__live {
  const segue_snapshot *snapshot;
  uint64_t epoch; /* never 0 */
} segue__live;

struct segue_reader {
  uint64_t epoch; /* when the section began, 0 outside */
  uint32_t nested;
  uint32_t fenced; /* the system has no membarrier(2): the reader pays */
  segue__live *live;
} __attribute__((aligned(64)));

SEGUE_API extern __thread segue_reader *segue__thread_reader
    __attribute__((tls_model("initial-exec")));
SEGUE_API const segue_snapshot *segue__read_begin(segue__live *live);
SEGUE_API void segue__read_end(segue__live *live);

/* ThreadSanitizer does not see membarrier(2): builds with it order the two accesses themselves. */
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
  /* The writer replaces the snapshot, then advances the epoch: who sees the new epoch sees the new
   * snapshot. The store must be visible before the load is done; the writer sees to that. */
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
  return segue__read_begin(live);
}

static inline void segue_read_end(segue *s) {
  segue__live *live = *SEGUE__CAST(segue__live **, s);
  segue_reader *reader = segue__thread_reader;
  if (__builtin_expect(reader && __atomic_load_n(&reader->live, __ATOMIC_RELAXED) == live, 1))
    segue_reader_end(reader);
  else
    segue__read_end(live);
}
#endif

/* ---- Log entries ------------------------------------------------------------------------------
 */

typedef enum segue_level { SEGUE_ERROR, SEGUE_WARN, SEGUE_INFO, SEGUE_DEBUG } segue_level;

typedef struct segue_log_field {
  const char *key;
  const char *text; /* NULL: number */
  int64_t number;
} segue_log_field;

/* One entry on its way to a log. Borrowed while whoever is given it runs. */
typedef struct segue_log_entry {
  segue_level level;
  const char *group; /* "reload", "http", "watch" ... */
  const char *message;
  const segue_log_field *fields;
  size_t field_count;
} segue_log_entry;

/* ---- Modules --------------------------------------------------------------------------------- */

/* One call of a module operation. Each operation is called on the control thread and ends by
 * exactly one segue_op_done, from any thread, during the call or later. A second done is ignored
 * and reported. When a deadline passes the engine goes on without waiting and segue_op_cancelled
 * turns true; a late done is still wanted, because the instance is not destroyed before it. It
 * turns true as well when the engine stops while prepare or start are under way: they have their
 * time all the same, and nobody needs what they do. */
typedef struct segue_op segue_op;

/* status 0, or a negative code; error may be NULL and is copied. [any thread] */
SEGUE_API void segue_op_done(segue_op *op, int status, const segue_error *error);
SEGUE_API bool segue_op_cancelled(const segue_op *op); /* [any thread] */
/* The instance of the library that the module runs in: what segue_log, segue_count and
 * segue_gate_get ask for. It outlives every instance of the module, which may keep it. A module
 * reaches another one by the gate of that one's name, and lists it in `needs`, so that it starts
 * later and stops earlier; segue_gate_enter_from keeps to the generation by which it was entered
 * itself. [any thread], before done. */
SEGUE_API segue *segue_op_owner(const segue_op *op);

/* What a module gets to see: the whole snapshot and its own part of it (NULL if the path that the
 * policy names is not in the configuration). Borrowed for the life of the instance. */
typedef struct segue_slice {
  const segue_snapshot *snapshot;
  const segue_node *config;
} segue_slice;

/* One HTTP request that a module serves, see "Serving" below. */
typedef struct segue_request segue_request;

/* The life cycle. Unset operations succeed at once. */
typedef struct segue_module_ops {
  size_t size; /* sizeof(segue_module_ops) */
  /* Builds the next instance beside the live one and stores it in *instance before done. Takes no
   * exclusive resource, and makes nothing that others see: a plan prepares too, and destroys the
   * instance without starting it. prev is NULL at the first start. Ends with SEGUE_ECONFIG where
   * the configuration is wrong (segue_error_at): the reload is rejected, and not tried again before
   * something changes. With any other code it has failed, and is tried again by itself. */
  void (*prepare)(void *userdata, segue_op *op, const segue_slice *next, const segue_slice *prev,
                  void **instance);
  /* Begins to serve; may take exclusive resources. */
  void (*start)(void *instance, segue_op *op);
  /* Lets what is inside finish; nothing new arrives, but for calls of modules that need this one,
   * of requests that are inside there (segue_gate_enter_from), until stop. Not called for a restart
   * that is undone because somebody did not leave (drain = { over = "undo" } of the policy): the
   * instance serves on. */
  void (*drain)(void *instance, segue_op *op);
  /* Gives up exclusive resources. */
  void (*stop)(void *instance, segue_op *op);
  /* Frees; cannot fail. Called once for every instance that prepare stored, after all its
   * operations are done. stop need not have come before: an instance whose start failed or came too
   * late is destroyed as it is, with whatever it holds. */
  void (*destroy)(void *instance);

  /* What follows may be left out (size tells), or be NULL. */

  /* Takes over from the instance that it will replace what must outlive that one, such as counters:
   * both are there, the old one serves on, and may go on serving if the reload is taken back.
   * Called once, after prepare, on the control thread, if the same plugin or the same registered
   * module made both. Cannot fail. */
  void (*inherit)(void *instance, void *prev);
  /* Opens its files anew: somebody moved them away. On the control thread, while it is live. */
  void (*reopen)(void *instance);
  /* Adds what it counts to /metrics: lines in the text format of Prometheus, by as many calls of
   * add as it likes. On the control thread, while it is live. */
  void (*metrics)(void *instance, void (*add)(void *sink, const char *text, size_t len),
                  void *sink);
  /* What everybody may call while it is live. Such a module can only be swapped: the old one is
   * drained when nobody can be in it any more, and the answer to the reload waits for that. */
  const struct segue_log_ops *log;
  const struct segue_stats_ops *stats;
  /* Serves a request that came in by a listener of the module. Called on the data threads, by
   * several at once, between start and the end of drain. Must not block: it answers before it
   * returns, or later, from any thread. The instance stays until it has returned. */
  void (*handle)(void *instance, segue_request *request);
} segue_module_ops;

/* ---- Plugins --------------------------------------------------------------------------------- */

/* A module in a shared object of its own, which exports one of these under the name segue_module.
 * It is loaded from the bytes that were read, so that a file which is overwritten does no harm; it
 * is unloaded when nothing of it is left (one that the system's loader keeps for good, as most in
 * C++, keeps its memory and a descriptor). All fields are constants: magic, abi and size are read
 * from the file before any code of it runs. */
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
} segue_module_descriptor;

/* ---- Services: log and figures that everybody calls ------------------------------------------ */

/* What a module that is a log offers. Both: [any thread], by several at once. */
typedef struct segue_log_ops {
  size_t size; /* sizeof(segue_log_ops) */
  bool (*enabled)(void *instance, segue_level level);
  /* 1: it will be written. SEGUE_ELIMIT: there is no room, and the line is counted as dropped.
   * UV_EAGAIN, only if may_wait: there is no room just now, ask again. Must not block. */
  int (*write)(void *instance, const segue_log_entry *entry, bool may_wait);
} segue_log_ops;

/* What a module that keeps figures offers. [any thread], by several at once; must not block. */
typedef enum segue_figure { SEGUE_COUNTER, SEGUE_GAUGE, SEGUE_HISTOGRAM } segue_figure;
typedef struct segue_stats_ops {
  size_t size; /* sizeof(segue_stats_ops) */
  int (*record)(void *instance, segue_figure figure, const char *series, double value);
} segue_stats_ops;

/* Writes to the module that is the log: 1 if the line will be written, once and whole, 0 if its
 * level is off, else it is not written: SEGUE_EMODULE: there is no log, and the
 * host gave no on_log, which is called otherwise (on this thread); SEGUE_ELIMIT: it was full,
 * and the line is counted as dropped. A log that is full lets a thread wait, unless its policy says
 * that lines are dropped then; the control thread never waits. While modules are swapped nothing is
 * lost: a line that was accepted before a reload was asked for goes where the log before it writes,
 * one that comes after its answer to the next one. Not in a read section. [any thread] */
SEGUE_API int segue_log(segue *s, segue_level level, const char *group, const char *message,
                        const segue_log_field *fields, size_t field_count);
/* Whether a line of this level would be written: before arguments that cost something. [any thread]
 */
SEGUE_API bool segue_log_enabled(segue *s, segue_level level);

/* Figures of the module that keeps them, shown in /metrics, kept over swaps. A series is a name, or
 * a name with labels as Prometheus writes them: requests_total{code="200"}. count adds n, gauge
 * sets a value, observe adds one to a histogram. 0; SEGUE_EMODULE: no module keeps figures;
 * SEGUE_EUSAGE: not a series, or one of another kind has this name; SEGUE_ELIMIT: there are too
 * many series. [any thread] */
SEGUE_API int segue_count(segue *s, const char *series, uint64_t n);
SEGUE_API int segue_gauge(segue *s, const char *series, double value);
SEGUE_API int segue_observe(segue *s, const char *series, double value);

/* ---- Gates ----------------------------------------------------------------------------------- */

/* The entrance to a module. Whoever passes it is given the module's instance and a snapshot, and
 * keeps both until he leaves: whatever is replaced meanwhile, neither goes before. Every request of
 * a module passes its gate once, and is so served by one generation from start to end; one that
 * arrives after a reload was answered gets what that made live, or something newer.
 * While a module is restarted its gate is shut, and who arrives waits in its buffer, whose limits
 * the policy sets (buffer = { items =, bytes =, age = } of the module). A drain waits until
 * everybody inside has left, at most as long as the policy says; then the module is stopped all the
 * same, and only destroyed when they have; or the reload is undone, if the policy says so. At the
 * end of every reload the gate is open, or refuses, because its module failed or there is none.
 * A gate lasts as long as its instance of the library. All passes have been left before that is
 * closed. Not for signal handlers, nor in a child after fork. */
typedef struct segue_gate segue_gate;

/* Whoever is inside. Filled by segue; yours to read, copy (leave one of the copies) and hand to
 * another thread. */
typedef struct segue_pass {
  void *instance;                 /* what the module's prepare stored */
  const segue_snapshot *snapshot; /* borrowed until leave */
  void *place;                    /* private; NULL: outside */
} segue_pass;

/* The gate of the module with this name, borrowed; made on first asking, whether or not there is
 * such a module yet. NULL: out of memory. Costs a lock and a search: ask once. [any thread] */
SEGUE_API segue_gate *segue_gate_get(segue *s, const char *module);

/* Goes in. 0: inside, until segue_gate_leave. UV_EAGAIN: it is shut for a moment, see
 * segue_gate_submit. SEGUE_EMODULE: there is no such module, or it failed. SEGUE_ECLOSED: the
 * instance shuts down. Never blocks; while the gate is open it takes no lock and writes nothing
 * that another thread writes: a few nanoseconds, however many threads do it. [any thread] */
SEGUE_API int segue_gate_enter(segue_gate *gate, segue_pass *pass);
/* The same for whoever is inside of another module by `from`, and calls this one for it: by the
 * snapshot that he has, and to the instance that belongs to it, also when another one is live by
 * now. For that the calling module names this one in its `needs`; then no instance is drained while
 * a caller of its generation may come. Whoever cannot be served so enters what is live, and sees it
 * by the snapshot of his pass: where this module was restarted meanwhile (at a shut gate callers
 * wait), was stopped since its drain ran over, or is swapped. `from` NULL or empty: as
 * segue_gate_enter, whose cost it has too, but for a lock while the generations differ.
 * [any thread] */
SEGUE_API int segue_gate_enter_from(segue_gate *gate, const segue_pass *from, segue_pass *pass);
/* Goes out; the pass is empty then. An empty one ({0}) is left alone. Any thread may leave for the
 * one that entered. Costs the same, and a message while a drain waits. [any thread] */
SEGUE_API void segue_gate_leave(segue_pass *pass);

enum { SEGUE_RUN = 0, SEGUE_QUEUED = 1 };

/* Somebody who goes in, or waits if he must. Memory of the caller, which must stay where it is
 * while it waits; zeroed before its first use. */
typedef struct segue_arrival segue_arrival;
struct segue_arrival {
  /* Called once, on the control thread, if submit answered SEGUE_QUEUED: status 0: inside, `pass`
   * is filled. SEGUE_ETIMEOUT: it has waited as long as the policy allows. SEGUE_EMODULE: the
   * module failed or is gone. SEGUE_ECLOSED: the instance shuts down. Must not block. The request
   * may be freed or submitted again in it. */
  void (*cb)(segue_arrival *request, int status);
  void *data;
  uint64_t key; /* requests of one key (a connection) pass in order; 0: this one needs no order */
  size_t bytes; /* that it holds while it waits, for the limits of the buffer */
  /* Of who calls, as for segue_gate_enter_from, also when it had to wait; NULL: nobody. */
  const segue_pass *from;
  segue_pass pass;

  /* Private. */
  segue_arrival *prev, *next;
  uint64_t since_ms;
  int state;
  bool stamped;
};

/* SEGUE_RUN: it is inside, cb never comes. SEGUE_QUEUED: it waits, cb comes once, possibly before
 * this returns (on the control thread); those who wait go in in the order in which they came, and
 * nobody passes somebody else of his key. Negative: refused, cb never comes: SEGUE_ELIMIT: the
 * buffer is full; SEGUE_EMODULE and SEGUE_ECLOSED as above. Cannot fail for want of memory.
 * Costs what enter does, if it need not wait, else a lock. [any thread] */
SEGUE_API int segue_gate_submit(segue_gate *gate, segue_arrival *request);
/* The client left while it waits. True: it does not wait any longer, and cb never comes. False: it
 * does not wait: cb has come, or is coming, and the memory must stay until then. [any thread] */
SEGUE_API bool segue_gate_cancel(segue_gate *gate, segue_arrival *request);

/* ---- Serving --------------------------------------------------------------------------------- */

/* A module whose policy says listen = "http://HOST:PORT" is reached there. The sockets belong to
 * segue: connections stay open over every reload, and each request passes the module's gate once it
 * is complete (head and body), waits in its buffer while that is shut, and is handed to `handle` of
 * exactly one instance, which keeps it until it has answered. Whoever cannot be let in is refused
 * with 503 and Retry-After.
 * A request is valid until it is answered: by segue_request_answer, segue_request_end or
 * segue_request_abort. What it says may be read on any thread until then. Calls that answer may
 * come from any thread, but not from two at once for one request. If the client leaves, the request
 * still has to be answered. */
typedef struct segue_text {
  const char *s; /* not terminated */
  size_t len;
} segue_text;

typedef struct segue_header {
  segue_text name, value;
} segue_header;

SEGUE_API segue_text segue_request_method(const segue_request *request); /* "GET" */
/* Decoded but for %2F and %25, terminated; "//" is "/", and dot segments are resolved after that,
 * as nginx does it. */
SEGUE_API const char *segue_request_path(const segue_request *request);
SEGUE_API segue_text segue_request_query(const segue_request *request); /* raw, without "?" */
/* A parameter of the query, decoded into buf; false if absent, malformed or too long. */
SEGUE_API bool segue_request_parameter(const segue_request *request, const char *name, char *buf,
                                       size_t size);
/* The first header of this name (case does not matter); s is NULL if there is none. */
SEGUE_API segue_text segue_request_header(const segue_request *request, const char *name);
/* All headers as they came; false past the end. */
SEGUE_API bool segue_request_header_at(const segue_request *request, size_t index,
                                       segue_header *out);
SEGUE_API segue_text segue_request_body(const segue_request *request);
SEGUE_API const char *segue_request_peer(const segue_request *request); /* "127.0.0.1:53412" */
/* Did it come through TLS? */
SEGUE_API bool segue_request_tls(const segue_request *request);
/* The names in the verified certificate of the client: 0 is the common name (or the whole subject),
 * DNS names, mail addresses and URIs follow. NULL past the end, or where it showed none. A CA may
 * sign the same text as a name of another kind for somebody else: compare the kind too, which is
 * "cn", "subject", "dns", "mail" or "uri". */
SEGUE_API const char *segue_request_client(const segue_request *request, size_t index);
SEGUE_API const char *segue_request_client_kind(const segue_request *request, size_t index);
/* What it has passed the gate with: of this snapshot and no other is its answer. */
SEGUE_API const segue_snapshot *segue_request_snapshot(const segue_request *request);
/* By which it is inside: for calls of other modules, see segue_gate_enter_from. */
SEGUE_API const segue_pass *segue_request_pass(const segue_request *request);
/* The client left: an answer reaches nobody. */
SEGUE_API bool segue_request_gone(const segue_request *request);

typedef struct segue_answer {
  int status;                  /* 200 to 599 */
  const char *content_type;    /* NULL: none */
  const segue_header *headers; /* Content-Length, Transfer-Encoding, Connection, Date and
                                  Content-Type are segue's */
  size_t header_count;
  const void *body; /* copied */
  size_t len;
} segue_answer;

/* 0: the request is answered, and gone. Negative: it is not: SEGUE_EUSAGE: the answer is none (a
 * status out of range, a header that is not one or not the module's to set); UV_ENOMEM. */
SEGUE_API int segue_request_answer(segue_request *request, const segue_answer *answer);

/* An answer in pieces: stream, then write as often as wanted, then end. stream fails as answer
 * does; body is the first piece. write copies: 0; UV_EAGAIN: the client is so far behind (1 MiB)
 * that nothing was taken, try again later; UV_ECONNRESET: it left; UV_ENOMEM. end comes in any
 * case, and cannot fail; without an answer or a stream before it the client gets a 500. */
SEGUE_API int segue_request_stream(segue_request *request, const segue_answer *head);
SEGUE_API int segue_request_write(segue_request *request, const void *data, size_t len);
SEGUE_API void segue_request_end(segue_request *request);
/* Instead of end, where the rest of a stream cannot be had: the connection is closed (by a reset,
 * where its end is that of the body), so that the client does not take what it got for whole. */
SEGUE_API void segue_request_abort(segue_request *request);

/* ---- The instance ---------------------------------------------------------------------------- */

/* What came of a reload. Borrowed while the callback runs. */
typedef struct segue_report {
  uint64_t id;
  const char *outcome; /* "applied", "unchanged", "held", "rejected", "failed", "reverted" */
  uint64_t generation; /* live now; 0 = none */
  const char *hash;    /* of the live configuration; "" = none */
  const segue_error *errors;
  size_t error_count;
} segue_report;

/* status 0: applied or unchanged. Negative: not; report tells why, and is NULL where no reload ran
 * (SEGUE_ECLOSED, SEGUE_EDEFERRED). Never called before the function that asked has returned. */
typedef void (*segue_report_cb)(void *data, int status, const segue_report *report);

/* Filled by segue_options_init; zero means the default. Strings are copied. */
typedef struct segue_options {
  size_t size;
  void *uv_loop; /* the host's uv_loop_t *, which it runs, with SIGPIPE ignored or blocked; NULL: a
                    loop of its own, segue_run */
  const char *policy; /* path of a reload.lua; NULL: none */
  const char *config; /* without a policy: a configuration file, watched for changes; or NULL */
  const char *state; /* state folder; NULL: $STATE_DIRECTORY, else .segue beside the policy. Without
                        a policy there is none unless it is named here */
  const char *socket;  /* control socket; NULL: control.sock in the state folder */
  const char *lua_dir; /* folder of the Lua half; NULL: found from the installation */
  bool signals;        /* take the signals that the policy names as triggers; false: leave them */
  int budget_signal;   /* a real-time signal for cutting runaway scripts, whose handler is
                          segue_on_budget_signal (SA_SIGINFO | SA_RESTART, installed by the host);
                          0: none, then scripts run slower */
  segue_level log_level;
  void (*on_log)(void *data, const segue_log_entry *entry); /* [any thread]; NULL: no log */
  segue_report_cb on_start;       /* what came of the first load; the instance goes on either way */
  void (*on_stopped)(void *data); /* the last thing an instance says */
  void *data;
} segue_options;

/* Sets every option to its default. The macro passes the sizeof that the host was compiled with:
 * hosts and plugins that were compiled with an older or a newer header have shorter or longer
 * structs, and both sides use the part that both know. An option that is set and that the library
 * does not have is ignored, with a warning in the log. [any thread] */
SEGUE_API void segue_options_init_size(segue_options *options, size_t size);
#define segue_options_init(options) segue_options_init_size((options), sizeof(segue_options))

/* What the handler of options.budget_signal calls, with info->si_value.sival_ptr. [any thread, in a
 * signal handler] */
SEGUE_API void segue_on_budget_signal(void *value);

/* Makes an instance that does nothing yet. error: NULL or the caller's. */
SEGUE_API int segue_new(segue **out, const segue_options *options, segue_error *error);

/* Offers a module under a name: a policy refers to it by kind = "c", plugin = name; without a
 * policy it runs with the whole configuration, replaced by handover. Before segue_start. ops
 * outlives the instance. */
SEGUE_API int segue_module_register(segue *s, const char *name, const segue_module_ops *ops,
                                    void *userdata);

/* Takes the state folder, opens the control socket, asks for the first load. What comes of that is
 * told by on_start. On failure nothing has begun, and only segue_close may follow. */
SEGUE_API int segue_start(segue *s, segue_error *error);

/* Runs the instance's own loop until it has stopped. SEGUE_EUSAGE: it has a host's loop, it was not
 * started, or a thread is inside already, perhaps this one in a callback. SEGUE_ECLOSED: it has
 * stopped. */
SEGUE_API int segue_run(segue *s);

/* Asks for a reload; cb may be NULL, and is called on the thread of the loop. 0, or a negative code
 * and cb never runs: SEGUE_ECLOSED before the start and after the end. Called on another thread, it
 * is posted to the loop, and an error comes to cb with report NULL. [any thread] */
SEGUE_API int segue_reload(segue *s, bool force, segue_report_cb cb, void *data);

/* Finishes or undoes the running reload, answers whoever waits, stops the modules, closes
 * everything; then on_stopped. A data thread that the code of a module does not give back is given
 * up after a few seconds, and told in the log: it goes on, may still call that module, segue_log
 * and on_log, and what it may use is never freed. More calls change nothing. [any thread] between
 * segue_start and on_stopped. */
SEGUE_API void segue_stop(segue *s);

/* Frees a stopped instance. One that still runs is stopped first. Where a thread is inside the loop
 * (this is a callback, or another thread) that is deferred: the instance is freed before segue_run
 * returns, or by the last callback of a host's loop; an own loop that nobody runs is run here. The
 * instance must not be used after this call. Readers must be gone. NULL allowed. [any thread] */
SEGUE_API void segue_close(segue *s);

#ifdef __cplusplus
}
#endif
#endif
