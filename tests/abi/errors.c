/* NULL and misaligned arguments are errors, outputs are written on success only, options of other versions are read. */
#include "check.h"

static void *const ODD = (void *)(uintptr_t)3;

static void accessors(void) {
  fh_error *err = NULL;
  fh_tensor *tensor = NULL;

  CHECK_EQ(fh_import_versioned(NULL, NULL, NULL, &tensor, &err), FH_INVALID_ARGUMENT);
  CHECK(tensor == NULL);
  CHECK_EQ(fh_error_code(err), FH_INVALID_ARGUMENT);
  CHECK_EQ(fh_error_reason(err), FH_REASON_AR01);
  CHECK_HAS(fh_error_message(err), "AR01");
  CHECK_HAS(fh_error_message(err), "NULL");
  /* The same text as long as the error lives. */
  CHECK(fh_error_message(err) == fh_error_message(err));
  CHECK(fh_error_fix(err, 0) != NULL);
  CHECK(fh_error_fix(err, 1000) == NULL);
  fh_error_free(err);

  CHECK_EQ(fh_error_code(NULL), FH_OK);
  CHECK_EQ(fh_error_reason(NULL), 0);
  CHECK(strcmp(fh_error_message(NULL), "") == 0);
  CHECK(fh_error_fix(NULL, 0) == NULL);
  fh_error_free(NULL);

  /* Nobody has to look. */
  CHECK_EQ(fh_import_versioned(NULL, NULL, NULL, &tensor, NULL), FH_INVALID_ARGUMENT);
  CHECK_EQ(fh_import_versioned(NULL, NULL, NULL, &tensor, (fh_error **)ODD), FH_INVALID_ARGUMENT);
}

