/* Calls in random order with random handles: live ones, NULL, given back, of another kind, never given out, misaligned
 * outputs. Run under AddressSanitizer and ThreadSanitizer: nothing may crash, leak or race; a call with a handle that is no
 * good fails and says so, and one that is good is never refused as a handle.
 * Usage: fuzz_calls [calls [seed [threads]]]; the same seed of one thread makes the same calls. */
#include "fuzz_world.h"

static const char *label(world *w) {
  static const char *const labels[] = {NULL, "torch", "numpy@here.c:1", "\xff\xfe", "", "@", "some library"};
  return labels[below(w, sizeof labels / sizeof *labels)];
}

static void gone(void *counter) { __atomic_fetch_sub((int64_t *)counter, 1, __ATOMIC_RELAXED); }
static void *take(void *user, size_t bytes, size_t align, int64_t stream) {
  void *memory = NULL;
  (void)user, (void)stream;
  return posix_memalign(&memory, align < sizeof(void *) ? sizeof(void *) : align, bytes) == 0 ? memory : NULL;
}
static void put(void *user, void *memory, size_t bytes, size_t align, int64_t stream) {
  (void)user, (void)bytes, (void)align, (void)stream;
  free(memory);
}

static int32_t visit(void *user, const fh_holder *holder) {
  *(uint64_t *)user += holder->id;
  return *(uint64_t *)user % 5 == 0;
}
static int32_t swallow(void *user, const char *bytes, size_t len) {
  *(uint64_t *)user += len + (uint64_t)(unsigned char)bytes[0];
  return 0;
}
static void hear(void *user, int32_t level, const char *event, const char *text) {
  (void)level;
  if (strcmp(event, "freehold.misuse") == 0 && text[0]) __atomic_fetch_add((int64_t *)user, 1, __ATOMIC_RELAXED);
}
static int64_t misuses;

/* A struct as it should be, or with a size, a field or a reserved one that it should not have. The caller has room behind it. */
static void disturb(world *w, void *record, size_t size) {
  static const uint32_t sizes[] = {0, 4, 7, 8, 16, 32, 40, 48, 72, 96, 104, 128, 4104};
  if (one_in(w, 8)) *(uint32_t *)record = sizes[below(w, sizeof sizes / sizeof *sizes)];
  if (one_in(w, 6)) {
    const size_t words = size / sizeof(uint32_t) - 1;
    ((uint32_t *)record)[1 + below(w, words)] = (uint32_t)below(w, 4);
  }
}

typedef union {
  fh_request request;
  fh_caps caps;
  fh_policy policy;
  fh_owner owner;
  fh_query query;
  fh_device device;
  fh_stats stats;
  fh_cost cost;
  fh_reason reason;
  fh_holder holder;
  uint32_t room[64];
} record;

static DLTensor description(world *w, int64_t *dims) {
  DLTensor t = {w->values, {kDLCPU, 0}, (int32_t)below(w, 4), {kDLFloat, 32, 1}, dims, dims + 4, 0};
  static const DLDataType types[] = {{kDLFloat, 64, 1}, {kDLInt, 8, 1}, {kDLUInt, 16, 1}, {kDLBool, 8, 1}, {kDLComplex, 64, 1}};
  for (int i = 0; i < 4; ++i) dims[i] = (int64_t)below(w, 5), dims[4 + i] = (int64_t)below(w, 10);
  if (one_in(w, 2)) t.dtype = types[below(w, sizeof types / sizeof *types)];
  if (one_in(w, 3)) t.strides = NULL;
  if (one_in(w, 16)) t.ndim = -1;
  if (one_in(w, 16)) t.shape = NULL;
  return t;
}

static fh_request *request(world *w, record *r) {
  if (one_in(w, 4)) return NULL;
  fh_request_init(&r->request, sizeof r->request);
  r->request.copy = (int32_t)below(w, 3);
  if (one_in(w, 4)) r->request.dtype = dtype_of(kDLFloat, 64);
  if (one_in(w, 4)) r->request.on_loss = (int32_t)below(w, 3);
  disturb(w, r, sizeof r->request);
  return &r->request;
}

