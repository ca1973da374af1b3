/* SPDX-License-Identifier: MIT
 *
 * mem.h: every allocation of the core goes through here, so that test builds can make the n-th one
 * fail (SEGUE_TEST) and so that out of memory is an error code everywhere. [any thread]
 */
#ifndef SEGUE_OS_MEM_H
#define SEGUE_OS_MEM_H

#include <stddef.h>
#include <stdint.h>

void *segue__malloc(size_t size);
void *segue__calloc(size_t count, size_t size);
void *segue__realloc(void *p, size_t size);
char *segue__strdup(const char *s);              /* NULL -> NULL */
char *segue__strndup(const char *s, size_t len); /* always terminated */
void segue__free(void *p);

#ifdef SEGUE_TEST
/* The n-th allocation from now (1 = the next) fails once, counted over all threads; 0 = never. Each
 * of these three functions replaces the previous setting. */
void segue__mem_fail_at(size_t n);
/* The n-th and the length - 1 after it fail. */
void segue__mem_fail_burst(size_t n, size_t length);
/* From now on one allocation in one_in begins a burst of 1 to 8 that fail; the seed decides which.
 */
void segue__mem_fail_random(uint32_t seed, uint32_t one_in);
size_t segue__mem_live(void);  /* allocations not yet freed */
size_t segue__mem_calls(void); /* how often memory was requested */
/* How often memory was returned to the system, and the thread (gettid) that did it last. */
size_t segue__mem_trims(int *thread);
#endif

/* Arena: bump allocation, freed as a whole. Not thread safe; zeroed memory is not promised. */
typedef struct segue__arena {
  struct segue__arena_block *head;
  char *next, *end;
  size_t used; /* bytes handed out plus block overhead */
} segue__arena;

/* Counts bytes for the next trim, after they were freed, because a trim on another thread may come
 * between. [any thread] */
void segue__mem_note_freed(size_t bytes);
/* Returns the freed memory that the C library keeps to the system, if 1 MiB or more was counted
 * since it last did so. Takes some milliseconds if the heap is large, and malloc waits for it on
 * other threads: for a thread of the background, once for everything that was freed together. */
void segue__mem_trim(void);

void segue__arena_init(segue__arena *a);
void segue__arena_deinit(segue__arena *a);
void *segue__arena_alloc(segue__arena *a,
                         size_t size); /* 8-byte aligned; NULL when out of memory */
char *segue__arena_strndup(segue__arena *a, const char *s, size_t len);

/* Growable byte buffer. After a failed append `failed` is set and all further appends do nothing,
 * so that a writer checks once at its end. data is terminated. */
typedef struct segue__buf {
  char *data;
  size_t len, cap;
  int failed;
} segue__buf;

void segue__buf_init(segue__buf *b);
void segue__buf_deinit(segue__buf *b);
void segue__buf_add(segue__buf *b, const void *data, size_t len);
void segue__buf_adds(segue__buf *b, const char *s);
void segue__buf_addc(segue__buf *b, char c);
void segue__buf_addu(segue__buf *b, uint64_t n); /* in decimal: much cheaper than addf */
void segue__buf_addf(segue__buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
