/* freehold.h and a dlpack.h (REAL) in every order. Only compiled. */
#if ORDER == 1
#include <freehold/freehold.h>
#elif ORDER == 2
#include REAL
#include <freehold/freehold.h>
#elif ORDER == 3
#include <freehold/freehold.h>
#include REAL
#else
#include <freehold/dlpack_abi.h>
#include REAL
#include <freehold/freehold.h>
#include <freehold/dlpack_abi.h>
#include REAL
#endif

#ifdef __cplusplus
#define SAME(a, b) static_assert(a == b, #a)
#else
#define SAME(a, b) _Static_assert(a == b, #a)
#endif
SAME(sizeof(DLPackVersion), 8);
SAME(sizeof(DLDevice), 8);
SAME(sizeof(DLTensor), 48);
SAME(sizeof(DLManagedTensor), 64);
SAME(sizeof(DLManagedTensorVersioned), 80);
SAME(DLPACK_FLAG_BITMASK_READ_ONLY, 1);
SAME(DLPACK_FLAG_BITMASK_IS_COPIED, 2);
SAME(DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED, 4);

fh_status order(DLManagedTensorVersioned *versioned, struct DLManagedTensor *legacy, const DLTensor *view);
fh_status order(DLManagedTensorVersioned *versioned, struct DLManagedTensor *legacy, const DLTensor *view) {
  fh_tensor *t = NULL;
  fh_status status = fh_import_versioned(NULL, versioned, NULL, &t, NULL);
  status |= fh_import_legacy(NULL, legacy, NULL, &t, NULL);
  status |= fh_view_borrow(NULL, view, 0, &t, NULL);
  if (view->device.device_type == kDLCPU && view->dtype.code == kDLFloat && versioned->version.major == 1) status = FH_OK;
  return status;
}
