/* What a handover costs in C: Freehold by the ledger's level, against tvm-ffi's C interface where that was compiled in
 * (-DTVM_FFI). One JSON object a measurement, as tests/bench/report.py reads them: the first row of a table is 1.00.
 * The contestants of a table take turns; a row is the fastest of their batches, in ns a call. */
#define _POSIX_C_SOURCE 200809L
#ifdef TVM_FFI
#include <tvm/ffi/c_api.h>
#endif
#include <freehold/freehold.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH = 20000, ROUNDS = 400, LEVELS = 3 };

static float values[64];
static int64_t shape[2] = {4, 4}, strides[2] = {4, 1}, odd_strides[2] = {8, 2};
static fh_caps torch = {.struct_size = sizeof(fh_caps)};
static fh_runtime *const runtime = NULL; /* the process's own, as most programs use it */
static fh_tensor *held[LEVELS], *source;
static DLManagedTensorVersioned good, bad, spread;

static void no_deleter(DLManagedTensorVersioned *self) { (void)self; }

static DLManagedTensorVersioned capsule(int32_t ndim, int64_t *steps) {
  DLManagedTensorVersioned m = {.version = {1, 3}, .deleter = no_deleter};
  m.dl_tensor = (DLTensor){values, {kDLCPU, 0}, ndim, {kDLFloat, 32, 1}, shape, steps, 0};
  return m;
}

static void check(fh_status status, fh_error *error) {
  if (status == FH_OK) return;
  fprintf(stderr, "%s\n", fh_error_message(error));
  exit(1);
}

static void set_level(int level) {
  fh_error *error = NULL;
  check(fh_ledger_set_level(runtime, level, &error), error);
}

static fh_tensor *import(void) {
  fh_tensor *t = NULL;
  fh_error *error = NULL;
  check(fh_import_versioned(runtime, &good, "torch", &t, &error), error);
  return t;
}

static void import_release(void) { fh_tensor_release(import()); }

static void export_release(void) {
  fh_error *error = NULL;
  DLManagedTensorVersioned *out = NULL;
  check(fh_export_versioned(source, (DLPackVersion){1, 3}, "torch", &out, &error), error);
  out->deleter(out);
}

static void import_export(void) {
  fh_tensor *t = import();
  fh_error *error = NULL;
  DLManagedTensorVersioned *out = NULL;
  check(fh_export_versioned(t, (DLPackVersion){1, 3}, "torch", &out, &error), error);
  fh_tensor_release(t);
  out->deleter(out);
}

/* The decision as an object that a program can look at. */
static void import_decide_export(void) {
  fh_tensor *t = import();
  fh_decision *decision = NULL;
  fh_error *error = NULL;
  DLManagedTensorVersioned *out = NULL;
  check(fh_decide(t, NULL, &torch, &decision, &error), error);
  if (fh_decision_verdict(decision) != FH_VERDICT_SHARE) exit(1);
  fh_decision_free(decision);
  check(fh_export_versioned(t, (DLPackVersion){1, 3}, "torch", &out, &error), error);
  fh_tensor_release(t);
  out->deleter(out);
}

/* Decided and executed in one call. */
static void import_convert_export(void) {
  fh_tensor *t = import(), *result = NULL;
  fh_error *error = NULL;
  DLManagedTensorVersioned *out = NULL;
  check(fh_convert(t, NULL, &torch, NULL, &result, &error), error);
  check(fh_export_versioned(result, (DLPackVersion){1, 3}, "torch", &out, &error), error);
  fh_tensor_release(result);
  fh_tensor_release(t);
  out->deleter(out);
}

static void borrow(void) {
  fh_tensor *t = NULL;
  fh_error *error = NULL;
  check(fh_view_borrow(runtime, &good.dl_tensor, 0, &t, &error), error);
  fh_tensor_release(t);
}

/* tests/bench/nothing.c */
fh_status nothing_borrow(fh_runtime *, const DLTensor *, uint32_t, fh_tensor **, fh_error **);
void nothing_release(fh_tensor *);

static void borrow_nothing(void) {
  fh_tensor *t = NULL;
  fh_error *error = NULL;
  check(nothing_borrow(runtime, &good.dl_tensor, 0, &t, &error), error);
  nothing_release(t);
}

static void decide(void) {
  fh_decision *decision = NULL;
  fh_error *error = NULL;
  check(fh_decide(source, NULL, &torch, &decision, &error), error);
  fh_decision_free(decision);
}

static void rejected(void) {
  fh_tensor *t = NULL;
  fh_error *error = NULL;
  if (fh_import_versioned(runtime, &bad, "torch", &t, &error) == FH_OK) exit(1);
  fh_error_free(error);
}

static void rejected_and_read(void) {
  fh_tensor *t = NULL;
  fh_error *error = NULL;
  if (fh_import_versioned(runtime, &bad, "torch", &t, &error) == FH_OK || !fh_error_message(error)[0]) exit(1);
  fh_error_free(error);
}

