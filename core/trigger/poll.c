/* SPDX-License-Identifier: MIT
 *
 * The poll timer. The next round is armed before the callback, so that a slow callback does not
 * stretch the interval and a callback that stops the poll has the last word.
 */
#include "poll.h"

#include <sys/random.h>
#include <uv.h>

/* The xorshift64* generator. The numbers only have to spread the daemons of a fleet over time, so
 * it does not matter that they can be foreseen; a test that passes a seed gets the same delays
 * again. */
static uint64_t poll_draw(segue__poll *poll) {
  uint64_t x = poll->random;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  poll->random = x;
  return x * 0x2545f4914f6cdd1du;
}

static uint64_t next_delay(segue__poll *poll) {
  uint64_t spread = poll->interval_ms / 100 * SEGUE__POLL_JITTER_PERCENT +
                    poll->interval_ms % 100 * SEGUE__POLL_JITTER_PERCENT / 100;
  if (!spread) return poll->interval_ms;
  return poll->interval_ms - spread + poll_draw(poll) % (2 * spread + 1);
}

static void poll_on_timer(segue__timer *timer) {
  segue__poll *poll = timer->data;
  segue__timer_start(poll->loop, timer, next_delay(poll), poll_on_timer);
  poll->cb(poll->data);
}

int segue__poll_start(segue__poll *poll, segue__loop *loop, uint64_t interval_ms, uint64_t seed,
                      void (*cb)(void *data), void *data) {
  if (!seed && getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) seed = uv_hrtime();
  poll->loop = loop;
  poll->interval_ms = interval_ms ? interval_ms : 1;
  poll->random = seed ? seed : 1;
  poll->cb = cb;
  poll->data = data;
  poll->timer.data = poll;
  return segue__timer_start(loop, &poll->timer, next_delay(poll), poll_on_timer);
}

void segue__poll_stop(segue__poll *poll) {
  if (poll->loop) segue__timer_stop(poll->loop, &poll->timer);
}
