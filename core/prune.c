/* prune.c - pr_start: connect the rooms' hooks. */
#include "prune.h"

pr_status pr_start(void) {
  prA_start();
  prK_start();
  return PR_OK;
}
