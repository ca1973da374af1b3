/* SPDX-License-Identifier: MIT
 *
 * Puts the pipe under load while it is reloaded (and killed, if requested), then compares every
 * call that was accepted with every one that was delivered. Exit code 0: nothing was lost, nothing
 * delivered twice but by the retry rules, every reload applied.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

ledger books;
options given = {.from = ".",
                 .connections = 64,
                 .reloads = 200,
                 .every_ms = 20,
                 .quiet_ms = 3000,
                 .timeout_ms = 2000,
                 .seed = 1,
                 .wait_s = 60,
                 .max_calls = 20000,
                 .fsync = "always"};

typedef struct verdict {
  unsigned accepted, delivered, lost, poisoned, buried, stray;
  unsigned applied, mistakes, refused;
} verdict;

uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void die(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  exit(1);
}

/* ---- Options ---- */

static const struct option long_options[] = {
    {"segue", 1, NULL, 's'},       {"from", 1, NULL, 'f'},    {"plugins", 1, NULL, 'p'},
    {"work", 1, NULL, 'w'},        {"seed", 1, NULL, 'x'},    {"connections", 1, NULL, 'c'},
    {"reloads", 1, NULL, 'r'},     {"kills", 1, NULL, 'k'},   {"every", 1, NULL, 'e'},
    {"undisturbed", 1, NULL, 'u'}, {"wait", 1, NULL, 't'},    {"max-calls", 1, NULL, 'm'},
    {"fsync", 1, NULL, 'y'},       {"little", 0, NULL, 'l'},  {"gently", 0, NULL, 'g'},
    {"stalls", 1, NULL, 'a'},      {"timeout", 1, NULL, 'o'}, {NULL, 0, NULL, 0}};

static void set(int name, const char *value) {
  unsigned number = (unsigned)strtoul(value ? value : "", NULL, 10);
  switch (name) {
  case 's':
    given.segue = value;
    break;
  case 'f':
    given.from = value;
    break;
  case 'p':
    given.plugins = value;
    break;
  case 'w':
    given.work = value;
    break;
  case 'x':
    given.seed = number;
    break;
  case 'c':
    given.connections = number;
    break;
  case 'r':
    given.reloads = number;
    break;
  case 'k':
    given.kills = number;
    break;
  case 'a':
    given.stalls = number;
    break;
  case 'o':
    given.timeout_ms = number;
    break;
  case 'e':
    given.every_ms = number;
    break;
  case 'u':
    given.quiet_ms = number;
    break;
  case 't':
    given.wait_s = number;
    break;
  case 'm':
    given.max_calls = number;
    break;
  case 'g':
    given.gently = true;
    break;
  case 'l':
    given.little = true;
    break;
  case 'y':
    given.fsync = value;
    break;
  default:
    die("usage: load --segue PROGRAM --plugins FOLDER --work FOLDER [--from FOLDER]\n"
        "  [--reloads 200] [--kills 0] [--stalls 0] [--timeout 2000] [--every 20] [--undisturbed "
        "3000] [--connections 64]\n"
        "  [--seed 1] [--max-calls 20000] [--fsync always] [--wait 60] [--little] [--gently]");
  }
}

static void read_options(int argc, char **argv) {
  for (int name; (name = getopt_long(argc, argv, "", long_options, NULL)) != -1;)
    set(name, optarg);
  if (!given.segue || !given.plugins || !given.work || optind < argc) set(0, NULL);
  given.segue = realpath(given.segue, NULL); /* the daemon starts in a folder of its own */
  if (!given.segue) die("--segue names no program");
}

/* ---- The run ---- */

static uint16_t free_port(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&at, size) ||
      getsockname(fd, (struct sockaddr *)&at, &size))
    die("no free port");
  close(fd);
  return ntohs(at.sin_port);
}

static void begin_phase(int number) {
  books.phases[number].begun_us = now_us();
  if (number) books.phases[number - 1].ended_us = now_us();
  atomic_store(&books.phase, number);
}

