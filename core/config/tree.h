/* SPDX-License-Identifier: MIT
 *
 * tree.h: documents and the immutable trees parsed from them. A tree is built once (by a parser or
 * a builder), then only read, from any thread. Nodes of a merged config point into the trees of its
 * documents; a config holds references on them, so an unchanged document is never parsed again.
 */
#ifndef SEGUE_CONFIG_TREE_H
#define SEGUE_CONFIG_TREE_H

#include "../os/error.h"
#include "../os/mem.h"
#include "../segue.h"

/* 128-bit content hash (XXH3). Equal hash <=> equal value: maps hash without regard to the order of
 * their members, positions and comments do not count, 1 and 1.0 differ. */
typedef struct segue__hash {
  uint64_t lo, hi;
} segue__hash;

bool segue__hash_equal(segue__hash a, segue__hash b);
segue__hash segue__hash_bytes(const void *data, size_t len, segue__hash seed);
void segue__hash_hex(segue__hash hash, char out[33]);
/* Reads 32 hex digits; false: text is none of these. */
bool segue__hash_parse(const char *text, segue__hash *out);

enum { SEGUE__NODE_UNSIGNED = 1 };          /* flags: an integer above INT64_MAX, read v.u */
enum { SEGUE__COLUMN_MAX = (1 << 24) - 1 }; /* also represents every column behind it */

/* A document of 10 MB has some 300,000 nodes, and they take most of the memory of a generation. So
 * type, flags and column share one word: a node has 24 bytes, a member 48. */
typedef struct segue__member segue__member;
struct segue_node {
  uint32_t type : 3; /* segue_type */
  uint32_t flags : 3;
  uint32_t reserved : 2; /* for trees of options */
  uint32_t column : 24;  /* SEGUE__COLUMN_MAX: there or behind it */
  uint32_t line;
  uint32_t document; /* segue__document.id */
  uint32_t count;    /* items, members, bytes of a string */
  union {
    bool b;
    int64_t i;
    uint64_t u;
    double f;
    const char *s; /* terminated; contains NUL bytes only in foreign documents */
    const segue_node *items;
    const segue__member *members; /* the layout of the block around members and items: node.h */
  } v;
};

struct segue__member {
  const char *key;
  uint32_t key_len, line, column; /* of the key */
  uint32_t key_hash;
  segue_node value;
};

/* The content hash. A scalar is hashed by each call; a list or map stores its hash. A map that was
 * never filled (v.members is NULL) has the hash 0. */
segue__hash segue__node_hash(const segue_node *node);
/* Whether two nodes have the same hash, but scalars are compared without hashing them. */
bool segue__node_equal(const segue_node *a, const segue_node *b);

/* Copies a tree into an arena, for code that keeps values of a tree that is freed. The copy has no
 * places: its document, line and column are 0. UV_ENOMEM: *out is null. */
int segue__node_copy(segue__arena *arena, const segue_node *from, segue_node *out);

/* Member by a key that need not be terminated; NULL if absent or if node is not a map. O(1). */
const segue__member *segue__node_find(const segue_node *node, const char *key, size_t len);

/* TEXT: the bytes are one string; the root is a map of the file's name to it. */
typedef enum segue__format { SEGUE__YAML, SEGUE__JSON, SEGUE__BUILT, SEGUE__TEXT } segue__format;

/* Limits of a document, and the mask for its errors; zero fields mean the default. depth is never
 * more than SEGUE__DEPTH_MAX, whatever is set: code that walks a tree may recurse. */
#define SEGUE__DEPTH_MAX 1000
#define SEGUE__TEXT_MAX ((size_t)128 << 20)
typedef struct segue__limits {
  size_t bytes;   /* 64 MiB */
  uint32_t depth; /* 128 */
  uint32_t nodes; /* 4 million, aliases counted each time they are expanded */
  /* Returns the mask of the config that the document goes into; called on the thread that reads,
   * when an error is described. If it is NULL or returns NULL, the secrets are not known and the
   * error shows neither a value nor a path. */
  const struct segue__mask *(*mask)(void *data);
  void *mask_data;
  /* Limit of the bytes of keys and strings, counted like nodes: SEGUE__TEXT_MAX, twice the largest
   * file. Only this limit bounds the output of a tree: an alias costs a few bytes each time, and so
   * does a text that a script returns a thousand times. */
  size_t text;
  /* Called every few thousand values and every few kilobytes of YAML, on the thread that reads.
   * false: parsing ends with SEGUE_ETIMEOUT. NULL: parsing takes as long as it needs. */
  bool (*may_go_on)(void *data);
  void *may_go_on_data;
} segue__limits;

/* A variable that was looked up for ${NAME} while the document was parsed, and its value then. */
typedef struct segue__variable segue__variable;
struct segue__variable {
  segue__variable *next;
  const char *name, *value; /* value NULL: it was not set */
};

/* The table of a document that was made from the keys of a store. line of its nodes is the number
 * of a key there, and column the line in the value of that key. The tree of the document is in
 * memory of the table. */
typedef struct segue__key_table segue__key_table;
struct segue__key_table {
  uint64_t count; /* keys with a value */
  /* Returns "KEY@REVISION", which lives as long as the document; NULL: no key has that number. */
  const char *(*label)(const segue__key_table *table, uint32_t number); /* [any thread] */
  void (*release)(segue__key_table *table); /* [any thread]; with the document */
};

