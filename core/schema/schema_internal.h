/* SPDX-License-Identifier: MIT
 *
 * schema_internal.h: a compiled schema from the inside, for the files that make and use it:
 *   schema.c    documents, resources and subschemas: the scan that finds them all
 *   keywords.c  the table of keywords; checks and compiles each keyword's value
 *   refs.c      references: URIs, anchors, pointers; circles
 *   uri.c       resolves one URI against another
 *   meta.c      the metaschemas of the draft
 *   regex.c     patterns, from ECMA-262 to PCRE2 (property.c: \p{...};
 *               group.c: groups and references), and match.c, which runs them
 *   format.c    formats; format_uri.c the ones of RFC 3986 and mail
 *   number.c    exact comparison and multiples; equality of values
 *   validate.c  the walk; apply.c, children.c: keywords with subschemas
 *   assert.c    keywords that check one value
 *   finding.c   the message about a breach
 *   secret.c, default.c: queries about a schema
 */
#ifndef SEGUE_SCHEMA_INTERNAL_H
#define SEGUE_SCHEMA_INTERNAL_H

#include "../config/quote.h"
#include "schema.h"

/* ---- Numbers and values ---------------------------------------------------------------------- */

enum { SEGUE__UNORDERED = 2 }; /* one of them is not a number */
int segue__number_compare(const segue_node *a, const segue_node *b); /* -1, 0, 1 */
bool segue__number_integral(const segue_node *node);                 /* 1.0 is */
/* Exact in decimal: 0.0075 is a multiple of 0.0001. divisor > 0. */
bool segue__number_multiple(const segue_node *value, const segue_node *divisor);
/* Equality as the draft has it: 1 equals 1.0, maps without regard to order. */
bool segue__value_equal(const segue_node *a, const segue_node *b);
/* Equal values have equal hashes. Adds the number of values that were looked at to *work (NULL
 * allowed). */
segue__hash segue__value_hash(const segue_node *node, uint64_t *work);

/* ---- Patterns and formats -------------------------------------------------------------------- */

typedef struct segue__regex segue__regex;
/* Translates and compiles a pattern. Errors, with the reason in err: SEGUE_ESYNTAX (not a pattern
 * of ECMA-262), UV_ENOTSUP (it is one, but PCRE2 cannot run it) or UV_ENOMEM. */
int segue__regex_new(segue__regex **out, const char *pattern, size_t len, segue_error *err);
void segue__regex_free(segue__regex *regex); /* NULL allowed */
/* Memory for matching, reused by all matches of one thread; zeroed before the first one. */
typedef struct segue__matcher {
  void *memory, *context, *data;
} segue__matcher;
void segue__matcher_deinit(segue__matcher *matcher);
/* 1 found, 0 not, SEGUE_ELIMIT too much work, UV_ENOMEM. */
int segue__regex_match(const segue__regex *regex, segue__matcher *matcher, const char *text,
                       size_t len);
/* ECMA-262 to PCRE2; fails as segue__regex_new. */
int segue__regex_translate(const char *pattern, size_t len, segue__buf *out, segue_error *err);
/* Groups as they are read, and the references to them. */
typedef struct segue__group segue__group;
typedef struct segue__reference segue__reference;
typedef struct segue__groups {
  segue__group *items; /* the first is the pattern itself */
  size_t count, capacity;
  segue__reference *references;
  size_t reference_count, reference_capacity;
  uint32_t open, captures; /* the innermost open one; how many capture so far */
} segue__groups;
enum { SEGUE__ROUNDS_NONE, SEGUE__ROUNDS_ONE, SEGUE__ROUNDS_MANY };
/* These answer false when there is no memory; deinit in either case. */
bool segue__groups_init(segue__groups *groups);
void segue__groups_deinit(segue__groups *groups);
bool segue__groups_open(segue__groups *groups, bool captures, bool behind, const char *name,
                        size_t name_len);
bool segue__groups_refer(segue__groups *groups, uint32_t number, const char *name, size_t name_len,
                         size_t at);
void segue__groups_branch(segue__groups *groups); /* a "|" */
/* Closes the innermost one, which ends at this offset; its index for ..._repeat. */
uint32_t segue__groups_close(segue__groups *groups, size_t end);
void segue__groups_repeat(segue__groups *groups, uint32_t group, bool at_most_once);
/* Returns NULL if all references mean the same in PCRE2, else the reason, and its place in *at;
 * *unsupported: the pattern is valid ECMA-262. */
const char *segue__groups_validate(const segue__groups *groups, size_t *at, bool *unsupported);
/* Translates the name between the braces of \p{...} for PCRE2; returns false if ECMA-262 has no
 * such property. */
