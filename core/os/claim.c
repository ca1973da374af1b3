/* SPDX-License-Identifier: MIT
 *
 * The first atomic exchange decides. Both sides may call again, and get the same result.
 */
#include "claim.h"

enum { CLAIM_ACTS = 1, CLAIM_CANCELLED };

static bool claim_take(segue__claim *claim, int winner) {
  int expected = 0;
  return __atomic_compare_exchange_n(&claim->winner, &expected, winner, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST) ||
         expected == winner;
}

bool segue__claim_act(segue__claim *claim) {
  return claim_take(claim, CLAIM_ACTS);
}

bool segue__claim_cancel(segue__claim *claim) {
  return claim_take(claim, CLAIM_CANCELLED);
}
