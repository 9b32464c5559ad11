/* What the caller of a borrowed view pays before anything is done: as many arguments, in a library that is called as ours is. */
#include <freehold/freehold.h>

fh_status nothing_borrow(fh_runtime *runtime, const DLTensor *tensor, uint32_t flags, fh_tensor **out, fh_error **error);
void nothing_release(fh_tensor *tensor);

fh_status nothing_borrow(fh_runtime *runtime, const DLTensor *tensor, uint32_t flags, fh_tensor **out, fh_error **error) {
  (void)runtime, (void)tensor, (void)flags, (void)out, (void)error;
  return FH_OK;
}

void nothing_release(fh_tensor *tensor) { (void)tensor; }
