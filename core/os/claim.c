/* SPDX-License-Identifier: MIT
 *
 * One atomic exchange decides, and both sides may ask again.
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