/* Every pointer of every function, once NULL where that is not allowed, once misaligned. */
static void pointers(void) {
  float data[2] = {1, 2};
  const int64_t shape[1] = {2};
  int deleted = 0;
  fh_error *err = NULL;
  fh_tensor *t = NULL, *out = NULL;
  fh_decision *d = NULL, *d_out = NULL;
  fh_runtime *rt = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  DLManagedTensor *legacy = NULL;
  DLTensor view;
  int32_t overlap;
  fh_caps caps = caps_of("numpy");
  fh_request request = request_of(FH_COPY_IF_NEEDED);
  fh_cost cost = {.struct_size = sizeof cost};
  fh_reason reason = {.struct_size = sizeof reason};
  fh_stats stats = {.struct_size = sizeof stats};
  fh_holder holder = {.struct_size = sizeof holder};
  test_capsule *capsule = make_capsule(data, 1, shape, &deleted);
  OK(fh_import_versioned(NULL, &capsule->versioned, NULL, &t, &err));
  OK(fh_decide(t, NULL, NULL, &d, &err));
  OK(fh_tensor_dl(t, &view, &err));

#define BAD(call) FAILS(call, FH_INVALID_ARGUMENT, FH_REASON_AR01)
  BAD(fh_runtime_new(FH_LEDGER_RECORDS, NULL, NULL, &err));
  BAD(fh_runtime_new(FH_LEDGER_RECORDS, NULL, ODD, &err));
  BAD(fh_runtime_new(FH_LEDGER_RECORDS, ODD, &rt, &err));
  BAD(fh_runtime_new(99, NULL, &rt, &err));
  BAD(fh_runtime_new(-1, NULL, &rt, &err));
  BAD(fh_runtime_set_policy(ODD, NULL, NULL, &err));
  BAD(fh_runtime_set_policy(NULL, ODD, NULL, &err));
  BAD(fh_runtime_set_policy(NULL, NULL, ODD, &err));
  BAD(fh_runtime_register_device(NULL, NULL, &err));
  BAD(fh_runtime_register_device(NULL, ODD, &err));
  BAD(fh_import_versioned(NULL, &capsule->versioned, NULL, NULL, &err));
  BAD(fh_import_versioned(NULL, ODD, NULL, &out, &err));
  BAD(fh_import_versioned(ODD, &capsule->versioned, NULL, &out, &err));
  BAD(fh_import_legacy(NULL, NULL, NULL, &out, &err));
  BAD(fh_import_legacy(NULL, ODD, NULL, &out, &err));
  BAD(fh_import_legacy(NULL, &capsule->legacy, NULL, NULL, &err));
  BAD(fh_import_raw(NULL, NULL, NULL, NULL, &out, &err));
  BAD(fh_import_raw(NULL, ODD, NULL, NULL, &out, &err));
  BAD(fh_import_raw(NULL, &view, ODD, NULL, &out, &err));
  BAD(fh_import_raw(NULL, &view, NULL, NULL, NULL, &err));
  BAD(fh_view_borrow(NULL, NULL, 0, &out, &err));
  BAD(fh_view_borrow(NULL, ODD, 0, &out, &err));
  BAD(fh_view_borrow(NULL, &view, 0, NULL, &err));
  BAD(fh_view_borrow(NULL, &view, 0, ODD, &err));
  BAD(fh_view_borrow(ODD, &view, 0, &out, &err));
  BAD(fh_view_borrow(NULL, &view, FH_FLAG_LEGACY, &out, &err));
  BAD(fh_view_borrow(NULL, &view, 1u << 31, &out, &err));
  BAD(fh_view_borrow(NULL, &view, FH_FLAG_FROZEN, &out, &err));
  BAD(fh_tensor_new(NULL, dtype_of(kDLFloat, 32), on_cpu(), 1, NULL, NULL, &out, &err));
  BAD(fh_tensor_new(NULL, dtype_of(kDLFloat, 32), on_cpu(), 1, ODD, NULL, &out, &err));
  BAD(fh_tensor_new(NULL, dtype_of(kDLFloat, 32), on_cpu(), -1, shape, NULL, &out, &err));
  BAD(fh_tensor_new(NULL, dtype_of(kDLFloat, 32), on_cpu(), 65, shape, NULL, &out, &err));
  BAD(fh_tensor_new(NULL, dtype_of(kDLFloat, 33), on_cpu(), 1, shape, NULL, &out, &err));
  BAD(fh_tensor_new(NULL, dtype_of(kDLFloat, 32), on_cpu(), 1, shape, NULL, NULL, &err));
  BAD(fh_tensor_dl(NULL, &view, &err));
  BAD(fh_tensor_dl(ODD, &view, &err));
  BAD(fh_tensor_dl(t, NULL, &err));
  BAD(fh_tensor_dl(t, ODD, &err));
  BAD(fh_tensor_overlap(NULL, t, &overlap, &err));
  BAD(fh_tensor_overlap(t, NULL, &overlap, &err));
  BAD(fh_tensor_overlap(t, t, NULL, &err));
  BAD(fh_caps_for(NULL, &caps, &err));
  BAD(fh_caps_for("nobody", &caps, &err));
  BAD(fh_caps_for("numpy", NULL, &err));
  BAD(fh_caps_for("numpy", ODD, &err));
  BAD(fh_decide(NULL, NULL, NULL, &d_out, &err));
  BAD(fh_decide(ODD, NULL, NULL, &d_out, &err));
  BAD(fh_decide(t, ODD, NULL, &d_out, &err));
  BAD(fh_decide(t, NULL, ODD, &d_out, &err));
  BAD(fh_decide(t, NULL, NULL, NULL, &err));
  BAD(fh_decision_cost(NULL, &cost, &err));
  BAD(fh_decision_cost(d, NULL, &err));
  BAD(fh_decision_cost(d, ODD, &err));
  BAD(fh_decision_reason(NULL, 0, &reason, &err));
  BAD(fh_decision_reason(d, 0, NULL, &err));
  BAD(fh_decision_reason(d, 5, &reason, &err));
  BAD(fh_execute(NULL, d, NULL, &out, &err));
  BAD(fh_execute(t, NULL, NULL, &out, &err));
  BAD(fh_execute(t, ODD, NULL, &out, &err));
  BAD(fh_execute(t, d, NULL, NULL, &err));
  BAD(fh_convert(NULL, NULL, NULL, NULL, &out, &err));
  BAD(fh_convert(t, NULL, NULL, NULL, NULL, &err));
  BAD(fh_copy_into(NULL, t, NULL, &err));
  BAD(fh_copy_into(t, NULL, NULL, &err));
  BAD(fh_copy_into(t, t, ODD, &err));
  BAD(fh_export_versioned(NULL, version_of(0, 0), NULL, &versioned, &err));
  BAD(fh_export_versioned(t, version_of(0, 0), NULL, NULL, &err));
  BAD(fh_export_legacy(NULL, NULL, &legacy, &err));
  BAD(fh_export_legacy(t, NULL, ODD, &err));
  BAD(fh_ledger_set_level(NULL, 5, &err));
  BAD(fh_ledger_set_level(NULL, -1, &err));
  BAD(fh_ledger_set_level(ODD, 2, &err));
  BAD(fh_ledger_stats(NULL, NULL, &err));
  BAD(fh_ledger_stats(ODD, &stats, &err));
  BAD(fh_ledger_owner(NULL, on_cpu(), data, NULL, &err));
  BAD(fh_ledger_foreach(NULL, NULL, NULL, NULL, &err));
  BAD(fh_ledger_foreach(NULL, ODD, NULL, NULL, &err));
  BAD(fh_ledger_write(NULL, FH_FORMAT_JSON, NULL, NULL, NULL, &err));
  BAD(fh_ledger_write(NULL, 77, "x", NULL, NULL, &err));

  /* Nothing was written, nothing was taken. */
  CHECK(rt == NULL && out == NULL && d_out == NULL && versioned == NULL && legacy == NULL);
  CHECK_EQ(deleted, 0);

  /* Calls that cannot fail take anything that is not a lie. */
  fh_runtime_free(NULL);
  fh_decision_free(NULL);
  fh_tensor_release(ODD);
  fh_decision_free(ODD);
  fh_runtime_free(ODD);
  fh_error_free(ODD);
  CHECK_EQ(fh_tensor_flags(NULL), 0);
  CHECK_EQ(fh_tensor_flags(ODD), 0);
  CHECK_EQ(fh_tensor_id(NULL), 0);
  CHECK_EQ(fh_decision_verdict(NULL), FH_VERDICT_REJECT);
  CHECK_EQ(fh_decision_reason_count(NULL), 0);
  CHECK(strcmp(fh_decision_explain(NULL), "") == 0);
  fh_request_init(NULL, sizeof(fh_request));
  fh_caps_init(NULL, sizeof(fh_caps));
  (void)request;
  (void)holder;

  fh_decision_free(d);
  fh_tensor_release(t);
  CHECK_EQ(deleted, 1);
}

