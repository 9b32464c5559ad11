/* Random capsules, fields changed at random, through every import. What is accepted is decided on, converted, copied
 * into, exported and released in random order. Run under AddressSanitizer: nothing may crash, leak or be freed twice, a
 * capsule's deleter runs exactly once, and an opinion formed here says which capsules must be refused.
 * Usage: fuzz_capsules [count [seed]]; the same seed gives the same capsules. */
#include "check.h"

#include <inttypes.h>

__extension__ typedef __int128 wide;

static uint64_t state;

static uint64_t next(void) {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * UINT64_C(2685821657736338717);
}

static uint64_t below(uint64_t n) { return next() % n; }
static int one_in(uint64_t n) { return below(n) == 0; }

/* Outlives the capsule, so that a second call of the deleter is seen. */
typedef struct {
  int calls, legacy;
  void *block;
  int64_t *shape, *strides;
} tracker;

static void gone(tracker *t) {
  ++t->calls;
  if (t->calls > 1) {
    fprintf(stderr, "a deleter ran %d times\n", t->calls);
    abort();
  }
  free(t->shape);
  free(t->strides);
  free(t->block);
}

static void gone_versioned(DLManagedTensorVersioned *self) { gone((tracker *)self->manager_ctx); }
static void gone_legacy(DLManagedTensor *self) { gone((tracker *)self->manager_ctx); }
static void gone_raw(void *context) { gone((tracker *)context); }

static int64_t odd_number(int64_t usual) {
  static const int64_t odd[] = {0, 1, -1, 2, -3, 7, 1000, -65536, INT64_MAX, INT64_MIN, INT64_MAX / 2, INT32_MAX,
                                (int64_t)1 << 32, (int64_t)1 << 61, -((int64_t)1 << 60)};
  switch (below(4)) {
    case 0: return odd[below(sizeof odd / sizeof *odd)];
    case 1: return (int64_t)next();
    default: return usual;
  }
}

/* What DLPack 1.3 says of a tensor, without looking at how the library does it. 1: it must be accepted, 0: refused, -1:
 * either. */
static int valid(const DLTensor *t, int padded) {
  static const unsigned char bits_of[18] = {0, 0, 0, 0, 16, 0, 8, 8, 8, 8, 8, 8, 8, 8, 8, 6, 6, 4};
  const int type = (int)t->device.device_type;
  wide count = 1, low = 0, high = 0, item_bits;
  if (t->ndim < 0 || t->ndim > 64) return 0;
  if (t->dtype.code > 17 || t->dtype.bits == 0 || t->dtype.lanes == 0) return 0;
  if (bits_of[t->dtype.code] != 0 && t->dtype.bits != bits_of[t->dtype.code]) return 0;
  if (t->dtype.code == kDLFloat && t->dtype.bits != 16 && t->dtype.bits != 32 && t->dtype.bits != 64 &&
      t->dtype.bits != 80 && t->dtype.bits != 96 && t->dtype.bits != 128)
    return 0;
  if (t->dtype.code == kDLComplex && t->dtype.bits != 32 && t->dtype.bits != 64 && t->dtype.bits != 128) return 0;
  if (type < 1 || type > 18 || type == 5 || type == 6 || t->device.device_id < 0) return 0;
  if (t->ndim > 0 && t->shape == NULL) return 0;
  for (int32_t i = 0; i < t->ndim; ++i) {
    if (t->shape[i] < 0) return 0;
    if (t->shape[i] == 0) count = 0;
  }
  /* The product of the sizes that are not 0 counts, so that a strange shape is as strange with a 0 in it. */
  if (count != 0) {
    for (int32_t i = 0; i < t->ndim; ++i) {
      count *= t->shape[i];
      if (count > INT64_MAX) return 0;
    }
  }
  if (count == 0) return -1;
  item_bits = (wide)t->dtype.bits * t->dtype.lanes;
  if (padded && item_bits % 8 != 0) item_bits = (item_bits + 7) / 8 * 8;
  if (t->strides == NULL) {
    high = count - 1;
  } else {
    for (int32_t i = 0; i < t->ndim; ++i) {
      const wide reach = (wide)(t->shape[i] - 1) * t->strides[i];
      /* 64 terms of up to 2^126 could overflow; what is far out is refused anyway. */
      if (reach > ((wide)1 << 100) || reach < -((wide)1 << 100)) return 0;
      if (reach < 0) low += reach; else high += reach;
    }
  }
  {
    /* In bits, rounded outward to bytes. */
    const wide low_bits = low * item_bits, high_bits = (high + 1) * item_bits;
    const wide low_bytes = -((-low_bits + 7) / 8), high_bytes = (high_bits + 7) / 8;
    wide first;
    /* Packed elements may be counted in bits: extents no machine has, refused a little early. */
    const wide most = item_bits % 8 != 0 ? (wide)1 << 62 : (wide)1 << 120;
    if ((high_bits > most || low_bits < -most) && low_bytes >= INT64_MIN && high_bytes <= INT64_MAX) return -1;
    if (low_bytes < INT64_MIN || high_bytes > INT64_MAX || high_bytes - low_bytes > INT64_MAX) return 0;
    if (t->data == NULL) return 0;
    if (type == kDLOpenCL || type == kDLVulkan || type == kDLMetal || type == kDLWebGPU) return 1;
    first = (wide)(uintptr_t)t->data + t->byte_offset;
    if (first + low_bytes < 0 || first + high_bytes > INT64_MAX) return 0;
  }
  return 1;
}