static void kill_and_start(void) {
  daemon_kill();
  targets_next_era();
  daemon_start();
}

/* Stops the targets or the daemon for longer than a delivery may take, as happens to a thread that
 * gets no processor or waits for a disk. The daemon is stopped while requests are in flight, and
 * all of them are answered before it continues. */
static void stall(unsigned turn) {
  unsigned limit_us = given.timeout_ms * 1000;
  targets_hold();
  if (turn % 2) {
    usleep(limit_us + limit_us / 4);
    targets_release();
    return;
  }
  usleep(limit_us / 16);
  daemon_signal(SIGSTOP);
  targets_release();
  usleep(limit_us + limit_us / 4);
  daemon_signal(SIGCONT);
}

/* Is the next of so many events, evenly spread over the reloads, due after this step? */
static bool is_due(unsigned done, unsigned all, unsigned step) {
  return done < all && (step + 1) * (all + 1) >= (done + 1) * given.reloads;
}

static void reload_all(verdict *v) {
  unsigned killed = 0, stalled = 0;
  for (unsigned step = 0; step < given.reloads; step++) {
    uint64_t next = now_us() + (uint64_t)given.every_ms * 1000;
    if (step % 10 == 5) {
      v->mistakes++;
      v->refused += daemon_refuses(step);
    }
    v->applied += daemon_change(step);
    if (is_due(stalled, given.stalls, step)) stall(stalled++);
    if (is_due(killed, given.kills, step)) {
      killed++;
      kill_and_start();
    }
    while (now_us() < next)
      usleep(500);
  }
}

static bool is_delivered(const entry *e) {
  return atomic_load(&e->good) || atomic_load(&e->late);
}

static bool all_delivered(void) {
  unsigned calls = atomic_load(&books.next);
  for (unsigned n = 0; n < calls; n++)
    if (atomic_load(&books.calls[n].accepted) && !is_delivered(&books.calls[n]) &&
        !call_is_poisoned(n))
      return false;
  return true;
}

/* Waits until the queue is empty: a call that is not delivered by then is lost. The metric may be a
 * moment old, so it is read again if a call is missing. */
static void settle(void) {
  uint64_t until = now_us() + (uint64_t)given.wait_s * 1000000;
  for (unsigned empty = 0; empty < 20 && now_us() < until;) {
    empty = daemon_figure("bigpipe_queue_calls") > 0 ? 0 : empty + 1;
    if (empty && all_delivered()) return;
    usleep(50000);
  }
  double left = daemon_figure("bigpipe_queue_calls");
  if (left > 0) die("%.0f calls still wait: make it shorter, or --wait longer", left);
}

static void compare(verdict *v) {
  unsigned calls = atomic_load(&books.next);
  for (unsigned n = 0; n < calls; n++) {
    const entry *e = &books.calls[n];
    if (!e->accepted) {
      v->stray += is_delivered(e);
    } else if (call_is_poisoned(n)) {
      v->poisoned++;
    } else {
      v->accepted++;
      v->delivered += is_delivered(e);
      v->lost += !is_delivered(e);
    }
  }
}

/* ---- Reporting ---- */

static double quantile_ms(const phase *p, double q) {
  uint64_t wanted = (uint64_t)(q * (double)p->accepted), sum = 0;
  for (unsigned b = 0; b < 64 * 32; b++) {
    sum += p->counts[b];
    unsigned shift = b < 64 ? 0 : b / 32 - 1;
    if (sum > wanted) return (double)((uint64_t)(b - 32 * shift) << shift) / 1000;
  }
  return 0;
}

static void tell_phase(const char *name, const phase *p) {
  double seconds = (double)(p->ended_us - p->begun_us) / 1e6;
  printf("%-13s %7.0f calls/s accepted, 202 after p50 %.2f ms, p99 %.2f ms, at most %.1f ms, "
         "%" PRIu64 " refused, %.1f s\n",
         name, (double)p->accepted / seconds, quantile_ms(p, 0.5), quantile_ms(p, 0.99),
         (double)p->slowest_us / 1000, (uint64_t)p->refused, seconds);
}