bool segue__regex_property(const char *name, size_t len, bool *negate, segue__buf *out);

/* Returns 1: valid, 0: not valid, or UV_ENOMEM. */
typedef int segue__format_check(const char *text, size_t len);
typedef struct segue__format_def {
  const char *name, *what;    /* "an IPv4 address" */
  segue__format_check *check; /* NULL: known, but not checked here */
  bool own;                   /* asserts always */
} segue__format_def;
const segue__format_def *segue__format_find(const char *name, size_t len);
segue__format_check segue__format_uri, segue__format_uri_reference, segue__format_iri,
    segue__format_iri_reference, segue__format_uri_template, segue__format_email,
    segue__format_idn_email, segue__format_hostname, segue__format_ipv4, segue__format_ipv6;

/* ---- URIs ------------------------------------------------------------------------------------ */

/* Resolves `ref` against `base` (which has no fragment). Appends the URI without its fragment to
 * out; *fragment points into ref, behind "#", or is NULL. */
void segue__uri_resolve(segue__buf *out, const char *base, const char *ref, size_t len,
                        const char **fragment, size_t *fragment_len);
/* Appends text with %XX resolved; false if one is malformed. */
bool segue__uri_decode(segue__buf *out, const char *text, size_t len);
/* The text of a built-in metaschema; NULL: there is none of this URI. */
const char *segue__metaschema(const char *uri);

/* ---- A compiled schema ----------------------------------------------------------------------- */

typedef struct segue__sub segue__sub;
typedef struct segue__resource segue__resource;
typedef struct segue__keyword segue__keyword;
typedef struct segue__compile segue__compile;
typedef struct segue__validation segue__validation;
typedef struct segue__place segue__place;

/* Vocabularies of the draft, as bits. */
enum {
  SEGUE__V_CORE = 1,
  SEGUE__V_APPLICATOR = 2,
  SEGUE__V_UNEVALUATED = 4,
  SEGUE__V_VALIDATION = 8,
  SEGUE__V_META = 16,
  SEGUE__V_FORMAT_ANNOTATION = 32,
  SEGUE__V_FORMAT_ASSERTION = 64,
  SEGUE__V_CONTENT = 128,
  SEGUE__V_DEFAULT = 0xbf /* all but format assertion */
};

/* The shape of a keyword's value: the subschemas in it. */
typedef enum segue__shape {
  SEGUE__SHAPE_VALUE, /* none */
  SEGUE__SHAPE_ONE,
  SEGUE__SHAPE_LIST,
  SEGUE__SHAPE_MAP,
  SEGUE__SHAPE_MIXED /* a map of subschemas and of lists, which are none */
} segue__shape;

typedef struct segue__keyword_def {
  const char *name;
  segue__shape shape;
  uint8_t vocabulary;
  bool in_place; /* its subschemas validate the same value */
  /* Checks and compiles the value; NULL: nothing to do but the subschemas. */
  int (*compile)(segue__compile *c, segue__sub *sub, segue__keyword *keyword);
  /* Validates; NULL: does not validate. */
  bool (*check)(segue__validation *v, const segue__sub *sub, const segue__keyword *keyword,
                const segue__place *place, size_t marks);
} segue__keyword_def;

struct segue__keyword {
  const segue__keyword_def *def;
  const segue_node *value;
  uint32_t line, column; /* of the keyword itself */
  segue__sub *sub;       /* ONE, and the target of a reference */
  segue__sub **subs;     /* LIST and MAP, as in value */
  uint32_t sub_count;
  int32_t dynamic;        /* $dynamicRef: number of the anchor, -1: behaves as $ref */
  uint64_t number;        /* limits of counts; mask of types */
  uint64_t number_max;    /* contains: at most */
  segue__regex **regexes; /* pattern, patternProperties, format: regex */
  uint32_t regex_count;
  const segue__format_def *format;
  segue__hash *hashes;                 /* enum: of the values */
  const segue__keyword *beside, *also; /* keywords of the same schema that it has to know */
};

struct segue__sub {
  const segue_node *node;
  segue__resource *resource, *outer; /* outer: the resource that contains it */
  const char *location;              /* JSON pointer in its document: "/properties/a" */
  segue__keyword *keywords;          /* in the order of the table */
  uint32_t keyword_count, index;
  uint8_t always;   /* 1: true or {}, 2: false */
  uint8_t visiting; /* while circles are looked for */
  bool marks;       /* has unevaluated... */
  bool secret;      /* writeOnly: true */
  bool compiled;
  const char *title;
  segue__sub *next; /* in order of discovery */
};