/* Whether every byte that the tensor reaches is inside [base, base + len): reading and writing it is fine. */
static int in_bounds(const DLTensor *t, const char *base, size_t len) {
  const wide item = ((wide)t->dtype.bits * t->dtype.lanes + 7) / 8;
  wide low = (wide)(uintptr_t)t->data + t->byte_offset, high = low;
  if (t->device.device_type != kDLCPU) return 0;
  for (int32_t i = 0; i < t->ndim; ++i) {
    const wide reach = (wide)(t->shape[i] - 1) * t->strides[i] * item;
    if (t->shape[i] == 0) return 1;
    if (reach > ((wide)1 << 100) || reach < -((wide)1 << 100)) return 0;
    if (reach < 0) low += reach; else high += reach;
  }
  return low >= (wide)(uintptr_t)base && high + item <= (wide)(uintptr_t)base + (wide)len;
}

static const DLDataType DTYPES[] = {{kDLFloat, 32, 1}, {kDLFloat, 64, 1}, {kDLInt, 8, 1},  {kDLUInt, 16, 1},
                                    {kDLInt, 64, 1},   {kDLFloat, 16, 1}, {4, 16, 1},      {kDLComplex, 64, 1},
                                    {6, 8, 1},         {12, 8, 1},        {17, 4, 1},      {kDLInt, 4, 1},
                                    {15, 6, 1},        {kDLFloat, 32, 4}, {kDLUInt, 1, 1}, {3, 64, 1}};
enum { N_DTYPES = sizeof DTYPES / sizeof *DTYPES };
static const char *const TARGETS[] = {"freehold", "numpy", "torch", "dlpack", "dlpack-legacy"};
static fh_caps targets[5];
/* Of each capsule, one that was made here or the process's own, which has ways of its own. */
static fh_runtime *made, *rt;

/* What became of the capsules. */
static uint64_t accepted, readable, executed, copied, exported, shared;
static uint64_t by_code[4096];

static void note(fh_error *err) {
  const int32_t code = fh_error_reason(err);
  CHECK(code > 0 && code < 4096);
  CHECK(fh_error_message(err)[0] == '[');
  ++by_code[code];
  fh_error_free(err);
}

static fh_request random_request(int touch) {
  fh_request r;
  fh_request_init(&r, sizeof r);
  r.copy = touch ? (int32_t)below(3) : FH_COPY_NEVER;
  if (one_in(2)) r.dtype = DTYPES[below(N_DTYPES)];
  r.order = (int32_t)below(3);
  r.writable = (int32_t)below(3);
  r.on_loss = (int32_t)below(2);
  r.detach = (uint8_t)below(2);
  r.freeze = (uint8_t)(touch && one_in(4));
  if (one_in(6)) r.alignment = UINT32_C(1) << below(13);
  if (one_in(8)) {
    r.device.device_type = (DLDeviceType)(1 + below(18));
    r.device.device_id = (int32_t)below(2);
  }
  return r;
}

