/* What may come in and what may not; who owns the capsule after a refusal. */
#include "check.h"

static float data[64];

/* A capsule that breaks a rule is refused, nothing is taken, and the deleter is not called. */
static void refused(test_capsule *capsule, int *deleted, const char *field) {
  fh_error *err = NULL;
  fh_tensor *tensor = NULL;
  capsule->legacy.dl_tensor = capsule->versioned.dl_tensor;
  CHECK_EQ(fh_import_versioned(NULL, &capsule->versioned, NULL, &tensor, &err), FH_REJECTED);
  CHECK_EQ(fh_error_reason(err), FH_REASON_CP02);
  CHECK_HAS(fh_error_message(err), field);
  fh_error_free(err);
  FAILS(fh_import_legacy(NULL, &capsule->legacy, NULL, &tensor, &err), FH_REJECTED, FH_REASON_CP02);
  FAILS(fh_import_raw(NULL, &capsule->versioned.dl_tensor, NULL, NULL, &tensor, &err), FH_REJECTED, FH_REASON_CP02);
  FAILS(fh_view_borrow(NULL, &capsule->versioned.dl_tensor, 0, &tensor, &err), FH_REJECTED, FH_REASON_CP02);
  CHECK(tensor == NULL);
  CHECK_EQ(*deleted, 0);
  capsule->versioned.deleter(&capsule->versioned);
  CHECK_EQ(*deleted, 1);
}

static void broken_fields(void) {
  const int64_t shape[2] = {2, 3};
  int deleted;
#define BROKEN(change, field)                                              \
  do {                                                                     \
    test_capsule *c;                                                       \
    DLTensor *t;                                                           \
    deleted = 0;                                                           \
    c = make_capsule(data, 2, shape, &deleted);                            \
    t = &c->versioned.dl_tensor;                                           \
    change;                                                                \
    refused(c, &deleted, field);                                           \
  } while (0)
  BROKEN(t->ndim = -1, "ndim");
  BROKEN(t->ndim = 65, "ndim");
  BROKEN(t->shape = NULL, "shape");
  BROKEN(t->shape[1] = -3, "shape");
  BROKEN((t->shape[0] = INT64_MAX, t->shape[1] = INT64_MAX), "shape");
  BROKEN(t->strides[0] = INT64_MAX, "strides");
  BROKEN(t->strides[0] = INT64_MIN, "strides");
  BROKEN(t->data = NULL, "data");
  BROKEN(t->dtype.code = 200, "dtype.code");
  BROKEN(t->dtype.bits = 0, "dtype.bits");
  BROKEN(t->dtype.bits = 33, "dtype.bits");
  BROKEN(t->dtype.lanes = 0, "dtype.lanes");
  BROKEN(t->byte_offset = UINT64_MAX, "byte_offset");
  BROKEN(t->device.device_type = (DLDeviceType)0, "device");
  BROKEN(t->device.device_type = (DLDeviceType)99, "device");
  BROKEN((t->device.device_type = kDLCUDA, t->device.device_id = -1), "device");
}

/* Another major version: only version, context, deleter and flags stay where they are, so nothing else is read, and
 * the deleter runs at once. */
static void unknown_major(void) {
  const int64_t shape[1] = {4};
  int deleted = 0;
  fh_error *err = NULL;
  fh_tensor *tensor = NULL;
  void *short_one;
  const DLPackVersion seven = version_of(7, 0);
  test_capsule *capsule = make_capsule(data, 1, shape, &deleted);
  capsule->versioned.version.major = 2;
  FAILS(fh_import_versioned(NULL, &capsule->versioned, NULL, &tensor, &err), FH_REJECTED, FH_REASON_VE01);
  CHECK_EQ(deleted, 1);
  CHECK(tensor == NULL);

  /* Without a deleter there is nothing to call. Allocated only as far as `flags`: a sanitizer sees any other read. */
  short_one = calloc(1, offsetof(DLManagedTensorVersioned, dl_tensor));
  memcpy(short_one, &seven, sizeof seven);
  FAILS(fh_import_versioned(NULL, (DLManagedTensorVersioned *)short_one, NULL, &tensor, &err), FH_REJECTED, FH_REASON_VE01);
  free(short_one);

  /* A minor version that we do not know is fine as long as every value is. */
  capsule = make_capsule(data, 1, shape, &deleted);
  capsule->versioned.version.minor = 99;
  deleted = 0;
  OK(fh_import_versioned(NULL, &capsule->versioned, NULL, &tensor, &err));
  fh_tensor_release(tensor);
  CHECK_EQ(deleted, 1);
}

