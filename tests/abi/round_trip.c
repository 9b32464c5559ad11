/* A capsule walks in, is decided, and walks out, both versions; nothing is left on the ledger. */
#include "check.h"

static void versioned(void) {
  float data[6] = {0, 1, 2, 3, 4, 5};
  const int64_t shape[2] = {2, 3};
  int deleted = 0;
  fh_error *err = NULL;
  fh_tensor *tensor = NULL;
  DLTensor view;
  DLManagedTensorVersioned *out = NULL;
  test_capsule *capsule = make_capsule(data, 2, shape, &deleted);

  OK(fh_import_versioned(NULL, &capsule->versioned, "torch", &tensor, &err));
  OK(fh_tensor_dl(tensor, &view, &err));
  CHECK(view.data == data);
  CHECK_EQ(view.ndim, 2);
  CHECK_EQ(view.shape[0], 2);
  CHECK_EQ(view.strides[0], 3);
  CHECK_EQ(view.strides[1], 1);
  CHECK_EQ(view.dtype.bits, 32);
  CHECK_EQ(fh_tensor_flags(tensor), 0);
  CHECK(fh_tensor_id(tensor) != 0);
  /* Shape and strides were copied: what the producer does to its struct no longer matters. */
  capsule->shape[0] = 99;
  OK(fh_tensor_dl(tensor, &view, &err));
  CHECK_EQ(view.shape[0], 2);

  OK(fh_export_versioned(tensor, version_of(0, 0), "numpy", &out, &err));
  CHECK_EQ(out->version.major, 1);
  CHECK_EQ(out->version.minor, 3);
  CHECK(out->deleter != NULL && out->manager_ctx != NULL);
  CHECK(out->dl_tensor.data == data);
  CHECK_EQ(out->dl_tensor.byte_offset, 0);
  CHECK(out->dl_tensor.strides != NULL);
  CHECK_EQ(out->flags, 0);
  /* Written through one side, read through the other. */
  ((float *)out->dl_tensor.data)[4] = 42;
  CHECK(data[4] == 42);

  /* The capsule keeps the memory alive by itself. */
  fh_tensor_release(tensor);
  CHECK_EQ(deleted, 0);
  out->deleter(out);
  CHECK_EQ(deleted, 1);
}

static void legacy(void) {
  float data[4] = {1, 2, 3, 4};
  const int64_t shape[1] = {4};
  int deleted = 0;
  fh_error *err = NULL;
  fh_tensor *tensor = NULL;
  DLManagedTensor *out = NULL;
  test_capsule *capsule = make_capsule(data, 1, shape, &deleted);

  OK(fh_import_legacy(NULL, &capsule->legacy, NULL, &tensor, &err));
  CHECK(fh_tensor_flags(tensor) & FH_FLAG_LEGACY);
  OK(fh_export_legacy(tensor, NULL, &out, &err));
  CHECK(out->dl_tensor.data == data);
  CHECK(out->deleter != NULL && out->manager_ctx != NULL);
  CHECK_EQ(out->dl_tensor.strides[0], 1);
  out->deleter(out);
  CHECK_EQ(deleted, 0);
  fh_tensor_release(tensor);
  CHECK_EQ(deleted, 1);
}

/* Out and in again: our own capsules are as good as anybody's. */
static void through_ourselves(void) {
  float data[2] = {1, 2};
  const int64_t shape[1] = {2};
  int deleted = 0;
  fh_error *err = NULL;
  fh_tensor *first = NULL, *second = NULL;
  DLManagedTensorVersioned *between = NULL;
  DLTensor view;
  int32_t overlap = -1;
  test_capsule *capsule = make_capsule(data, 1, shape, &deleted);

  OK(fh_import_versioned(NULL, &capsule->versioned, "a", &first, &err));
  OK(fh_export_versioned(first, version_of(1, 0), "b", &between, &err));
  CHECK_EQ(between->version.minor, 0);
  OK(fh_import_versioned(NULL, between, "b", &second, &err));
  OK(fh_tensor_overlap(first, second, &overlap, &err));
  CHECK_EQ(overlap, FH_OVERLAP_SOME);
  fh_tensor_release(first);
  OK(fh_tensor_dl(second, &view, &err));
  CHECK(view.data == data && ((float *)view.data)[1] == 2);
  CHECK_EQ(deleted, 0);
  fh_tensor_release(second);
  CHECK_EQ(deleted, 1);
}

static void counted(void) {
  float data[1] = {1};
  const int64_t shape[1] = {1};
  int deleted = 0;
  fh_error *err = NULL;
  fh_tensor *tensor = NULL;
  test_capsule *capsule = make_capsule(data, 1, shape, &deleted);

  OK(fh_import_versioned(NULL, &capsule->versioned, NULL, &tensor, &err));
  CHECK(fh_tensor_retain(tensor) == tensor);
  fh_tensor_release(tensor);
  CHECK_EQ(deleted, 0);
  fh_tensor_release(tensor);
  CHECK_EQ(deleted, 1);
  fh_tensor_release(NULL);
  CHECK(fh_tensor_retain(NULL) == NULL);
}

static void ours(void) {
  const int64_t shape[3] = {2, 0, 3}, plain[2] = {3, 5};
  fh_error *err = NULL;
  fh_tensor *tensor = NULL;
  DLTensor view;

  OK(fh_tensor_new(NULL, dtype_of(kDLFloat, 64), on_cpu(), 2, plain, "me@round_trip.c", &tensor, &err));
  OK(fh_tensor_dl(tensor, &view, &err));
  CHECK_EQ((uintptr_t)view.data % 256, 0);
  for (int i = 0; i < 15; ++i) CHECK(((double *)view.data)[i] == 0);
  fh_tensor_release(tensor);

  /* No element: no memory to look at, but a shape. */
  OK(fh_tensor_new(NULL, dtype_of(kDLInt, 8), on_cpu(), 3, shape, NULL, &tensor, &err));
  OK(fh_tensor_dl(tensor, &view, &err));
  CHECK(view.data == NULL);
  CHECK_EQ(view.shape[1], 0);
  fh_tensor_release(tensor);

  /* No dimension: one element. */
  OK(fh_tensor_new(NULL, dtype_of(kDLInt, 8), on_cpu(), 0, NULL, NULL, &tensor, &err));
  OK(fh_tensor_dl(tensor, &view, &err));
  CHECK_EQ(view.ndim, 0);
  CHECK(view.data != NULL);
  fh_tensor_release(tensor);
}

int main(void) {
  fh_error *err = NULL;
  const uint64_t mark = fh_ledger_mark(NULL);
  fh_stats stats = {.struct_size = sizeof stats};

  CHECK_EQ(fh_abi_version(), FH_ABI_VERSION);
  CHECK_EQ(fh_dlpack_version().major, 1);
  CHECK_EQ(fh_dlpack_version().minor, 3);
  versioned();
  legacy();
  through_ourselves();
  counted();
  ours();
  CHECK(mark > 0);
  OK(fh_ledger_stats(NULL, &stats, &err));
  CHECK_EQ(stats.live_holders, 0);
  CHECK(stats.opened > 0 && stats.opened == stats.closed);
  return done("round_trip");
}