/* One delivery of a source: bytes, format, revision; after parsing also the tree. Counted. */
typedef struct segue__document segue__document;
struct segue__document {
  int refs;     /* atomic */
  uint32_t id;  /* unique within an instance, never reused */
  char *source; /* name of the source in the policy */
  char *name;   /* file name or key, for positions */
  segue__format format;
  /* The format is not declared, so it is SEGUE__YAML; a text that begins like JSON is tried as JSON
   * first, because JSON has escapes that YAML lacks. Parsing sets format to the one that fitted. */
  bool guessed;
  char *revision; /* the source's own, or NULL */
  char *data;     /* the bytes, terminated; NULL for built ones */
  size_t len;
  bool expand; /* expand ${NAME} in scalars while parsing */
  /* The document is not configuration but any JSON value (a schema, a file to validate): the top
   * level may have any type, \u0000 is allowed in strings, and an integer beyond 64 bits is read as
   * a float. */
  bool foreign;
  /* The root is a map of the last part of `name` to the parsed content, which may have any type. */
  bool by_file;
  bool allow_empty;       /* a document without content is an empty map (TEXT: an empty string) */
  uint32_t old_yaml_line; /* of a %YAML 1.1 directive, which has no effect; 0: there is none */
  uint32_t wide, wide_line, wide_column; /* how many such integers, and the first */
  segue__hash hash; /* of the bytes and of the variables; of the tree if there are no bytes */
  segue__arena arena;
  segue__variable *variables; /* that were expanded; in the arena */
  bool parsed;                /* root holds the parsed bytes; set by segue__builder_finish */
  segue_node root;            /* a map (unless foreign), empty until then */
  segue__key_table *keys;     /* owned; NULL: the document is no key space */
  /* Owned. The content of the source cannot become a tree: segue__document_parse returns this
   * error. NULL: it can. */
  segue_error *refusal;
};

/* data comes from segue__malloc, is terminated, and moves into the document, also on failure. It is
 * NULL for a document that a builder fills. Names are copied. */
int segue__document_new(segue__document **out, uint32_t id, const char *source, const char *name,
                        segue__format format, char *data, size_t len);
/* Returns the format by the end of a file's name: .json, .yaml, .yml. *guessed: the name has none
 * of these ends. */
segue__format segue__format_of(const char *name, bool *guessed);
/* The name of a format in files: "yaml", "json", "text". A built document is never written. */
const char *segue__document_format_name(segue__format format);
/* Returns false if there is no such format. Accepts the digit that older versions wrote. */
bool segue__document_format_find(const char *name, segue__format *out);
/* Writes the warning about integers that were read as floats (doc->wide is not 0). */
void segue__document_report_wide(const segue__document *doc, segue_error *out);
/* Writes the warning about a %YAML 1.1 directive (doc->old_yaml_line is not 0). */
void segue__document_warn_old_yaml(const segue__document *doc, segue_error *out);
/* Returns SEGUE_EEMPTY, with the one message for a document without content. */
int segue__document_fail_empty(const segue__document *doc, segue_error *err);
/* The place that a node was read from: the document's name, line and column; or, in a key space,
 * the key with its revision, and the line in its value. */
void segue__document_place(const segue__document *doc, const segue_node *node, const char **file,
                           uint32_t *line, uint32_t *column);
segue__document *segue__document_ref(segue__document *doc); /* [any thread] */
void segue__document_unref(segue__document *doc);           /* [any thread]; NULL allowed */

/* Parses data into root, by format (a built document is left as it is). Called once, off the loop.
 * On failure err carries file, line, column and path. Refuses: no content, which is 0 bytes, white
 * space, comments, "---" and null alike (SEGUE_EEMPTY, unless doc->allow_empty; a foreign document
 * may be null), invalid UTF-8 (UTF-16 too), NUL bytes, duplicate keys, more than one YAML document,
 * a top level that is not a map, everything over a limit. A UTF-8 byte order mark is skipped.
 * With doc->expand: ${NAME}, ${NAME:-default} (also where NAME is empty) and $${ for a literal ${
 * in values, not in keys. A default may hold ${...} itself. A plain YAML scalar that was expanded
 * gets a type only where writing that type gives the same text back, everything quoted stays a
 * string. getenv NULL: no variable is set. */
typedef const char *(*segue__getenv)(void *data, const char *name);
int segue__document_parse(segue__document *doc, const segue__limits *limits, segue__getenv getenv,
                          void *getenv_data, segue_error *err);

/* Builder: for parsers, environment variables and values given in a policy. Calls nest like the
 * tree; a map wants a key before each value. The first failure sticks; finish returns it. Strings
 * are copied into the document's arena; they must be UTF-8, without NUL unless it is foreign.
 * Duplicate keys are refused when their map ends. */
typedef struct segue__builder segue__builder;
int segue__builder_new(segue__builder **out, segue__document *doc, const segue__limits *limits);
void segue__builder_free(segue__builder *b);
/* Sets the position of the following values, until the next call. */
void segue__builder_at(segue__builder *b, uint32_t line, uint32_t column);
/* Adds a text of a source that knows only text (environment variables): a null, boolean or number
 * if writing that value gives the same text back (42, 1.5, true), else a string (0042, 1.10,
 * 12345e7, True, ""), so that no character is lost. */
int segue__builder_untyped(segue__builder *b, const char *s, size_t len);
int segue__builder_key(segue__builder *b, const char *key, size_t len);
int segue__builder_null(segue__builder *b);
int segue__builder_bool(segue__builder *b, bool value);
int segue__builder_int(segue__builder *b, int64_t value);
int segue__builder_uint(segue__builder *b, uint64_t value);
int segue__builder_float(segue__builder *b, double value);
int segue__builder_string(segue__builder *b, const char *s, size_t len);
int segue__builder_begin(segue__builder *b, segue_type list_or_map);
int segue__builder_end(segue__builder *b);
int segue__builder_finish(segue__builder *b, segue_error *err); /* fills doc->root */

#endif