static fh_caps *caps(world *w, record *r) {
  static const char *const names[] = {"freehold", "numpy", "torch", "dlpack", "dlpack-legacy", "nobody"};
  if (one_in(w, 4)) return NULL;
  fh_caps_init(&r->caps, sizeof r->caps);
  (void)fh_caps_for(names[below(w, 6)], &r->caps, NULL);
  const char *name = r->caps.name;
  disturb(w, r, sizeof r->caps);
  r->caps.name = name; /* a pointer that points to nothing is beyond what a library can see */
  return &r->caps;
}

static void import_something(world *w) {
  int good = 1;
  int64_t dims[8];
  record r = {{0}};
  places p;
  const DLTensor t = description(w, dims);
  fh_runtime *runtime = (fh_runtime *)pick(w, RUNTIME, &good);
  fh_status status;
  const uint64_t which = below(w, CAPSULES);
  good &= somewhere(w, &p);
  switch (below(w, 5)) {
    case 0: {
      DLManagedTensorVersioned *m = w->versioned[which];
      status = fh_import_versioned(runtime, m, label(w), (fh_tensor **)p.out, p.err);
      if (status == FH_OK) w->versioned[which] = NULL;
      break;
    }
    case 1: {
      DLManagedTensor *m = w->legacy[which];
      status = fh_import_legacy(runtime, m, label(w), (fh_tensor **)p.out, p.err);
      if (status == FH_OK) w->legacy[which] = NULL;
      break;
    }
    case 2:
      status = fh_view_borrow(runtime, one_in(w, 16) ? NULL : &t, (uint32_t)below(w, 16), (fh_tensor **)p.out, p.err);
      break;
    default:
      r.owner.struct_size = sizeof r.owner;
      disturb(w, &r, sizeof r.owner);
      /* Such a caller has a function, and nothing to call it with. */
      if (r.owner.struct_size == 16) r.owner.struct_size = 24;
      r.owner.release = one_in(w, 4) ? NULL : gone;
      r.owner.context = &owners;
      /* Counted first: it may be let go before the call returns. */
      if (r.owner.release) __atomic_fetch_add(&owners, 1, __ATOMIC_RELAXED);
      status = fh_import_raw(runtime, &t, &r.owner, label(w), (fh_tensor **)p.out, p.err);
      if (r.owner.release && (status != FH_OK || r.owner.struct_size < 16)) __atomic_fetch_sub(&owners, 1, __ATOMIC_RELAXED);
      break;
  }
  ended(w, status, good, &p, 1, TENSOR);
}