typedef struct segue__anchor segue__anchor;
struct segue__anchor {
  const char *name;
  size_t len;
  segue__sub *sub;
  int32_t dynamic; /* number of its name, -1: not a dynamic one */
  segue__anchor *next;
};

struct segue__resource {
  const char *uri; /* absolute, no fragment */
  segue__sub *root;
  const segue__document *doc;
  segue__resource *outer; /* that it is embedded in, or NULL */
  unsigned vocabularies;  /* 0: not looked at yet */
  segue__anchor *anchors;
  segue__resource *next;
};

struct segue__schema {
  int refs; /* atomic */
  segue__arena arena;
  segue__document **documents;
  size_t document_count;
  segue__resource *resources;
  segue__sub *subs, **last;
  uint32_t sub_count;
  segue__sub *root;
  bool any_secret;
  segue__sub **index; /* by node and outer resource: open addressing */
  size_t slots;
  const char **dynamic_names;
  int32_t dynamic_count;
  segue__regex **regexes; /* all of them, to be freed */
  size_t regex_count, regex_capacity;
};

/* A schema while it is compiled. */
struct segue__compile {
  segue__schema *schema;
  const segue__schema_options *options;
  segue__errors *errors;
  segue__sub *sub;     /* at work */
  const char *keyword; /* at work, or NULL */
  const segue_node *at;
  uint32_t line, column; /* of the keyword; 0: of the node */
  int status;            /* UV_ENOMEM, SEGUE_ELIMIT: at once; SEGUE_ESCHEMA: something was found */
};

