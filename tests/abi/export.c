/* What leaves is always true: flags, versions, strides, offsets; read-only memory never leaves in a legacy capsule. */
#include "check.h"

static float data[8];
static int deleted;

static fh_tensor *import_as(uint64_t flags, uint64_t offset) {
  const int64_t shape[1] = {4};
  fh_error *err = NULL;
  fh_tensor *tensor = NULL;
  test_capsule *c = make_capsule(data, 1, shape, &deleted);
  c->versioned.flags = flags;
  c->versioned.dl_tensor.byte_offset = offset;
  OK(fh_import_versioned(NULL, &c->versioned, NULL, &tensor, &err));
  return tensor;
}

int main(void) {
  const int64_t zero[2] = {3, 0};
  fh_error *err = NULL;
  fh_tensor *t;
  DLManagedTensorVersioned *v = NULL;
  DLManagedTensor *l = NULL;

  /* Read-only and copied are said; what was folded into the pointer is not in byte_offset too. */
  t = import_as(DLPACK_FLAG_BITMASK_READ_ONLY | DLPACK_FLAG_BITMASK_IS_COPIED, 8);
  OK(fh_export_versioned(t, version_of(1, 1), "jax", &v, &err));
  CHECK_EQ(v->flags, DLPACK_FLAG_BITMASK_READ_ONLY | DLPACK_FLAG_BITMASK_IS_COPIED);
  CHECK(v->dl_tensor.data == data + 2 && v->dl_tensor.byte_offset == 0);
  CHECK_EQ(v->version.minor, 1);
  v->deleter(v);
  CHECK_EQ(fh_export_legacy(t, NULL, &l, &err), FH_REJECTED);
  CHECK_EQ(fh_error_reason(err), FH_REASON_RO01);
  CHECK_HAS(fh_error_message(err), "legacy");
  fh_error_free(err);
  err = NULL;
  CHECK(l == NULL);
  fh_tensor_release(t);
  CHECK_EQ(deleted, 1);

  /* The version is the highest that both know. */
  t = import_as(0, 0);
  OK(fh_export_versioned(t, version_of(1, 99), NULL, &v, &err));
  CHECK_EQ(v->version.minor, 3);
  v->deleter(v);
  OK(fh_export_versioned(t, version_of(2, 0), NULL, &v, &err));
  CHECK_EQ(v->version.major, 1);
  v->deleter(v);
  v = NULL;
  FAILS(fh_export_versioned(t, version_of(0, 8), NULL, &v, &err), FH_REJECTED, FH_REASON_VE01);
  CHECK(v == NULL);

  /* A consumer that writes to its struct does not disturb the deleter. */
  OK(fh_export_versioned(t, version_of(0, 0), NULL, &v, &err));
  v->dl_tensor.ndim = 1000;
  v->dl_tensor.shape = NULL;
  v->manager_ctx = NULL;
  v->deleter(v);
  OK(fh_export_legacy(t, NULL, &l, &err));
  l->dl_tensor.ndim = -5;
  l->manager_ctx = NULL;
  l->deleter(l);
  /* A deleter that is handed nothing does nothing. */
  OK(fh_export_legacy(t, NULL, &l, &err));
  l->deleter(NULL);
  l->deleter(l);

  /* The capsule alone keeps the memory. */
  OK(fh_export_legacy(t, "old", &l, &err));
  fh_tensor_release(t);
  CHECK_EQ(deleted, 1);
  ((float *)l->dl_tensor.data)[1] = 5;
  CHECK(data[1] == 5);
  l->deleter(l);
  CHECK_EQ(deleted, 2);

  /* No element: data is NULL, strides are there. */
  OK(fh_tensor_new(NULL, dtype_of(kDLBool, 8), on_cpu(), 2, zero, NULL, &t, &err));
  OK(fh_export_versioned(t, version_of(0, 0), NULL, &v, &err));
  fh_tensor_release(t);
  CHECK(v->dl_tensor.data == NULL && v->dl_tensor.strides != NULL && v->dl_tensor.shape[0] == 3);
  v->deleter(v);

  /* Elements smaller than a byte that fill one each say so. */
  t = NULL;
  {
    const int64_t shape[1] = {8};
    test_capsule *c = make_capsule(data, 1, shape, &deleted);
    c->versioned.dl_tensor.dtype = dtype_of(17, 4);
    c->versioned.flags = DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED;
    OK(fh_import_versioned(NULL, &c->versioned, NULL, &t, &err));
    CHECK_EQ(fh_tensor_flags(t), FH_FLAG_SUBBYTE_PADDED);
    OK(fh_export_versioned(t, version_of(1, 3), NULL, &v, &err));
    CHECK_EQ(v->flags, DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED);
    v->deleter(v);
    fh_tensor_release(t);
  }
  CHECK_EQ(deleted, 3);
  return done("export");
}
