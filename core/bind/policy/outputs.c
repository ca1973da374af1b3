/* SPDX-License-Identifier: MIT
 *
 * Outputs of templates. The list is sorted by its keys; its texts are limited together, because a
 * policy may render hundreds of large files that all change in each reload.
 */
#include "outputs.h"

#include <string.h>

#include "../../os/mem.h"

enum { OUTPUTS_MAX = 4096 };
#define BYTES_MAX ((size_t)32 << 20)

static size_t outputs_place(const segue__outputs *outputs, segue__hash key) {
  size_t low = 0, high = outputs->count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    segue__hash at = outputs->items[middle]->key;
    if (at.hi < key.hi || (at.hi == key.hi && at.lo < key.lo))
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static segue__output *outputs_at(const segue__outputs *outputs, size_t at, segue__hash key) {
  bool found = at < outputs->count && segue__hash_equal(outputs->items[at]->key, key);
  return found ? outputs->items[at] : NULL;
}

const segue__output *segue__outputs_find(segue__outputs *outputs, segue__hash key,
                                         const segue_node *part, const segue_node *whole) {
  segue__output *output = outputs_at(outputs, outputs_place(outputs, key), key);
  if (!output || segue__touched_differs(&output->touched, part, whole)) return NULL;
  output->used = ++outputs->clock;
  return output;
}

static void output_free(segue__output *output) {
  if (!output) return;
  segue__touched_deinit(&output->touched);
  segue__free(output->text);
  segue__free(output);
}

static void outputs_remove(segue__outputs *outputs, size_t at) {
  outputs->bytes -= outputs->items[at]->len;
  output_free(outputs->items[at]);
  outputs->count--;
  memmove(&outputs->items[at], &outputs->items[at + 1],
          (outputs->count - at) * sizeof(segue__output *));
}

static void outputs_make_room(segue__outputs *outputs, size_t len) {
  while (outputs->count && (outputs->count >= OUTPUTS_MAX || outputs->bytes + len > BYTES_MAX)) {
    size_t oldest = 0;
    for (size_t i = 1; i < outputs->count; i++)
      if (outputs->items[i]->used < outputs->items[oldest]->used) oldest = i;
    outputs_remove(outputs, oldest);
  }
}

static segue__output *output_new(segue__hash key, const segue__touched *touched, const char *text,
                                 size_t len) {
  segue__output *output = segue__calloc(1, sizeof *output);
  if (!output) return NULL;
  output->key = key;
  output->text = segue__strndup(len ? text : "", len);
  output->len = len;
  if (output->text && !segue__touched_copy(&output->touched, touched)) return output;
  output_free(output);
  return NULL;
}

void segue__outputs_put(segue__outputs *outputs, segue__hash key, const segue__touched *touched,
                        const char *text, size_t len) {
  size_t at = outputs_place(outputs, key);
  if (outputs_at(outputs, at, key)) outputs_remove(outputs, at);
  if (len > BYTES_MAX) return;
  outputs_make_room(outputs, len);
  segue__output **items =
      segue__realloc(outputs->items, (outputs->count + 1) * sizeof(segue__output *));
  if (!items) return;
  outputs->items = items;
  segue__output *output = output_new(key, touched, text, len);
  if (!output) return;
  at = outputs_place(outputs, key);
  memmove(&items[at + 1], &items[at], (outputs->count - at) * sizeof(segue__output *));
  items[at] = output;
  output->used = ++outputs->clock;
  outputs->count++;
  outputs->bytes += len;
}

void segue__outputs_deinit(segue__outputs *outputs) {
  for (size_t i = 0; i < outputs->count; i++)
    output_free(outputs->items[i]);
  segue__free(outputs->items);
  *outputs = (segue__outputs){0};
}
