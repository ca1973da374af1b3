/* SPDX-License-Identifier: MIT
 *
 * The other sides of a rehearsal's connections (segue.connect): the author of the spec accepts or
 * refuses each, gets the bytes that the policy writes, and sends bytes at any time. Bytes of the
 * author are delivered by a timer, because the author's function runs in the middle of a write of
 * the policy. Also the DNS records of a rehearsal.
 */
#include <stdlib.h>
#include <string.h>

#include "../io/dns_records.h"
#include "rehearsal.h"

struct segue__fake_connection {
  segue__rehearsal *r;
  int id;
  segue__fake_connect options;
  segue__timer timer;
  bool open, ending;
  segue__buf pending;
  segue_error end; /* code UV_EOF: the author has closed it */
  segue__fake_connection *next;
};

static segue__fake_connection *connection_by_id(const segue__rehearsal *r, int id) {
  segue__fake_connection *c = r->connections;
  while (c && c->id != id)
    c = c->next;
  return c;
}

static void connection_free(segue__fake_connection *c) {
  segue__fake_connection **link = &c->r->connections;
  while (*link != c)
    link = &(*link)->next;
  *link = c->next;
  segue__timer_stop(c->r->loop, &c->timer);
  segue__buf_deinit(&c->pending);
  segue__free(c);
}

static void connection_on_time(segue__timer *timer);

static void connection_plan(segue__fake_connection *c, uint64_t ms) {
  if (!segue__timer_active(&c->timer))
    segue__timer_start(c->r->loop, &c->timer, ms, connection_on_time);
}

/* Each callback may hang up, which frees c: so the next step is planned before. */
static void connection_on_time(segue__timer *timer) {
  segue__fake_connection *c = timer->data;
  segue__fake_connect options = c->options;
  segue_error end = c->end;
  if (!c->open && end.code) {
    connection_free(c);
    options.on_open(options.connection, end.code, &end);
    return;
  }
  bool was_open = c->open;
  c->open = true;
  segue__buf pending = c->pending;
  if (was_open) segue__buf_init(&c->pending);
  if (c->pending.len || (was_open && pending.len && c->ending) || (!was_open && c->ending))
    connection_plan(c, 0);
  if (!was_open) {
    options.on_open(options.connection, 0, NULL);
  } else if (pending.len) {
    options.on_data(options.connection, pending.data, pending.len);
    segue__buf_deinit(&pending);
  } else if (c->ending) {
    options.on_end(options.connection, end.code, &end);
  }
}

/* ---- From the policy ------------------------------------------------------------------------- */

static int fake_connect(void *data, const segue__fake_connect *options, segue_error *err) {
  segue__rehearsal *r = data;
  segue__fake_connection *c = segue__calloc(1, sizeof *c);
  if (!c) return segue__errorf(err, UV_ENOMEM, "out of memory");
  c->r = r;
  c->id = ++r->connection_count;
  c->options = *options;
  c->timer.data = c;
  c->next = r->connections;
  r->connections = c;
  segue__question q = {
      .what = SEGUE__ASKED_CONNECT, .name = options->address, .id = c->id, .tls = options->tls};
  r->options.ask(r->options.data, &q);
  uint64_t ms = q.delay_ms;
  if (q.message) {
    segue__errorf(&c->end, q.code, "%s", q.message);
  } else if (ms > options->connect_ms) {
    ms = options->connect_ms;
    segue__errorf(&c->end, SEGUE_ETIMEOUT, "no connection to %s within %llu ms", options->address,
                  (unsigned long long)ms);
  }
  segue__question_deinit(&q);
  if (!segue__timer_start(r->loop, &c->timer, ms, connection_on_time)) return 0;
  connection_free(c);
  return segue__errorf(err, UV_ENOMEM, "out of memory");
}

static segue__fake_connection *connection_of(const segue__rehearsal *r, const void *connection) {
  segue__fake_connection *c = r->connections;
  while (c && c->options.connection != connection)
    c = c->next;
  return c;
}

static int fake_send(void *data, void *connection, const char *bytes, size_t len,
                     segue_error *err) {
  segue__rehearsal *r = data;
  const segue__fake_connection *c = connection_of(r, connection);
  segue__question q = {
      .what = SEGUE__ASKED_RECEIVE, .id = c ? c->id : 0, .bytes = bytes, .bytes_len = len};
  r->options.ask(r->options.data, &q);
  int rc = q.message ? segue__errorf(err, q.code, "%s", q.message) : 0;
  segue__question_deinit(&q);
  return rc;
}

static void fake_hang_up(void *data, void *connection) {
  segue__rehearsal *r = data;
  segue__fake_connection *c = connection_of(r, connection);
  if (!c) return;
  segue__question q = {.what = SEGUE__ASKED_HANG_UP, .id = c->id};
  connection_free(c);
  r->options.ask(r->options.data, &q);
  segue__question_deinit(&q);
}

static int fake_records(void *data, const char *name, const char *type,
                        struct segue__dns_records *out, segue_error *err) {
  segue__rehearsal *r = data;
  segue__question q = {.what = SEGUE__ASKED_RESOLVE, .name = name, .verb = type, .records = out};
  r->options.ask(r->options.data, &q);
  int rc = q.message ? segue__errorf(err, q.code, "%s", q.message) : 0;
  segue__question_deinit(&q);
  return rc;
}

/* ---- From the author ------------------------------------------------------------------------- */

bool segue__fakes_send(segue__rehearsal *r, int id, const char *bytes, size_t len) {
  segue__fake_connection *c = connection_by_id(r, id);
  if (!c || c->ending) return false;
  segue__buf_add(&c->pending, bytes, len);
  if (c->open) connection_plan(c, 0);
  return !c->pending.failed;
}

bool segue__fakes_end_connection(segue__rehearsal *r, int id, int code, const char *message) {
  segue__fake_connection *c = connection_by_id(r, id);
  if (!c || c->ending) return false;
  c->ending = true;
  if (message)
    segue__errorf(&c->end, code, "%s", message);
  else
    segue__errorf(&c->end, UV_EOF, "%s has closed the connection", c->options.address);
  if (c->open) connection_plan(c, 0);
  return true;
}

void segue__fakes_open_connections(segue__rehearsal *r) {
  r->fake_io.connect = fake_connect;
  r->fake_io.send = fake_send;
  r->fake_io.hang_up = fake_hang_up;
  r->fake_io.records = fake_records;
}