/* Decides, and carries it out: the outcome must be the one decided, or a value that does not fit, or no memory. */
static fh_tensor *walk(fh_tensor *t, int touch) {
  const fh_request r = random_request(touch);
  const fh_caps *caps = &targets[below(5)];
  fh_error *err = NULL;
  fh_decision *d = NULL;
  fh_tensor *result = NULL;
  int32_t verdict, overlap = -1;
  fh_status status = fh_decide(t, &r, one_in(4) ? NULL : caps, &d, &err);
  if (status != FH_OK) {
    note(err);
    return NULL;
  }
  verdict = fh_decision_verdict(d);
  CHECK(fh_decision_explain(d)[0] != 0);
  if (fh_decision_reason_count(d) > 0) {
    fh_reason reason = {.struct_size = sizeof reason};
    CHECK_EQ(fh_decision_reason(d, fh_decision_reason_count(d) - 1, &reason, NULL), FH_OK);
    CHECK(strlen(reason.name) == 4);
  }
  if (touch || verdict != FH_VERDICT_COPY) {
    status = fh_execute(t, d, "fuzz", &result, &err);
    if (status == FH_OK) {
      ++executed;
      CHECK(verdict != FH_VERDICT_REJECT);
      CHECK_EQ(fh_tensor_overlap(t, result, &overlap, NULL), FH_OK);
      if (verdict == FH_VERDICT_COPY) {
        ++copied;
        CHECK_EQ(overlap, FH_OVERLAP_NONE);
      } else {
        ++shared;
      }
    } else {
      const int32_t reason = fh_error_reason(err);
      const int allowed = verdict == FH_VERDICT_REJECT ||
                          (verdict == FH_VERDICT_COPY && (reason == FH_REASON_CA02 || reason == FH_REASON_ME01));
      if (!allowed) fprintf(stderr, "%s\n%s\n", fh_decision_explain(d), fh_error_message(err));
      CHECK(allowed);
      note(err);
    }
  }
  fh_decision_free(d);
  return result;
}

static void leave(fh_tensor *t) {
  fh_error *err = NULL;
  DLManagedTensorVersioned *v = NULL;
  DLManagedTensor *l = NULL;
  fh_tensor *again = NULL;
  if (one_in(2)) {
    const fh_status status = fh_export_versioned(t, version_of((uint32_t)below(3), (uint32_t)below(5)), "fuzz", &v, &err);
    if (status != FH_OK) {
      note(err);
      return;
    }
    ++exported;
    CHECK(v->deleter != NULL && v->version.major == 1);
    if (one_in(2)) {
      CHECK_EQ(fh_import_versioned(rt, v, "again", &again, NULL), FH_OK);
      fh_tensor_release(again);
    } else {
      v->deleter(v);
    }
  } else {
    const fh_status status = fh_export_legacy(t, NULL, &l, &err);
    if (status != FH_OK) {
      note(err);
      return;
    }
    ++exported;
    l->deleter(l);
  }
}

static void use(fh_tensor *t, int touch) {
  fh_tensor *first = walk(t, touch), *second = NULL;
  if (first != NULL && one_in(2)) second = walk(first, touch);
  if (touch && first != NULL && one_in(3)) {
    fh_error *err = NULL;
    fh_request r;
    fh_request_init(&r, sizeof r);
    r.on_loss = (int32_t)below(2);
    if (fh_copy_into(t, first, &r, &err) != FH_OK) note(err);
  }
  if (one_in(8)) {
    fh_query query = {.struct_size = sizeof query};
    fh_holder holder = {.struct_size = sizeof holder};
    DLTensor view;
    CHECK_EQ(fh_tensor_dl(t, &view, NULL), FH_OK);
    query.aliases_of = t;
    (void)query;
    CHECK_EQ(fh_ledger_owner(rt, view.device, view.data, &holder, NULL), FH_OK);
  }
  if (one_in(2)) leave(t);
  if (one_in(2)) fh_tensor_release(t), t = NULL;
  if (first != NULL) leave(first);
  if (second != NULL) leave(second);
  if (one_in(2)) fh_tensor_release(second), second = NULL;
  fh_tensor_release(first);
  fh_tensor_release(second);
  fh_tensor_release(t);
}

