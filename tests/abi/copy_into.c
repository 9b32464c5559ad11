/* Copies into memory that is there: other layouts, other dtypes, overlap with the source. */
#include "check.h"

static fh_tensor *borrow(void *data, DLDataType dtype, int64_t *shape, int64_t *strides, uint32_t flags) {
  fh_error *err = NULL;
  fh_tensor *t = NULL;
  DLTensor view;
  memset(&view, 0, sizeof view);
  view.data = data;
  view.device = on_cpu();
  view.ndim = 2;
  view.dtype = dtype;
  view.shape = shape;
  view.strides = strides;
  OK(fh_view_borrow(NULL, &view, flags, &t, &err));
  return t;
}

int main(void) {
  float from[6] = {0, 1, 2, 3, 4, 5}, big[6] = {0, 1, 2, 3, 400, 5};
  double to[6];
  uint8_t bytes[6];
  int64_t shape[2] = {2, 3}, rows[2] = {3, 1}, columns[2] = {1, 2}, other[2] = {3, 2}, flat[2] = {0, 1}, flip[2] = {-3, 1};
  fh_error *err = NULL;
  const DLDataType f32 = dtype_of(kDLFloat, 32), f64 = dtype_of(kDLFloat, 64), u8 = dtype_of(kDLUInt, 8);
  fh_tensor *source = borrow(from, f32, shape, rows, FH_FLAG_READ_ONLY), *target, *wrong;
  fh_request request = request_of(FH_COPY_IF_NEEDED);

  /* Transposed and cast on the way. */
  target = borrow(to, f64, shape, columns, 0);
  OK(fh_copy_into(source, target, NULL, &err));
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 3; ++j) CHECK(to[i + 2 * j] == from[3 * i + j]);
  request.dtype = f64;
  request.device = on_cpu();
  OK(fh_copy_into(source, target, &request, &err));
  request.dtype = f32;
  FAILS(fh_copy_into(source, target, &request, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  fh_tensor_release(target);

  /* Values that do not fit. */
  target = borrow(bytes, u8, shape, rows, 0);
  wrong = borrow(big, f32, shape, rows, 0);
  fh_request_init(&request, sizeof request);
  FAILS(fh_copy_into(wrong, target, &request, &err), FH_REJECTED, FH_REASON_CA02);
  request.on_loss = FH_ON_LOSS_ALLOW;
  OK(fh_copy_into(wrong, target, &request, &err));
  CHECK(bytes[4] == 255 && bytes[5] == 5);
  bytes[4] = bytes[5] = 0;
  request.on_loss = FH_ON_LOSS_SATURATE;
  OK(fh_copy_into(wrong, target, &request, &err));
  CHECK(bytes[4] == 255 && bytes[5] == 5);
  fh_tensor_release(target);
  fh_tensor_release(wrong);

  /* Refused: another shape, a read-only target, a target whose elements overlap. */
  wrong = borrow(to, f32, other, columns, 0);
  FAILS(fh_copy_into(source, wrong, NULL, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  fh_tensor_release(wrong);
  wrong = borrow(to, f32, shape, rows, FH_FLAG_READ_ONLY);
  FAILS(fh_copy_into(source, wrong, NULL, &err), FH_REJECTED, FH_REASON_RO01);
  fh_tensor_release(wrong);
  wrong = borrow(to, f32, shape, flat, 0);
  FAILS(fh_copy_into(source, wrong, NULL, &err), FH_REJECTED, FH_REASON_AL02);
  fh_tensor_release(wrong);

  /* Onto itself, rows swapped: the source is copied out first. */
  target = borrow(from + 3, f32, shape, flip, 0);
  OK(fh_copy_into(source, target, NULL, &err));
  CHECK(from[0] == 3 && from[3] == 0 && from[5] == 2);
  fh_tensor_release(target);

  /* The same, where one side calls its host memory pinned. */
  {
    float line[4] = {1, 2, 3, 4};
    int64_t three = 3;
    int32_t overlap = -1;
    DLTensor view;
    fh_tensor *pinned = NULL, *plain = NULL;
    memset(&view, 0, sizeof view);
    view.data = line;
    view.device = on_cpu();
    view.ndim = 1;
    view.dtype = f32;
    view.shape = &three;
    OK(fh_view_borrow(NULL, &view, 0, &plain, &err));
    view.data = line + 1;
    view.device.device_type = kDLCUDAHost;
    OK(fh_view_borrow(NULL, &view, 0, &pinned, &err));
    OK(fh_tensor_overlap(plain, pinned, &overlap, &err));
    CHECK_EQ(overlap, FH_OVERLAP_SOME);
    OK(fh_copy_into(plain, pinned, NULL, &err));
    CHECK(line[0] == 1 && line[1] == 1 && line[2] == 2 && line[3] == 3);
    fh_tensor_release(plain);
    fh_tensor_release(pinned);
  }
  fh_tensor_release(source);
  return done("copy_into");
}
