/* How often the allocator is called, counted in its place: never for a borrowed view or a hand-over on a warm thread, once for an
 * export, a tensor or a view where no blocks are kept. Not built under sanitizers and valgrind, which have allocators of their own. */
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *memory, size_t size);
extern void *__libc_memalign(size_t align, size_t size);

static long calls;

void *malloc(size_t size) { return ++calls, __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return ++calls, __libc_calloc(n, size); }
void *realloc(void *memory, size_t size) { return ++calls, __libc_realloc(memory, size); }
void *aligned_alloc(size_t align, size_t size) { return ++calls, __libc_memalign(align, size); }
int posix_memalign(void **out, size_t align, size_t size) { return ++calls, *out = __libc_memalign(align, size), *out == NULL ? 12 : 0; }

static float values[6];
static int64_t shape[2] = {2, 3}, compact[2] = {3, 1};

static void no_deleter(DLManagedTensorVersioned *self) { (void)self; }

enum { TIMES = 1000 };

/* Calls of the allocator by each of the four, in TIMES rounds after some that warm the thread. */
typedef struct {
  long borrow, import, out, round_trip;
} counts;

static counts count(int32_t level, int64_t *strides) {
  counts found = {0};
  long start;
  fh_error *err = NULL;
  fh_tensor *t = NULL, *held = NULL;
  DLManagedTensorVersioned *out = NULL, in = {.version = {1, 3}, .deleter = no_deleter};
  in.dl_tensor = (DLTensor){values, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, strides, 0};
  OK(fh_ledger_set_level(NULL, level, &err));
  OK(fh_import_versioned(NULL, &in, "torch", &held, &err));
  for (int round = 0; round < 2; ++round) {
    const int times = round == 0 ? 100 : TIMES;
    start = calls;
    for (int i = 0; i < times; ++i) {
      OK(fh_view_borrow(NULL, &in.dl_tensor, 0, &t, &err));
      fh_tensor_release(t);
    }
    found.borrow = calls - start, start = calls;
    for (int i = 0; i < times; ++i) {
      OK(fh_import_versioned(NULL, &in, "torch", &t, &err));
      fh_tensor_release(t);
    }
    found.import = calls - start, start = calls;
    for (int i = 0; i < times; ++i) {
      OK(fh_export_versioned(held, version_of(1, 3), "numpy", &out, &err));
      out->deleter(out);
    }
    found.out = calls - start, start = calls;
    for (int i = 0; i < times; ++i) {
      OK(fh_import_versioned(NULL, &in, "torch", &t, &err));
      OK(fh_export_versioned(t, version_of(1, 3), "numpy", &out, &err));
      fh_tensor_release(t);
      out->deleter(out);
    }
    found.round_trip = calls - start;
  }
  fh_tensor_release(held);
  return found;
}

int main(void) {
  int status = 0;
  /* Whether blocks are kept is asked once a process. */
  const pid_t child = fork();
  CHECK(child >= 0);
  setenv("FREEHOLD_HOST_CACHE", child == 0 ? "0" : "16M", 1);
  for (int32_t level = FH_LEDGER_OFF; level <= FH_LEDGER_RECORDS; level += FH_LEDGER_RECORDS) {
    for (int with = 0; with < 2; ++with) {
      const counts found = count(level, with ? compact : NULL);
      const long once = child == 0 ? TIMES : 0;
      CHECK_EQ(found.borrow, once);
      CHECK_EQ(found.import, once);
      CHECK_EQ(found.out, once);
      CHECK_EQ(found.round_trip, 2 * once);
    }
  }
  if (child != 0) {
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
  }
  return done("allocations");
}