/* A struct of a newer or older program, and one that nobody initialised. */
static void sizes(void) {
  const int64_t shape[1] = {4};
  fh_error *err = NULL;
  fh_tensor *t = NULL;
  fh_decision *d = NULL;
  struct {
    fh_request known;
    uint64_t later[2];
  } newer;
  fh_request request;
  fh_caps caps;
  struct {
    fh_cost known;
    uint64_t guard;
  } cost;
  OK(fh_tensor_new(NULL, dtype_of(kDLFloat, 32), on_cpu(), 1, shape, NULL, &t, &err));

  memset(&newer, 0, sizeof newer);
  newer.known.struct_size = sizeof newer;
  newer.known.copy = FH_COPY_ALWAYS;
  OK(fh_decide(t, &newer.known, NULL, &d, &err));
  CHECK_EQ(fh_decision_verdict(d), FH_VERDICT_COPY);
  fh_decision_free(d);
  newer.later[1] = 1;
  BAD(fh_decide(t, &newer.known, NULL, &d, &err));

  /* An older program knows the struct as far as `copy`. */
  memset(&request, 0xff, sizeof request);
  memset(&request, 0, 32);
  request.struct_size = 32;
  request.copy = FH_COPY_ALWAYS;
  OK(fh_decide(t, &request, NULL, &d, &err));
  CHECK_EQ(fh_decision_verdict(d), FH_VERDICT_COPY);

  /* Outputs are written as far as the program has them. */
  memset(&cost, 0xee, sizeof cost);
  cost.known.struct_size = 16;
  OK(fh_decision_cost(d, &cost.known, &err));
  CHECK_EQ(cost.known.struct_size, 16);
  CHECK_EQ(cost.known.steps, FH_STEP_FRESH);
  CHECK_EQ(cost.known.bytes_copied, 16);
  CHECK(cost.known.bytes_allocated == UINT64_C(0xeeeeeeeeeeeeeeee));
  cost.known.struct_size = sizeof cost;
  OK(fh_decision_cost(d, &cost.known, &err));
  CHECK_EQ(cost.known.struct_size, sizeof(fh_cost));
  CHECK_EQ(cost.known.bytes_allocated, 16);
  CHECK(cost.guard == UINT64_C(0xeeeeeeeeeeeeeeee));
  fh_decision_free(d);

  for (uint32_t size = 0; size < 8; ++size) {
    request.struct_size = size;
    BAD(fh_decide(t, &request, NULL, &d, &err));
  }
  request.struct_size = 33;
  BAD(fh_decide(t, &request, NULL, &d, &err));
  request.struct_size = UINT32_MAX;
  BAD(fh_decide(t, &request, NULL, &d, &err));

  /* Fields that are not what they may be. */
#define BAD_FIELD(field, value)                       \
  do {                                                \
    fh_request_init(&request, sizeof request);        \
    request.field = (value);                          \
    BAD(fh_decide(t, &request, NULL, &d, &err));      \
  } while (0)
  BAD_FIELD(order, 3);
  BAD_FIELD(copy, -1);
  BAD_FIELD(writable, 9);
  BAD_FIELD(on_loss, 3);
  BAD_FIELD(alignment, 3);
  BAD_FIELD(detach, 2);
  BAD_FIELD(freeze, 7);
  BAD_FIELD(has_stream, 7);
  BAD_FIELD(reserved0, 1);
  BAD_FIELD(reserved[1], 1);
  BAD_FIELD(dtype.bits, 32);
  BAD_FIELD(dtype.lanes, 1);
  BAD_FIELD(device.device_id, 1);
  fh_caps_init(&caps, sizeof caps);
  CHECK_EQ(caps.struct_size, sizeof caps);
  CHECK(strcmp(caps.name, "freehold") == 0);
#define BAD_CAPS(field, value)                        \
  do {                                                \
    fh_caps_init(&caps, sizeof caps);                 \
    caps.field = (value);                             \
    BAD(fh_decide(t, NULL, &caps, &d, &err));         \
  } while (0)
  BAD_CAPS(name, NULL);
  BAD_CAPS(alignment, 0);
  BAD_CAPS(alignment, 48);
  BAD_CAPS(flags, 1u << 20);
  BAD_CAPS(strides, 5);
  BAD_CAPS(dtypes, UINT64_MAX);
  BAD_CAPS(default_dtype.lanes, 0);
  BAD_CAPS(reserved[0], 1);
  fh_tensor_release(t);
}

int main(void) {
  accessors();
  pointers();
  sizes();
  return done("errors");
}
