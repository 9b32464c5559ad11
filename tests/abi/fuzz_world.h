/* The world of fuzz_calls: random numbers, handles that are good and bad, and what must be true of every call. */
#ifndef FREEHOLD_TESTS_FUZZ_WORLD_H
#define FREEHOLD_TESTS_FUZZ_WORLD_H

#include "check.h"

#include <inttypes.h>
#include <pthread.h>

/* Handles are tickets, which the library can look up: an address that was freed is beyond what it can see. */
static const char *const CHECKED = "FREEHOLD_CHECK_HANDLES";

typedef enum { TENSOR, DECISION, ERROR, RUNTIME, KINDS } kind;

/* A handle, and how many holds of it are ours: with none it is one that was given back, and is kept to be used wrongly. */
typedef struct {
  void *handle;
  kind what;
  int holds;
} slot;

enum { SLOTS = 96, CAPSULES = 16, VALUES = 256 };

/* What one thread knows. Others see what is `shared`, and what goes through the mailbox. */
typedef struct {
  uint64_t state, calls, refused;
  int threads;
  slot slots[SLOTS];
  DLManagedTensorVersioned *versioned[CAPSULES];
  DLManagedTensor *legacy[CAPSULES];
  double values[VALUES];
} world;

static fh_tensor *shared_tensor;
static fh_decision *shared_decision;
static fh_runtime *shared_runtime;
static slot mailbox;
static pthread_mutex_t mail = PTHREAD_MUTEX_INITIALIZER;
static int64_t owners, devices;

static uint64_t next(world *w) {
  w->state ^= w->state >> 12;
  w->state ^= w->state << 25;
  w->state ^= w->state >> 27;
  return w->state * UINT64_C(2685821657736338717);
}

static uint64_t below(world *w, uint64_t n) { return (next(w) >> 16) % n; }
static int one_in(world *w, uint64_t n) { return below(w, n) == 0; }

static void die(const world *w, const char *what, const void *error) {
  fprintf(stderr, "call %" PRIu64 ": %s: %s\n", w->calls, what, error ? fh_error_message((const fh_error *)error) : "");
  abort();
}

static void give_back(kind what, void *handle) {
  switch (what) {
    case TENSOR: fh_tensor_release((fh_tensor *)handle); break;
    case DECISION: fh_decision_free((fh_decision *)handle); break;
    case ERROR: fh_error_free((fh_error *)handle); break;
    default: fh_runtime_free((fh_runtime *)handle); break;
  }
}

/* Keeps a handle that a call gave out, in the place of another, which is given back. */
static void keep(world *w, kind what, void *handle) {
  slot *s = &w->slots[below(w, SLOTS)];
  if (handle == NULL) die(w, "a success without a result", NULL);
  for (; s->holds > 0; --s->holds) give_back(s->what, s->handle);
  s->handle = handle;
  s->what = what;
  s->holds = 1;
}

/* A handle for an argument. *good is cleared if it is not a live one of this kind. */
static void *pick(world *w, kind what, int *good) {
  static const uint64_t zeros[8];
  const uint64_t how = below(w, 32);
  if (how == 0) return *good &= what == RUNTIME, NULL;
  if (how == 1) return *good = 0, (void *)(uintptr_t)(next(w) | 1);
  if (how == 2) return *good = 0, (void *)(uintptr_t)zeros;
  if (how == 3 && w->threads > 1) {
    if (what == TENSOR) return shared_tensor;
    if (what == DECISION) return shared_decision;
    if (what == RUNTIME) return shared_runtime;
  }
  /* Mostly one that is good, if there is one among a few that are looked at. */
  slot *s = NULL;
  for (int tries = how < 8 ? 1 : 24; tries > 0; --tries) {
    s = &w->slots[below(w, SLOTS)];
    if (s->holds > 0 && s->what == what) break;
  }
  if (s->handle == NULL) return *good &= what == RUNTIME, NULL;
  if (s->holds == 0 || s->what != what) *good = 0;
  return s->handle;
}

/* The slot of a good handle of this world, for what gives it back; NULL: the call must do nothing. */
static slot *find(world *w, const void *handle, kind what) {
  for (slot *s = w->slots; s < w->slots + SLOTS; ++s)
    if (handle != NULL && s->handle == handle && s->what == what && s->holds > 0) return s;
  return NULL;
}

/* Where results and errors go, or nowhere. */
typedef struct {
  void *result[2];
  fh_error *error;
  fh_error **err;
  void **out;
} places;

/* Returns whether a result can be written. An error that cannot be is not: a bad place for it changes nothing else. */
static int somewhere(world *w, places *p) {
  memset(p, 0, sizeof *p);
  p->out = p->result;
  p->err = &p->error;
  if (one_in(w, 4)) p->err = one_in(w, 4) ? (fh_error **)((uintptr_t)&p->error | 1) : NULL;
  if (one_in(w, 24)) p->out = one_in(w, 2) ? NULL : (void **)((uintptr_t)p->result | 1);
  return p->out == p->result;
}

/* What must be true of every call that can fail. */
static void ended(world *w, fh_status status, int good, places *p, int gives, kind what) {
  if (status == FH_INTERNAL) die(w, "a panic", p->error);
  if (!good && status != FH_INVALID_ARGUMENT) die(w, "a bad argument was taken", p->error);
  if (status != FH_INVALID_ARGUMENT && status != FH_OK && p->error && fh_error_reason(p->error) == FH_REASON_AR01)
    die(w, "two answers", p->error);
  if (good && p->error && one_in(w, 8)) {
    const char *text = fh_error_message(p->error);
    if (strstr(text, "given back") || strstr(text, "gave out") || strstr(text, "is an fh_")) die(w, "a good handle was refused", p->error);
  }
  if (status == FH_OK && p->error) die(w, "a success with an error", p->error);
  if (status != FH_OK && p->err == &p->error && !p->error) die(w, "a failure without its error", NULL);
  if (status != FH_OK && (p->result[0] || p->result[1])) die(w, "a failure with a result", NULL);
  if (status != FH_OK) ++w->refused;
  if (p->error) {
    if (fh_error_code(p->error) != status) die(w, "two statuses", p->error);
    keep(w, ERROR, p->error);
  }
  if (status == FH_OK && gives) keep(w, what, p->result[0]);
}

#endif
