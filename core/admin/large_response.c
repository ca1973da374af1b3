/* SPDX-License-Identifier: MIT
 *
 * Pages that may be large: a configuration, or two that are compared. Writing a small page takes
 * less time than a hop to another thread. A large page is written on the worker, so that only the
 * client that requested it waits; one page at a time, because reloads read their files on the same
 * worker.
 *
 * The size of each page is bounded, and so is the sum of all pages that clients have not received
 * yet: a megabyte of YAML whose aliases refer to one long text is gigabytes of JSON, and every
 * client may send the next request before it reads the answer. The page keeps its text and writes
 * the next piece to the connection each time the client has received the previous one.
 */
#include "large_response.h"

#include <string.h>

#include "../config/config.h"
#include "../config/snapshot.h"
#include "../os/fault.h"

/* Memory of a tree that is written in a few hundred microseconds. */
enum { SMALL_BYTES = 512 << 10 };

/* The limits of a part of a tree that is written at once: number of values, and bytes of text. */
enum { SMALL_VALUES = 2000, SMALL_TEXT = 64 << 10 };

/* While this many bytes of pages wait for their clients, no further page is written. A page up to
 * LEFT_BYTES goes to its connection at once; a longer page goes in pieces. */
enum { UNSENT_MAX = 128 << 20, LEFT_BYTES = 256 << 10, PIECE = 256 << 10 };

struct segue__large_response {
  segue__job job;
  segue__admin *admin;          /* NULL: closed meanwhile */
  segue__http_request *request; /* NULL: answered, or the client left */
  segue__large_response *next;
  segue__large_response_request ask; /* with references on its snapshots */
  segue__buf body;
  size_t sent; /* bytes of body that the connection accepted */
  char headers[192];
};

static void start_next(segue__admin *admin);

static void free_page(segue__large_response *page) {
  segue_snapshot_unref(page->ask.from);
  segue_snapshot_unref(page->ask.to);
  segue__free(page->ask.members);
  segue__buf_deinit(&page->body);
  segue__free(page);
}

static void large_render(segue__job *job) {
  segue__large_response *page = (segue__large_response *)job;
  (void)SEGUE_FAULT("page.write");
  page->ask.render(&page->body, &page->ask);
}

static void on_abandoned(segue__job *job) {
  segue__large_response *page = (segue__large_response *)job;
  if (page->admin && page->admin->page == page) page->admin->page = NULL;
  free_page(page);
}

/* Sends the answer and moves the contents of body into it. */
static void large_answer(segue__http_request *request, const char *headers, segue__buf *body) {
  request->on_gone = NULL;
  if (body->len > SEGUE__PAGE_MAX) {
    segue__buf_deinit(body);
    segue__answer_error(request, 400, NULL,
                        "the answer would be longer than %d MiB: ask for a part of the "
                        "configuration, with ?path=",
                        SEGUE__PAGE_MAX >> 20);
  } else {
    segue__http_respond_buf(request, 200, "application/json", headers, body);
    segue__buf_init(body);
  }
}

/* ---- In pieces ---- */

static void forget_unsent(segue__large_response *page) {
  segue__admin *admin = page->admin;
  admin->unsent_bytes -= page->body.cap;
  free_page(page);
  start_next(admin);
}

/* Also runs when the server closes. The page may use the admin interface here, because that is
 * freed after the server. */
static void on_taker_gone(segue__http_request *request) {
  forget_unsent(request->user);
}

/* Writes pieces until the client falls behind. Then on_drained or on_gone continues. */
static void send_pieces(segue__http_request *request) {
  segue__large_response *page = request->user;
  while (page->sent < page->body.len) {
    size_t left = page->body.len - page->sent, len = left < PIECE ? left : PIECE;
    if (segue__http_stream_write(request, page->body.data + page->sent, len) < 0) return;
    page->sent += len;
    if (segue__http_stream_behind(request)) return;
  }
  request->on_gone = request->on_drained = NULL;
  segue__http_stream_end(request);
  forget_unsent(page);
}

static void begin_pieces(segue__large_response *page) {
  segue__admin *admin = page->admin;
  segue__http_request *request = page->request;
  admin->unsent_bytes += page->body.cap;
  request->on_gone = on_taker_gone;
  request->on_drained = send_pieces;
  segue__http_stream_begin(request, 200, "application/json", page->headers);
  send_pieces(request);
}

/* ---- On the worker ---- */

/* Sends a finished page. Owns it. */
static void large_finish(segue__large_response *page) {
  size_t len = page->body.len;
  if (page->request && !page->body.failed && len > LEFT_BYTES && len <= SEGUE__PAGE_MAX) {
    begin_pieces(page);
    return;
  }
  if (page->request) large_answer(page->request, page->headers, &page->body);
  free_page(page);
}

