/* What the sample of freehold.h stands in: a producer's capsule. */
#include <freehold/freehold.h>
#include <stdio.h>

static void no_deleter(DLManagedTensorVersioned *self) { (void)self; }

int main(void) {
  static float values[4] = {1, 2, 3, 4};
  int64_t shape[1] = {4}, strides[1] = {1};
  DLManagedTensorVersioned managed = {.version = {1, 3}, .deleter = no_deleter}, *capsule = &managed;
  managed.dl_tensor = (DLTensor){values, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, strides, 0};
/* sample */
  if (status != FH_OK) return 1;
  fh_tensor_release(result);
  return 0;
}
