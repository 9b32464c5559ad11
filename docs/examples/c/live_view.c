/* Watch a simulator while it runs: its state goes out once, as a read-only capsule that follows every step and costs nothing.
 *
 * The simulator counts its watchers. While there is one it does not give its memory up.
 */
#include <freehold/freehold.h>

#include <stdio.h>
#include <stdlib.h>

enum { BODIES = 3 };

struct simulator {
  double state[BODIES][2]; /* position and velocity */
  int watchers;
};

static void step(struct simulator *world, double dt) {
  for (int i = 0; i < BODIES; i++) world->state[i][0] += dt * world->state[i][1];
}

/* The deleter's end of the bargain. It may run on any thread; a simulator with threads counts atomically. */
static void stop_watching(void *context) { ((struct simulator *)context)->watchers--; }

static int failed(fh_status status, fh_error *error) {
  if (status != FH_OK) fprintf(stderr, "%s\n", fh_error_message(error));
  fh_error_free(error);
  return status != FH_OK;
}

/* The positions as a capsule for any framework: a column of the state, which nobody can write to through it. */
static DLManagedTensorVersioned *watch(struct simulator *world) {
  DLTensor positions = {0};
  positions.data = world->state;
  positions.device.device_type = kDLCPU;
  positions.ndim = 1;
  positions.dtype = (DLDataType){kDLFloat, 64, 1};
  positions.shape = (int64_t[]){BODIES};
  positions.strides = (int64_t[]){2}; /* in elements: over the velocities */
  fh_owner owner = {.struct_size = sizeof owner, .flags = FH_FLAG_READ_ONLY, .release = stop_watching, .context = world};
  owner.allocation = (uintptr_t)world->state;
  owner.allocation_bytes = sizeof world->state;

  fh_error *error = NULL;
  fh_tensor *tensor = NULL;
  DLManagedTensorVersioned *capsule = NULL;
  if (failed(fh_import_raw(NULL, &positions, &owner, "simulator@live_view.c", &tensor, &error), error)) return NULL;
  world->watchers++;
  failed(fh_export_versioned(tensor, (DLPackVersion){0, 0}, "viewer", &capsule, &error), error);
  fh_tensor_release(tensor); /* the capsule keeps the rest alive */
  return capsule;
}

/* What a viewer in another library does with the capsule. */
static void look(const DLManagedTensorVersioned *capsule) {
  const DLTensor *x = &capsule->dl_tensor;
  for (int64_t i = 0; i < x->shape[0]; i++) printf(" %g", ((const double *)x->data)[i * x->strides[0]]);
  printf(capsule->flags & DLPACK_FLAG_BITMASK_READ_ONLY ? "  read-only\n" : "  writable\n");
}

int main(void) {
  struct simulator world = {.state = {{0, 1}, {0, 2}, {0, 3}}};
  DLManagedTensorVersioned *view = watch(&world);
  if (view == NULL) return 1;
  look(view);
  step(&world, 0.5);
  look(view);

  /* A consumer that can only have writable memory is refused, before it can do harm. */
  fh_error *error = NULL;
  fh_tensor *seen = NULL, *lent = NULL;
  fh_caps torch = {.struct_size = sizeof torch};
  fh_request share = {.struct_size = sizeof share, .copy = FH_COPY_NEVER};
  if (failed(fh_caps_for("torch", &torch, &error), error)) return 1;
  if (failed(fh_view_borrow(NULL, &view->dl_tensor, FH_FLAG_READ_ONLY, &seen, &error), error)) return 1;
  if (fh_convert(seen, &share, &torch, "live_view.c", &lent, &error) != FH_REJECTED) return 1;
  printf("torch: reason %d\n", (int)fh_error_reason(error)); /* FH_REASON_RO01 */
  fh_error_free(error);
  fh_tensor_release(seen);

  printf("watchers: %d", world.watchers);
  view->deleter(view);
  printf(", then %d\n", world.watchers);
  return world.watchers;
}