/* One capsule: made valid, changed, offered, and what follows. */
static void one(void) {
  const size_t len = 1 + below(600);
  char *data = (char *)malloc(len);
  tracker *track = (tracker *)calloc(1, sizeof *track);
  const int kind = (int)below(4), no_deleter = one_in(16);
  DLTensor t;
  DLPackVersion version = version_of(1, (uint32_t)below(4));
  uint64_t flags = below(8);
  int entries, expected, major_ok = 1, padded;
  fh_status status;
  fh_error *err = NULL;
  fh_tensor *tensor = NULL;
  int64_t step = 1, room;
  const char *label = one_in(3) ? NULL : one_in(2) ? "torch" : "numpy@fuzz.c:1";

  for (size_t i = 0; i < len; ++i) data[i] = (char)(one_in(3) ? 0 : below(256));
  memset(&t, 0, sizeof t);
  t.data = data;
  t.device = on_cpu();
  t.ndim = (int32_t)below(5);
  t.dtype = DTYPES[below(N_DTYPES)];
  if (one_in(12)) t.ndim = one_in(2) ? (int32_t)below(70) - 2 : (int32_t)next();
  entries = t.ndim < 0 || t.ndim > 64 ? (int)below(3) : t.ndim;
  track->shape = (int64_t *)malloc(sizeof(int64_t) * (size_t)entries + 1);
  track->strides = (int64_t *)malloc(sizeof(int64_t) * (size_t)entries + 1);
  /* Sizes whose compact layout fits into the buffer, mostly. */
  room = (int64_t)(len * 8 / ((size_t)t.dtype.bits * t.dtype.lanes));
  for (int i = entries - 1; i >= 0; --i) {
    const int64_t most = room / step;
    track->shape[i] = most > 1 ? (int64_t)below((uint64_t)(most > 9 ? 9 : most)) + 1 : 1;
    track->strides[i] = step;
    step *= track->shape[i];
  }
  t.shape = track->shape;
  t.strides = track->strides;

  if (entries > 0 && one_in(6)) track->shape[below((uint64_t)entries)] = odd_number(0);
  if (entries > 0 && one_in(5)) track->strides[below((uint64_t)entries)] = odd_number(one_in(2) ? 0 : 2);
  if (entries > 1 && one_in(5)) { /* two dimensions change places */
    const int64_t s = track->shape[0], st = track->strides[0];
    track->shape[0] = track->shape[1], track->strides[0] = track->strides[1];
    track->shape[1] = s, track->strides[1] = st;
  }
  if (entries > 0 && one_in(5)) { /* one dimension runs backwards */
    const uint64_t i = below((uint64_t)entries);
    const size_t item = ((size_t)t.dtype.bits * t.dtype.lanes) / 8;
    if (track->shape[i] > 0 && track->shape[i] < 100 && track->strides[i] > 0 && track->strides[i] < 1000) {
      t.byte_offset += (uint64_t)((track->shape[i] - 1) * track->strides[i]) * item;
      track->strides[i] = -track->strides[i];
    }
  }
  if (one_in(20)) t.shape = NULL;
  if (one_in(10)) t.strides = NULL;
  if (one_in(20)) t.data = one_in(2) ? NULL : (void *)(uintptr_t)next();
  if (one_in(20)) t.dtype.code = (uint8_t)next();
  if (one_in(20)) t.dtype.bits = (uint8_t)next();
  if (one_in(20)) t.dtype.lanes = (uint16_t)(one_in(2) ? below(5) : next());
  if (one_in(20)) t.byte_offset = (uint64_t)odd_number(4);
  if (one_in(20)) t.device.device_type = (DLDeviceType)(one_in(2) ? below(24) : next() & 0x7fffffff);
  if (one_in(20)) t.device.device_id = (int32_t)odd_number(0);
  if (one_in(20)) version.major = (uint32_t)(one_in(2) ? below(4) : next());
  if (one_in(20)) version.minor = (uint32_t)next();
  if (one_in(10)) flags = next();

  if (kind == 0) {
    DLManagedTensorVersioned *m = (DLManagedTensorVersioned *)calloc(1, sizeof *m);
    track->block = m;
    m->version = version;
    m->manager_ctx = track;
    m->deleter = no_deleter ? NULL : gone_versioned;
    m->flags = flags;
    m->dl_tensor = t;
    major_ok = version.major == 1;
    padded = (flags & DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED) != 0;
    expected = valid(&t, padded);
    status = fh_import_versioned(rt, m, label, &tensor, &err);
  } else if (kind == 1) {
    DLManagedTensor *m = (DLManagedTensor *)calloc(1, sizeof *m);
    track->block = m;
    m->manager_ctx = track;
    m->deleter = no_deleter ? NULL : gone_legacy;
    m->dl_tensor = t;
    expected = valid(&t, 0);
    status = fh_import_legacy(rt, m, label, &tensor, &err);
  } else {
    fh_owner owner = {.struct_size = sizeof owner};
    /* Not every pattern of strides in bytes: what is in bounds is computed in elements. */
    const uint32_t raw = (uint32_t)(flags & (one_in(20) ? 0xffff : 0x1ff));
    track->block = malloc(1);
    owner.flags = raw;
    owner.context = track;
    owner.release = no_deleter || kind == 3 ? NULL : gone_raw;
    owner.allocation = one_in(2) ? (uintptr_t)data : 0;
    owner.allocation_bytes = len;
    padded = (raw & FH_FLAG_SUBBYTE_PADDED) != 0;
    expected = valid(&t, padded);
    if (raw & ~UINT32_C(0x3ff)) expected = 0;
    if (raw & FH_FLAG_BYTE_STRIDES) expected = -1;
    status = kind == 2 ? fh_import_raw(rt, &t, &owner, label, &tensor, &err) : fh_view_borrow(rt, &t, raw, &tensor, &err);
  }
  if (!major_ok) expected = 0;
  if (expected >= 0 && (status == FH_OK) != expected) {
    fprintf(stderr, "status %d where %s was expected: %s\n", (int)status, expected ? "success" : "a refusal",
            status == FH_OK ? "accepted" : fh_error_message(err));
    fprintf(stderr, "ndim %d dtype %d/%d/%d device %d:%d data %p offset %" PRIu64 " shape %p strides %p\n", t.ndim,
            t.dtype.code, t.dtype.bits, t.dtype.lanes, (int)t.device.device_type, t.device.device_id, t.data,
            t.byte_offset, (void *)t.shape, (void *)t.strides);
    for (int i = 0; i < entries; ++i) fprintf(stderr, "  [%d] %" PRId64 " by %" PRId64 "\n", i, track->shape[i], track->strides[i]);
    abort();
  }

  if (status != FH_OK) {
    const int released = fh_error_reason(err) == FH_REASON_VE01;
    note(err);
    CHECK(tensor == NULL);
    /* The caller still owns it, an unknown major version excepted. */
    CHECK_EQ(track->calls, released && !no_deleter);
    if (track->calls == 0) gone(track);
  } else {
    DLTensor view;
    int touch;
    ++accepted;
    CHECK_EQ(fh_tensor_dl(tensor, &view, NULL), FH_OK);
    touch = in_bounds(&view, data, len) && !(fh_tensor_flags(tensor) & FH_FLAG_BYTE_STRIDES);
    readable += (uint64_t)touch;
    CHECK_EQ(track->calls, 0);
    use(tensor, touch);
    if (no_deleter || kind == 3) {
      CHECK_EQ(track->calls, 0);
      gone(track);
    }
  }
  CHECK_EQ(track->calls, 1);
  free(track);
  free(data);
}

