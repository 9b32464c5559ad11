/* Freehold's results in memory of yours: an arena that is registered as the allocator of the host.
 *
 * A runtime of its own is used, so that only what asks for it is served. `drop_user` ends the arena after the last result is gone.
 */
#include <freehold/freehold.h>

#include <stdio.h>
#include <stdlib.h>

enum { ARENA_BYTES = 1 << 16 };

/* Hands out pieces from the front and takes nothing back until all are back: enough for one frame of a game or one request. Calls
 * may come from several threads at once; this program has one, and a real arena needs a lock or atomics here. */
struct arena {
  unsigned char *memory;
  size_t used, live, peak;
};

static void *arena_allocate(void *user, size_t bytes, size_t align, int64_t stream) {
  struct arena *arena = user;
  (void)stream; /* host memory has no streams */
  const size_t start = ((uintptr_t)arena->memory + arena->used + align - 1) / align * align - (uintptr_t)arena->memory;
  if (start > ARENA_BYTES || bytes > ARENA_BYTES - start) return NULL; /* Freehold answers with ME01 */
  arena->used = start + bytes;
  arena->live++;
  if (arena->used > arena->peak) arena->peak = arena->used;
  return arena->memory + start;
}

static void arena_deallocate(void *user, void *memory, size_t bytes, size_t align, int64_t stream) {
  struct arena *arena = user;
  (void)memory, (void)bytes, (void)align, (void)stream;
  if (--arena->live == 0) arena->used = 0;
}

static void arena_end(void *user) {
  struct arena *arena = user;
  printf("arena: at most %zu bytes used, %zu pieces left\n", arena->peak, arena->live);
  free(arena->memory);
  free(arena);
}

static int failed(fh_status status, fh_error *error) {
  if (status != FH_OK) fprintf(stderr, "%s\n", fh_error_message(error));
  fh_error_free(error);
  return status != FH_OK;
}

int main(void) {
  fh_error *error = NULL;
  fh_runtime *runtime = NULL;
  if (failed(fh_runtime_new(FH_LEDGER_RECORDS, NULL, &runtime, &error), error)) return 1;

  struct arena *arena = calloc(1, sizeof *arena);
  if (arena == NULL || (arena->memory = aligned_alloc(256, ARENA_BYTES)) == NULL) return 1; /* as its pieces */
  fh_device host = {.struct_size = sizeof host};
  host.device.device_type = kDLCPU;
  host.name = "arena";
  host.allocate = arena_allocate;
  host.deallocate = arena_deallocate;
  host.drop_user = arena_end;
  host.user = arena;
  if (failed(fh_runtime_register_device(runtime, &host, &error), error)) return 1; /* on an error the arena is still ours */

  fh_tensor *small = NULL, *large = NULL;
  const DLDataType f32 = {kDLFloat, 32, 1};
  const DLDevice cpu = {kDLCPU, 0};
  const int64_t shape[2] = {16, 16}, too_large[1] = {1 << 20};
  if (failed(fh_tensor_new(runtime, f32, cpu, 2, shape, "own_allocator.c", &small, &error), error)) return 1;
  DLTensor view;
  if (failed(fh_tensor_dl(small, &view, &error), error)) return 1;
  const unsigned char *first = view.data;
  printf("in the arena: %s\n", first >= arena->memory && first < arena->memory + ARENA_BYTES ? "yes" : "no");

  if (fh_tensor_new(runtime, f32, cpu, 1, too_large, "own_allocator.c", &large, &error) != FH_OUT_OF_MEMORY) return 1;
  printf("4 MiB: reason %d\n", (int)fh_error_reason(error)); /* FH_REASON_ME01 */
  fh_error_free(error);

  fh_runtime_free(runtime); /* the tensor keeps what it needs */
  ((float *)view.data)[255] = 1;
  fh_tensor_release(small); /* and now the arena ends */
  return 0;
}
