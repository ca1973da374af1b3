/* SPDX-License-Identifier: MIT
 *
 * GET /api/v1/events: server-sent events, one for each phase that a reload reaches, for each
 * state that an instance of a module enters, for each set of files that a module has written, for
 * each command that has ended, and for files that another program has changed. Events are numbered;
 * a client that comes back with Last-Event-ID gets those it missed, as far as they are kept. The
 * write limit of the server disconnects a client that reads too slowly.
 */
#include "internal.h"
#include "render.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { HEARTBEAT_MS = 15000, RETRY_MS = 2000 };

struct segue__event_stream {
  segue__admin *admin;
  segue__http_request *request;
  segue__event_stream *prev, *next;
};

static void on_heartbeat(segue__timer *timer);

void segue__events_init(segue__admin *admin) {
  admin->events.heartbeat.data = admin;
  admin->events.next_id = 1;
}

static void events_drop(segue__event_stream *stream) {
  segue__events *events = &stream->admin->events;
  if (stream->prev)
    stream->prev->next = stream->next;
  else
    events->streams = stream->next;
  if (stream->next) stream->next->prev = stream->prev;
  if (!events->streams) segue__timer_stop(stream->admin->loop, &events->heartbeat);
  segue__free(stream);
}

static void events_on_gone(segue__http_request *request) {
  events_drop(request->user);
}

/* Sends a text to every stream. The server closes a client that is too far behind, and calls
 * on_gone for it later, from the loop. */
static void events_send_all(segue__admin *admin, const char *text, size_t len) {
  for (segue__event_stream *stream = admin->events.streams, *next; stream; stream = next) {
    next = stream->next;
    segue__http_stream_write(stream->request, text, len);
  }
}

/* An empty comment (":") keeps idle connections open across proxies, and makes the server notice a
 * client that left without closing. The timer runs only while there are streams. */
static void on_heartbeat(segue__timer *timer) {
  segue__admin *admin = timer->data;
  events_send_all(admin, ":\n\n", 3);
  if (admin->events.streams) segue__timer_start(admin->loop, timer, HEARTBEAT_MS, on_heartbeat);
}

/* Begins the text of an event and returns its number; the caller appends the data. */
static uint64_t events_begin(segue__admin *admin, segue__buf *text, const char *name) {
  uint64_t id = admin->events.next_id++;
  segue__buf_init(text);
  segue__buf_addf(text, "id: %" PRIu64 "\nevent: %s\ndata: ", id, name);
  return id;
}

/* Sends an event and keeps its text for clients that reconnect. Owns the text. Where memory was
 * short the event is lost, but its number is used up, so a client sees the gap. */
static void events_publish(segue__admin *admin, uint64_t id, segue__buf *text) {
  segue__buf_adds(text, "\n\n");
  char **slot = &admin->events.kept[id % SEGUE__EVENTS_KEPT];
  segue__free(*slot);
  *slot = NULL;
  if (text->failed) {
    segue__buf_deinit(text);
    return;
  }
  events_send_all(admin, text->data, text->len);
  *slot = text->data; /* the buffer's memory is kept */
}

void segue__events_module(segue__admin *admin, const char *module, uint64_t generation,
                          segue__module_state state) {
  segue__buf text;
  uint64_t id = events_begin(admin, &text, "module");
  segue__buf_addc(&text, '{');
  segue__render_member(&text, "module", module);
  segue__buf_addf(&text, ",\"generation\":%" PRIu64 ",\"state\":\"%s\"}", generation,
                  segue__module_state_name(state));
  events_publish(admin, id, &text);
}

void segue__events_drift(segue__admin *admin, const segue__drift_report *report) {
  segue__buf text;
  uint64_t id = events_begin(admin, &text, "drift");
  segue__buf_addc(&text, '{');
  segue__render_member(&text, "module", report->module);
  segue__buf_addf(&text, ",\"files\":%zu,", report->count);
  segue__render_clean(&text, admin->engine, "what", report->what);
  segue__buf_addf(&text, ",\"restores\":%s}", report->replace ? "true" : "false");
  events_publish(admin, id, &text);
}

void segue__events_written(segue__admin *admin, const segue__written_report *report) {
  segue__buf text;
  uint64_t id = events_begin(admin, &text, "files");
  segue__buf_addc(&text, '{');
  segue__render_member(&text, "module", report->module);
  segue__buf_addf(&text, ",\"generation\":%" PRIu64 ",\"written\":%zu,\"removed\":%zu,\"paths\":[",
                  report->generation, report->written, report->removed);
  for (size_t i = 0; i < report->path_count; i++) {
    segue__buf_adds(&text, i ? "," : "");
    segue__json_string(&text, report->paths[i], strlen(report->paths[i]));
  }
  segue__buf_adds(&text, "]}");
  events_publish(admin, id, &text);
}

