/* SPDX-License-Identifier: MIT
 *
 * `segue record`: follows a daemon and records what its reloads read and their outcomes, one JSON
 * value in a line, until it is interrupted, its time is over, or the daemon ends. The recording
 * contains whole files with their secrets, so only its owner may read it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "../admin/admin.h"
#include "../os/units.h"
#include "../record/recorded_answers.h"
#include "remote.h"

/* For the signal handler. While `asking` is set every written line is whole, and the wait for the
 * next one may take long: the handler ends the process at once. Otherwise the main loop ends soon.
 */
static volatile sig_atomic_t interrupted, asking;
static char farewell[64];

static void record_on_signal(int signum) {
  (void)signum;
  interrupted = 1;
  if (!asking) return;
  ssize_t ignored = write(2, farewell, strlen(farewell));
  (void)ignored;
  _exit(SEGUE__EXIT_OK);
}

static void prepare_farewell(uint64_t entries) {
  snprintf(farewell, sizeof farewell, "segue: %" PRIu64 " reload%s recorded\n", entries,
           entries == 1 ? "" : "s");
}

typedef struct recorder {
  const segue__cli *cli;
  const char *path;
  FILE *out;
  uint64_t entries, end_ms; /* end_ms 0: no end */
} recorder;

static uint64_t record_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int open_out(recorder *r) {
  if (strcmp(r->path, "-") == 0) {
    r->out = stdout;
    return SEGUE__EXIT_OK;
  }
  int fd = open(r->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  r->out = fd < 0 ? NULL : fdopen(fd, "w");
  if (r->out) return SEGUE__EXIT_OK;
  if (errno == EEXIST)
    return segue__cli_fail(SEGUE__EXIT_USAGE, "%s exists already: FILE must be a new one", r->path);
  return segue__cli_fail(SEGUE__EXIT_FAILED, "cannot write %s: %s", r->path, strerror(errno));
}

static int record_write_line(recorder *r, const segue__http_answer *answer) {
  if (fwrite(answer->body, 1, answer->len, r->out) == answer->len && fflush(r->out) == 0)
    return SEGUE__EXIT_OK;
  return segue__cli_fail(SEGUE__EXIT_FAILED, "cannot write %s: %s", r->path, strerror(errno));
}

/* Searches for the member in the bytes of the answer: inside a JSON string its quotes would be
 * escaped, so it is found only as a member. */
static void report_left_out(const segue__http_answer *answer) {
  static const char member[] = "\"answers_left_out\":";
  const char *found = memmem(answer->body, answer->len, member, sizeof member - 1);
  if (!found) return;
  fprintf(stderr,
          "segue: answers left out of the recording, because it keeps only %d MiB of them for each "
          "reload: %llu\n",
          (int)(SEGUE__ANSWERS_BYTES >> 20), strtoull(found + sizeof member - 1, NULL, 10));
}

/* Returns the number of the received entry. */
static uint64_t entry_of(const segue__http_answer *answer) {
  char number[32] = "0";
  segue__http_answer_header(answer, "Segue-Entry", number, sizeof number);
  return strtoull(number, NULL, 10);
}

static bool record_is_over(const recorder *r) {
  return interrupted || (r->end_ms && record_now_ms() >= r->end_ms);
}

/* Requests entry after entry. An interrupt and the end of the time are normal ends. */
static int record_follow(recorder *r, uint64_t entry) {
  int code = SEGUE__EXIT_OK;
  while (code == SEGUE__EXIT_OK && !record_is_over(r)) {
    segue_error err;
    segue__http_answer answer = {0};
    char path[64];
    uint64_t left = r->end_ms ? r->end_ms - record_now_ms() : 0;
    snprintf(path, sizeof path, "/api/v1/recording?after=%" PRIu64, entry);
    prepare_farewell(r->entries);
    asking = 1;
    int rc = interrupted ? UV_EINTR : segue__cli_call(r->cli, "POST", path, left, &answer, &err);
    asking = 0;
    bool gone = rc < 0 || answer.status == 503;
    if (gone && !record_is_over(r))
      fputs("segue: the daemon ended, and so did the recording\n", stderr);
    if (gone) {
      segue__http_answer_deinit(&answer);
      break;
    }
    if (answer.status == 200) {
      code = record_write_line(r, &answer);
      report_left_out(&answer);
      entry = entry_of(&answer);
      r->entries++;
    } else if (answer.status != 204) {
      code = segue__cli_refused(&answer);
    }
    segue__http_answer_deinit(&answer);
  }
  return code;
}

static int record(recorder *r) {
  segue_error err;
  segue__http_answer answer = {0};
  int rc = segue__cli_call(r->cli, "POST", "/api/v1/recording", 0, &answer, &err);
  if (rc < 0) return segue__cli_fail(SEGUE__EXIT_UNREACHABLE, "%s", err.message);
  int code = answer.status == 200 ? open_out(r) : segue__cli_refused(&answer);
  if (code == SEGUE__EXIT_OK) code = record_write_line(r, &answer);
  uint64_t entry = entry_of(&answer);
  segue__http_answer_deinit(&answer);
  if (code != SEGUE__EXIT_OK) return code;
  fprintf(stderr, "segue: recording into %s %s%s\n", r->out == stdout ? "standard output" : r->path,
          r->cli->duration ? "for " : "until it is interrupted",
          r->cli->duration ? r->cli->duration : "");
  code = record_follow(r, entry);
  prepare_farewell(r->entries);
  fputs(farewell, stderr);
  return code;
}

int segue__cli_record(const segue__cli *cli) {
  recorder r = {.cli = cli, .path = cli->arg_count ? cli->args[0] : "-"};
  uint64_t ms = 0;
  if (cli->duration && (!segue__duration_of(cli->duration, &ms) || !ms))
    return segue__cli_fail(SEGUE__EXIT_USAGE, "--for TIME must be a time such as 10m, not \"%s\"",
                           cli->duration);
  struct sigaction action = {.sa_handler = record_on_signal};
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  if (ms) r.end_ms = record_now_ms() + ms;
  int code = record(&r);
  if (r.out && r.out != stdout && fclose(r.out) != 0 && code == SEGUE__EXIT_OK)
    code = segue__cli_fail(SEGUE__EXIT_FAILED, "cannot write %s: %s", r.path, strerror(errno));
  return code;
}
