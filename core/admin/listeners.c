/* SPDX-License-Identifier: MIT
 *
 * The listeners of the admin API: the control socket, which is always there, and those that the
 * policy names, which come and go with its transactions. An address that the live policy and the
 * next one both name keeps its socket; a new one is bound while staging, so that a port in use
 * fails the reload before anything was changed; a removed listener closes when the reload is
 * settled.
 */
#include "internal.h"
#include "render.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

static bool is_http(const segue__trigger_spec *spec) {
  return spec->type == SEGUE__TRIGGER_HTTP;
}

int segue__admin_check(segue__policy *policy, const segue__os *os, segue__errors *errors) {
  int status = 0;
  for (size_t i = 0; i < policy->trigger_count; i++) {
    segue_error err = {0};
    if (!is_http(&policy->triggers[i])) continue;
    int rc = segue__auth_make(policy, &policy->triggers[i], os, &err);
    if (rc < 0) {
      segue__errors_add(errors, &err);
      status = rc;
    }
  }
  return status;
}

static segue__admin_listener *listeners_find(segue__admin *admin, const char *key) {
  segue__admin_listener *item = admin->listeners;
  while (item && strcmp(item->key, key) != 0)
    item = item->next;
  return item;
}

/* Connections that are open keep a pointer to the listener, not to its rules, so the new rules hold
 * for their next request. The old TLS context stays with connections that were made with it. */
static void give_auth(segue__admin_listener *item, segue__auth *auth) {
  segue__auth_unref(item->auth);
  item->auth = auth;
  segue__http_listener_set(item->http_listener, auth ? auth->tls : NULL,
                           auth ? segue__auth_ref(auth) : NULL, segue__auth_unref);
}

static segue__auth *auth_of(const segue__trigger_spec *trigger) {
  return trigger->auth ? segue__auth_ref(trigger->auth) : NULL;
}

/* Accepts on the socket of an address; the registry binds it if no socket exists for it. The HTTP
 * server gets a duplicate, so that the registry keeps the socket when this listener closes. */
static int listener_open(segue__admin *admin, const segue__socket_wish *wish,
                         segue__socket_lease *lease, segue__http_listener **out, segue_error *err) {
  bool is_local = wish->address->type == SEGUE__SOCKET_UNIX;
  *out = NULL;
  int rc = segue__socket_acquire(admin->sockets, wish, lease, err);
  if (rc < 0) return rc;
  int fd = segue__socket_share(lease);
  rc = fd < 0 ? fd : segue__http_listener_new(out, fd, is_local, 0);
  if (rc == 0) rc = segue__http_listener_begin(*out, admin->server);
  if (rc == 0) return 0;
  *out = NULL;
  segue__socket_release(lease);
  return segue__errorf(err, rc, "%s cannot be opened: %s", wish->address->text, segue_strerror(rc));
}

static bool listener_may_accept(void *data) {
  return segue__socket_is_deaf(data);
}

static void listener_closed(void *data) {
  segue__socket_release(data);
  segue__free(data);
}

/* The order keeps the clients in the queue of the socket: first no new ones are taken, then closing
 * the listener accepts the queued ones, then the lease is released. The kernel resets what is in
 * the queue when the last descriptor closes, so a second lease keeps a port open while the listener
 * lingers. The first one is released at once, because the address is free for the next policy. */
static void listener_close(segue__http_listener *http_listener, segue__socket_lease *lease) {
  segue__socket_leave(lease);
  uint64_t ms = segue__socket_linger_ms(lease);
  segue__socket_lease *kept = ms ? segue__malloc(sizeof *kept) : NULL;
  if (kept) {
    segue__socket_keep(lease, kept);
    const segue__http_linger linger = {
        .ms = ms, .may_accept = listener_may_accept, .on_closed = listener_closed, .data = kept};
    segue__http_listener_linger(http_listener, &linger);
  }
  segue__http_listener_close(http_listener);
  segue__socket_release(lease);
}

/* A new listener gets its authorization rules at once; an open one keeps the live rules until the
 * reload settles, because the staged policy may still be rejected. */
static int open_one(segue__admin *admin, const segue__trigger_spec *trigger, segue_error *err) {
  segue__address address;
  const char *text = trigger->address;
  const segue__auth *auth = trigger->auth;
  int rc = segue__address_parse(text, &address, err);
  if (rc < 0) return rc;
  segue__admin_listener *item = listeners_find(admin, address.text);
  if (item) {
    segue__auth_unref(item->next_auth);
    item->next_auth = auth_of(trigger);
    item->wanted = true;
    return 0;
  }
  item = segue__calloc(1, sizeof *item);
  if (!item) return segue__errorf(err, UV_ENOMEM, "segue.http \"%s\": out of memory", text);
  const segue__socket_wish wish = {.address = &address,
                                   .mode = auth && auth->mode ? auth->mode : 0600,
                                   .name = "admin",
                                   .user = "the admin API (segue.http)"};
  rc = listener_open(admin, &wish, &item->lease, &item->http_listener, err);
  if (rc < 0) {
    segue__free(item);
    return rc;
  }
  give_auth(item, auth_of(trigger));
  snprintf(item->key, sizeof item->key, "%s", address.text);
  item->wanted = true;
  item->next = admin->listeners;
  admin->listeners = item;
  return 0;
}

int segue__admin_stage(segue__admin *admin, const segue__policy *next, segue__errors *errors) {
  for (segue__admin_listener *item = admin->listeners; item; item = item->next)
    item->wanted = false;
  for (size_t i = 0; i < next->trigger_count; i++) {
    segue_error err;
    if (!is_http(&next->triggers[i])) continue;
    int rc = open_one(admin, &next->triggers[i], &err);
    if (rc < 0) {
      segue__errors_add(errors, &err);
      segue__admin_discard(admin);
      return rc;
    }
  }
  return 0;
}

