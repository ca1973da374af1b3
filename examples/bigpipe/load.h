/* SPDX-License-Identifier: MIT
 *
 * load.h: a load on the pipe and its check. Every call has a number, which determines its target,
 * its payload, and how often that target fails it. Clients count the calls that were accepted,
 * targets those that were delivered; at the end both are compared, call by call.
 */
#ifndef BIGPIPE_LOAD_H
#define BIGPIPE_LOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TARGETS = 3, PORTS = 2 * TARGETS, CALLS_MAX = 8000000, PAYLOAD_MAX = 640 };

typedef struct options {
  const char *segue, *from, *plugins, *work;
  unsigned connections, reloads, kills, stalls, every_ms, quiet_ms, timeout_ms, seed, wait_s;
  uint64_t max_calls;
  const char *fsync;
  bool little; /* changes that do not change the rate */
  bool gently; /* kill -TERM: nothing is in flight then */
} options;

/* One call. */
typedef struct entry {
  atomic_uchar accepted; /* 202 */
  atomic_uchar good;     /* how often a target answered it 2xx within the time limit */
  atomic_uchar late;     /* how often it did so after the limit, or may have */
  atomic_ushort tries;
  unsigned short era; /* between which kills the first of them was */
} entry;

/* Measurements until the end of the phase. */
typedef struct phase {
  atomic_uint counts[64 * 32];
  atomic_uint_fast64_t accepted, refused, begun_us, ended_us, slowest_us;
} phase;

typedef struct ledger {
  entry *calls;
  atomic_uint next; /* the number of the next call */
  atomic_uint_fast64_t answered, odd, broken, unanswered, garbled, again, twice, late, excused;
  phase phases[2];
  atomic_int phase;
} ledger;

extern ledger books;
extern options given;

uint64_t now_us(void);
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* load_calls.c */
extern const char *const target_names[TARGETS];
unsigned call_target(unsigned n);
size_t call_payload(unsigned n, char *out); /* PAYLOAD_MAX */
bool call_is_poisoned(unsigned n);          /* its target always fails it */
typedef enum answer { ANSWER_OK, ANSWER_500, ANSWER_CLOSE, ANSWER_NEVER } answer;
answer call_answer(unsigned n, unsigned attempt);

void targets_start(uint16_t ports[PORTS]);
/* The daemon that called the targets is dead: they read its remaining data to the end first. */
void targets_next_era(void);
void targets_hurry(void); /* the load is over: who would never be answered is hung up on */
void targets_stop(void);
/* Between the two the targets read and answer nothing. */
void targets_hold(void);
void targets_release(void);

void clients_start(uint16_t port, unsigned connections);
void clients_stop(void);

void daemon_prepare(uint16_t front, const uint16_t ports[PORTS]);
void daemon_start(void);
void daemon_kill(void);
void daemon_signal(int number);
int daemon_stop(void); /* its exit code */
/* Changes one thing, and requests the reload: true: it was applied. */
bool daemon_change(unsigned step);
bool daemon_refuses(unsigned step);       /* the error for a bad file names its line */
double daemon_figure(const char *prefix); /* the sum of all series that begin so */
unsigned daemon_dead_letters(void);

#endif
