/* The log: what a C program hears, and when it hears nothing. */
#include "check.h"

typedef struct {
  int events, last_level;
  char seen[64][40];
  char text[64][256];
} heard;

static void hear(void *user, int32_t level, const char *event, const char *text) {
  heard *h = (heard *)user;
  CHECK(level >= FH_LOG_ERROR && level <= FH_LOG_TRACE);
  if (h->events < 64) {
    snprintf(h->seen[h->events], sizeof h->seen[0], "%s", event);
    snprintf(h->text[h->events], sizeof h->text[0], "%s", text);
  }
  h->last_level = level;
  ++h->events;
  /* What the callback causes itself is not logged. */
  fh_stats stats = {.struct_size = sizeof stats};
  fh_error *err = NULL;
  OK(fh_ledger_stats(NULL, &stats, &err));
}

static int find(const heard *h, const char *event) {
  for (int i = 0; i < h->events && i < 64; ++i) {
    if (strcmp(h->seen[i], event) == 0) return i;
  }
  return -1;
}

static void hand_over(float *data, int *deleted) {
  const int64_t shape[1] = {4};
  fh_error *err = NULL;
  fh_tensor *t = NULL, *copy = NULL;
  fh_request request = request_of(FH_COPY_ALWAYS);
  fh_caps caps = caps_of("torch");
  DLManagedTensorVersioned *out = NULL;
  OK(fh_import_versioned(NULL, &make_capsule(data, 1, shape, deleted)->versioned, "numpy@log.c:1", &t, &err));
  OK(fh_convert(t, &request, &caps, "log.c:2", &copy, &err));
  OK(fh_export_versioned(copy, version_of(0, 0), "torch@log.c:3", &out, &err));
  fh_tensor_release(copy);
  out->deleter(out);
  fh_tensor_release(t);
}

int main(void) {
  float data[4] = {1, 2, 3, 4};
  int deleted = 0, i;
  fh_error *err = NULL;
  static heard all, warnings, nothing;

  hand_over(data, &deleted);
  OK(fh_log_set(hear, &all, FH_LOG_DEBUG, &err));
  hand_over(data, &deleted);
  CHECK_EQ(all.last_level, FH_LOG_DEBUG);
  CHECK((i = find(&all, "freehold.import")) >= 0);
  CHECK_HAS(all.text[i], "framework=numpy");
  CHECK_HAS(all.text[i], "site=log.c:1");
  CHECK((i = find(&all, "freehold.decide")) >= 0);
  CHECK_HAS(all.text[i], "verdict=copy");
  CHECK((i = find(&all, "freehold.copy")) >= 0);
  CHECK_HAS(all.text[i], "bytes=16");
  CHECK((i = find(&all, "freehold.export")) >= 0);
  CHECK_HAS(all.text[i], "to=torch");
  CHECK_HAS(all.text[i], "site=log.c:3");
  CHECK((i = find(&all, "freehold.release")) >= 0);

  /* Hazards only: a capsule that is given back twice, which level 4 sees. */
  OK(fh_log_set(hear, &warnings, FH_LOG_WARN, &err));
  OK(fh_ledger_set_level(NULL, FH_LEDGER_CANARIES, &err));
  {
    const int64_t shape[1] = {4};
    fh_tensor *t = NULL;
    DLManagedTensorVersioned *out = NULL;
    void (*deleter)(DLManagedTensorVersioned *);
    OK(fh_import_versioned(NULL, &make_capsule(data, 1, shape, &deleted)->versioned, "numpy@log.c:5", &t, &err));
    OK(fh_export_versioned(t, version_of(0, 0), "torch@log.c:6", &out, &err));
    deleter = out->deleter;
    deleter(out);
    deleter(out);
    fh_tensor_release(t);
  }
  OK(fh_ledger_set_level(NULL, FH_LEDGER_RECORDS, &err));
  CHECK_EQ(warnings.events, 1);
  CHECK(strcmp(warnings.seen[0], "freehold.hazard") == 0);
  CHECK_HAS(warnings.text[0], "code=CP03 holders=numpy,torch sites=log.c:5,log.c:6");

  OK(fh_log_set(NULL, NULL, FH_LOG_DEBUG, &err));
  i = all.events;
  hand_over(data, &deleted);
  CHECK_EQ(all.events, i);
  OK(fh_log_set(hear, &nothing, FH_LOG_OFF, &err));
  hand_over(data, &deleted);
  CHECK_EQ(nothing.events, 0);
  FAILS(fh_log_set(hear, &nothing, 6, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  FAILS(fh_log_set(hear, &nothing, -1, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  CHECK_EQ(deleted, 5);
  return done("log");
}