static void on_rendered(segue__job *job) {
  segue__large_response *page = (segue__large_response *)job;
  segue__admin *admin = page->admin;
  if (!admin) {
    free_page(page);
    return;
  }
  admin->page = NULL;
  large_finish(page);
  start_next(admin);
}

/* Starts the next page unless one is being written or too many bytes are unsent. If no thread can
 * be started, the page is written here: this blocks the loop for a moment, but the client gets its
 * answer. */
static void start_next(segue__admin *admin) {
  while (admin->pages && !admin->page && admin->unsent_bytes < UNSENT_MAX) {
    segue__large_response *page = admin->pages;
    admin->pages = page->next;
    page->next = NULL;
    page->job = (segue__job){.run = large_render, .done = on_rendered, .abandoned = on_abandoned};
    if (segue__job_submit(admin->loop, SEGUE__QUEUE_PAGE, &page->job) == 0) {
      admin->page = page;
      return;
    }
    large_render(&page->job);
    large_finish(page);
  }
}

/* The worker may be writing this page: then only the request is removed from it, and the result is
 * freed when the worker has finished. */
static void large_on_gone(segue__http_request *request) {
  segue__large_response *page = request->user;
  page->request = NULL;
  if (page == page->admin->page) return;
  segue__large_response **link = &page->admin->pages;
  while (*link != page)
    link = &(*link)->next;
  *link = page->next;
  free_page(page);
}

static int large_enqueue(segue__admin *admin, segue__http_request *request,
                         const segue__large_response_request *ask, const char *headers) {
  size_t len = strlen(headers);
  segue__large_response *page = segue__calloc(1, sizeof *page);
  if (!page || len >= sizeof page->headers) {
    segue__free(page);
    return -1;
  }
  memcpy(page->headers, headers, len + 1);
  page->ask = *ask;
  if (ask->from) segue_snapshot_ref(ask->from);
  segue_snapshot_ref(ask->to);
  page->admin = admin;
  page->request = request;
  segue__buf_init(&page->body);
  request->user = page;
  request->on_gone = large_on_gone;
  segue__large_response **link = &admin->pages;
  while (*link)
    link = &(*link)->next;
  *link = page;
  start_next(admin);
  return 0;
}

/* Walks the tree and stops as soon as it is known to be large, so that measuring costs less than
 * writing. */
static bool is_small(const segue_node *node, size_t *values, size_t *text) {
  if (++*values > SMALL_VALUES) return false;
  if (node->type == SEGUE_STRING) *text += node->count;
  for (uint32_t i = 0; i < node->count && node->type == SEGUE_LIST; i++)
    if (!is_small(&node->v.items[i], values, text)) return false;
  for (uint32_t i = 0; i < node->count && node->type == SEGUE_MAP; i++) {
    *text += node->v.members[i].key_len;
    if (!is_small(&node->v.members[i].value, values, text)) return false;
  }
  return *text <= SMALL_TEXT;
}

static size_t large_bytes_of(const segue_snapshot *snapshot) {
  return snapshot ? segue__config_bytes(snapshot->config) : 0;
}

void segue__large_response_answer(segue__admin *admin, segue__http_request *request,
                                  const segue__large_response_request *ask, const char *headers) {
  size_t values = 0, text = 0;
  /* The memory of a subtree does not show how long its JSON is, because of aliases: so a part is
   * measured by walking it. */
  bool large = ask->node ? !is_small(ask->node, &values, &text)
                         : large_bytes_of(ask->from) + large_bytes_of(ask->to) > SMALL_BYTES;
  if (large &&
      segue__http_method_is(request, "HEAD")) { /* its length would have to be written out */
    segue__http_stream_begin(request, 200, "application/json", headers);
    segue__http_stream_end(request);
    segue__free(ask->members);
    return;
  }
  if (large && large_enqueue(admin, request, ask, headers) == 0) return;
  segue__buf body;
  segue__buf_init(&body);
  ask->render(&body, ask);
  segue__free(ask->members);
  large_answer(request, headers, &body);
}

static void large_refuse(segue__large_response *page) {
  segue__http_request *request = page->request;
  if (!request) return;
  page->request = NULL;
  request->on_gone = NULL;
  segue__answer_error(request, 503, "Retry-After: 1\r\n", "segue is shutting down");
}

void segue__large_responses_close(segue__admin *admin) {
  if (admin->page) { /* the loop waits for it, and frees it */
    large_refuse(admin->page);
    admin->page->admin = NULL;
    admin->page = NULL;
  }
  while (admin->pages) {
    segue__large_response *page = admin->pages;
    admin->pages = page->next;
    large_refuse(page);
    free_page(page);
  }
}
