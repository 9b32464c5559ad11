/**
 * \file freehold/decide.h
 * \brief Requests, caps, decisions, and what carries them out.
 */
#ifndef FREEHOLD_DECIDE_H
#define FREEHOLD_DECIDE_H

#include "errors.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * \defgroup decide Decide
 *
 * A request is what the caller wants, caps are what the target takes. A decision is computed from the tensor's
 * metadata alone: no byte is read.
 * @{
 */

/** #fh_request.copy */
enum {
  /** Share when it can, else copy. */
  FH_COPY_IF_NEEDED = 0,
  /** Share or refuse. */
  FH_COPY_NEVER = 1,
  /** Always new memory. */
  FH_COPY_ALWAYS = 2
};

/** #fh_request.writable */
enum {
  /** Whatever the memory allows. */
  FH_WRITABLE_ANY = 0,
  /** The result must be writable. */
  FH_WRITABLE_YES = 1,
  /** The result must be read-only. */
  FH_WRITABLE_NO = 2
};

/** #fh_request.on_loss: values that the dtype cannot hold. */
enum {
  /** They are refused (#FH_REASON_CA02), and nothing is handed out. */
  FH_ON_LOSS_ERROR = 0,
  /** They are truncated toward zero and saturate; NaN becomes 0. */
  FH_ON_LOSS_ALLOW = 1,
  /** As #FH_ON_LOSS_ALLOW; and floats that overflow, which otherwise become infinity or NaN, become the largest finite. */
  FH_ON_LOSS_SATURATE = 2
};

/** #fh_request.order */
enum {
  /** As it is. */
  FH_ORDER_ANY = 0,
  /** Row-major. */
  FH_ORDER_C = 1,
  /** Column-major. */
  FH_ORDER_F = 2
};

/** #fh_caps.strides */
enum {
  /** Any strides. */
  FH_STRIDES_ANY = 0,
  /** None below 0. */
  FH_STRIDES_NON_NEGATIVE = 1,
  /** Compact, row-major. */
  FH_STRIDES_COMPACT = 2,
  /** Without gaps, the dimensions in any order. */
  FH_STRIDES_PACKED = 3
};

/** #fh_caps.flags */
enum {
  /** Takes dtypes that have no bit in `dtypes` too, as they are: vector lanes, opaque handles. */
  FH_CAPS_ANY_DTYPE = 1 << 0,
  /** Takes strides in bytes that are not multiples of the item size. */
  FH_CAPS_BYTE_STRIDES = 1 << 1,
  /** Has read-only tensors. */
  FH_CAPS_READ_ONLY = 1 << 2,
  /** Promises that its tensors never change. */
  FH_CAPS_IMMUTABLE = 1 << 3,
  /** Carries the autograd graph of its own tensors. */
  FH_CAPS_GRAD = 1 << 4,
  /** Carries the lazy conj and neg bits of its own tensors. */
  FH_CAPS_LAZY_BITS = 1 << 5,
  /** Honours a byte offset other than 0. */
  FH_CAPS_BYTE_OFFSET = 1 << 6,
  /** Needs complex elements at multiples of their own size, whatever `alignment` says. */
  FH_CAPS_ALIGNED_COMPLEX = 1 << 7,
  /** Holds only memory that it allocated: what it is given is copied. */
  FH_CAPS_OWN_MEMORY = 1 << 8
};

/** The bits of #fh_caps.dtypes, lowest first: FH_DTYPE_BIT(FH_DTYPE_FLOAT32). */
enum {
  FH_DTYPE_BOOL = 0,
  FH_DTYPE_INT8 = 1,
  FH_DTYPE_INT16 = 2,
  FH_DTYPE_INT32 = 3,
  FH_DTYPE_INT64 = 4,
  FH_DTYPE_UINT8 = 5,
  FH_DTYPE_UINT16 = 6,
  FH_DTYPE_UINT32 = 7,
  FH_DTYPE_UINT64 = 8,
  FH_DTYPE_FLOAT16 = 9,
  FH_DTYPE_BFLOAT16 = 10,
  FH_DTYPE_FLOAT32 = 11,
  FH_DTYPE_FLOAT64 = 12,
  FH_DTYPE_COMPLEX32 = 13,
  FH_DTYPE_COMPLEX64 = 14,
  FH_DTYPE_COMPLEX128 = 15,
  FH_DTYPE_FLOAT8_E3M4 = 16,
  FH_DTYPE_FLOAT8_E4M3 = 17,
  FH_DTYPE_FLOAT8_E4M3B11FNUZ = 18,
  FH_DTYPE_FLOAT8_E4M3FN = 19,
  FH_DTYPE_FLOAT8_E4M3FNUZ = 20,
  FH_DTYPE_FLOAT8_E5M2 = 21,
  FH_DTYPE_FLOAT8_E5M2FNUZ = 22,
  FH_DTYPE_FLOAT8_E8M0FNU = 23,
  FH_DTYPE_FLOAT6_E2M3FN = 24,
  FH_DTYPE_FLOAT6_E3M2FN = 25,
  FH_DTYPE_FLOAT4_E2M1FN = 26,
  FH_DTYPE_INT4 = 27,
  FH_DTYPE_UINT4 = 28,
  FH_DTYPE_INT2 = 29,
  FH_DTYPE_UINT2 = 30,
  FH_DTYPE_UINT1 = 31
};

/** The bit of a dtype in #fh_caps.dtypes. */
#define FH_DTYPE_BIT(dtype) (UINT64_C(1) << (dtype))

/** The bit of a device type in #fh_caps.devices. */
#define FH_DEVICE_BIT(device_type) (UINT32_C(1) << (device_type))

/** What a decision says will happen. */
enum {
  /** The target sees the source's memory. */
  FH_VERDICT_SHARE = 0,
  /** The target gets new memory, filled in one pass. */
  FH_VERDICT_COPY = 1,
  /** Nothing happens; the first reason says why. */
  FH_VERDICT_REJECT = 2
};

/** #fh_cost.steps: what a copy does on its one pass. */
enum {
  /** The caller asked for new memory, or the target must not alias the owner. */
  FH_STEP_FRESH = 1 << 0,
  /** The elements move to other places. */
  FH_STEP_LAYOUT = 1 << 1,
  /** The dtype changes. */
  FH_STEP_CAST = 1 << 2,
  /** The bytes move to another device. */
  FH_STEP_DEVICE = 1 << 3,
  /** Lazy bits are applied: conjugation, negation, byte order. */
  FH_STEP_RESOLVE = 1 << 4
};

/** #fh_cost.sync */
enum {
  /** Nothing waits. */
  FH_WAIT_NONE = 0,
  /** The consumer's stream waits for an event. */
  FH_WAIT_EVENT = 1,
  /** The host waits. */
  FH_WAIT_HOST = 2
};

/** What the caller wants. All fields 0 but `struct_size`: share when it can, else copy; keep dtype, device, order. */
typedef struct fh_request {
  /** `sizeof(fh_request)` */
  uint32_t struct_size;
  /** The dtype; all fields 0 keeps the source's. */
  DLDataType dtype;
  /** The device; type 0 keeps the source's where the target can be there. */
  DLDevice device;
  /** `FH_ORDER_*` */
  int32_t order;
  /** Alignment of the first element in bytes, a power of two; 0 asks for none. */
  uint32_t alignment;
  /** `FH_COPY_*` */
  int32_t copy;
  /** `FH_WRITABLE_*` */
  int32_t writable;
  /** `FH_ON_LOSS_*` */
  int32_t on_loss;
  /** 1: drop the autograd graph. */
  uint8_t detach;
  /** 1: the owner promises not to write while the memory is lent; a write is a hazard on the ledger. */
  uint8_t freeze;
  /** 1: `stream` holds; 0: there is no stream. */
  uint8_t has_stream;
  uint8_t reserved0;
  /** The consumer's stream, as DLPack numbers them. */
  int64_t stream;
  uint64_t reserved[2];
} fh_request;

/** What a target takes. fh_caps_init() and fh_caps_for() fill it; a program may then change fields. */
typedef struct fh_caps {
  /** `sizeof(fh_caps)` */
  uint32_t struct_size;
  /** Alignment of the first element that it needs, in bytes, a power of two. */
  uint32_t alignment;
  /** The target's name, for messages and the ledger. Read during the call only. */
  const char *name;
  /** One #FH_DTYPE_BIT for each dtype that it has. */
  uint64_t dtypes;
  /** One #FH_DEVICE_BIT for each device type that its tensors can be on. */
  uint32_t devices;
  /** `FH_STRIDES_*` */
  int32_t strides;
  /** `FH_CAPS_*` */
  uint32_t flags;
  /** The dtype it gives to plain floats, for a hint. */
  DLDataType default_dtype;
  /** The highest DLPack version that it reads; {0, 8} is a consumer of legacy capsules. */
  DLPackVersion dlpack;
  uint64_t reserved[2];
} fh_caps;

/** What a decision costs. */
typedef struct fh_cost {
  /** `sizeof(fh_cost)`, set by the caller. */
  uint32_t struct_size;
  /** `FH_STEP_*`; 0 for a share. */
  uint32_t steps;
  /** Bytes that are copied, counted once. */
  uint64_t bytes_copied;
  /** Bytes that are allocated. */
  uint64_t bytes_allocated;
  /** `FH_WAIT_*` */
  int32_t sync;
  /** 1: the receiver may write. */
  int32_t writable;
} fh_cost;

/** One reason of a decision. */
typedef struct fh_reason {
  /** `sizeof(fh_reason)`, set by the caller. */
  uint32_t struct_size;
  /** `FH_REASON_*` */
  int32_t code;
  /** 1: it only informs. */
  int32_t info;
  uint32_t reserved0;
  /** The code's name, such as "ST01". Lives as long as the process. */
  const char *name;
  /** The field, its value and the limit: "dim 0 has stride -3 < 0". Belongs to the decision; may be "". */
  const char *detail;
} fh_reason;

/** A verdict with its reasons and cost. Remembers the metadata, request, caps and policy that it was made from, and no
 *  memory. Free it with fh_decision_free(). */
typedef struct fh_decision fh_decision;

/**
 * \brief Sets a request to the defaults.
 *
 * \param request is filled, `struct_size` too; NULL does nothing
 * \param size `sizeof(fh_request)`
 */
FH_API void fh_request_init(fh_request *request, size_t size) FH_NOEXCEPT;

/**
 * \brief Sets caps to a target that takes anything, named "freehold".
 *
 * \param caps is filled, `struct_size` too; NULL does nothing
 * \param size `sizeof(fh_caps)`
 */
FH_API void fh_caps_init(fh_caps *caps, size_t size) FH_NOEXCEPT;

/**
 * \brief Caps of a target that the library knows.
 *
 * \param name "freehold", "numpy", "torch", "dlpack" (a consumer of versioned capsules), "dlpack-legacy"
 * \param out is filled up to its `struct_size`, which the caller sets; its name lives as long as the process
 * \param error receives the error (#FH_REASON_AR01 for a name it does not know), may be NULL
 */
FH_API fh_status fh_caps_for(const char *name, fh_caps *out, fh_error **error) FH_NOEXCEPT;

/**
 * \brief Decides between share, copy and reject, from metadata alone.
 *
 * A decision that rejects is a success of this call: ask fh_decision_verdict().
 *
 * \param tensor the source, whose runtime's policy counts
 * \param request what is wanted; NULL is the default request
 * \param caps what the target takes; NULL takes anything
 * \param out receives the decision, which the caller owns
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_decide(const fh_tensor *tensor, const fh_request *request, const fh_caps *caps, fh_decision **out,
                           fh_error **error) FH_NOEXCEPT;

/** `FH_VERDICT_*`; #FH_VERDICT_REJECT for NULL. */
FH_API int32_t fh_decision_verdict(const fh_decision *decision) FH_NOEXCEPT;

/**
 * \brief What the decision costs when it is carried out.
 *
 * \param decision the decision
 * \param out is filled up to its `struct_size`, which the caller sets
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_decision_cost(const fh_decision *decision, fh_cost *out, fh_error **error) FH_NOEXCEPT;

/** How many reasons there are; 0 for NULL, and for a share that nothing spoke against. */
FH_API size_t fh_decision_reason_count(const fh_decision *decision) FH_NOEXCEPT;

/**
 * \brief One reason. The first names the first field that failed; information and hints come last.
 *
 * \param decision the decision
 * \param index below fh_decision_reason_count()
 * \param out is filled up to its `struct_size`, which the caller sets
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_decision_reason(const fh_decision *decision, size_t index, fh_reason *out,
                                    fh_error **error) FH_NOEXCEPT;

/** The decision in words: one line of verdict and cost, then the message that teaches. Belongs to the decision; "" for
 *  NULL. */
FH_API const char *fh_decision_explain(const fh_decision *decision) FH_NOEXCEPT;

/** Frees a decision. NULL does nothing. */
FH_API void fh_decision_free(fh_decision *decision) FH_NOEXCEPT;

/** @} */

/**
 * \defgroup execute Execute
 * @{
 */

/**
 * \brief Carries a decision out: a share is another hold on the same memory, a copy is one pass into new memory.
 *
 * \param tensor the source, which stays as it is
 * \param decision made for this tensor, or for one with the same address, layout, dtype, device and flags; another is refused
 *        (#FH_REASON_AR01)
 * \param label call site for the ledger; may be NULL
 * \param out receives the tensor, which the caller owns
 * \param error receives the error: the decision's own refusal, #FH_REASON_CA02 where a value does not fit,
 *        #FH_REASON_ME01 where there is no memory. May be NULL.
 */
FH_API fh_status fh_execute(const fh_tensor *tensor, const fh_decision *decision, const char *label, fh_tensor **out,
                            fh_error **error) FH_NOEXCEPT;

/**
 * \brief Decides and executes in one call.
 *
 * \param tensor the source, which stays as it is
 * \param request what is wanted; NULL is the default request
 * \param caps what the target takes; NULL takes anything
 * \param label call site for the ledger; may be NULL
 * \param out receives the tensor, which the caller owns
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_convert(const fh_tensor *tensor, const fh_request *request, const fh_caps *caps, const char *label,
                            fh_tensor **out, fh_error **error) FH_NOEXCEPT;

/**
 * \brief Copies and casts into memory that is there, whatever the two layouts are.
 *
 * The shapes must be equal. A source that overlaps the target is copied out first. After #FH_REASON_CA02 the target holds
 * the values up to some point. Nobody else may read or write the target's memory during the call.
 *
 * \param source the source
 * \param target the destination; its memory is written, the handle stays as it is
 * \param request only `on_loss` counts; a dtype or device, where given, must be the target's. NULL is the default request.
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_copy_into(const fh_tensor *source, const fh_tensor *target, const fh_request *request,
                              fh_error **error) FH_NOEXCEPT;

/** @} */

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FREEHOLD_DECIDE_H */
