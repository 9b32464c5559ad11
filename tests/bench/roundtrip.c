/* What a hand-over costs in C, by the ledger's level. One JSON object a measurement, as tests/bench/report.py reads them;
 * each is the fastest of many batches, in ns a call. */
#define _POSIX_C_SOURCE 200809L
#include <freehold/freehold.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { BATCH = 20000, BATCHES = 60 };

static float values[16];
static int64_t shape[2] = {4, 4}, strides[2] = {4, 1};
static fh_caps torch = {.struct_size = sizeof(fh_caps)};
static fh_runtime *runtime;

static void no_deleter(DLManagedTensorVersioned *self) { (void)self; }

static DLManagedTensorVersioned source(int32_t ndim) {
  DLManagedTensorVersioned m = {.version = {1, 3}, .deleter = no_deleter};
  m.dl_tensor = (DLTensor){values, {kDLCPU, 0}, ndim, {kDLFloat, 32, 1}, shape, strides, 0};
  return m;
}

static DLManagedTensorVersioned good, bad;

static void check(fh_status status, fh_error *error) {
  if (status == FH_OK) return;
  fprintf(stderr, "%s\n", fh_error_message(error));
  exit(1);
}

static fh_tensor *import(void) {
  fh_tensor *t = NULL;
  fh_error *error = NULL;
  check(fh_import_versioned(runtime, &good, "torch", &t, &error), error);
  return t;
}

static void import_release(void) { fh_tensor_release(import()); }

static void borrow(void) {
  fh_tensor *t = NULL;
  fh_error *error = NULL;
  check(fh_view_borrow(runtime, &good.dl_tensor, 0, &t, &error), error);
  fh_tensor_release(t);
}

static void rejected(void) {
  fh_tensor *t = NULL;
  fh_error *error = NULL;
  if (fh_import_versioned(runtime, &bad, "torch", &t, &error) == FH_OK) exit(1);
  fh_error_free(error);
}

static void round_trip(void) {
  fh_tensor *t = import(), *out = NULL;
  fh_error *error = NULL;
  DLManagedTensorVersioned *capsule = NULL;
  check(fh_convert(t, NULL, &torch, NULL, &out, &error), error);
  check(fh_export_versioned(out, (DLPackVersion){1, 3}, "torch", &capsule, &error), error);
  fh_tensor_release(out);
  fh_tensor_release(t);
  capsule->deleter(capsule);
}

static fh_tensor *held;

static void decide(void) {
  fh_decision *decision = NULL;
  fh_error *error = NULL;
  check(fh_decide(held, NULL, &torch, &decision, &error), error);
  fh_decision_free(decision);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void measure(const char *table, const char *row, void (*call)(void)) {
  double best = 1e18;
  for (int b = 0; b < BATCHES; b++) {
    double start = now();
    for (int i = 0; i < BATCH; i++) call();
    double each = (now() - start) / BATCH;
    if (each < best) best = each;
  }
  printf("{\"table\": \"%s\", \"row\": \"%s\", \"ns\": %.1f}\n", table, row, best);
  fflush(stdout);
}

int main(void) {
  static const char *const tables[] = {"C, ledger off", "C, ledger level 1 (counters)", "C, ledger level 2 (records)"};
  fh_error *error = NULL;
  good = source(2);
  bad = source(-1);
  check(fh_caps_for("torch", &torch, &error), error);
  for (int level = FH_LEDGER_OFF; level <= FH_LEDGER_RECORDS; level++) {
    check(fh_runtime_new(level, NULL, &runtime, &error), error);
    held = import();
    measure(tables[level], "import + release", import_release);
    measure(tables[level], "import + decide + share + export + all releases", round_trip);
    measure(tables[level], "borrow a view + release", borrow);
    measure(tables[level], "decide, as a handle", decide);
    measure(tables[level], "a rejected import, error freed", rejected);
    fh_tensor_release(held);
    fh_runtime_free(runtime);
  }
  return 0;
}