static void legal_oddities(void) {
  const int64_t shape[2] = {2, 3}, empty[3] = {4, 0, 5}, one[2] = {1, 3};
  int64_t many[64];
  int deleted = 0;
  fh_error *err = NULL;
  fh_tensor *tensor = NULL;
  DLTensor view;
  test_capsule *c;

  /* No deleter: the producer keeps the memory. */
  c = make_capsule(data, 2, shape, &deleted);
  c->versioned.deleter = NULL;
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &tensor, &err));
  fh_tensor_release(tensor);
  CHECK_EQ(deleted, 0);
  c->legacy.deleter = NULL;
  OK(fh_import_legacy(NULL, &c->legacy, NULL, &tensor, &err));
  fh_tensor_release(tensor);
  free(c);

  /* NULL strides are compact row-major, from whatever version. */
  c = make_capsule(data, 2, shape, &deleted);
  c->versioned.dl_tensor.strides = NULL;
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &tensor, &err));
  OK(fh_tensor_dl(tensor, &view, &err));
  CHECK(view.strides[0] == 3 && view.strides[1] == 1);
  fh_tensor_release(tensor);

  /* The byte offset is folded into the pointer. */
  c = make_capsule(data, 2, shape, &deleted);
  c->versioned.dl_tensor.byte_offset = 8;
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &tensor, &err));
  OK(fh_tensor_dl(tensor, &view, &err));
  CHECK(view.data == data + 2 && view.byte_offset == 0);
  fh_tensor_release(tensor);

  /* No element: data may be NULL or anything, strides too. */
  c = make_capsule(NULL, 3, empty, &deleted);
  c->versioned.dl_tensor.strides[0] = 1 << 20;
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &tensor, &err));
  OK(fh_tensor_dl(tensor, &view, &err));
  CHECK(view.data == NULL && view.shape[0] == 4 && view.shape[1] == 0);
  fh_tensor_release(tensor);
  c = make_capsule((void *)1, 3, empty, &deleted);
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &tensor, &err));
  fh_tensor_release(tensor);

  /* A dimension of 1 may have any stride. */
  c = make_capsule(data, 2, one, &deleted);
  c->versioned.dl_tensor.strides[0] = 777;
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &tensor, &err));
  fh_tensor_release(tensor);

  /* No dimension at all, shape and strides NULL. */
  c = make_capsule(data, 0, NULL, &deleted);
  c->versioned.dl_tensor.shape = NULL;
  c->versioned.dl_tensor.strides = NULL;
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &tensor, &err));
  fh_tensor_release(tensor);

  /* 64 dimensions are the most. */
  for (int i = 0; i < 64; ++i) many[i] = 1;
  c = make_capsule(data, 0, NULL, &deleted);
  c->versioned.dl_tensor.ndim = 64;
  c->versioned.dl_tensor.shape = many;
  c->versioned.dl_tensor.strides = NULL;
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &tensor, &err));
  fh_tensor_release(tensor);

  /* Negative strides: the pointer is at the last row. */
  c = make_capsule(data + 3, 2, shape, &deleted);
  c->versioned.dl_tensor.strides[0] = -3;
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &tensor, &err));
  fh_tensor_release(tensor);

  /* Unknown flags are nobody's business; the others are kept. */
  c = make_capsule(data, 2, shape, &deleted);
  c->versioned.flags = DLPACK_FLAG_BITMASK_READ_ONLY | DLPACK_FLAG_BITMASK_IS_COPIED | UINT64_C(1) << 40;
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &tensor, &err));
  CHECK_EQ(fh_tensor_flags(tensor), FH_FLAG_READ_ONLY | FH_FLAG_IS_COPIED);
  fh_tensor_release(tensor);

  /* Device memory is described, not touched. */
  c = make_capsule((void *)0x7f0000000000, 2, shape, &deleted);
  c->versioned.dl_tensor.device.device_type = kDLCUDA;
  c->versioned.dl_tensor.device.device_id = 3;
  OK(fh_import_versioned(NULL, &c->versioned, "cupy", &tensor, &err));
  OK(fh_tensor_dl(tensor, &view, &err));
  CHECK(view.device.device_type == kDLCUDA && view.device.device_id == 3);
  fh_tensor_release(tensor);
  CHECK_EQ(deleted, 10);
}