static void use_tensor(world *w) {
  int good = 1, fine;
  int64_t dims[8];
  record r = {{0}}, c = {{0}};
  places p;
  fh_status status;
  const fh_tensor *t = (const fh_tensor *)pick(w, TENSOR, &good);
  const uint64_t at = below(w, CAPSULES);
  fine = somewhere(w, &p);
  switch (below(w, 11)) {
    case 0:
      status = fh_decide(t, request(w, &r), caps(w, &c), (fh_decision **)p.out, p.err);
      ended(w, status, good & fine, &p, 1, DECISION);
      return;
    case 1:
      status = fh_convert(t, request(w, &r), caps(w, &c), label(w), (fh_tensor **)p.out, p.err);
      ended(w, status, good & fine, &p, 1, TENSOR);
      return;
    case 2: {
      const fh_decision *d = (const fh_decision *)pick(w, DECISION, &good);
      status = fh_execute(t, d, label(w), (fh_tensor **)p.out, p.err);
      ended(w, status, good & fine, &p, 1, TENSOR);
      return;
    }
    case 3: {
      const DLPackVersion version = version_of((uint32_t)below(w, 3), (uint32_t)below(w, 4));
      status = fh_export_versioned(t, version, label(w), (DLManagedTensorVersioned **)p.out, p.err);
      ended(w, status, good & fine, &p, 0, TENSOR);
      if (status != FH_OK) return;
      if (w->versioned[at]) w->versioned[at]->deleter(w->versioned[at]);
      w->versioned[at] = (DLManagedTensorVersioned *)p.result[0];
      return;
    }
    case 4:
      status = fh_export_legacy(t, label(w), (DLManagedTensor **)p.out, p.err);
      ended(w, status, good & fine, &p, 0, TENSOR);
      if (status != FH_OK) return;
      if (w->legacy[at]) w->legacy[at]->deleter(w->legacy[at]);
      w->legacy[at] = (DLManagedTensor *)p.result[0];
      return;
    case 5:
      status = fh_tensor_overlap(t, (const fh_tensor *)pick(w, TENSOR, &good), (int32_t *)(void *)p.out, p.err);
      ended(w, status, good & fine, &p, 0, TENSOR);
      return;
    case 6: {
      const fh_tensor *to = (const fh_tensor *)pick(w, TENSOR, &good);
      /* Nobody else may look at the target meanwhile, which threads that share tensors cannot promise. */
      if (w->threads > 1) return;
      status = fh_copy_into(t, to, request(w, &r), p.err);
      ended(w, status, good, &p, 0, TENSOR);
      return;
    }
    case 7: {
      const int32_t ndim = (int32_t)below(w, 6) - 1;
      int runtime_good = fine;
      fh_runtime *runtime = (fh_runtime *)pick(w, RUNTIME, &runtime_good);
      (void)description(w, dims);
      status = fh_tensor_new(runtime, dtype_of((uint8_t)below(w, 20), 32), on_cpu(), ndim, one_in(w, 9) ? NULL : dims, label(w),
                             (fh_tensor **)p.out, p.err);
      ended(w, status, runtime_good, &p, 1, TENSOR);
      return;
    }
    case 8: {
      DLTensor view = {0};
      status = fh_tensor_dl(t, p.out == p.result ? &view : (DLTensor *)(void *)p.out, p.err);
      if (status == FH_OK && view.ndim > 0 && (view.shape[0] < 0 || view.strides == NULL)) die(w, "a shape", NULL);
      ended(w, status, good & fine, &p, 0, TENSOR);
      return;
    }
    case 9:
      status = fh_tensor_use_on(t, (int64_t)below(w, 3) - 1, p.err);
      ended(w, status, good, &p, 0, TENSOR);
      if (!good && (fh_tensor_flags(t) != 0 || fh_tensor_id(t) != 0)) die(w, "facts of no tensor", NULL);
      return;
    default: {
      slot *s = good ? find(w, t, TENSOR) : NULL;
      fh_tensor *held = fh_tensor_retain((fh_tensor *)(uintptr_t)t);
      if (held != (good ? t : NULL)) die(w, "retain", NULL);
      /* A shared one is let go at once. */
      if (s) ++s->holds;
      else if (good) fh_tensor_release(held);
      return;
    }
  }
}

static void look_at_decision(world *w) {
  int good = 1;
  record r = {{0}};
  places p;
  const fh_decision *d = (const fh_decision *)pick(w, DECISION, &good);
  (void)somewhere(w, &p);
  switch (below(w, 4)) {
    case 0:
      r.cost.struct_size = sizeof r.cost;
      disturb(w, &r, 8);
      ended(w, fh_decision_cost(d, &r.cost, p.err), good, &p, 0, TENSOR);
      break;
    case 1:
      r.reason.struct_size = sizeof r.reason;
      ended(w, fh_decision_reason(d, below(w, 3), one_in(w, 16) ? NULL : &r.reason, p.err), good, &p, 0, TENSOR);
      break;
    case 2:
      if (!good && (fh_decision_verdict(d) != FH_VERDICT_REJECT || fh_decision_reason_count(d) != 0)) die(w, "a verdict", NULL);
      break;
    default:
      if ((fh_decision_explain(d)[0] != 0) != (good && d != NULL)) die(w, "an explanation", NULL);
      break;
  }
}

