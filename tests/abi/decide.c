/* Decisions: verdict, cost, reasons and words, for every kind of answer; what execute does is what was decided. */
#include "check.h"

static float data[6] = {0, 1, 2, 3, 4, 5};
static int deleted;

static fh_tensor *tensor_with(int64_t s0, int64_t s1, void *first, uint64_t flags) {
  const int64_t shape[2] = {2, 3};
  fh_error *err = NULL;
  fh_tensor *tensor = NULL;
  test_capsule *c = make_capsule(first, 2, shape, &deleted);
  c->strides[0] = s0;
  c->strides[1] = s1;
  c->versioned.flags = flags;
  OK(fh_import_versioned(NULL, &c->versioned, "numpy", &tensor, &err));
  return tensor;
}

static int32_t first_reason(const fh_decision *d) {
  fh_error *err = NULL;
  fh_reason reason = {.struct_size = sizeof reason};
  if (fh_decision_reason_count(d) == 0) return 0;
  OK(fh_decision_reason(d, 0, &reason, &err));
  CHECK(strlen(reason.name) == 4);
  CHECK(reason.detail != NULL);
  return reason.code;
}

/* Decides, checks the verdict and the first reason, executes, and checks that it did what was decided. */
static void expect(fh_tensor *t, const fh_request *request, const char *target, int32_t verdict, int32_t reason,
                   uint32_t steps, uint64_t bytes) {
  fh_error *err = NULL;
  fh_decision *d = NULL;
  fh_tensor *result = NULL, *again = NULL;
  fh_caps caps = caps_of(target);
  fh_cost cost = {.struct_size = sizeof cost};
  DLTensor before, after;
  int32_t overlap = -1;
  OK(fh_decide(t, request, &caps, &d, &err));
  CHECK_EQ(fh_decision_verdict(d), verdict);
  CHECK_EQ(first_reason(d), reason);
  OK(fh_decision_cost(d, &cost, &err));
  CHECK_EQ(cost.steps, steps);
  CHECK_EQ(cost.bytes_copied, bytes);
  CHECK_EQ(cost.bytes_allocated, bytes);
  CHECK_EQ(cost.sync, FH_WAIT_NONE);
  CHECK_HAS(fh_decision_explain(d), target);
  CHECK(fh_decision_explain(d) == fh_decision_explain(d));
  if (verdict == FH_VERDICT_REJECT) {
    CHECK_HAS(fh_decision_explain(d), "reject");
    CHECK_EQ(cost.writable, 0);
    FAILS(fh_execute(t, d, NULL, &result, &err), FH_REJECTED, reason);
    FAILS(fh_convert(t, request, &caps, NULL, &result, &err), FH_REJECTED, reason);
    CHECK(result == NULL);
  } else {
    OK(fh_execute(t, d, "decide.c", &result, &err));
    OK(fh_convert(t, request, &caps, "decide.c", &again, &err));
    OK(fh_tensor_overlap(t, result, &overlap, &err));
    CHECK_EQ(overlap, verdict == FH_VERDICT_SHARE ? FH_OVERLAP_SOME : FH_OVERLAP_NONE);
    OK(fh_tensor_dl(t, &before, &err));
    OK(fh_tensor_dl(result, &after, &err));
    CHECK_EQ(after.data == before.data, verdict == FH_VERDICT_SHARE);
    CHECK_EQ((fh_tensor_flags(result) & (FH_FLAG_READ_ONLY | FH_FLAG_IMMUTABLE)) == 0, cost.writable);
    CHECK_EQ((fh_tensor_flags(result) & FH_FLAG_IS_COPIED) != 0, verdict == FH_VERDICT_COPY);
    fh_tensor_release(result);
    fh_tensor_release(again);
  }
  fh_decision_free(d);
}

