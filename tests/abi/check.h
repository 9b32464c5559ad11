/* What every test program shares: checks that say where they failed, and capsules whose deleters count. */
#ifndef FREEHOLD_TESTS_CHECK_H
#define FREEHOLD_TESTS_CHECK_H

#include <freehold/freehold.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int checks_made;

/* A failed check ends the program: what follows it would only repeat the failure. Variadic for C++ template commas. */
#define CHECK(...)                                                                       \
  do {                                                                                   \
    ++checks_made;                                                                       \
    if (!(__VA_ARGS__)) {                                                                \
      fprintf(stderr, "%s:%d: CHECK failed: %s\n", __FILE__, __LINE__, #__VA_ARGS__);     \
      exit(1);                                                                           \
    }                                                                                    \
  } while (0)

#define CHECK_EQ(got, expected)                                                                           \
  do {                                                                                                    \
    long long got_ = (long long)(got), expected_ = (long long)(expected);                                 \
    ++checks_made;                                                                                        \
    if (got_ != expected_) {                                                                              \
      fprintf(stderr, "%s:%d: %s is %lld, not %s (%lld)\n", __FILE__, __LINE__, #got, got_, #expected,    \
              expected_);                                                                                 \
      exit(1);                                                                                            \
    }                                                                                                     \
  } while (0)

/* A function, so that a C++ temporary lives until it was looked at. */
#define CHECK_HAS(text, part) check_has(__FILE__, __LINE__, text, part)

static inline void check_has(const char *file, int line, const char *text, const char *part) {
  ++checks_made;
  if (text == NULL || strstr(text, part) == NULL) {
    fprintf(stderr, "%s:%d: no \"%s\" in: %s\n", file, line, part, text ? text : "NULL");
    exit(1);
  }
}

/* A call that must succeed; its error's message is printed if it does not. Uses a variable `err`. */
#define OK(call)                                                                                          \
  do {                                                                                                    \
    fh_status status_ = (call);                                                                           \
    ++checks_made;                                                                                        \
    if (status_ != FH_OK) {                                                                               \
      fprintf(stderr, "%s:%d: %s: status %d: %s\n", __FILE__, __LINE__, #call, (int)status_,              \
              fh_error_message(err));                                                                     \
      exit(1);                                                                                            \
    }                                                                                                     \
  } while (0)

/* A call that must fail with a status and a reason. Frees the error. Uses a variable `err`. */
#define FAILS(call, status, reason)                    \
  do {                                                 \
    err = NULL;                                        \
    CHECK_EQ((call), (status));                        \
    CHECK(err != NULL);                                \
    CHECK_EQ(fh_error_code(err), (status));            \
    CHECK_EQ(fh_error_reason(err), (reason));          \
    CHECK(strlen(fh_error_message(err)) > 10);         \
    fh_error_free(err);                                \
    err = NULL;                                        \
  } while (0)

static inline int done(const char *program) {
  printf("%s: %d checks\n", program, checks_made);
  return 0;
}

/* A capsule over memory of this program. The struct, shape and strides are one allocation that the deleter frees. */
typedef struct {
  DLManagedTensorVersioned versioned;
  DLManagedTensor legacy;
  int64_t shape[8], strides[8];
  int *deleted;
} test_capsule;

static inline void test_capsule_gone(test_capsule *capsule) {
  ++*capsule->deleted;
  free(capsule);
}

static inline void delete_versioned(DLManagedTensorVersioned *self) {
  test_capsule_gone((test_capsule *)self->manager_ctx);
}

static inline void delete_legacy(DLManagedTensor *self) { test_capsule_gone((test_capsule *)self->manager_ctx); }

/* float32, compact, on the host. `deleted` counts deleter calls. */
static inline test_capsule *make_capsule(void *data, int32_t ndim, const int64_t *shape, int *deleted) {
  test_capsule *capsule = (test_capsule *)calloc(1, sizeof *capsule);
  int64_t step = 1;
  DLTensor *tensor = &capsule->versioned.dl_tensor;
  for (int32_t i = ndim - 1; i >= 0; --i) {
    capsule->shape[i] = shape[i];
    capsule->strides[i] = step;
    step *= shape[i];
  }
  tensor->data = data;
  tensor->device.device_type = kDLCPU;
  tensor->ndim = ndim;
  tensor->dtype.code = kDLFloat;
  tensor->dtype.bits = 32;
  tensor->dtype.lanes = 1;
  tensor->shape = capsule->shape;
  tensor->strides = capsule->strides;
  capsule->deleted = deleted;
  capsule->versioned.version.major = 1;
  capsule->versioned.version.minor = 3;
  capsule->versioned.manager_ctx = capsule;
  capsule->versioned.deleter = delete_versioned;
  capsule->legacy.dl_tensor = *tensor;
  capsule->legacy.manager_ctx = capsule;
  capsule->legacy.deleter = delete_legacy;
  return capsule;
}

static inline DLDataType dtype_of(uint8_t code, uint8_t bits) {
  DLDataType dtype;
  dtype.code = code;
  dtype.bits = bits;
  dtype.lanes = 1;
  return dtype;
}

static inline DLDevice on_cpu(void) {
  DLDevice device;
  device.device_type = kDLCPU;
  device.device_id = 0;
  return device;
}

static inline DLPackVersion version_of(uint32_t major, uint32_t minor) {
  DLPackVersion version;
  version.major = major;
  version.minor = minor;
  return version;
}

static inline fh_caps caps_of(const char *name) {
  fh_caps caps;
  memset(&caps, 0, sizeof caps);
  caps.struct_size = sizeof caps;
  CHECK_EQ(fh_caps_for(name, &caps, NULL), FH_OK);
  return caps;
}

static inline fh_request request_of(int32_t copy) {
  fh_request request;
  fh_request_init(&request, sizeof request);
  request.copy = copy;
  return request;
}

#endif
