/* SPDX-License-Identifier: MIT
 *
 * dns_records.h: the records of a DNS answer, read from its bytes. [any thread]
 */
#ifndef SEGUE_BIND_DNS_RECORDS_H
#define SEGUE_BIND_DNS_RECORDS_H

#include <stddef.h>
#include <stdint.h>

enum { SEGUE__RECORDS_MAX = 1024 };

typedef enum segue__dns_type {
  SEGUE__DNS_ADDRESS,
  SEGUE__DNS_SRV = 33, /* as in the DNS */
  SEGUE__DNS_TXT = 16
} segue__dns_type;

typedef struct segue__dns_record {
  uint32_t ttl;
  uint16_t priority, weight, port; /* SRV */
  size_t len;
  char *text; /* SRV: the target; TXT: its strings, joined */
} segue__dns_record;

typedef struct segue__dns_records {
  segue__dns_record *items;
  size_t count;
} segue__dns_records;

/* Reads the records of a type from an answer, sorted (SRV: by priority, then the greater weight,
 * target and port), without doubles. Returns 0, UV_EPROTO if the answer is damaged, SEGUE_ELIMIT
 * past SEGUE__RECORDS_MAX, UV_ENOMEM. */
int segue__dns_parse(const unsigned char *answer, size_t len, segue__dns_type type,
                     segue__dns_records *out);
void segue__dns_records_deinit(segue__dns_records *records);

#endif