int main(int argc, char **argv) {
  const long count = argc > 1 ? atol(argv[1]) : 20000;
  const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
  fh_error *err = NULL;
  fh_policy policy = {.struct_size = sizeof policy};
  fh_stats stats = {.struct_size = sizeof stats};
  /* Broadcast views claim more than they hold; a copy of one is not what is tested here. */
  policy.has_max_copy_bytes = 1;
  policy.max_copy_bytes = 1 << 16;
  OK(fh_runtime_new(FH_LEDGER_RECORDS, &policy, &made, &err));
  OK(fh_runtime_set_policy(NULL, &policy, NULL, &err));
  for (int i = 0; i < 5; ++i) targets[i] = caps_of(TARGETS[i]);
  state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
  for (long i = 0; i < count; ++i) {
    rt = one_in(2) ? made : NULL;
    one();
  }

  for (int own = 0; own < 2; ++own) {
    OK(fh_ledger_stats(own ? made : NULL, &stats, &err));
    CHECK_EQ(stats.live_holders, 0);
    CHECK_EQ(stats.double_closed, 0);
  }
  printf("fuzz: %ld capsules, seed %" PRIu64 ": %" PRIu64 " accepted (%" PRIu64 " read), %" PRIu64 " executed (%" PRIu64
         " shared, %" PRIu64 " copied), %" PRIu64 " exported\n",
         count, seed, accepted, readable, executed, shared, copied, exported);
  printf("fuzz: refusals by reason:");
  for (int i = 0; i < 4096; ++i)
    if (by_code[i]) printf(" %d: %" PRIu64, i, by_code[i]);
  printf("\nfuzz: every deleter ran once; nothing is left on the ledger\n");
  fh_runtime_free(made);
  return 0;
}