static void look_at_error(world *w) {
  int good = 1;
  const fh_error *e = (const fh_error *)pick(w, ERROR, &good);
  if ((fh_error_code(e) != FH_OK) != good || (fh_error_reason(e) != 0) != good) die(w, "a status of no error", NULL);
  if (one_in(w, 4)) {
    if ((fh_error_message(e)[0] != 0) != good) die(w, "a message of no error", NULL);
    (void)fh_error_fix(e, below(w, 3));
  }
}

static void use_runtime(world *w) {
  int good = 1;
  uint64_t sum = 0;
  record r = {{0}};
  places p;
  fh_runtime *runtime = (fh_runtime *)pick(w, RUNTIME, &good);
  const int fine = somewhere(w, &p);
  switch (below(w, 8)) {
    case 0:
      r.policy.struct_size = sizeof r.policy;
      r.policy.copies = (int32_t)below(w, 2);
      disturb(w, &r, sizeof r.policy);
      ended(w, fh_runtime_new((int32_t)below(w, 6), one_in(w, 2) ? NULL : &r.policy, (fh_runtime **)p.out, p.err), fine, &p, 1,
            RUNTIME);
      return;
    case 1:
      r.policy.struct_size = sizeof r.policy;
      ended(w, fh_runtime_set_policy(runtime, one_in(w, 2) ? NULL : &r.policy, NULL, p.err), good, &p, 0, TENSOR);
      return;
    case 2:
      r.device = (fh_device){.struct_size = sizeof r.device, .device = on_cpu(), .allocate = take, .deallocate = put};
      r.device.drop_user = gone, r.device.user = &devices;
      if (one_in(w, 4)) r.device.allocate = NULL;
      __atomic_fetch_add(&devices, 1, __ATOMIC_RELAXED);
      {
        fh_status status = fh_runtime_register_device(runtime, &r.device, p.err);
        if (status != FH_OK) __atomic_fetch_sub(&devices, 1, __ATOMIC_RELAXED);
        ended(w, status, good, &p, 0, TENSOR);
      }
      return;
    case 3:
      r.stats.struct_size = sizeof r.stats;
      ended(w, fh_ledger_stats(runtime, &r.stats, p.err), good, &p, 0, TENSOR);
      return;
    case 4:
      r.holder.struct_size = sizeof r.holder;
      ended(w, fh_ledger_owner(runtime, on_cpu(), w->values + below(w, VALUES), &r.holder, p.err), good, &p, 0, TENSOR);
      return;
    case 5:
      if (!good && fh_ledger_mark(runtime) != 0) die(w, "a mark", NULL);
      if (!one_in(w, 32)) return;
      ended(w, fh_ledger_set_level(runtime, (int32_t)below(w, 5), p.err), good, &p, 0, TENSOR);
      return;
    case 6:
      if (!one_in(w, 8)) return;
      r.query.struct_size = sizeof r.query;
      if (one_in(w, 2)) {
        int tensor_good = 1;
        r.query.holders_of = (const fh_tensor *)pick(w, TENSOR, &tensor_good);
        /* NULL is any. */
        good &= tensor_good | (r.query.holders_of == NULL);
      }
      ended(w, fh_ledger_foreach(runtime, &r.query, visit, &sum, p.err), good, &p, 0, TENSOR);
      return;
    default:
      if (!one_in(w, 400)) return;
      ended(w, fh_ledger_write(runtime, (int32_t)below(w, 8), NULL, swallow, &sum, p.err), good, &p, 0, TENSOR);
      return;
  }
}

/* Gives back what may be given back, and what may not. */
static void give_something_back(world *w) {
  int good = 1;
  const kind what = (kind)below(w, KINDS);
  void *handle = pick(w, what, &good);
  slot *s = find(w, handle, what);
  const uint64_t at = below(w, CAPSULES);
  if (good && s == NULL && handle != NULL) return; /* shared: main's to give back */
  if (s) --s->holds;
  give_back(what, handle);
  if (w->versioned[at] && one_in(w, 4)) w->versioned[at]->deleter(w->versioned[at]), w->versioned[at] = NULL;
  if (w->legacy[at] && one_in(w, 4)) w->legacy[at]->deleter(w->legacy[at]), w->legacy[at] = NULL;
}

