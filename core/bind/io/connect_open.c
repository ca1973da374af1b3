/* SPDX-License-Identifier: MIT
 *
 * Opening a connection of segue.connect: up to three steps under one time limit. A thread looks the
 * host up, a worker thread reads the files of TLS and makes a context (so that certificates which
 * were replaced count for the next connection, and a file system that hangs delays nothing else),
 * and core/http/outbound.c connects.
 */
#include <string.h>
#include <sys/resource.h>

#include "connect_internal.h"

enum { CONNECTIONS_MAX = 256, TLS_FILE_BYTES = 4 << 20 };

typedef segue__connection connection;
typedef segue__connect_io operation;

/* ---- Opening --------------------------------------------------------------------------------- */

/* A look-up that has returned belongs to the operation, else to its thread. */
static void open_drop_look_up(operation *o) {
  if (o->found_host)
    segue__look_up_free(o->look);
  else
    segue__look_up_abandon(o->look);
  o->look = NULL;
}

static void open_finish(operation *o) {
  segue__timer_stop(o->io.async_io->loop, &o->limit);
  open_drop_look_up(o);
  if (o->io.error.code) {
    segue__connection_shut(o->c);
    o->c->end = o->io.error;
  }
  if (!o->working) {
    segue__io_finish(&o->io);
    return;
  }
  segue__job_abandon(o->io.async_io->loop, &o->job);
  o->io.stopped = o->io.over = true; /* it is alive until the job returns */
  segue__io_ready(&o->io);
}

/* `c->reader` is the operation that opens, until the connection is open: there is no other. */
static void on_open(void *data, int status, const segue_error *err) {
  connection *c = data;
  operation *o = c->reader;
  c->reader = NULL;
  if (!status) c->usable = true;
  if (!o) return;
  if (status) o->io.error = *err;
  open_finish(o);
}

static void open_socket(operation *o) {
  connection *c = o->c;
  struct sockaddr_storage addresses[SEGUE__ADDRESSES_MAX];
  uint64_t now = segue__loop_now_ms(o->io.async_io->loop);
  segue__outbound_options options = {.size = sizeof options,
                                     .shown = c->address,
                                     .path = *c->parsed.path ? c->parsed.path : NULL,
                                     .addresses = addresses,
                                     .tls = o->context,
                                     .name = c->server_name ? c->server_name : c->parsed.host,
                                     .connect_ms =
                                         o->limit.due_ms > now ? o->limit.due_ms - now : 1,
                                     .on_open = on_open,
                                     .on_data = segue__connection_on_data,
                                     .on_sent = segue__connection_on_sent,
                                     .on_end = segue__connection_on_end,
                                     .data = c};
  if (o->look) {
    for (size_t i = 0; i < o->look->count; i++)
      options.count +=
          segue__outbound_numeric(o->look->addresses[i], &c->parsed, &addresses[options.count]);
    open_drop_look_up(o);
  } else if (!options.path) {
    options.count = segue__outbound_numeric(c->parsed.host, &c->parsed, addresses);
  }
  if (segue__outbound_open(&c->out, o->io.async_io->loop, &options, &o->io.error)) {
    open_finish(o);
    return;
  }
  segue__timer_stop(o->io.async_io->loop, &o->limit); /* the socket has the rest of the time */
  c->reader = o;
  c->refs++;
  segue__async_io_hold(c->async_io);
}

/* ---- The files of TLS ------------------------------------------------------------------------ */

static operation *of_job(segue__job *job) {
  return (operation *)((char *)job - offsetof(operation, job));
}

static int tls_read(const segue__os *os, const char *path, segue__bytes *out, segue__tls_file *file,
                    segue_error *err) {
  if (!path) return 0;
  int rc = os->read_file(os->data, path, TLS_FILE_BYTES, out, err);
  *file = (segue__tls_file){path, out->data, out->len};
  return rc;
}

/* Worker thread. */
static void tls_work(segue__job *job) {
  operation *o = of_job(job);
  const connection *c = o->c;
  const segue__os *os = segue__os_default();
  segue__bytes ca = {0}, cert = {0}, key = {0};
  segue__tls_outbound options = {.insecure = c->insecure};
  int rc = tls_read(os, c->ca, &ca, &options.ca, &o->failure);
  if (!rc) rc = tls_read(os, c->cert, &cert, &options.cert, &o->failure);
  if (!rc) rc = tls_read(os, c->key ? c->key : c->cert, &key, &options.key, &o->failure);
  if (!rc) rc = segue__tls_outbound_new(&o->context, &options, &o->failure);
  if (!rc) o->failure.code = 0;
  if (key.data) explicit_bzero(key.data, key.len);
  segue__free(ca.data);
  segue__free(cert.data);
  segue__free(key.data);
}

