/* SPDX-License-Identifier: MIT
 *
 * option.h: rows and tables of options; part of the public interface.
 */
#ifndef SEGUE_OPTIONS_OPTION_H
#define SEGUE_OPTIONS_OPTION_H

#include "../segue.h"

/* ---- Options --------------------------------------------------------------------------------- */

/* An option is declared once, as a row of a table. Segue judges what a user wrote by the table
 * (unknown keys, types, ranges, missing options; each error with file, line and path), fills a C
 * struct from it, and makes the manual, the types for editors and the JSON Schema from the same
 * rows. Tables and everything they point to are constants that outlive their users. Zero in a field
 * means that it does not apply.
 *
 * The type of a row decides which C type lies at its offset. Pointers in the struct are owned by it
 * and are freed by segue_options_free; a string is terminated. */
typedef enum segue_option_type {
  SEGUE_OPTION_TEXT,     /* char *: not empty, without NUL; NULL: not given */
  SEGUE_OPTION_PATH,     /* char *: the same; a relative one gets the folder of the policy */
  SEGUE_OPTION_STRING,   /* segue_option_string: any bytes, also none */
  SEGUE_OPTION_DURATION, /* uint64_t, milliseconds; written "1h30m", or a number of seconds */
  SEGUE_OPTION_SIZE,     /* uint64_t, bytes; written "16MiB", or a number */
  SEGUE_OPTION_COUNT,    /* uint64_t: a whole number, at least 1 unless min is set */
  SEGUE_OPTION_INTEGER,  /* int64_t */
  SEGUE_OPTION_NUMBER,   /* double */
  SEGUE_OPTION_BOOLEAN,  /* bool */
  SEGUE_OPTION_CHOICE,   /* int: the index of the text in choices */
  SEGUE_OPTION_LIST,     /* T *items; size_t count: T by the type `of` */
  SEGUE_OPTION_MAP,   /* the same: of tables that keep their key, or segue_option_pair of texts */
  SEGUE_OPTION_TABLE, /* the struct of the table, in place */
  SEGUE_OPTION_FUNCTION, /* int: a number that the language of the policy gave it; 0: not given */
  SEGUE_OPTION_ANY       /* const segue_node *: borrowed from the tree; judged by its user */
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
  const struct segue_option_table *table; /* TABLE, and LIST and MAP of it */
  const char *shorthand; /* TABLE: a value that is no table stands for a table with this option */
} segue_option;

/* For judgements that rows cannot express: called after the rows of the table are filled without an
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
  size_t kind_offset;
  const char *tag;
} segue_option_table;

/* A family stores the kind of an element in this form. */
typedef struct segue_option_kind_value {
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

#endif