/* Adds an error about the value at work; returns the status. */
int segue__compile_fail(segue__compile *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void segue__compile_warn(segue__compile *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int segue__compile_memory(segue__compile *c);
bool segue__compile_stopped(const segue__compile *c);
void *segue__compile_alloc(segue__compile *c, size_t size); /* zeroed, in the arena */
/* The subschema at a node inside of `outer`, scanned with all below it. NULL: stopped. */
segue__sub *segue__compile_scan(segue__compile *c, const segue_node *node, segue__resource *outer,
                                const char *location);
/* location + "/" + token, escaped; NULL: stopped. */
const char *segue__compile_join(segue__compile *c, const char *location, const char *token,
                                size_t len);
/* Vocabularies of a resource, 0: stopped. */
unsigned segue__compile_vocabularies(segue__compile *c, segue__resource *resource);
segue__sub *segue__compile_find(const segue__compile *c, const segue_node *node,
                                const segue__resource *outer);
segue__resource *segue__compile_resource(const segue__compile *c, const char *uri);
/* Parses a built-in metaschema and takes it in. NULL: there is none of this URI, or stopped. */
segue__resource *segue__compile_metaschema(segue__compile *c, const char *uri);
int segue__compile_keywords(segue__compile *c, segue__sub *sub);
int segue__compile_ref(segue__compile *c, segue__sub *sub, segue__keyword *keyword);
int segue__compile_circles(segue__compile *c);

const segue__keyword_def *segue__keyword_find(const char *name, size_t len);
/* All keywords, in order of validation; ends with a NULL name. */
extern const segue__keyword_def segue__keyword_table[];

/* ---- Validation ------------------------------------------------------------------------------ */

/* A value on the path from the root; on the stack of the walk. */
struct segue__place {
  const segue__place *up;
  const segue_node *node;
  const segue__member *member; /* of a map; NULL: an item or the root */
  uint32_t index;
  uint32_t depth; /* 0 for the root */
  bool at_key;    /* it is about the key: that is where it stands */
};

struct segue__validation {
  const segue__schema *schema;
  const segue__validate_options *options;
  segue__findings *findings; /* NULL while breaches are not recorded */
  segue__findings *all;      /* the caller's list */
  int status;                /* not 0: everything ends */
  int code;                  /* of the recorded breaches; 0: SEGUE_ESCHEMA */
  unsigned depth;            /* of nested schemas */
  unsigned reach;            /* deepest place of a breach since it was set to 0 */
  uint64_t steps, deadline;  /* left; in nanoseconds */
  uint64_t since;            /* steps since the clock was read */
  segue__matcher matcher;
  const segue__resource **scope;
  size_t scope_count, scope_capacity;
  /* Marks: which members or items have been evaluated, a bit each; a set is named by its offset +
   * 1, 0 is none. */
  uint64_t *bits;
  size_t bits_used, bits_capacity;
};

/* Validates the value at place. Evaluated members and items are marked in marks unless it is 0. */
bool segue__validate_sub(segue__validation *v, const segue__sub *sub, const segue__place *place,
                         size_t marks);
/* The same without recording breaches. */
bool segue__validate_quietly(segue__validation *v, const segue__sub *sub, const segue__place *place,
                             size_t marks);
/* Counts work; false: the limit is reached, everything ends. */
bool segue__validate_step(segue__validation *v, const segue__place *place, uint64_t count);
/* Everything ends; answers false. */
bool segue__validate_stop(segue__validation *v, const segue__place *place, int code);
bool segue__validate_match(segue__validation *v, const segue__place *place,
                           const segue__regex *regex, const char *text, size_t len);
void segue__marks_set(segue__validation *v, size_t marks, uint32_t child);
void segue__marks_set_all(segue__validation *v, size_t marks, const segue_node *node);
bool segue__marks_get(const segue__validation *v, size_t marks, uint32_t child);
/* Records no breach; what it marked as evaluated stays only if the value is valid. */
bool segue__validate_try(segue__validation *v, const segue__sub *sub, const segue__place *place,
                         size_t marks);

static inline segue__place segue__place_member(const segue__place *up, uint32_t index) {
  const segue__member *m = &up->node->v.members[index];
  return (segue__place){
      .up = up, .node = &m->value, .member = m, .index = index, .depth = up->depth + 1};
}
static inline segue__place segue__place_item(const segue__place *up, uint32_t index) {
  return (segue__place){
      .up = up, .node = &up->node->v.items[index], .index = index, .depth = up->depth + 1};
}

/* Records a breach: "<subject> " + the sentence; keyword NULL: the schema is false. Returns
 * false. */
bool segue__finding_add(segue__validation *v, const segue__sub *sub, const segue__keyword *keyword,
                        const segue__place *place, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Writes ", not 500", the end of a message that describes what a value must be. Writes nothing if
 * the value is a secret or inside one, and for a key, because the message begins with the key. */
enum { SEGUE__SHOWN_SIZE = 128 };
const char *segue__finding_not(const segue__validation *v, const segue__place *place,
                               char out[SEGUE__SHOWN_SIZE]);
/* Writes ", not a string": the same with the type of the value, which is no secret. */
const char *segue__finding_not_type(const segue__place *place, char out[SEGUE__SHOWN_SIZE]);
/* Returns whether a message must not show the place: its value is a secret, or (at_key) its key is
 * below a secret. */
bool segue__finding_hidden(const segue__validation *v, const segue__place *place);
/* The key of a map that was probably meant, or NULL. */
const char *segue__schema_nearest(const char *key, size_t len, const segue_node *map);
/* Writes a value of the schema in short form; a text without quotes (a pattern). */
const char *segue__finding_show(const segue_node *node, segue__quoted *out);
const char *segue__finding_show_text(const segue_node *node, segue__quoted *out);
/* "an integer or a string" for a mask of types; bits by segue__type_bit. */
const char *segue__finding_types(uint64_t mask, char out[SEGUE__SHOWN_SIZE]);

/* Types of the draft, as bits of a mask. */
enum {
  SEGUE__T_NULL = 1,
  SEGUE__T_BOOLEAN = 2,
  SEGUE__T_INTEGER = 4,
  SEGUE__T_NUMBER = 8,
  SEGUE__T_STRING = 16,
  SEGUE__T_ARRAY = 32,
  SEGUE__T_OBJECT = 64
};

typedef bool segue__keyword_check(segue__validation *v, const segue__sub *sub,
                                  const segue__keyword *k, const segue__place *place, size_t marks);
segue__keyword_check segue__check_type, segue__check_const, segue__check_enum,
    segue__check_multiple, segue__check_maximum, segue__check_minimum, segue__check_exclusive_max,
    segue__check_exclusive_min, segue__check_max_length, segue__check_min_length,
    segue__check_pattern, segue__check_format, segue__check_max_items, segue__check_min_items,
    segue__check_unique, segue__check_max_properties, segue__check_min_properties,
    segue__check_required, segue__check_dependent_required;
segue__keyword_check segue__check_ref, segue__check_all_of, segue__check_any_of,
    segue__check_one_of, segue__check_not, segue__check_if, segue__check_dependent_schemas,
    segue__check_dependencies;
segue__keyword_check segue__check_properties, segue__check_pattern_properties,
    segue__check_additional, segue__check_property_names, segue__check_prefix_items,
    segue__check_items, segue__check_contains, segue__check_unevaluated_items,
    segue__check_unevaluated_properties;

#endif
