/* SPDX-License-Identifier: MIT
 *
 * The listeners of the admin API: the control socket, which is always there, and those that the
 * policy names, which come and go with its transactions. An address that the live policy and the
 * next one both name keeps its socket; a new one is bound while staging, so that a port in use
 * fails the reload before anything was changed; one that is gone closes when the reload is settled.
 */
#include "internal.h"
#include "render.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

struct segue__admin_listener {
  segue__http_listener *listener;
  segue__admin_listener *next;
  char key[128]; /* the address as the policy normalises it: with port 0 the bound one differs */
  bool live;     /* named by the live policy */
  bool wanted;   /* named by the policy that is staged */
};

static bool is_http(const segue__trigger_spec *spec) {
  return spec->type == SEGUE__TRIGGER_HTTP;
}

static int address_check(const char *text, segue__http_address *out, segue_error *err) {
  int rc = segue__http_address_parse(text, out, err);
  if (rc < 0) return rc;
  if (!out->is_unix && !out->loopback)
    return segue__error_set(err, SEGUE_EPOLICY,
                            "segue.http \"%s\": only loopback addresses and unix sockets may be "
                            "listened on, because the admin API asks nobody for a password: use "
                            "127.0.0.1:%u",
                            text, out->port);
  return 0;
}

int segue__admin_check(const segue__policy *policy, segue__errors *errors) {
  int status = 0;
  for (size_t i = 0; i < policy->trigger_count; i++) {
    segue__http_address address;
    segue_error err;
    if (!is_http(&policy->triggers[i])) continue;
    int rc = address_check(policy->triggers[i].address, &address, &err);
    if (rc < 0) {
      segue__errors_add(errors, &err);
      status = rc;
    }
  }
  return status;
}

static segue__admin_listener *find(segue__admin *admin, const char *key) {
  segue__admin_listener *item = admin->listeners;
  while (item && strcmp(item->key, key) != 0)
    item = item->next;
  return item;
}

static int open_one(segue__admin *admin, const char *text, segue_error *err) {
  segue__http_address address;
  int rc = address_check(text, &address, err);
  if (rc < 0) return rc;
  segue__admin_listener *item = find(admin, address.text);
  if (item) {
    item->wanted = true;
    return 0;
  }
  item = segue__calloc(1, sizeof *item);
  if (!item) return segue__error_set(err, UV_ENOMEM, "segue.http \"%s\": out of memory", text);
  rc = segue__http_listen(admin->server, &address, 0600, &item->listener, err);
  if (rc < 0) {
    segue__free(item);
    return rc;
  }
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
    int rc = open_one(admin, next->triggers[i].address, &err);
    if (rc < 0) {
      segue__errors_add(errors, &err);
      segue__admin_discard(admin);
      return rc;
    }
  }
  return 0;
}

static const char *address_text(const segue__admin_listener *item) {
  return segue__http_listener_address(item->listener)->text;
}

/* Closes and frees those for which keep says no. */
static void sweep(segue__admin *admin, bool (*keep)(const segue__admin_listener *item)) {
  for (segue__admin_listener **link = &admin->listeners; *link;) {
    segue__admin_listener *item = *link;
    if (keep(item)) {
      link = &item->next;
      continue;
    }
    *link = item->next;
    if (item->live)
      segue__log(admin->log, SEGUE__INFO, "http", "closed", "address", 's', address_text(item),
                 NULL);
    segue__http_listener_close(item->listener);
    segue__free(item);
  }
}

static bool is_wanted(const segue__admin_listener *item) {
  return item->wanted;
}

static bool is_live(const segue__admin_listener *item) {
  return item->live;
}

static bool is_never(const segue__admin_listener *item) {
  (void)item;
  return false;
}

void segue__admin_settle(segue__admin *admin) {
  sweep(admin, is_wanted);
  for (segue__admin_listener *item = admin->listeners; item; item = item->next) {
    if (!item->live)
      segue__log(admin->log, SEGUE__INFO, "http", "listening", "address", 's', address_text(item),
                 NULL);
    item->live = true;
  }
}

void segue__admin_discard(segue__admin *admin) {
  sweep(admin, is_live);
}

int segue__admin_listen_control(segue__admin *admin, const char *path, segue_error *err) {
  segue__http_address address;
  char text[sizeof address.path + 8];
  if ((size_t)snprintf(text, sizeof text, "unix:%s", path) >= sizeof text)
    return segue__error_set(err, UV_ENAMETOOLONG,
                            "the control socket's path %s is longer than 107 bytes: choose a "
                            "shorter one with --socket",
                            path);
  int rc = segue__http_address_parse(text, &address, err);
  if (rc == 0) rc = segue__http_listen(admin->server, &address, 0600, &admin->control, err);
  if (rc == 0)
    segue__log(admin->log, SEGUE__INFO, "http", "control socket open", "path", 's', path, NULL);
  return rc;
}

void segue__listeners_json(segue__buf *out, const segue__admin *admin) {
  const char *separator = "";
  segue__buf_addc(out, '[');
  if (admin->control) {
    const char *text = segue__http_listener_address(admin->control)->text;
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
  sweep(admin, is_never);
  segue__http_listener_close(admin->control);
  admin->control = NULL;
}