static int released;
static void release(void *context) {
  CHECK(context == data);
  ++released;
}

static void raw(void) {
  int64_t shape[2] = {4, 8}, strides[2] = {16, 2};
  fh_error *err = NULL;
  fh_tensor *tensor = NULL, *half = NULL;
  DLTensor view, t;
  fh_owner owner = {.struct_size = sizeof owner};
  memset(&t, 0, sizeof t);
  t.data = data;
  t.device = on_cpu();
  t.ndim = 2;
  t.dtype = dtype_of(kDLFloat, 32);
  t.shape = shape;
  t.strides = strides;

  owner.release = release;
  owner.context = data;
  owner.allocation = (uintptr_t)data;
  owner.allocation_bytes = sizeof data;
  owner.flags = FH_FLAG_READ_ONLY | FH_FLAG_IMMUTABLE;
  OK(fh_import_raw(NULL, &t, &owner, "arrow@import.c", &tensor, &err));
  CHECK_EQ(fh_tensor_flags(tensor), FH_FLAG_READ_ONLY | FH_FLAG_IMMUTABLE);
  OK(fh_tensor_dl(tensor, &view, &err));
  CHECK(view.data == data && view.shape != shape && view.strides[0] == 16);
  CHECK_EQ(released, 0);
  fh_tensor_release(tensor);
  CHECK_EQ(released, 1);

  /* Refused: the release function stays the caller's. */
  shape[0] = -4;
  FAILS(fh_import_raw(NULL, &t, &owner, NULL, &tensor, &err), FH_REJECTED, FH_REASON_CP02);
  shape[0] = 4;
  owner.flags = FH_FLAG_LEGACY;
  FAILS(fh_import_raw(NULL, &t, &owner, NULL, &tensor, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  owner.flags = 0;
  owner.reserved[0] = 1;
  FAILS(fh_import_raw(NULL, &t, &owner, NULL, &tensor, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  owner.reserved[0] = 0;
  owner.allocation_bytes = UINT64_MAX;
  FAILS(fh_import_raw(NULL, &t, &owner, NULL, &tensor, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  CHECK_EQ(released, 1);

  /* Nobody's: on the ledger, but there is nothing to call. */
  OK(fh_import_raw(NULL, &t, NULL, NULL, &tensor, &err));
  CHECK(fh_tensor_id(tensor) != 0);
  fh_tensor_release(tensor);

  /* A look: not on the ledger. */
  OK(fh_view_borrow(NULL, &t, FH_FLAG_READ_ONLY, &half, &err));
  CHECK_EQ(fh_tensor_id(half), 0);
  CHECK_EQ(fh_tensor_flags(half), FH_FLAG_READ_ONLY);
  fh_tensor_release(half);
  /* Again, as the thread is warm: of whole bytes none is padded, whatever the caller says. */
  OK(fh_view_borrow(NULL, &t, FH_FLAG_READ_ONLY | FH_FLAG_SUBBYTE_PADDED, &half, &err));
  CHECK_EQ(fh_tensor_flags(half), FH_FLAG_READ_ONLY);
  fh_tensor_release(half);
  CHECK_EQ(released, 1);
}

int main(void) {
  broken_fields();
  unknown_major();
  legal_oddities();
  raw();
  return done("import");
}