static const char *address_text(const segue__admin_listener *item) {
  return segue__socket_address(&item->lease)->text;
}

/* Closes and frees the listeners for which keep returns false. */
static void listeners_sweep(segue__admin *admin, bool (*keep)(const segue__admin_listener *item)) {
  for (segue__admin_listener **link = &admin->listeners; *link;) {
    segue__admin_listener *item = *link;
    if (keep(item)) {
      link = &item->next;
      continue;
    }
    *link = item->next;
    if (item->live)
      SEGUE__LOG(admin->log, SEGUE_INFO, "http", "closed",
                 SEGUE__FIELD("address", address_text(item)));
    segue__auth_unref(item->auth);
    segue__auth_unref(item->next_auth);
    listener_close(item->http_listener, &item->lease);
    segue__free(item);
  }
}

/* The staged rules replace the live ones, also for connections that are open. */
static void change_auth(segue__admin *admin, segue__admin_listener *item) {
  const segue__address *address = segue__socket_address(&item->lease);
  segue__auth *auth = item->next_auth;
  item->next_auth = NULL;
  if (!auth) return;
  unsigned mode = auth->mode ? auth->mode : 0600;
  if (address->type == SEGUE__SOCKET_UNIX && item->auth && item->auth->mode != auth->mode &&
      chmod(address->path, mode) != 0)
    SEGUE__LOG(admin->log, SEGUE_ERROR, "http", "the socket's mode cannot be changed",
               SEGUE__FIELD("path", address->path));
  if (auth != item->auth) item->notice.warned = 0;
  give_auth(item, auth);
}

static void warn_of_plain_tokens(const segue__admin *admin, const segue__auth *auth) {
  if (auth && auth->tokens.count && !auth->tls && !auth->loopback)
    SEGUE__LOG(admin->log, SEGUE_WARN, "http",
               "tokens are sent unencrypted to this listener: add tls, unless a proxy in front of "
               "it encrypts",
               SEGUE__FIELD("address", auth->address));
}

static bool is_wanted(const segue__admin_listener *item) {
  return item->wanted;
}

static bool listeners_is_live(const segue__admin_listener *item) {
  return item->live;
}

static bool is_never(const segue__admin_listener *item) {
  (void)item;
  return false;
}

void segue__admin_settle(segue__admin *admin) {
  listeners_sweep(admin, is_wanted);
  for (segue__admin_listener *item = admin->listeners; item; item = item->next) {
    change_auth(admin, item);
    if (!item->live) {
      SEGUE__LOG(admin->log, SEGUE_INFO, "http", "listening",
                 SEGUE__FIELD("address", address_text(item)));
      warn_of_plain_tokens(admin, item->auth);
    }
    item->live = true;
  }
  segue__certificates_look(admin);
}

void segue__admin_discard(segue__admin *admin) {
  listeners_sweep(admin, listeners_is_live);
  for (segue__admin_listener *item = admin->listeners; item; item = item->next) {
    segue__auth_unref(item->next_auth);
    item->next_auth = NULL;
  }
}

/* Called again when the file of the socket was deleted. The new socket is opened first: if that
 * fails, the old one stays for the clients that are connected to it. The old lease is disowned
 * before it is released: releasing it must not remove the file that the new socket has made at the
 * same path. */
int segue__admin_listen_control(segue__admin *admin, const char *path, segue_error *err) {
  segue__address address;
  char text[sizeof address.path + 8];
  if ((size_t)snprintf(text, sizeof text, "unix:%s", path) >= sizeof text)
    return segue__errorf(err, UV_ENAMETOOLONG,
                         "the control socket's path %s is longer than 107 bytes: choose a "
                         "shorter one (option socket)",
                         path);
  const segue__socket_wish wish = {
      .address = &address, .name = "control", .user = "the control socket"};
  segue__http_listener *control = NULL;
  segue__socket_lease lease = {0};
  int rc = segue__address_parse(text, &address, err);
  if (rc == 0) rc = listener_open(admin, &wish, &lease, &control, err);
  if (rc < 0) return rc;
  segue__socket_disown(&admin->control_lease);
  if (admin->control) listener_close(admin->control, &admin->control_lease);
  admin->control = control;
  admin->control_lease = lease;
  SEGUE__LOG(admin->log, SEGUE_INFO, "http", "control socket open", SEGUE__FIELD("path", path));
  return 0;
}

bool segue__admin_control_there(const segue__admin *admin) {
  return admin->control && segue__socket_has_file(&admin->control_lease);
}

void segue__admin_control_disown(segue__admin *admin) {
  segue__socket_disown(&admin->control_lease);
}

void segue__listeners_json(segue__buf *out, const segue__admin *admin) {
  const char *separator = "";
  segue__buf_addc(out, '[');
  if (admin->control) {
    const char *text = segue__socket_address(&admin->control_lease)->text;
    segue__json_string(out, text, strlen(text));
    separator = ",";
  }
  for (const segue__admin_listener *item = admin->listeners; item; item = item->next) {
    if (!item->live) continue;
    segue__buf_adds(out, separator);
    segue__json_string(out, address_text(item), strlen(address_text(item)));
    separator = ",";
  }
  segue__buf_addc(out, ']');
}

void segue__listeners_close(segue__admin *admin) {
  listeners_sweep(admin, is_never);
  if (admin->control) listener_close(admin->control, &admin->control_lease);
  admin->control = NULL;
}
