/* With include_b.c: two translation units of one program, one with our declarations and one with the real dlpack.h,
 * hand a capsule to each other. */
#include <freehold/freehold.h>
#include <freehold/freehold.h>

#include "check.h"

#ifdef __cplusplus
extern "C"
#endif
DLManagedTensorVersioned *made_in_b(float *data, int64_t *shape, int *deleted);

int main(void) {
  float data[2] = {1, 2};
  int64_t shape[1] = {2};
  int deleted = 0;
  fh_error *err = NULL;
  fh_tensor *tensor = NULL;
  DLManagedTensorVersioned *capsule = made_in_b(data, shape, &deleted);
  CHECK_EQ(capsule->flags, DLPACK_FLAG_BITMASK_READ_ONLY);
  CHECK_EQ(capsule->dl_tensor.dtype.code, kDLFloat);
  OK(fh_import_versioned(NULL, capsule, "b", &tensor, &err));
  CHECK_EQ(fh_tensor_flags(tensor), FH_FLAG_READ_ONLY);
  fh_tensor_release(tensor);
  CHECK_EQ(deleted, 1);
  return done("include");
}