/* One double for each call that was in flight when it was killed: the old dispatchers too. */
static bool doubles_are_excused(void) {
  return books.excused <= (given.gently ? 0 : (uint64_t)given.kills * 3 * 112);
}

static int tell(const verdict *v, bool agree, int code) {
  uint64_t refused = books.phases[0].refused + books.phases[1].refused;
  tell_phase("undisturbed", &books.phases[0]);
  tell_phase("with reloads", &books.phases[1]);
  printf("delivered again after failures: %" PRIu64 "; dead letters %u of %u that their targets "
         "never take\n",
         (uint64_t)books.again, v->buried, v->poisoned);
  printf("mistakes refused with their line: %u of %u; connections broken: %" PRIu64
         "; odd answers: %" PRIu64 "; garbled: %" PRIu64 "; metrics %s; exit code %d\n",
         v->refused, v->mistakes, (uint64_t)books.broken, (uint64_t)books.odd,
         (uint64_t)books.garbled, agree ? "agree" : "DISAGREE", code);
  if (given.stalls || books.late)
    printf("stalled %u times; %" PRIu64 " answers came after the time limit of %u ms\n",
           given.stalls, (uint64_t)books.late, given.timeout_ms);
  if (given.kills)
    printf("killed %u times: %" PRIu64 " calls got no answer, of which %u were delivered; %" PRIu64
           " delivered twice because they were in flight\n",
           given.kills, (uint64_t)books.unanswered, v->stray, (uint64_t)books.excused);
  printf("accepted %u, delivered %u, lost %u, doubled beyond retries %" PRIu64 ", refused %" PRIu64
         " (503), reloads %u applied\n",
         v->accepted, v->delivered, v->lost, (uint64_t)books.twice, refused, v->applied);
  bool good = !v->lost && !books.twice && v->applied == given.reloads &&
              v->refused == v->mistakes && !books.odd && !books.garbled && agree && !code &&
              doubles_are_excused() && !(given.gently && books.unanswered) && v->accepted &&
              (given.kills || !books.broken) &&
              (given.kills ? v->buried >= v->poisoned : v->buried == v->poisoned);
  return good ? 0 : 1;
}

/* The metrics start at zero in a new process, so they are not compared after a kill. */
static bool figures_agree(const verdict *v) {
  if (given.kills) return true;
  double accepted = daemon_figure("bigpipe_accepted_total");
  double delivered = daemon_figure("bigpipe_delivered_total");
  double dead = daemon_figure("bigpipe_dead_total");
  bool agree =
      accepted == v->accepted + v->poisoned && delivered == v->delivered && dead == v->poisoned;
  if (!agree)
    printf("metrics: accepted %.0f, delivered %.0f, dead %.0f\n", accepted, delivered, dead);
  return agree;
}

int main(int argc, char **argv) {
  uint16_t ports[PORTS], front = free_port();
  verdict v = {0};
  read_options(argc, argv);
  setvbuf(stdout, NULL, _IOLBF, 0);
  books.calls = mmap(NULL, sizeof(entry) * CALLS_MAX, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (books.calls == MAP_FAILED) die("out of memory");
  targets_start(ports);
  daemon_prepare(front, ports);
  daemon_start();
  clients_start(front, given.connections);
  begin_phase(0);
  usleep(given.quiet_ms * 1000);
  begin_phase(1);
  reload_all(&v);
  books.phases[1].ended_us = now_us();
  clients_stop();
  targets_hurry();
  settle();
  compare(&v);
  bool agree = figures_agree(&v);
  int code = daemon_stop();
  targets_stop();
  v.buried = daemon_dead_letters();
  return tell(&v, agree, code);
}
