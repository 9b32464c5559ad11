/**
 * \file freehold/capsule.h
 * \brief Capsules: tensors walk in and out.
 */
#ifndef FREEHOLD_CAPSULE_H
#define FREEHOLD_CAPSULE_H

#include "errors.h"
#include "runtime.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * \defgroup import Import
 *
 * A **label** says who produced the tensor, for the ledger and for messages: a framework ("torch"), or a framework and a
 * call site after an '@' ("torch@loader.c:31"). NULL is "c".
 * @{
 */

/** Who keeps the memory of a raw tensor alive, and what is known about it. */
typedef struct fh_owner {
  /** `sizeof(fh_owner)` */
  uint32_t struct_size;
  /** `FH_FLAG_*` */
  uint32_t flags;
  /** Called once with `context`, on any thread, when the last holder let go. NULL: the memory stays valid for as long as
   *  the tensor and everything made from it live, without being told when that ends. */
  void (*release)(void *context);
  /** Passed to `release`. */
  void *context;
  /** Where the allocation that the memory is part of begins; 0 where it is not known. Two tensors of one allocation are
   *  one buffer on the ledger. */
  uint64_t allocation;
  /** Bytes of that allocation. */
  uint64_t allocation_bytes;
  uint64_t reserved[2];
} fh_owner;

/**
 * \brief Takes over a versioned capsule.
 *
 * Every field is checked before it is used. Shape and strides are copied, so the struct may change later. NULL strides are
 * taken as compact row-major from any version.
 *
 * \param runtime whose ledger it goes on; NULL is the one of the process
 * \param managed the capsule. Belongs to the tensor on success, which calls its deleter (unless NULL) once, on whatever
 *        thread the last holder lets go. On failure it is still the caller's, except with #FH_REASON_VE01 (unknown
 *        major version): then its deleter was called and nothing else of it was read.
 * \param label who produced it; may be NULL
 * \param out receives the tensor, which the caller owns
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_import_versioned(fh_runtime *runtime, DLManagedTensorVersioned *managed, const char *label,
                                     fh_tensor **out, fh_error **error) FH_NOEXCEPT;

/**
 * \brief Takes over a legacy capsule.
 *
 * As fh_import_versioned(); a legacy capsule has no version, and cannot say that memory is read-only.
 */
FH_API fh_status fh_import_legacy(fh_runtime *runtime, DLManagedTensor *managed, const char *label, fh_tensor **out,
                                  fh_error **error) FH_NOEXCEPT;

/**
 * \brief Wraps memory that has no capsule.
 *
 * \param runtime whose ledger it goes on; NULL is the one of the process
 * \param tensor describes the memory; copied, shape and strides too
 * \param owner who keeps the memory alive. Its `release` belongs to the tensor on success, and is not called on failure.
 *        NULL is an owner with all fields 0.
 * \param label who produced it; may be NULL
 * \param out receives the tensor, which the caller owns
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_import_raw(fh_runtime *runtime, const DLTensor *tensor, const fh_owner *owner, const char *label,
                               fh_tensor **out, fh_error **error) FH_NOEXCEPT;

/**
 * \brief Looks at somebody else's tensor for the length of a call: checked, not owned, not on the ledger.
 *
 * For a function that was given a `DLTensor` and wants to decide on it, copy from it or copy into it. The result must be
 * released, and everything that shares its memory too, before the function returns to whoever owns the memory. To keep
 * the values, copy them (#FH_COPY_ALWAYS).
 *
 * \param runtime whose policy and allocators are used; NULL is the one of the process
 * \param tensor describes the memory; copied, shape and strides too
 * \param flags `FH_FLAG_*`
 * \param out receives the tensor, which the caller owns
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_view_borrow(fh_runtime *runtime, const DLTensor *tensor, uint32_t flags, fh_tensor **out,
                                fh_error **error) FH_NOEXCEPT;

/** @} */

/**
 * \defgroup export Export
 *
 * A capsule keeps the memory alive by itself: the tensor may be released. Strides are always there, `deleter` and
 * `manager_ctx` are never NULL, the byte offset is 0 on devices with addresses, flags are true. A **label** says who
 * receives it, as in import.
 * @{
 */

/**
 * \brief A versioned capsule over the tensor's memory.
 *
 * \param tensor the tensor, which stays as it is
 * \param max_version the highest version that the consumer reads; {0, 0} is any. The capsule carries the lower of this and
 *        fh_dlpack_version(). A consumer of 0.x reads legacy capsules only and is refused (#FH_REASON_VE01).
 * \param label who receives it; may be NULL
 * \param out receives the capsule. The caller owns it and must hand it to a consumer or call its deleter, once.
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_export_versioned(const fh_tensor *tensor, DLPackVersion max_version, const char *label,
                                     DLManagedTensorVersioned **out, fh_error **error) FH_NOEXCEPT;

/**
 * \brief A legacy capsule over the tensor's memory.
 *
 * Refused for read-only memory (#FH_REASON_RO01), which a legacy capsule cannot mark.
 *
 * \param tensor the tensor, which stays as it is
 * \param label who receives it; may be NULL
 * \param out receives the capsule. The caller owns it and must hand it to a consumer or call its deleter, once.
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_export_legacy(const fh_tensor *tensor, const char *label, DLManagedTensor **out,
                                  fh_error **error) FH_NOEXCEPT;

/** @} */

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FREEHOLD_CAPSULE_H */
