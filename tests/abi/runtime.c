/* Runtimes: policies, and results in memory that the program brings. */
#include "check.h"

typedef struct {
  int live, allocated, dropped, fail, crooked;
} arena;

static void *take(void *user, size_t bytes, size_t align, int64_t stream) {
  arena *a = (arena *)user;
  void *memory;
  (void)stream;
  CHECK(bytes > 0 && align >= 64 && (align & (align - 1)) == 0);
  if (a->fail) return NULL;
  if (posix_memalign(&memory, align, bytes + align) != 0) return NULL;
  ++a->live;
  ++a->allocated;
  memset(memory, 0xaa, bytes);
  /* An allocator that does not align as asked: the address must come back as it was given. */
  return a->crooked ? (char *)memory + 8 : memory;
}

static void give(void *user, void *memory, size_t bytes, size_t align, int64_t stream) {
  arena *a = (arena *)user;
  (void)bytes;
  (void)align;
  (void)stream;
  --a->live;
  free(a->crooked ? (char *)memory - 8 : (char *)memory);
}

static void drop(void *user) { ++((arena *)user)->dropped; }

static void memory(void) {
  const int64_t shape[1] = {1000};
  arena a = {0, 0, 0, 0, 0}, b = {0, 0, 0, 0, 0};
  fh_error *err = NULL;
  fh_runtime *rt = NULL;
  fh_tensor *t = NULL, *copy = NULL;
  DLManagedTensorVersioned *out = NULL;
  DLTensor view;
  fh_request request = request_of(FH_COPY_ALWAYS);
  fh_device device = {.struct_size = sizeof device};
  device.device = on_cpu();
  device.name = "arena";
  device.allocate = take;
  device.deallocate = give;
  device.drop_user = drop;
  device.user = &a;

  OK(fh_runtime_new(FH_LEDGER_RECORDS, NULL, &rt, &err));
  device.deallocate = NULL;
  FAILS(fh_runtime_register_device(rt, &device, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  device.deallocate = give;
  device.device.device_type = (DLDeviceType)77;
  FAILS(fh_runtime_register_device(rt, &device, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  device.device = on_cpu();
  CHECK_EQ(a.dropped, 0);
  OK(fh_runtime_register_device(rt, &device, &err));

  OK(fh_tensor_new(rt, dtype_of(kDLFloat, 32), on_cpu(), 1, shape, NULL, &t, &err));
  CHECK_EQ(a.live, 1);
  OK(fh_tensor_dl(t, &view, &err));
  for (int i = 0; i < 1000; ++i) CHECK(((float *)view.data)[i] == 0);
  OK(fh_convert(t, &request, NULL, NULL, &copy, &err));
  CHECK_EQ(a.live, 2);
  fh_tensor_release(copy);
  CHECK_EQ(a.live, 1);

  /* No memory is an error, and the source is as it was. */
  a.fail = 1;
  copy = NULL;
  CHECK_EQ(fh_convert(t, &request, NULL, NULL, &copy, &err), FH_OUT_OF_MEMORY);
  CHECK_EQ(fh_error_reason(err), FH_REASON_ME01);
  fh_error_free(err);
  err = NULL;
  a.fail = 0;
  a.crooked = 1;
  FAILS(fh_convert(t, &request, NULL, NULL, &copy, &err), FH_OUT_OF_MEMORY, FH_REASON_ME01);
  CHECK(copy == NULL);
  CHECK_EQ(a.live, 1);
  a.crooked = 0;

  /* Replaced, but not dropped while memory of it lives: here in a capsule, after tensor and runtime are gone. */
  device.user = &b;
  OK(fh_runtime_register_device(rt, &device, &err));
  OK(fh_export_versioned(t, version_of(0, 0), NULL, &out, &err));
  fh_tensor_release(t);
  fh_runtime_free(rt);
  CHECK_EQ(a.live, 1);
  CHECK_EQ(a.dropped, 0);
  out->deleter(out);
  CHECK_EQ(a.live, 0);
  CHECK_EQ(a.dropped, 1);
  CHECK_EQ(b.dropped, 1);
  CHECK_EQ(b.allocated, 0);

  /* Memory that the host cannot write is not zeroed here. */
  {
    DLDevice cuda;
    cuda.device_type = kDLCUDA;
    cuda.device_id = 0;
    FAILS(fh_tensor_new(NULL, dtype_of(kDLFloat, 32), cuda, 1, shape, NULL, &t, &err), FH_REJECTED, FH_REASON_DV02);
  }
}

static void policies(void) {
  const int64_t shape[1] = {4};
  float data[4] = {1, 2, 3, 4};
  int deleted = 0;
  fh_error *err = NULL;
  fh_runtime *rt = NULL;
  fh_tensor *t = NULL, *result = NULL;
  fh_policy policy = {.struct_size = sizeof policy}, before = {.struct_size = sizeof before};
  fh_request request = request_of(FH_COPY_IF_NEEDED);
  fh_caps torch = caps_of("torch");
  fh_stats stats = {.struct_size = sizeof stats};
  test_capsule *c = make_capsule(data, 1, shape, &deleted);
  c->versioned.flags = DLPACK_FLAG_BITMASK_READ_ONLY;

  policy.readonly = FH_READONLY_REJECT;
  OK(fh_runtime_new(FH_LEDGER_RECORDS, &policy, &rt, &err));
  OK(fh_import_versioned(rt, &c->versioned, NULL, &t, &err));
  FAILS(fh_convert(t, &request, &torch, NULL, &result, &err), FH_REJECTED, FH_REASON_RO01);

  policy.readonly = FH_READONLY_TRUST;
  OK(fh_runtime_set_policy(rt, &policy, &before, &err));
  CHECK_EQ(before.readonly, FH_READONLY_REJECT);
  CHECK_EQ(before.struct_size, sizeof before);
  OK(fh_convert(t, &request, &torch, NULL, &result, &err));
  CHECK_EQ(fh_tensor_flags(result) & FH_FLAG_READ_ONLY, 0);
  fh_tensor_release(result);
  OK(fh_ledger_stats(rt, &stats, &err));
  CHECK(stats.hazards >= 1);
  CHECK(stats.rejects == 1);

  /* A limit, and the fix that the message offers, typed in. */
  policy.readonly = FH_READONLY_COPY;
  policy.has_max_copy_bytes = 1;
  policy.max_copy_bytes = 8;
  OK(fh_runtime_set_policy(rt, &policy, NULL, &err));
  CHECK_EQ(fh_convert(t, &request, &torch, NULL, &result, &err), FH_REJECTED);
  CHECK_EQ(fh_error_reason(err), FH_REASON_PO01);
  CHECK_HAS(fh_error_fix(err, 0), "policy.max_copy_bytes = 16; fh_runtime_set_policy(rt, &policy, &error)");
  fh_error_free(err);
  err = NULL;
  policy.max_copy_bytes = 16;
  OK(fh_runtime_set_policy(rt, &policy, NULL, &err));
  OK(fh_convert(t, &request, &torch, NULL, &result, &err));
  fh_tensor_release(result);

  /* Only a copy that is asked for by name. */
  policy.copies = FH_COPIES_ERROR;
  policy.has_max_copy_bytes = 0;
  OK(fh_runtime_set_policy(rt, &policy, NULL, &err));
  FAILS(fh_convert(t, &request, &torch, NULL, &result, &err), FH_REJECTED, FH_REASON_PO01);
  request.copy = FH_COPY_ALWAYS;
  OK(fh_convert(t, &request, &torch, NULL, &result, &err));
  fh_tensor_release(result);

  /* Asking changes nothing. */
  OK(fh_runtime_set_policy(rt, NULL, &before, &err));
  CHECK_EQ(before.copies, FH_COPIES_ERROR);
  CHECK_EQ(before.has_max_copy_bytes, 0);
  OK(fh_runtime_set_policy(NULL, NULL, &before, &err));
  CHECK_EQ(before.copies, FH_COPIES_ALLOW);

  /* Threads are a rule too; 0 is as many as a copy repays. */
  policy.threads = 2;
  OK(fh_runtime_set_policy(rt, &policy, &before, &err));
  CHECK_EQ(before.threads, 0);
  OK(fh_runtime_set_policy(rt, NULL, &before, &err));
  CHECK_EQ(before.threads, 2);
  OK(fh_convert(t, &request, &torch, NULL, &result, &err));
  fh_tensor_release(result);

  policy.copies = 3;
  FAILS(fh_runtime_set_policy(rt, &policy, NULL, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  policy.copies = 0;
  policy.has_max_copy_bytes = 2;
  FAILS(fh_runtime_set_policy(rt, &policy, NULL, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  OK(fh_runtime_set_policy(rt, NULL, &before, &err));
  CHECK_EQ(before.copies, FH_COPIES_ERROR);

  fh_tensor_release(t);
  fh_runtime_free(rt);
  CHECK_EQ(deleted, 1);
}

/* Lent frozen: the owner wrote, and the ledger knows it. */
static void frozen(void) {
  const int64_t shape[1] = {4};
  float data[4] = {1, 2, 3, 4};
  int deleted = 0;
  fh_error *err = NULL;
  fh_runtime *rt = NULL;
  fh_tensor *t = NULL, *lent = NULL;
  fh_request request = request_of(FH_COPY_NEVER);
  fh_stats stats = {.struct_size = sizeof stats};
  test_capsule *c = make_capsule(data, 1, shape, &deleted);
  OK(fh_runtime_new(FH_LEDGER_RECORDS, NULL, &rt, &err));
  OK(fh_import_versioned(rt, &c->versioned, NULL, &t, &err));
  request.freeze = 1;
  OK(fh_convert(t, &request, NULL, NULL, &lent, &err));
  CHECK(fh_tensor_flags(lent) & FH_FLAG_FROZEN);
  data[2] = 9;
  fh_tensor_release(lent);
  OK(fh_ledger_stats(rt, &stats, &err));
  CHECK_EQ(stats.hazards, 1);
  fh_tensor_release(t);
  fh_runtime_free(rt);
  CHECK_EQ(deleted, 1);
}

int main(void) {
  memory();
  policies();
  frozen();
  return done("runtime");
}