#ifdef TVM_FFI
static TVMFFIObjectHandle tvm_import(void) {
  TVMFFIObjectHandle t = NULL;
  if (TVMFFITensorFromDLPackVersioned(&good, 0, 0, &t) != 0) exit(1);
  return t;
}

static TVMFFIObjectHandle tvm_held;

static void tvm_import_release(void) { TVMFFIObjectDecRef(tvm_import()); }

static void tvm_export_release(void) {
  DLManagedTensorVersioned *out = NULL;
  if (TVMFFITensorToDLPackVersioned(tvm_held, &out) != 0) exit(1);
  out->deleter(out);
}

static void tvm_import_export(void) {
  TVMFFIObjectHandle t = tvm_import();
  DLManagedTensorVersioned *out = NULL;
  if (TVMFFITensorToDLPackVersioned(t, &out) != 0) exit(1);
  TVMFFIObjectDecRef(t);
  out->deleter(out);
}

/* It looks at few fields; what it does refuse is strides where compact ones are asked for. */
static void tvm_rejected(void) {
  TVMFFIObjectHandle t = NULL, error = NULL;
  if (TVMFFITensorFromDLPackVersioned(&spread, 0, 1, &t) == 0) exit(1);
  TVMFFIErrorMoveFromRaised(&error);
  TVMFFIObjectDecRef(error);
}
#endif

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* A loop for each: a call through a pointer would be a tenth of the shortest. */
#define BATCH_OF(call)                    \
  static double call##_batch(int n) {     \
    const double start = now();           \
    for (int i = 0; i < n; ++i) call();   \
    return (now() - start) / n;           \
  }
BATCH_OF(import_release)
BATCH_OF(export_release)
BATCH_OF(import_export)
BATCH_OF(import_decide_export)
BATCH_OF(import_convert_export)
BATCH_OF(borrow)
BATCH_OF(borrow_nothing)
BATCH_OF(decide)
BATCH_OF(rejected)
BATCH_OF(rejected_and_read)
#ifdef TVM_FFI
BATCH_OF(tvm_import_release)
BATCH_OF(tvm_export_release)
BATCH_OF(tvm_import_export)
BATCH_OF(tvm_rejected)
#else
#define tvm_import_release_batch NULL
#define tvm_export_release_batch NULL
#define tvm_import_export_batch NULL
#define tvm_rejected_batch NULL
#endif

static void table(const char *title, double (*freehold)(int), const char *name, double (*other)(int), int n) {
  static const char *const rows[] = {"freehold, ledger off", "freehold, ledger level 1", "freehold, ledger level 2"};
  double best[LEVELS + 1] = {1e18, 1e18, 1e18, 1e18};
  for (int round = 0; round < ROUNDS; ++round) {
    for (int who = 0; who <= LEVELS; ++who) {
      double each;
      if (who < LEVELS) set_level(who), source = held[who];
      else if (other == NULL) continue;
      each = (who < LEVELS ? freehold : other)(n);
      if (each < best[who]) best[who] = each;
    }
  }
  if (other != NULL) printf("{\"table\": \"C: %s\", \"row\": \"%s\", \"ns\": %.1f}\n", title, name, best[LEVELS]);
  for (int level = 0; level < LEVELS; ++level)
    printf("{\"table\": \"C: %s\", \"row\": \"%s\", \"ns\": %.1f}\n", title, rows[level], best[level]);
  fflush(stdout);
}

int main(void) {
  fh_error *error = NULL;
  good = capsule(2, strides);
  bad = capsule(-1, strides);
  spread = capsule(2, odd_strides);
  check(fh_caps_for("torch", &torch, &error), error);
  for (int level = 0; level < LEVELS; ++level) {
    set_level(level);
    held[level] = import();
  }
#ifdef TVM_FFI
  tvm_held = tvm_import();
#endif
  table("import + release", import_release_batch, "tvm-ffi", tvm_import_release_batch, BATCH);
  table("export + release", export_release_batch, "tvm-ffi", tvm_export_release_batch, BATCH);
  table("import + export + both releases", import_export_batch, "tvm-ffi", tvm_import_export_batch, BATCH);
  table("import + decide + export + all releases", import_decide_export_batch, NULL, NULL, BATCH);
  table("import + convert + export + all releases", import_convert_export_batch, NULL, NULL, BATCH);
  table("borrow a view + release", borrow_batch, "two calls that do nothing", borrow_nothing_batch, BATCH);
  table("decide, as a handle", decide_batch, NULL, NULL, BATCH);
  table("a rejected import, error freed", rejected_batch, "tvm-ffi", tvm_rejected_batch, BATCH / 20);
  table("a rejected import, message read, error freed", rejected_and_read_batch, NULL, NULL, BATCH / 20);
#ifdef TVM_FFI
  TVMFFIObjectDecRef(tvm_held);
#endif
  for (int level = 0; level < LEVELS; ++level) {
    fh_tensor_release(held[level]);
  }
  return 0;
}