static void verdicts(void) {
  fh_request share = request_of(FH_COPY_NEVER), convert = request_of(FH_COPY_IF_NEEDED), copy = request_of(FH_COPY_ALWAYS);
  fh_request cast = convert, order = convert, must_write = convert, read_only = share;
  fh_tensor *plain = tensor_with(3, 1, data, 0), *flipped = tensor_with(-3, 1, data + 3, 0);
  fh_tensor *locked = tensor_with(3, 1, data, DLPACK_FLAG_BITMASK_READ_ONLY), *broadcast = tensor_with(0, 1, data, 0);
  cast.dtype = dtype_of(kDLFloat, 64);
  order.order = FH_ORDER_F;
  must_write.writable = FH_WRITABLE_YES;
  read_only.writable = FH_WRITABLE_NO;

  expect(plain, NULL, "freehold", FH_VERDICT_SHARE, 0, 0, 0);
  expect(plain, &share, "torch", FH_VERDICT_SHARE, 0, 0, 0);
  expect(plain, &copy, "torch", FH_VERDICT_COPY, 0, FH_STEP_FRESH, 24);
  expect(plain, &cast, "torch", FH_VERDICT_COPY, FH_REASON_CA01, FH_STEP_CAST, 48);
  expect(plain, &order, "torch", FH_VERDICT_COPY, FH_REASON_LY01, FH_STEP_LAYOUT, 24);
  cast.copy = FH_COPY_NEVER;
  expect(plain, &cast, "torch", FH_VERDICT_REJECT, FH_REASON_CA01, FH_STEP_CAST, 0);
  cast.copy = FH_COPY_IF_NEEDED;
  cast.order = FH_ORDER_F;
  expect(plain, &cast, "torch", FH_VERDICT_COPY, FH_REASON_CA01, FH_STEP_CAST | FH_STEP_LAYOUT, 48);

  expect(flipped, &share, "numpy", FH_VERDICT_SHARE, 0, 0, 0);
  expect(flipped, &share, "torch", FH_VERDICT_REJECT, FH_REASON_ST01, FH_STEP_LAYOUT, 0);
  expect(flipped, &convert, "torch", FH_VERDICT_COPY, FH_REASON_ST01, FH_STEP_LAYOUT, 24);

  expect(locked, &share, "numpy", FH_VERDICT_SHARE, FH_REASON_RO02, 0, 0);
  expect(locked, &share, "torch", FH_VERDICT_REJECT, FH_REASON_RO01, FH_STEP_FRESH, 0);
  expect(locked, &convert, "torch", FH_VERDICT_COPY, FH_REASON_RO01, FH_STEP_FRESH, 24);
  expect(locked, &must_write, "numpy", FH_VERDICT_COPY, FH_REASON_RO01, FH_STEP_FRESH, 24);
  expect(plain, &read_only, "numpy", FH_VERDICT_SHARE, 0, 0, 0);

  expect(broadcast, &share, "numpy", FH_VERDICT_SHARE, FH_REASON_AL02, 0, 0);
  expect(broadcast, &convert, "torch", FH_VERDICT_COPY, FH_REASON_AL02, FH_STEP_FRESH, 24);

  fh_tensor_release(plain);
  fh_tensor_release(flipped);
  fh_tensor_release(locked);
  fh_tensor_release(broadcast);
}

static void values(void) {
  fh_error *err = NULL;
  fh_tensor *flipped = tensor_with(-3, 1, data + 3, 0), *result = NULL;
  fh_request request = request_of(FH_COPY_IF_NEEDED);
  fh_caps torch = caps_of("torch");
  DLTensor view;
  const double rows[6] = {3, 4, 5, 0, 1, 2};
  request.dtype = dtype_of(kDLFloat, 64);
  OK(fh_convert(flipped, &request, &torch, NULL, &result, &err));
  OK(fh_tensor_dl(result, &view, &err));
  CHECK(memcmp(view.data, rows, sizeof rows) == 0);
  CHECK_EQ((uintptr_t)view.data % 256, 0);
  fh_tensor_release(result);

  /* A value that does not fit is named, and nothing is handed out. */
  data[4] = 300.5f;
  request.dtype = dtype_of(kDLUInt, 8);
  result = NULL;
  CHECK_EQ(fh_convert(flipped, &request, &torch, NULL, &result, &err), FH_REJECTED);
  CHECK_EQ(fh_error_reason(err), FH_REASON_CA02);
  CHECK_HAS(fh_error_message(err), "300.5");
  CHECK_HAS(fh_error_fix(err, 0), "request.on_loss = FH_ON_LOSS_ALLOW;");
  CHECK_HAS(fh_error_fix(err, 0), "request.on_loss = FH_ON_LOSS_ALLOW;");
  CHECK(result == NULL);
  fh_error_free(err);
  /* Its own fix, typed in. */
  err = NULL;
  request.on_loss = FH_ON_LOSS_ALLOW;
  OK(fh_convert(flipped, &request, &torch, NULL, &result, &err));
  OK(fh_tensor_dl(result, &view, &err));
  CHECK_EQ(((uint8_t *)view.data)[1], 255);
  fh_tensor_release(result);
  data[4] = 4;
  fh_tensor_release(flipped);
}

