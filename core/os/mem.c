/* SPDX-License-Identifier: MIT
 *
 * Allocation: the C library's, with a switch in test builds that makes the n-th call fail; the
 * arena behind trees; the buffer behind everything that is written out.
 */
#include "mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#ifdef SEGUE_TEST
#include <unistd.h>

#include "fault.h"

enum { LONGEST_BURST = 8 };

static size_t live;
static size_t calls;
static size_t burst_from, burst_to; /* calls with these numbers fail; 0 = none */
static uint64_t chance;             /* seed << 32 | one_in; 0 = none */
static size_t trims;
static int trim_thread;

/* A number that depends on the seed and the call only (splitmix64): the same seed makes the same
 * calls fail, whichever thread makes them. */
static uint64_t mem_drawn(uint64_t seed, size_t call) {
  uint64_t z = seed * UINT64_C(0xD1342543DE82EF95) + call * UINT64_C(0x9E3779B97F4A7C15);
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

/* Returns true if the call belongs to a burst that began at this call or shortly before it. */
static int by_chance(uint64_t seed, uint64_t one_in, size_t call) {
  for (size_t back = 0; back < LONGEST_BURST; back++) {
    uint64_t number = mem_drawn(seed, call - back);
    if (number % one_in == 0 && number / one_in % LONGEST_BURST >= back) return 1;
  }
  return 0;
}

static int mem_fails(void) {
  size_t call = __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
  size_t from = __atomic_load_n(&burst_from, __ATOMIC_RELAXED);
  uint64_t odds = __atomic_load_n(&chance, __ATOMIC_RELAXED);
  int hit = from && call >= from && call < __atomic_load_n(&burst_to, __ATOMIC_RELAXED);
  if (!hit && odds) hit = by_chance(odds >> 32, odds & UINT32_MAX, call);
  if (hit) segue__fault_memory();
  return hit;
}

void segue__mem_fail_at(size_t n) {
  segue__mem_fail_burst(n, 1);
}

void segue__mem_fail_burst(size_t n, size_t length) {
  size_t now = __atomic_load_n(&calls, __ATOMIC_RELAXED);
  __atomic_store_n(&chance, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&burst_from, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&burst_to, now + n + length, __ATOMIC_RELAXED);
  if (n) __atomic_store_n(&burst_from, now + n, __ATOMIC_RELAXED);
}

void segue__mem_fail_random(uint32_t seed, uint32_t one_in) {
  segue__mem_fail_burst(0, 0);
  __atomic_store_n(&chance, (uint64_t)seed << 32 | one_in, __ATOMIC_RELAXED);
}

size_t segue__mem_live(void) {
  return __atomic_load_n(&live, __ATOMIC_RELAXED);
}

size_t segue__mem_calls(void) {
  return __atomic_load_n(&calls, __ATOMIC_RELAXED);
}

size_t segue__mem_trims(int *thread) {
  size_t n = __atomic_load_n(&trims, __ATOMIC_ACQUIRE);
  *thread = __atomic_load_n(&trim_thread, __ATOMIC_RELAXED);
  return n;
}

#define FAILS() mem_fails()
#define COUNT(p, delta) ((p) ? (void)__atomic_add_fetch(&live, (delta), __ATOMIC_RELAXED) : (void)0)
#else
#define FAILS() 0
#define COUNT(p, delta) ((void)0)
#endif

enum { FIRST_BLOCK = 4096, LARGEST_BLOCK = 262144 }; /* a large one's pages go back at once */

void *segue__malloc(size_t size) {
  void *p = FAILS() ? NULL : malloc(size ? size : 1);
  COUNT(p, 1);
  return p;
}

void *segue__calloc(size_t count, size_t size) {
  void *p = FAILS() ? NULL : calloc(count ? count : 1, size ? size : 1);
  COUNT(p, 1);
  return p;
}

void *segue__realloc(void *p, size_t size) {
  void *q = FAILS() ? NULL : realloc(p, size ? size : 1);
  if (!p) COUNT(q, 1);
  return q;
}

/* Gives the pages of a large block back before the block is freed. glibc keeps the free end of a
 * thread's heap up to twice the size of the largest block that was ever mapped, and malloc_trim
 * trims that end for the main thread only: after a worker has read a file of 10 MB, 10 MB would
 * stay resident. The first and the last page are kept, because the allocator may use a part of
 * them. */
static void mem_release_pages(void *p) {
#ifdef __GLIBC__
  const uintptr_t page = 65536; /* a multiple of every page size */
  size_t size = p ? malloc_usable_size(p) : 0;
  if (size < LARGEST_BLOCK) return;
  int saved = errno;
  uintptr_t from = ((uintptr_t)p + page - 1) / page * page;
  uintptr_t to = ((uintptr_t)p + size - sizeof(size_t)) / page * page;
  madvise((void *)from, to - from, MADV_DONTNEED);
  errno = saved;
#else
  (void)p;
#endif
}

void segue__free(void *p) {
  COUNT(p, -1);
  mem_release_pages(p);
  free(p);
}

char *segue__strdup(const char *s) {
  return s ? segue__strndup(s, strlen(s)) : NULL;
}

char *segue__strndup(const char *s, size_t len) {
  char *copy = segue__malloc(len + 1);
  if (!copy) return NULL;
  memcpy(copy, s, len);
  copy[len] = 0;
  return copy;
}

struct segue__arena_block {
  struct segue__arena_block *next;
  size_t size;
};

/* The blocks of an arena double from 4 KiB to 256 KiB, so that a small file costs little memory and
 * a large one few calls. Blocks of the largest size and above have pages of their own: when a tree
 * of 10 MB of YAML is replaced, its memory returns to the system at once. The C library would keep
 * it: after the first large block is freed, glibc takes blocks of that size from its heap, where
 * one small block behind them keeps them all. */
static void *pages_new(size_t size) {
  if (FAILS()) return NULL;
  void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return NULL;
#ifdef __SANITIZE_ADDRESS__
  __lsan_register_root_region(p, size); /* memory that only a tree points to is no leak */
#endif
  COUNT(p, 1);
  return p;
}

static void pages_free(void *p, size_t size) {
#ifdef __SANITIZE_ADDRESS__
  __lsan_unregister_root_region(p, size);
#endif
  COUNT(p, -1);
  munmap(p, size);
}

static size_t freed; /* atomic: bytes counted since the last trim */

enum { TRIM_BYTES = 1 << 20 };

void segue__mem_note_freed(size_t bytes) {
  __atomic_add_fetch(&freed, bytes, __ATOMIC_RELAXED);
}

/* glibc returns only free memory at the top of its heap by itself. malloc_trim(3) returns pages in
 * the middle too, which a large document leaves behind. It walks the whole heap, so it is called
 * only after TRIM_BYTES were freed. */
void segue__mem_trim(void) {
  if (__atomic_load_n(&freed, __ATOMIC_RELAXED) < TRIM_BYTES) return;
  __atomic_store_n(&freed, (size_t)0, __ATOMIC_RELAXED);
#ifdef SEGUE_TEST
  __atomic_store_n(&trim_thread, gettid(), __ATOMIC_RELAXED);
  __atomic_add_fetch(&trims, 1, __ATOMIC_RELEASE);
#endif
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

void segue__arena_init(segue__arena *a) {
  memset(a, 0, sizeof *a);
}

void segue__arena_deinit(segue__arena *a) {
  for (struct segue__arena_block *block = a->head; block;) {
    struct segue__arena_block *next = block->next;
    if (block->size >= LARGEST_BLOCK)
      pages_free(block, block->size);
    else
      segue__free(block);
    block = next;
  }
  memset(a, 0, sizeof *a);
}

static int mem_grow(segue__arena *a, size_t size) {
  size_t block_size = a->head ? a->head->size * 2 : FIRST_BLOCK;
  if (block_size > LARGEST_BLOCK) block_size = LARGEST_BLOCK;
  if (block_size < size + sizeof(struct segue__arena_block))
    block_size = size + sizeof(struct segue__arena_block);
  struct segue__arena_block *block =
      block_size >= LARGEST_BLOCK ? pages_new(block_size) : segue__malloc(block_size);
  if (!block) return 0;
  block->next = a->head;
  block->size = block_size;
  a->head = block;
  a->next = (char *)(block + 1);
  a->end = (char *)block + block_size;
  return 1;
}

void *segue__arena_alloc(segue__arena *a, size_t size) {
  if (size > SIZE_MAX / 2) return NULL;
  size = (size + 7) & ~(size_t)7;
  if ((size_t)(a->end - a->next) < size && !mem_grow(a, size)) return NULL;
  void *p = a->next;
  a->next += size;
  a->used += size;
  return p;
}

char *segue__arena_strndup(segue__arena *a, const char *s, size_t len) {
  char *copy = segue__arena_alloc(a, len + 1);
  if (!copy) return NULL;
  if (len) memcpy(copy, s, len);
  copy[len] = 0;
  return copy;
}

void segue__buf_init(segue__buf *b) {
  memset(b, 0, sizeof *b);
}

void segue__buf_deinit(segue__buf *b) {
  segue__free(b->data);
  memset(b, 0, sizeof *b);
}

static int mem_reserve(segue__buf *b, size_t more) {
  if (b->failed) return 0;
  if (b->cap - b->len > more) return 1;
  size_t cap = b->cap ? b->cap * 2 : 256;
  while (cap - b->len <= more)
    cap *= 2;
  char *data = segue__realloc(b->data, cap);
  if (!data) {
    b->failed = 1;
    return 0;
  }
  b->data = data;
  b->cap = cap;
  return 1;
}

void segue__buf_add(segue__buf *b, const void *data, size_t len) {
  if (!mem_reserve(b, len)) return;
  if (len) memcpy(b->data + b->len, data, len);
  b->len += len;
  b->data[b->len] = 0;
}

void segue__buf_adds(segue__buf *b, const char *s) {
  segue__buf_add(b, s, strlen(s));
}

void segue__buf_addc(segue__buf *b, char c) {
  segue__buf_add(b, &c, 1);
}

void segue__buf_addu(segue__buf *b, uint64_t n) {
  char digits[20];
  size_t at = sizeof digits;
  do
    digits[--at] = (char)('0' + n % 10);
  while (n /= 10);
  segue__buf_add(b, digits + at, sizeof digits - at);
}

void segue__buf_addf(segue__buf *b, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  char small[256];
  int n = vsnprintf(small, sizeof small, format, args);
  if (n >= 0 && (size_t)n < sizeof small) {
    segue__buf_add(b, small, (size_t)n);
  } else if (n >= 0 && mem_reserve(b, (size_t)n)) {
    vsnprintf(b->data + b->len, (size_t)n + 1, format, again);
    b->len += (size_t)n;
  }
  va_end(again);
  va_end(args);
}
