/* A thread keeps the views it looked through and uses them again. Whatever was behind one, the next shows what it was asked for: random
 * views of every kind, several alive at a time, among tensors that take and give blocks of the same size. */
#include "check.h"

#include <pthread.h>

enum { ALIVE = 24, ROUNDS = 20000, MAX_NDIM = 8 };

typedef struct {
  fh_tensor *tensor, *held_too;
  DLManagedTensorVersioned *lent;
  DLTensor asked;
  int64_t shape[MAX_NDIM], strides[MAX_NDIM];
  uint32_t flags;
  int owned;
} slot;

static double memory[4096];
static uint64_t state = 88172645463325252u;

static uint32_t below(uint32_t n) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (uint32_t)((state >> 16) % n);
}

static void check_dl(const slot *s, DLTensor got) {
  CHECK(got.data == s->asked.data && got.byte_offset == 0);
  CHECK(got.device.device_type == s->asked.device.device_type && got.device.device_id == 0);
  CHECK(memcmp(&got.dtype, &s->asked.dtype, sizeof got.dtype) == 0);
  CHECK_EQ(got.ndim, s->asked.ndim);
  for (int32_t i = 0; i < got.ndim; ++i) CHECK(got.shape[i] == s->shape[i] && got.strides[i] == s->strides[i]);
}

static void check_slot(const slot *s) {
  DLTensor got;
  fh_error *err = NULL;
  OK(fh_tensor_dl(s->tensor, &got, &err));
  check_dl(s, got);
  CHECK_EQ(fh_tensor_flags(s->tensor), s->flags);
  CHECK((fh_tensor_id(s->tensor) != 0) == s->owned);
}

static void fill(slot *s) {
  static const uint8_t dtypes[][2] = {{kDLFloat, 32}, {kDLInt, 64}, {kDLUInt, 8}, {kDLBfloat, 16}, {kDLComplex, 128}, {kDLBool, 8}};
  static const uint32_t flags[] = {0, FH_FLAG_READ_ONLY, FH_FLAG_IS_COPIED, FH_FLAG_READ_ONLY | FH_FLAG_IS_COPIED};
  const uint8_t *dtype = dtypes[below(6)];
  const uint32_t kind = below(8);
  fh_error *err = NULL;
  memset(s, 0, sizeof *s);
  s->asked = (DLTensor){memory + below(16), on_cpu(), (int32_t)below(MAX_NDIM + 1), dtype_of(dtype[0], dtype[1]), s->shape, s->strides, 0};
  for (int i = 0; i < MAX_NDIM; ++i) s->shape[i] = 1 + below(3), s->strides[i] = below(40);
  s->flags = flags[below(4)];
  if (kind == 0) {
    s->owned = 1;
    OK(fh_import_raw(NULL, &s->asked, NULL, NULL, &s->tensor, &err));
    s->flags = 0;
  } else {
    /* Not host memory, and so no usual view. */
    if (kind == 1) s->asked.device.device_type = kDLCUDAHost;
    OK(fh_view_borrow(NULL, &s->asked, s->flags, &s->tensor, &err));
    CHECK((uintptr_t)s->tensor % 8 == 0);
  }
  if (below(4) == 0) s->held_too = fh_tensor_retain(s->tensor);
  if (below(4) == 0) OK(fh_export_versioned(s->tensor, version_of(1, 3), "someone", &s->lent, &err));
}

static void empty(slot *s) {
  if (s->held_too != NULL) {
    fh_tensor_release(s->held_too);
    check_slot(s);
  }
  fh_tensor_release(s->tensor);
  s->tensor = NULL;
  if (s->lent != NULL) {
    /* It keeps the view. */
    check_dl(s, s->lent->dl_tensor);
    s->lent->deleter(s->lent);
  }
}

/* Where blocks are kept, a view comes again as a view, and nothing else gets its block. */
static void again(void) {
  const char *cache = getenv("FREEHOLD_HOST_CACHE");
  int64_t shape[] = {3};
  DLTensor dl = {memory, on_cpu(), 1, dtype_of(kDLFloat, 64), shape, shape, 0};
  fh_error *err = NULL;
  fh_tensor *first = NULL, *other = NULL, *t = NULL;
  if (cache != NULL && strcmp(cache, "0") == 0) return;
  /* Two blocks of which nothing is known: one for the first view, and one for what is not a view. */
  OK(fh_import_raw(NULL, &dl, NULL, NULL, &other, &err));
  OK(fh_import_raw(NULL, &dl, NULL, NULL, &t, &err));
  fh_tensor_release(other);
  fh_tensor_release(t);
  for (int i = 0; i < 3; ++i) {
    OK(fh_view_borrow(NULL, &dl, 0, &first, &err));
    fh_tensor_release(first);
  }
  OK(fh_import_raw(NULL, &dl, NULL, NULL, &other, &err));
  CHECK(other != first);
  OK(fh_view_borrow(NULL, &dl, 0, &t, &err));
  CHECK(t == first);
  fh_tensor_release(t);
  fh_tensor_release(other);
}

static void refused(void) {
  static const struct {
    int64_t shape, stride;
    uint8_t bits;
    uint16_t lanes;
  } wrong[] = {{-1, 1, 32, 1}, {2, INT64_MAX, 32, 1}, {2, 1, 24, 1}, {2, 1, 32, 0}, {INT64_MAX, 1, 32, 1}};
  fh_error *err = NULL;
  fh_tensor *t = NULL;
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
    int64_t shape[] = {1, wrong[i].shape}, strides[] = {1, wrong[i].stride};
    DLTensor view = {memory, on_cpu(), 2, {kDLFloat, wrong[i].bits, wrong[i].lanes}, shape, strides, 0};
    FAILS(fh_view_borrow(NULL, &view, 0, &t, &err), FH_REJECTED, FH_REASON_CP02);
    CHECK(t == NULL);
  }
}

static void *all(void *slots) {
  slot *s = (slot *)slots;
  for (int round = 0; round < ROUNDS; ++round) {
    /* One at a time, as most callers have it, and many. */
    slot *one = s + below(round % 2000 < 1000 ? 1 : ALIVE);
    if (one->tensor != NULL) {
      check_slot(one);
      empty(one);
    }
    if (below(4) != 0) fill(one);
    if (below(64) == 0) refused();
  }
  return NULL;
}

int main(void) {
  static slot slots[ALIVE];
  pthread_t thread;
  again();
  all(slots);
  /* What one thread made another gives back, and keeps. */
  CHECK_EQ(pthread_create(&thread, NULL, all, slots), 0);
  CHECK_EQ(pthread_join(thread, NULL), 0);
  for (int i = 0; i < ALIVE; ++i) {
    if (slots[i].tensor != NULL) check_slot(slots + i), empty(slots + i);
  }
  return done("looks");
}