/* Exchanges a handle with whichever thread comes next. */
static void exchange(world *w) {
  slot *s = &w->slots[below(w, SLOTS)], other;
  if (w->threads == 1) return;
  pthread_mutex_lock(&mail);
  other = mailbox;
  mailbox = *s;
  pthread_mutex_unlock(&mail);
  /* A stale copy of a handle that another thread has now could not be told from a live one. */
  *s = other;
}

static void *play(void *user) {
  world *w = (world *)user;
  const uint64_t calls = w->calls;
  for (w->calls = 0; w->calls < calls; ++w->calls) {
    switch (below(w, 16)) {
      case 0: case 1: case 2: import_something(w); break;
      case 3: case 4: case 5: case 6: case 7: case 8: use_tensor(w); break;
      case 9: look_at_decision(w); break;
      case 10: look_at_error(w); break;
      case 11: use_runtime(w); break;
      case 12: exchange(w); break;
      default: give_something_back(w); break;
    }
  }
  return NULL;
}

static void end(world *w) {
  for (slot *s = w->slots; s < w->slots + SLOTS; ++s)
    for (; s->holds > 0; --s->holds) give_back(s->what, s->handle);
  for (int i = 0; i < CAPSULES; ++i) {
    if (w->versioned[i]) w->versioned[i]->deleter(w->versioned[i]);
    if (w->legacy[i]) w->legacy[i]->deleter(w->legacy[i]);
  }
}

int main(int argc, char **argv) {
  const uint64_t calls = argc > 1 ? strtoull(argv[1], NULL, 10) : 200000;
  const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
  const int threads = argc > 3 ? atoi(argv[3]) : 1;
  enum { MOST = 16 };
  static world worlds[MOST];
  static double memory[16];
  pthread_t running[MOST];
  int64_t shape[1] = {16};
  fh_error *err = NULL;
  fh_stats stats = {.struct_size = sizeof stats};
  uint64_t refused = 0;
  const DLTensor t = {memory, {kDLCPU, 0}, 1, {kDLFloat, 64, 1}, shape, NULL, 0};
  CHECK(threads >= 1 && threads <= MOST);
  setenv(CHECKED, "1", 1);
  OK(fh_log_set(hear, &misuses, FH_LOG_WARN, &err));
  OK(fh_runtime_new(FH_LEDGER_RECORDS, NULL, &shared_runtime, &err));
  OK(fh_import_raw(NULL, &t, NULL, "main", &shared_tensor, &err));
  OK(fh_decide(shared_tensor, NULL, NULL, &shared_decision, &err));
  for (int i = 0; i < threads; ++i) {
    worlds[i].state = seed * UINT64_C(0x9E3779B97F4A7C15) + (uint64_t)i * 77 + 1;
    worlds[i].calls = calls / (uint64_t)threads;
    worlds[i].threads = threads;
    CHECK_EQ(pthread_create(&running[i], NULL, play, &worlds[i]), 0);
  }
  for (int i = 0; i < threads; ++i) {
    pthread_join(running[i], NULL);
    end(&worlds[i]);
    refused += worlds[i].refused;
  }
  for (; mailbox.holds > 0; --mailbox.holds) give_back(mailbox.what, mailbox.handle);
  fh_decision_free(shared_decision);
  fh_tensor_release(shared_tensor);
  fh_runtime_free(shared_runtime);
  CHECK_EQ(owners, 0);
  /* The process's own runtime stays, and so do those whose last 256 buffers are watched at level 4. */
  CHECK(devices <= 257);
  OK(fh_ledger_stats(NULL, &stats, &err));
  CHECK_EQ(stats.live_holders, 0);
  CHECK_EQ(stats.double_closed, 0);
  CHECK(calls < 10000 || (misuses > 0 && refused > calls / 50));
  OK(fh_log_set(NULL, NULL, FH_LOG_OFF, &err));
  printf("fuzz_calls: %" PRIu64 " calls, %" PRIu64 " refused, %" PRId64 " bad handles given back, %d threads\n", calls, refused,
         misuses, threads);
  return 0;
}