/* Caps that a program fills in itself, under its own name. */
static void own_target(void) {
  fh_error *err = NULL;
  fh_tensor *plain = tensor_with(3, 1, data, 0), *columns = tensor_with(1, 2, data, 0);
  fh_decision *d = NULL;
  fh_caps caps;
  fh_reason reason = {.struct_size = sizeof reason};
  fh_caps_init(&caps, sizeof caps);
  caps.name = "mykernels";
  caps.strides = FH_STRIDES_COMPACT;
  caps.dtypes = FH_DTYPE_BIT(FH_DTYPE_FLOAT32);
  caps.devices = FH_DEVICE_BIT(kDLCPU);
  OK(fh_decide(plain, NULL, &caps, &d, &err));
  CHECK_EQ(fh_decision_verdict(d), FH_VERDICT_SHARE);
  CHECK_HAS(fh_decision_explain(d), "mykernels");
  fh_decision_free(d);
  OK(fh_decide(columns, NULL, &caps, &d, &err));
  CHECK_EQ(fh_decision_verdict(d), FH_VERDICT_COPY);
  OK(fh_decision_reason(d, 0, &reason, &err));
  CHECK_EQ(reason.code, FH_REASON_ST02);
  CHECK_EQ(reason.info, 0);
  CHECK_HAS(reason.name, "ST02");
  CHECK_HAS(reason.detail, "stride");
  CHECK_HAS(fh_decision_explain(d), "mykernels needs compact strides");
  fh_decision_free(d);
  caps.dtypes = FH_DTYPE_BIT(FH_DTYPE_INT8);
  caps.flags &= ~(uint32_t)FH_CAPS_ANY_DTYPE;
  OK(fh_decide(plain, NULL, &caps, &d, &err));
  CHECK_EQ(fh_decision_verdict(d), FH_VERDICT_REJECT);
  OK(fh_decision_reason(d, 0, &reason, &err));
  CHECK_EQ(reason.code, FH_REASON_DT02);
  fh_decision_free(d);
  fh_tensor_release(plain);
  fh_tensor_release(columns);
}

/* A decision outlives its tensor, and is only for what it was made from. */
static void for_one_tensor(void) {
  fh_error *err = NULL;
  fh_tensor *plain = tensor_with(3, 1, data, 0), *other = tensor_with(-3, 1, data + 3, 0), *result = NULL;
  fh_decision *d = NULL;
  OK(fh_decide(plain, NULL, NULL, &d, &err));
  FAILS(fh_execute(other, d, NULL, &result, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  fh_tensor_release(plain);
  CHECK_HAS(fh_decision_explain(d), "f32[2,3] numpy cpu");
  /* The same memory again: same address, same layout. */
  plain = tensor_with(3, 1, data, 0);
  OK(fh_execute(plain, d, NULL, &result, &err));
  fh_tensor_release(result);
  fh_tensor_release(plain);
  fh_tensor_release(other);
  fh_decision_free(d);
}

static void graphs_and_bits(void) {
  int64_t shape[1] = {2};
  float pair[4] = {1, 2, 3, 4};
  fh_error *err = NULL;
  fh_tensor *t = NULL, *result = NULL;
  fh_request request = request_of(FH_COPY_IF_NEEDED);
  fh_caps numpy = caps_of("numpy");
  fh_owner owner = {.struct_size = sizeof owner};
  DLManagedTensorVersioned *capsule = NULL;
  DLTensor view;
  memset(&view, 0, sizeof view);
  view.data = pair;
  view.device = on_cpu();
  view.ndim = 1;
  view.dtype = dtype_of(kDLComplex, 64);
  view.shape = shape;

  owner.flags = FH_FLAG_CONJ;
  OK(fh_import_raw(NULL, &view, &owner, "torch", &t, &err));
  /* A capsule cannot say that the values are the conjugate, so it must not leave as it is. */
  FAILS(fh_export_versioned(t, version_of(1, 3), NULL, &capsule, &err), FH_REJECTED, FH_REASON_LZ01);
  request.copy = FH_COPY_NEVER;
  FAILS(fh_convert(t, &request, &numpy, NULL, &result, &err), FH_REJECTED, FH_REASON_LZ01);
  request.copy = FH_COPY_IF_NEEDED;
  OK(fh_convert(t, &request, &numpy, NULL, &result, &err));
  OK(fh_tensor_dl(result, &view, &err));
  CHECK(((float *)view.data)[1] == -2 && ((float *)view.data)[3] == -4);
  fh_tensor_release(result);
  OK(fh_tensor_dl(t, &view, &err));
  fh_tensor_release(t);

  view.data = pair;
  view.dtype = dtype_of(kDLFloat, 32);
  view.shape = shape;
  view.strides = NULL;
  owner.flags = FH_FLAG_REQUIRES_GRAD;
  OK(fh_import_raw(NULL, &view, &owner, "torch", &t, &err));
  FAILS(fh_convert(t, &request, &numpy, NULL, &result, &err), FH_REJECTED, FH_REASON_GR01);
  request.detach = 1;
  OK(fh_convert(t, &request, &numpy, NULL, &result, &err));
  CHECK(fh_tensor_flags(result) & FH_FLAG_READ_ONLY);
  CHECK(fh_tensor_flags(result) & FH_FLAG_DETACHED);
  fh_tensor_release(result);
  fh_tensor_release(t);
}

int main(void) {
  verdicts();
  values();
  own_target();
  for_one_tensor();
  graphs_and_bits();
  CHECK_EQ(deleted, 4 + 1 + 2 + 3);
  return done("decide");
}