static void tls_worked(segue__job *job) {
  operation *o = of_job(job);
  o->working = false;
  if (o->failure.code) {
    segue__errorf(&o->io.error, o->failure.code, "no connection to %s: %s", o->c->address,
                  o->failure.message);
    open_finish(o);
  } else {
    open_socket(o);
  }
}

static void tls_abandoned(segue__job *job) {
  segue__io_end(&of_job(job)->io);
}

static void open_tls(operation *o) {
  if (!o->c->tls) {
    open_socket(o);
    return;
  }
  o->job = (segue__job){.run = tls_work, .done = tls_worked, .abandoned = tls_abandoned};
  int rc = segue__job_submit(o->io.async_io->loop, SEGUE__QUEUE_POLICY, &o->job);
  o->working = !rc;
  if (!rc) return;
  segue__errorf(&o->io.error, rc, "no connection to %s: its certificates are not read: %s",
                o->c->address, segue_strerror(rc));
  open_finish(o);
}

/* ---- The host -------------------------------------------------------------------------------- */

static void open_looked(segue__look_up *look) {
  operation *o = look->owner;
  o->found_host = true;
  if (!look->error.code) {
    open_tls(o);
    return;
  }
  segue__errorf(&o->io.error, look->error.code, "no connection to %s: %s", o->c->address,
                look->error.message);
  open_finish(o);
}

static void open_late(segue__timer *timer) {
  operation *o = timer->data;
  segue__errorf(&o->io.error, SEGUE_ETIMEOUT, "no connection to %s within %llu ms: %s",
                o->c->address, (unsigned long long)o->c->connect_ms,
                o->working ? "its certificates are not read yet" : "its host is not found yet");
  open_finish(o);
}

/* Leaves descriptors to the rest of the process: without a limit, the files of a reload could not
 * be opened. */
static bool open_has_room(const segue__async_io *async_io) {
  struct rlimit files = {.rlim_cur = 1024};
  getrlimit(RLIMIT_NOFILE, &files);
  return async_io->connections < CONNECTIONS_MAX && async_io->connections < files.rlim_cur / 4;
}

static int open_begin(operation *o) {
  connection *c = o->c;
  segue__async_io *async_io = o->io.async_io;
  struct sockaddr_storage address;
  if (!open_has_room(async_io))
    return segue__errorf(&o->io.error, SEGUE_ELIMIT,
                         "no connection to %s: %zu are open, which is the limit", c->address,
                         async_io->connections);
  async_io->connections++;
  c->counted = true;
  o->limit.data = o;
  int rc = segue__timer_start(async_io->loop, &o->limit, c->connect_ms, open_late);
  bool looks = *c->parsed.host && !segue__outbound_numeric(c->parsed.host, &c->parsed, &address);
  if (!rc && looks)
    rc = segue__look_up_start(&o->look, async_io, c->parsed.host, SEGUE__DNS_ADDRESS, NULL,
                              open_looked, o);
  if (rc)
    return segue__errorf(&o->io.error, rc, "no connection to %s: its host is not looked up: %s",
                         c->address, segue_strerror(rc));
  if (!looks) open_tls(o);
  return 0;
}

void segue__connect_open_start(operation *o) {
  connection *c = o->c;
  const segue__fake_io *fake_io = o->io.async_io->fake_io;
  segue__io_begin(&o->io, false);
  if (fake_io) {
    segue__fake_connect fake = {.address = c->address,
                                .tls = c->tls,
                                .connect_ms = c->connect_ms,
                                .connection = c,
                                .on_open = on_open,
                                .on_data = segue__connection_on_data,
                                .on_end = segue__connection_on_end};
    c->reader = o;
    c->is_fake = true;
    if (!fake_io->connect(fake_io->data, &fake, &o->io.error)) return;
    c->reader = NULL;
    open_finish(o);
  } else if (open_begin(o)) {
    open_finish(o);
  }
}

void segue__connect_open_stop(operation *o) {
  connection *c = o->c;
  segue__loop *loop = o->io.async_io->loop;
  segue__timer_stop(loop, &o->limit);
  open_drop_look_up(o);
  if (c->reader == o) c->reader = NULL;
  segue__connection_shut(c);
  segue__errorf(&c->end, UV_ECANCELED, "the connection to %s was not opened", c->address);
  if (o->working)
    segue__job_abandon(loop, &o->job); /* tls_abandoned ends it, now or when the job returns */
  else
    segue__io_end(&o->io);
}
