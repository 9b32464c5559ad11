/* Handles that are none: of another kind, which is always found out; given back, where FREEHOLD_CHECK_HANDLES asks to. */
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

static char heard[256];

static void hear(void *user, int32_t level, const char *event, const char *text) {
  (void)user, (void)level;
  if (strcmp(event, "freehold.misuse") == 0) snprintf(heard, sizeof heard, "%s", text);
}

typedef struct {
  fh_tensor *tensor;
  fh_decision *decision;
  fh_runtime *runtime;
  fh_error *error;
} things;

static things make(void) {
  static const int64_t shape[1] = {4};
  things made = {0};
  fh_error *err = NULL;
  OK(fh_runtime_new(FH_LEDGER_RECORDS, NULL, &made.runtime, &err));
  OK(fh_tensor_new(made.runtime, dtype_of(kDLFloat, 32), on_cpu(), 1, shape, NULL, &made.tensor, &err));
  OK(fh_decide(made.tensor, NULL, NULL, &made.decision, &err));
  CHECK(fh_caps_for("nobody", NULL, &made.error) != FH_OK);
  return made;
}

#define WRONG(call, text)                                        \
  do {                                                           \
    CHECK_EQ((call), FH_INVALID_ARGUMENT);                       \
    CHECK_EQ(fh_error_reason(err), FH_REASON_AR01);              \
    CHECK_HAS(fh_error_message(err), text);                      \
    fh_error_free(err);                                          \
    err = NULL;                                                  \
  } while (0)

/* Each kind where another is asked for. */
static void other_kinds(void) {
  things made = make();
  fh_error *err = NULL;
  fh_tensor *t = NULL;
  fh_decision *d = NULL;
  fh_stats stats = {.struct_size = sizeof stats};
  WRONG(fh_decide((const fh_tensor *)(void *)made.error, NULL, NULL, &d, &err), "tensor is an fh_error");
  WRONG(fh_convert((const fh_tensor *)(void *)made.decision, NULL, NULL, NULL, &t, &err), "tensor is an fh_decision");
  WRONG(fh_execute(made.tensor, (const fh_decision *)(void *)made.tensor, NULL, &t, &err), "decision is an fh_tensor");
  WRONG(fh_ledger_stats((fh_runtime *)(void *)made.tensor, &stats, &err), "runtime is an fh_tensor");
  CHECK_EQ(fh_tensor_flags((const fh_tensor *)(void *)made.runtime), 0);
  CHECK(fh_tensor_retain((fh_tensor *)(void *)made.runtime) == NULL);
  CHECK_EQ(fh_error_code((const fh_error *)(void *)made.tensor), FH_OK);
  CHECK_EQ(fh_decision_verdict((const fh_decision *)(void *)made.error), FH_VERDICT_REJECT);
  /* Freed as another kind: nothing is, and the log says why. */
  OK(fh_log_set(hear, NULL, FH_LOG_WARN, &err));
  fh_tensor_release((fh_tensor *)(void *)made.decision);
  CHECK_HAS(heard, "fh_tensor is an fh_decision");
  fh_decision_free((fh_decision *)(void *)made.tensor);
  CHECK_HAS(heard, "fh_decision is an fh_tensor");
  fh_error_free((fh_error *)(void *)made.runtime);
  CHECK_HAS(heard, "fh_error is an fh_runtime");
  fh_runtime_free((fh_runtime *)(void *)made.error);
  CHECK_HAS(heard, "fh_runtime is an fh_error");
  OK(fh_log_set(NULL, NULL, FH_LOG_OFF, &err));
  fh_error_free(made.error);
  fh_decision_free(made.decision);
  fh_tensor_release(made.tensor);
  fh_runtime_free(made.runtime);
}

static void given_back(void) {
  things made = make(), again;
  fh_stats stats = {.struct_size = sizeof stats};
  fh_error *err = NULL;
  fh_tensor *t = NULL;
  fh_decision *d = NULL;
  fh_tensor *view = NULL;
  DLTensor dl;
  OK(fh_tensor_dl(made.tensor, &dl, &err));
  /* Twice: the thread is warm then. */
  for (int i = 0; i < 2; ++i) {
    OK(fh_view_borrow(NULL, &dl, 0, &view, &err));
    CHECK_EQ((uintptr_t)view % 2, 1);
    fh_tensor_release(view);
    WRONG(fh_decide(view, NULL, NULL, &d, &err), "which was given back");
  }
  CHECK(fh_tensor_retain(made.tensor) == made.tensor);
  fh_tensor_release(made.tensor);
  OK(fh_decide(made.tensor, NULL, NULL, &d, &err));
  fh_decision_free(d);
  fh_tensor_release(made.tensor);
  WRONG(fh_decide(made.tensor, NULL, NULL, &d, &err), "which was given back");
  fh_decision_free(made.decision);
  fh_error_free(made.error);
  CHECK_EQ(fh_error_code(made.error), FH_OK);
  CHECK_HAS(fh_error_message(made.error), "");
  CHECK_EQ(fh_decision_verdict(made.decision), FH_VERDICT_REJECT);
  /* Others have their places now. */
  again = make();
  WRONG(fh_execute(again.tensor, made.decision, NULL, &t, &err), "which was given back");
  OK(fh_log_set(hear, NULL, FH_LOG_WARN, &err));
  heard[0] = 0;
  fh_tensor_release(made.tensor);
  CHECK_HAS(heard, "which was given back");
  fh_error_free(made.error);
  fh_decision_free(made.decision);
  CHECK_EQ(fh_decision_verdict(again.decision), FH_VERDICT_SHARE);
  CHECK_EQ(fh_error_reason(again.error), FH_REASON_AR01);
  fh_runtime_free(made.runtime);
  heard[0] = 0;
  fh_runtime_free(made.runtime);
  CHECK_HAS(heard, "which was given back");
  WRONG(fh_ledger_stats(made.runtime, &stats, &err), "which was given back");
  WRONG(fh_tensor_use_on((fh_tensor *)(uintptr_t)12345, -1, &err), "which no call gave out");
  OK(fh_log_set(NULL, NULL, FH_LOG_OFF, &err));
  fh_error_free(again.error);
  fh_decision_free(again.decision);
  fh_tensor_release(again.tensor);
  fh_runtime_free(again.runtime);
}

int main(void) {
  int status = 0;
  /* The first handle of a process decides whether they are looked up. */
  const pid_t child = fork();
  CHECK(child >= 0);
  setenv("FREEHOLD_CHECK_HANDLES", child == 0 ? "1" : "0", 1);
  if (child == 0) given_back();
  other_kinds();
  if (child != 0) {
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
  }
  return done("handles");
}
