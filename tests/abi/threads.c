/* Deleters and handles on any thread; what is const, on several at once. */
#include "check.h"

#include <pthread.h>

enum { THREADS = 4, ROUNDS = 500 };

static float data[8];
static pthread_t made_on, freed_on;
static int freed;

static void gone(DLManagedTensorVersioned *self) {
  freed_on = pthread_self();
  ++freed;
  free(self->manager_ctx);
}

static void *call_deleter(void *capsule) {
  DLManagedTensorVersioned *managed = (DLManagedTensorVersioned *)capsule;
  managed->deleter(managed);
  return NULL;
}

static void *release(void *tensor) {
  fh_tensor_release((fh_tensor *)tensor);
  return NULL;
}

typedef struct {
  fh_tensor *tensor;
  const fh_decision *decision;
} shared;

static void *use(void *user) {
  const shared *s = (const shared *)user;
  fh_error *err = NULL;
  for (int i = 0; i < ROUNDS; ++i) {
    fh_tensor *held = fh_tensor_retain(s->tensor), *result = NULL;
    DLManagedTensorVersioned *out = NULL;
    fh_decision *own = NULL;
    if (fh_execute(held, s->decision, NULL, &result, &err) != FH_OK) abort();
    if (fh_export_versioned(result, version_of(0, 0), "thread", &out, &err) != FH_OK) abort();
    if (fh_decide(held, NULL, NULL, &own, &err) != FH_OK) abort();
    if (strcmp(fh_decision_explain(own), fh_decision_explain(s->decision)) != 0) abort();
    fh_decision_free(own);
    fh_tensor_release(held);
    fh_tensor_release(result);
    out->deleter(out);
  }
  return NULL;
}

int main(void) {
  const int64_t shape[1] = {8};
  int unused = 0;
  pthread_t thread, threads[THREADS];
  fh_error *err = NULL;
  fh_tensor *t = NULL;
  fh_decision *d = NULL;
  DLManagedTensorVersioned *out = NULL;
  fh_stats stats = {.struct_size = sizeof stats};
  shared s;
  test_capsule *c = make_capsule(data, 1, shape, &unused);
  c->versioned.deleter = gone;
  made_on = pthread_self();

  /* Released here, deleted there. */
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &t, &err));
  OK(fh_export_versioned(t, version_of(0, 0), NULL, &out, &err));
  fh_tensor_release(t);
  CHECK_EQ(freed, 0);
  pthread_create(&thread, NULL, call_deleter, out);
  pthread_join(thread, NULL);
  CHECK_EQ(freed, 1);
  CHECK(!pthread_equal(freed_on, made_on));

  c = make_capsule(data, 1, shape, &unused);
  c->versioned.deleter = gone;
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &t, &err));
  pthread_create(&thread, NULL, release, t);
  pthread_join(thread, NULL);
  CHECK_EQ(freed, 2);

  c = make_capsule(data, 1, shape, &unused);
  c->versioned.deleter = gone;
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &t, &err));
  OK(fh_decide(t, NULL, NULL, &d, &err));
  s.tensor = t;
  s.decision = d;
  for (int i = 0; i < THREADS; ++i) pthread_create(&threads[i], NULL, use, &s);
  for (int i = 0; i < THREADS; ++i) pthread_join(threads[i], NULL);
  fh_decision_free(d);
  fh_tensor_release(t);
  CHECK_EQ(freed, 3);
  OK(fh_ledger_stats(NULL, &stats, &err));
  CHECK_EQ(stats.live_holders, 0);
  CHECK_EQ(stats.double_closed, 0);
  CHECK_EQ(stats.shares, THREADS * ROUNDS + 1);
  return done("threads");
}
