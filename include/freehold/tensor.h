/**
 * \file freehold/tensor.h
 * \brief Tensors: handles, what is known about them, new ones.
 */
#ifndef FREEHOLD_TENSOR_H
#define FREEHOLD_TENSOR_H

#include "errors.h"
#include "runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * \defgroup tensor Tensor
 * @{
 */

/** A tensor: shape, strides, dtype and device over memory that somebody owns. Counted: fh_tensor_retain() and
 *  fh_tensor_release(). */
typedef struct fh_tensor fh_tensor;

/** Facts about a tensor's memory and values: fh_tensor_flags(), #fh_owner.flags. */
enum {
  /** Holders must not write. Same bit as in a capsule's flags. */
  FH_FLAG_READ_ONLY = 1 << 0,
  /** The memory was made for the receiver, who is its only holder. Same bit as in a capsule's flags. */
  FH_FLAG_IS_COPIED = 1 << 1,
  /** Elements smaller than a byte fill one each. Same bit as in a capsule's flags. */
  FH_FLAG_SUBBYTE_PADDED = 1 << 2,
  /** The producer promises that nobody writes. */
  FH_FLAG_IMMUTABLE = 1 << 3,
  /** An autograd graph hangs on the tensor. */
  FH_FLAG_REQUIRES_GRAD = 1 << 4,
  /** A view of a tensor that an autograd graph hangs on. */
  FH_FLAG_DETACHED = 1 << 5,
  /** The values are the complex conjugate of the bytes. */
  FH_FLAG_CONJ = 1 << 6,
  /** The values are the negation of the bytes. */
  FH_FLAG_NEG = 1 << 7,
  /** The bytes of each element are in the other byte order. */
  FH_FLAG_SWAPPED = 1 << 8,
  /** Strides count bytes. */
  FH_FLAG_BYTE_STRIDES = 1 << 9,
  /** It came through a legacy capsule, which cannot say whether it is read-only. Not taken as input. */
  FH_FLAG_LEGACY = 1 << 10,
  /** The owner promised not to write while it is lent. Not taken as input. */
  FH_FLAG_FROZEN = 1 << 11
};

/** What fh_tensor_overlap() found. */
enum {
  /** No byte is shared. */
  FH_OVERLAP_NONE = 0,
  /** At least one byte is shared. */
  FH_OVERLAP_SOME = 1,
  /** The ranges meet and the search gave up: treat as shared. */
  FH_OVERLAP_UNKNOWN = 2
};

/**
 * \brief New memory in C order, all bytes 0.
 *
 * \param runtime whose ledger and allocators are used; NULL is the one of the process
 * \param dtype element type
 * \param device where; memory that the host cannot write is refused (#FH_REASON_DV02)
 * \param ndim number of dimensions, 0 to 64
 * \param shape `ndim` sizes; may be NULL where `ndim` is 0
 * \param label who asked for it, for the ledger; may be NULL
 * \param out receives the tensor, which the caller owns
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_tensor_new(fh_runtime *runtime, DLDataType dtype, DLDevice device, int32_t ndim, const int64_t *shape,
                               const char *label, fh_tensor **out, fh_error **error) FH_NOEXCEPT;

/** Another hold on the tensor, for another fh_tensor_release(). Returns its argument; NULL where that is no tensor. */
FH_API fh_tensor *fh_tensor_retain(fh_tensor *tensor) FH_NOEXCEPT;

/** Lets go. With the last hold and the last capsule made from it, the memory goes back to its owner, on this thread. NULL
 *  does nothing. */
FH_API void fh_tensor_release(fh_tensor *tensor) FH_NOEXCEPT;

/**
 * \brief The tensor as DLPack describes it.
 *
 * What flags say of the values (#FH_FLAG_CONJ, #FH_FLAG_NEG, #FH_FLAG_SWAPPED) and #FH_FLAG_BYTE_STRIDES are not in it; look at
 * fh_tensor_flags() before reading through it.
 *
 * \param tensor the tensor
 * \param out is filled. Its shape and strides belong to the tensor, and live as long; both are NULL only where `ndim` is 0.
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_tensor_dl(const fh_tensor *tensor, DLTensor *out, fh_error **error) FH_NOEXCEPT;

/** `FH_FLAG_*`; 0 for NULL. */
FH_API uint32_t fh_tensor_flags(const fh_tensor *tensor) FH_NOEXCEPT;

/** The number of its record on the ledger; 0 where it has none. A number is never used twice. */
FH_API uint64_t fh_tensor_id(const fh_tensor *tensor) FH_NOEXCEPT;

/**
 * \brief Makes a stream wait until a tensor's values are there, and has its memory kept until the stream has used it.
 *
 * For memory of a CUDA device; for host memory nothing is done. Call it before work that reads or writes the tensor is queued
 * on a stream that no call has been given yet (#fh_request has a stream too). The host does not wait. When the tensor and
 * what shares its memory are released, the memory is given back only after everything that was queued on the stream by then.
 *
 * \param tensor the tensor
 * \param stream as DLPack numbers CUDA streams: 1 the legacy default stream, 2 the calling thread's, a handle (`cudaStream_t`)
 *               which must live until the memory is given back; -1 does nothing; 0 is refused with `AR01`
 * \param error receives the error, may be NULL: `SY01` where a graph capture forbids the wait
 */
FH_API fh_status fh_tensor_use_on(const fh_tensor *tensor, int64_t stream, fh_error **error) FH_NOEXCEPT;

/**
 * \brief Whether two tensors share a byte, exactly: strides included.
 *
 * \param a one
 * \param b the other
 * \param out receives one of `FH_OVERLAP_*`
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_tensor_overlap(const fh_tensor *a, const fh_tensor *b, int32_t *out, fh_error **error) FH_NOEXCEPT;

/** @} */

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FREEHOLD_TENSOR_H */