/* The end of a command has lines of its output, which may name a secret. */
void segue__events_effect(segue__admin *admin, const segue__effect_report *report) {
  segue__buf text;
  uint64_t id = events_begin(admin, &text, "command");
  segue__buf_addc(&text, '{');
  segue__render_member(&text, "module", report->module);
  segue__buf_addc(&text, ',');
  segue__render_member(&text, "step", report->step);
  segue__buf_addc(&text, ',');
  segue__render_clean(&text, admin->engine, "command", report->shown);
  segue__buf_addf(&text, ",\"ok\":%s,\"ms\":%" PRIu64 ",", report->error ? "false" : "true",
                  report->ms);
  if (report->error)
    segue__render_clean(&text, admin->engine, "error", report->error);
  else
    segue__render_member(&text, "error", NULL);
  segue__buf_addc(&text, '}');
  events_publish(admin, id, &text);
}

void segue__events_phase(segue__admin *admin, const segue__result *result, segue__phase phase) {
  segue__buf text;
  uint64_t id = events_begin(admin, &text, segue__phase_name(phase));
  if (phase == SEGUE__PHASE_SETTLED) {
    segue__render_result_json(&text, result, false);
  } else {
    segue__buf_addf(&text, "{\"id\":%" PRIu64 ",\"phase\":\"%s\",\"trigger\":\"%s\",", result->id,
                    segue__phase_name(phase), segue__trigger_name(result->trigger));
    segue__render_member(&text, "cause", result->cause);
    segue__buf_addf(&text, ",\"plan_only\":%s}", result->plan_only ? "true" : "false");
  }
  events_publish(admin, id, &text);
}

/* Sends the events after the one that the client saw last (the header Last-Event-ID, which browsers
 * send by themselves when they reconnect). A number beyond the newest event is of an earlier
 * process: its events are not kept, so the client gets only new ones. */
static void events_replay(segue__admin *admin, segue__http_request *request) {
  const segue__http_text *header = segue__http_header_get(request, "Last-Event-ID");
  char number[24];
  if (!header || header->len >= sizeof number) return;
  memcpy(number, header->s, header->len);
  number[header->len] = 0;
  uint64_t next = admin->events.next_id, from = strtoull(number, NULL, 10) + 1;
  if (from > next) return;
  if (next - from > SEGUE__EVENTS_KEPT) from = next - SEGUE__EVENTS_KEPT;
  for (; from < next; from++) {
    const char *text = admin->events.kept[from % SEGUE__EVENTS_KEPT];
    if (text) segue__http_stream_write(request, text, strlen(text));
  }
}

/* The timer is started before the stream is linked: without it the stream would never notice a
 * client that left. */
static int stream_open(segue__admin *admin, segue__http_request *request) {
  segue__events *events = &admin->events;
  segue__event_stream *stream = segue__calloc(1, sizeof *stream);
  if (!stream) return UV_ENOMEM;
  if (!events->streams &&
      segue__timer_start(admin->loop, &events->heartbeat, HEARTBEAT_MS, on_heartbeat) < 0) {
    segue__free(stream);
    return UV_ENOMEM;
  }
  stream->admin = admin;
  stream->request = request;
  stream->next = events->streams;
  if (stream->next) stream->next->prev = stream;
  events->streams = stream;
  request->user = stream;
  request->on_gone = events_on_gone;
  return 0;
}

void segue__handle_events(segue__admin *admin, segue__http_request *request, const char *rest) {
  (void)rest;
  static const char type[] = "text/event-stream";
  static const char headers[] = "Cache-Control: no-store\r\n";
  char hello[48];
  if (segue__http_method_is(request, "HEAD")) {
    segue__http_respond(request, 200, type, headers, NULL, 0);
    return;
  }
  if (stream_open(admin, request) < 0) {
    segue__answer_error(request, 503, NULL, "out of memory for another event stream");
    return;
  }
  segue__http_stream_begin(request, 200, type, headers);
  int len = snprintf(hello, sizeof hello, "retry: %d\n\n", RETRY_MS);
  segue__http_stream_write(request, hello, (size_t)len);
  events_replay(admin, request);
}

void segue__events_close(segue__admin *admin) {
  while (admin->events.streams) {
    segue__http_request *request = admin->events.streams->request;
    request->on_gone = NULL;
    events_drop(admin->events.streams);
    segue__http_stream_end(request);
  }
  for (size_t i = 0; i < SEGUE__EVENTS_KEPT; i++) {
    segue__free(admin->events.kept[i]);
    admin->events.kept[i] = NULL;
  }
}
