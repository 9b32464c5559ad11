#include REAL
#include <freehold/freehold.h>
#include REAL

#include <stdlib.h>
#include <string.h>

static void gone(DLManagedTensorVersioned *self) {
  ++*(int *)self->manager_ctx;
  free(self);
}

#ifdef __cplusplus
extern "C"
#endif
DLManagedTensorVersioned *made_in_b(float *data, int64_t *shape, int *deleted);

DLManagedTensorVersioned *made_in_b(float *data, int64_t *shape, int *deleted) {
  DLManagedTensorVersioned *made = (DLManagedTensorVersioned *)malloc(sizeof *made);
  memset(made, 0, sizeof *made);
  made->version.major = DLPACK_MAJOR_VERSION;
  made->version.minor = DLPACK_MINOR_VERSION;
  made->manager_ctx = deleted;
  made->deleter = gone;
  made->flags = DLPACK_FLAG_BITMASK_READ_ONLY;
  made->dl_tensor.data = data;
  made->dl_tensor.device.device_type = kDLCPU;
  made->dl_tensor.ndim = 1;
  made->dl_tensor.dtype.code = kDLFloat;
  made->dl_tensor.dtype.bits = 32;
  made->dl_tensor.dtype.lanes = 1;
  made->dl_tensor.shape = shape;
  return made;
}
