/**
 * \file freehold/freehold.h
 * \brief The C interface of Freehold, a DLPack interchange runtime.
 *
 * \mainpage Freehold for C
 *
 * A tensor comes in as a DLPack capsule or a pointer (`fh_import_*`), a decision is made from its metadata alone
 * (`fh_decide`: share, copy or reject, and why), and the result goes out as a capsule (`fh_export_*`). Every tensor and
 * every capsule is a record of the ledger (`fh_ledger_*`) until it is released.
 *
 * \code
 * fh_tensor *t = NULL;
 * fh_error *err = NULL;
 * if (fh_import_versioned(NULL, capsule, "torch", &t, &err) != FH_OK) {
 *   fprintf(stderr, "%s\n", fh_error_message(err));
 *   fh_error_free(err);
 *   capsule->deleter(capsule);
 *   return 1;
 * }
 * fh_request want = {.struct_size = sizeof want};
 * want.dtype = (DLDataType){kDLFloat, 32, 1};
 * fh_caps caps = {.struct_size = sizeof caps};
 * fh_caps_for("numpy", &caps, NULL);
 * fh_tensor *result = NULL;
 * fh_status status = fh_convert(t, &want, &caps, NULL, &result, &err);
 * fh_tensor_release(t);
 * \endcode
 *
 * \section rules Rules that hold for every function
 *
 * - **Status.** A call that can fail returns an #fh_status, #FH_OK (0) on success, and takes a `fh_error **` last. It may
 *   be NULL. On failure, and only then, it receives a new error that the caller frees with fh_error_free(). A call
 *   that cannot fail returns its answer.
 * - **Outputs** come after inputs and are written on success only.
 * - **Ownership passes on success only.** After a failed import the caller still owns the capsule, with the one
 *   exception that DLPack demands: a capsule of an unknown major version is released at once (#FH_REASON_VE01).
 * - **Handles** (#fh_runtime, #fh_tensor, #fh_decision, #fh_error) are opaque. The caller owns what a function gives back
 *   through an output, and gives it up with the matching `_free` or `_release`. NULL may be passed to those.
 * - **Strings** that a function returns belong to the handle it was called with and live as long. Strings passed in
 *   are UTF-8, end with NUL, and are copied.
 * - **Threads.** Any function may be called from any thread. What is passed as `const` may be used by several threads at
 *   the same time. A handle may be released on another thread than the one that made it.
 * - **NULL and misaligned pointers** are errors (#FH_INVALID_ARGUMENT), never crashes, wherever they are not allowed.
 *   A pointer that is neither but points to nothing is beyond what a library can see.
 * - **Nothing unwinds** out of a function: a defect of Freehold that panics comes back as #FH_INTERNAL. Deleters and
 *   callbacks of the caller must not unwind (throw) either.
 * - **Options** are plain structs that begin with `struct_size`, set to `sizeof` of the struct; all other fields 0 are
 *   the defaults. A program compiled against an older header passes a smaller size, and the fields it does not have take
 *   their defaults. A larger size, from a newer program, is refused only where a field that this library does not know
 *   is not 0. Reserved fields must be 0.
 * - **A NULL runtime** is the one of the process.
 */
#ifndef FREEHOLD_FREEHOLD_H
#define FREEHOLD_FREEHOLD_H

#include <stddef.h>
#include <stdint.h>

#include "dlpack_abi.h"

#if defined(_WIN32) && !defined(FREEHOLD_STATIC)
#define FH_API __declspec(dllimport)
#elif defined(__GNUC__)
#define FH_API __attribute__((visibility("default")))
#else
#define FH_API
#endif

#if defined(__cplusplus)
#define FH_NOEXCEPT noexcept
extern "C" {
#else
#define FH_NOEXCEPT
#endif

/**
 * \defgroup version Version
 * @{
 */

#define FH_VERSION_MAJOR 0
#define FH_VERSION_MINOR 1
#define FH_VERSION_PATCH 0

/** The number of this interface. A program runs with a library whose fh_abi_version() is the number it was compiled
 *  with. Additions that old programs cannot notice do not change it. */
#define FH_ABI_VERSION 1

/** The #FH_ABI_VERSION of the library. */
FH_API uint32_t fh_abi_version(void) FH_NOEXCEPT;

/** The version of the library, such as "0.1.0". Lives as long as the process. */
FH_API const char *fh_version_string(void) FH_NOEXCEPT;

/** The highest DLPack version that the library reads and writes. */
FH_API DLPackVersion fh_dlpack_version(void) FH_NOEXCEPT;

/** @} */

/**
 * \defgroup errors Errors
 *
 * An error says why nothing was handed over: a status for the program, a reason code for the catalogue, a message and
 * fixes for a person.
 * @{
 */

/** What became of a call. Numbers are never reused. */
typedef int32_t fh_status;

enum {
  /** It did what it says. */
  FH_OK = 0,
  /** A tensor, a capsule or a policy does not allow it; the reason code says why. */
  FH_REJECTED = 1,
  /** An argument of the call is not valid (#FH_REASON_AR01). */
  FH_INVALID_ARGUMENT = 2,
  /** Memory for the result could not be had (#FH_REASON_ME01). */
  FH_OUT_OF_MEMORY = 3,
  /** A defect of Freehold (#FH_REASON_IN01). */
  FH_INTERNAL = 4,
  /** A file could not be written, or the caller's sink refused (reason #FH_REASON_AR01). */
  FH_IO = 5
};

/** Why. The same codes in C, Rust, Python and the ledger's files; numbers are never reused. */
enum {
  /** The target has no read-only tensors and the source is read-only. */
  FH_REASON_RO01 = 101,
  /** The view is read-only because the owner is (information). */
  FH_REASON_RO02 = 102,
  /** A negative stride that the target does not take. */
  FH_REASON_ST01 = 201,
  /** The target needs compact strides. */
  FH_REASON_ST02 = 202,
  /** A byte stride that is not a multiple of the item size. */
  FH_REASON_ST03 = 203,
  /** Another memory order was requested. */
  FH_REASON_LY01 = 301,
  /** A sparse tensor has no dense buffer. */
  FH_REASON_LY02 = 302,
  /** There is no storage behind the tensor. */
  FH_REASON_LY03 = 303,
  /** More dimensions than the target takes. */
  FH_REASON_LY04 = 304,
  /** The dtype changes, which copies (information). */
  FH_REASON_CA01 = 401,
  /** Values do not fit the requested dtype. */
  FH_REASON_CA02 = 402,
  /** Elements are Python objects. */
  FH_REASON_DT01 = 501,
  /** The target lacks the dtype. */
  FH_REASON_DT02 = 502,
  /** DLPack has no code for the dtype. */
  FH_REASON_DT03 = 503,
  /** The bytes are in the other byte order. */
  FH_REASON_BO01 = 601,
  /** The address is less aligned than the target needs. */
  FH_REASON_AG01 = 701,
  /** Source and target are on different devices. */
  FH_REASON_DV01 = 801,
  /** The device is not here. */
  FH_REASON_DV02 = 802,
  /** Capsule and pointer disagree about the device. */
  FH_REASON_DV03 = 803,
  /** Streams are not ordered. */
  FH_REASON_SY01 = 901,
  /** The target cannot carry the autograd graph. */
  FH_REASON_GR01 = 1001,
  /** A detached view is read-only (information). */
  FH_REASON_GR02 = 1002,
  /** Lazy conj or neg bits are set. */
  FH_REASON_LZ01 = 1101,
  /** Null or masked elements. */
  FH_REASON_NU01 = 1201,
  /** A buffer changed while it was lent. */
  FH_REASON_AL01 = 1301,
  /** Elements overlap in memory: made read-only (information). */
  FH_REASON_AL02 = 1302,
  /** An immutable target over a mutable owner. */
  FH_REASON_AL03 = 1303,
  /** The policy in force forbids it. */
  FH_REASON_PO01 = 1401,
  /** Unknown DLPack major version. */
  FH_REASON_VE01 = 1501,
  /** The capsule was consumed already. */
  FH_REASON_CP01 = 1601,
  /** A field of the capsule breaks a rule of DLPack. */
  FH_REASON_CP02 = 1602,
  /** A capsule was not given back as DLPack says: twice, never, too early, or another pointer. */
  FH_REASON_CP03 = 1603,
  /** The object offers no tensor protocol. */
  FH_REASON_OB01 = 1701,
  /** The target holds no memory but its own. */
  FH_REASON_OB02 = 1702,
  /** The target's default dtype is another one (information). */
  FH_REASON_HT01 = 1801,
  /** A small view keeps a large buffer alive (information). */
  FH_REASON_HT02 = 1802,
  /** An argument of the call is not valid. */
  FH_REASON_AR01 = 1901,
  /** Memory could not be allocated. */
  FH_REASON_ME01 = 2001,
  /** A defect of Freehold: a panic was caught. */
  FH_REASON_IN01 = 2101
};

/** Why a call failed. Free it with fh_error_free(). */
typedef struct fh_error fh_error;

/** The status that the call returned; #FH_OK for NULL. */
FH_API fh_status fh_error_code(const fh_error *error) FH_NOEXCEPT;

/** The reason, one of `FH_REASON_*`; 0 for NULL. */
FH_API int32_t fh_error_reason(const fh_error *error) FH_NOEXCEPT;

/** The whole message: what was asked, the first field that failed with its value and limit, what would work. Several
 *  lines. Belongs to the error; "" for NULL. */
FH_API const char *fh_error_message(const fh_error *error) FH_NOEXCEPT;

/** The fixes one by one, best first: the code to write instead. NULL where `index` is past the last. Belongs to the
 *  error. */
FH_API const char *fh_error_fix(const fh_error *error, size_t index) FH_NOEXCEPT;

/** Frees an error. NULL does nothing. */
FH_API void fh_error_free(fh_error *error) FH_NOEXCEPT;

/** @} */

/**
 * \defgroup runtime Runtime
 *
 * A runtime is a ledger, a policy and the memory that results are allocated from. The process has one, which NULL names
 * everywhere; most programs need no other.
 * @{
 */

/** A ledger, a policy and allocators. Free it with fh_runtime_free(). */
typedef struct fh_runtime fh_runtime;

/** How much the ledger keeps. */
enum {
  /** Nothing. */
  FH_LEDGER_OFF = 0,
  /** Totals only. */
  FH_LEDGER_COUNTERS = 1,
  /** A record of every live holder: the default. */
  FH_LEDGER_RECORDS = 2,
  /** Records, and callers that can find out add the line of code behind each. */
  FH_LEDGER_SITES = 3,
  /** Sites, and a watch over what is lent read-only or frozen, over deleters, and over freed memory: to look for a bug. */
  FH_LEDGER_CANARIES = 4
};

/** #fh_policy.readonly: read-only memory where the target has no read-only tensors. */
enum {
  /** It is copied. */
  FH_READONLY_COPY = 0,
  /** It is refused. */
  FH_READONLY_REJECT = 1,
  /** It is shared as writable, and the ledger records a hazard: the caller promises not to write. */
  FH_READONLY_TRUST = 2
};

/** #fh_policy.alias: an immutable target over memory that its owner can still write. */
enum {
  /** It is copied unless the owner is frozen. */
  FH_ALIAS_ONE_WRITER = 0,
  /** It is shared. */
  FH_ALIAS_TRUST = 1
};

/** #fh_policy.copies: a copy that the caller did not ask for with #FH_COPY_ALWAYS. */
enum {
  /** It is made. */
  FH_COPIES_ALLOW = 0,
  /** It is made, and faces that can warn do. */
  FH_COPIES_WARN = 1,
  /** It is refused. */
  FH_COPIES_ERROR = 2
};

/** #fh_policy.sync: a handover that must wait for a device. */
enum {
  /** It waits. */
  FH_SYNC_ALLOW = 0,
  /** It is refused. */
  FH_SYNC_ERROR = 1
};

/** House rules. All fields 0 but `struct_size` are the default rules. */
typedef struct fh_policy {
  /** `sizeof(fh_policy)` */
  uint32_t struct_size;
  /** `FH_READONLY_*` */
  int32_t readonly;
  /** `FH_ALIAS_*` */
  int32_t alias;
  /** `FH_COPIES_*` */
  int32_t copies;
  /** `FH_SYNC_*` */
  int32_t sync;
  /** 1: `max_copy_bytes` holds; 0: there is no limit. */
  uint32_t has_max_copy_bytes;
  /** The most bytes that one handover may copy, asked for or not. */
  uint64_t max_copy_bytes;
  /** The kinds of device that a handover may touch, `1u << DLDeviceType` each; 0: any. */
  uint32_t devices;
  /**
   * The most threads that one copy uses, the calling one included; 0: as many as it repays, of `FREEHOLD_NUM_THREADS` or
   * the processors that the process may use. Threads start with the first copy that repays them (1 MiB and more).
   */
  uint32_t threads;
  uint64_t reserved[1];
} fh_policy;

/** Memory on a device, as functions. All may be called from any thread, `allocate` and `deallocate` from several at
 *  once; none may throw. */
typedef struct fh_device {
  /** `sizeof(fh_device)` */
  uint32_t struct_size;
  uint32_t reserved0;
  /** The device that the memory is on. */
  DLDevice device;
  /** A name for messages; copied. NULL is "callback". */
  const char *name;
  /** Returns `bytes` bytes (never 0) whose address is a multiple of `align` (a power of two), or NULL. */
  void *(*allocate)(void *user, size_t bytes, size_t align, int64_t stream);
  /** Takes back what `allocate` returned, with the same `bytes` and `align`. */
  void (*deallocate)(void *user, void *memory, size_t bytes, size_t align, int64_t stream);
  /** Called once with `user`, after the last `deallocate`. May be NULL. */
  void (*drop_user)(void *user);
  /** Passed to the three functions. */
  void *user;
  uint64_t reserved[2];
} fh_device;

/**
 * \brief Makes a runtime with a ledger of its own.
 *
 * \param ledger_level one of `FH_LEDGER_*`
 * \param policy the rules in force; NULL is the default ones
 * \param out receives the runtime, which the caller owns
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_runtime_new(int32_t ledger_level, const fh_policy *policy, fh_runtime **out,
                                fh_error **error) FH_NOEXCEPT;

/** Gives the handle up. Tensors of the runtime may outlive it. NULL does nothing. */
FH_API void fh_runtime_free(fh_runtime *runtime) FH_NOEXCEPT;

/**
 * \brief Puts rules in force for the calls that follow.
 *
 * \param runtime NULL is the one of the process, whose first rules come from the environment (`FREEHOLD_POLICY`)
 * \param policy the rules; NULL changes nothing, which is how to ask for the rules in force
 * \param previous receives the rules that were in force; may be NULL. Its `struct_size` must be set.
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_runtime_set_policy(fh_runtime *runtime, const fh_policy *policy, fh_policy *previous,
                                       fh_error **error) FH_NOEXCEPT;

/**
 * \brief Allocates the results of this runtime on a device from these functions, in place of the ones before.
 *
 * `user` passes to the runtime on success: `drop_user` is called when the functions were replaced, or the runtime is gone,
 * and every tensor that was allocated from them is too.
 *
 * \param runtime NULL is the one of the process
 * \param device the functions; copied
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_runtime_register_device(fh_runtime *runtime, const fh_device *device, fh_error **error) FH_NOEXCEPT;

/**
 * \brief Device memory for PyTorch's `CUDAPluggableAllocator`: allocates in the order of a stream.
 *
 * `torch.cuda.memory.CUDAPluggableAllocator("libfreehold.so", "fh_torch_alloc", "fh_torch_free")`, for the whole process with
 * `torch.cuda.memory.change_current_allocator`, or for a `torch.cuda.MemPool`. The memory is that of Freehold's own results on
 * the device: a pool in the driver, or the driver itself where it has none. While the stream is captured into a graph there
 * is none: graphs want PyTorch's own allocator.
 *
 * \param bytes the size
 * \param device the index of the CUDA device
 * \param stream a `cudaStream_t`; NULL is the legacy default stream
 * \return memory aligned to 256 bytes; NULL where there is none (the log says why), and for zero bytes
 */
FH_API void *fh_torch_alloc(size_t bytes, int device, void *stream) FH_NOEXCEPT;

/**
 * \brief Gives memory of fh_torch_alloc() back, in the order of a stream.
 *
 * \param memory what fh_torch_alloc() returned and was not given back; NULL does nothing
 * \param bytes the size that was asked for
 * \param device the device that was asked for
 * \param stream a `cudaStream_t` that lives, on which the memory may be used again by what is queued next; NULL is the legacy
 * default stream
 */
FH_API void fh_torch_free(void *memory, size_t bytes, int device, void *stream) FH_NOEXCEPT;

/** @} */

/**
 * \defgroup import Import
 *
 * A **label** says who produced the tensor, for the ledger and for messages: a framework ("torch"), or a framework and a
 * call site after an '@' ("torch@loader.c:31"). NULL is "c".
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
 * \defgroup tensor Tensor
 * @{
 */

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

/** Another hold on the tensor, for another fh_tensor_release(). Returns its argument. */
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

/**
 * \defgroup ledger Ledger
 *
 * Who owns which buffer, who holds a view of it, what was copied and why.
 * @{
 */

/** #fh_holder.role */
enum {
  /** Whoever's deleter frees the memory. */
  FH_ROLE_OWNER = 0,
  /** Has a live view. */
  FH_ROLE_HOLDER = 1
};

/** #fh_holder.flags */
enum {
  /** May not write. */
  FH_HOLDER_READ_ONLY = 1 << 0,
  /** Promised that nobody writes. */
  FH_HOLDER_IMMUTABLE = 1 << 1,
  /** The memory is a copy that was made for it. */
  FH_HOLDER_COPIED = 1 << 2,
  /** Cut from an autograd graph. */
  FH_HOLDER_DETACHED = 1 << 3,
  /** The owner must not write meanwhile. */
  FH_HOLDER_FROZEN = 1 << 4,
  /** A capsule that is not known to be consumed. */
  FH_HOLDER_EXPORTED = 1 << 5,
  /** A capsule that its consumer took. */
  FH_HOLDER_CONSUMED = 1 << 6
};

/** fh_ledger_write() */
enum {
  /** The format that the path's name ends with: the end is given at each format. */
  FH_FORMAT_OF_PATH = -1,
  /** A snapshot, schema "freehold.ledger/2" (`.json`). */
  FH_FORMAT_JSON = 0,
  /** The same, one object a line (`.jsonl`). */
  FH_FORMAT_JSON_LINES = 1,
  /** For PyTorch's memory viewer (`.pickle`). */
  FH_FORMAT_MEMORY_VIZ = 2,
  /** Lifetimes and handovers over time, for Perfetto and chrome://tracing (`.trace.json`). */
  FH_FORMAT_TRACE = 3,
  /** Totals in OpenMetrics' text, for Prometheus (`.prom`). */
  FH_FORMAT_OPENMETRICS = 4,
  /** Who owns and holds what, for Graphviz (`.dot`). */
  FH_FORMAT_DOT = 5,
  /** The same, for Markdown (`.mmd`). */
  FH_FORMAT_MERMAID = 6,
  /** A page for a browser, in one file (`.html`). */
  FH_FORMAT_HTML = 7
};

/** Totals. */
typedef struct fh_stats {
  /** `sizeof(fh_stats)`, set by the caller. */
  uint32_t struct_size;
  /** `FH_LEDGER_*` */
  int32_t level;
  /** Holders that came to be, and records that were closed. */
  uint64_t opened, closed;
  /** Records that are open, buffers that they hold, bytes of those buffers. */
  uint64_t live_holders, live_buffers, live_bytes;
  /** Handovers by verdict. */
  uint64_t shares, copies, rejects;
  /** Bytes that were copied. */
  uint64_t bytes_copied;
  /** Hazards that were recorded. */
  uint64_t hazards;
  /** Records that were closed twice: a deleter ran twice. */
  uint64_t double_closed;
  /** Records that could not be kept for want of memory. */
  uint64_t records_dropped;
} fh_stats;

/** A live holder. */
typedef struct fh_holder {
  /** How many bytes of the struct the library filled; for an output, `sizeof(fh_holder)`, set by the caller. */
  uint32_t struct_size;
  /** `FH_ROLE_*` */
  int32_t role;
  /** Its record; fh_tensor_id(). 0: there is no such holder. */
  uint64_t id;
  /** The buffer that it holds. */
  uint64_t buffer;
  /** The record that it was made from; 0 where there is none. */
  uint64_t parent;
  /** Who holds it, and where in the caller's code ("" where that is not known). Live as long as the process. */
  const char *framework, *site;
  /** Where the memory is. */
  DLDevice device;
  /** Address of the first element, lowest address reached, bytes from there to one past the highest. */
  uint64_t address, start, bytes;
  /** Element type. */
  DLDataType dtype;
  /** Number of dimensions. */
  int32_t ndim;
  /** `ndim` entries each; live until the callback returns. NULL from fh_ledger_owner(). */
  const int64_t *shape, *strides;
  /** `FH_HOLDER_*` */
  uint32_t flags;
  /** How it was handed over, `FH_VERDICT_*`; -1 where it was not. */
  int32_t verdict;
  /** Why: the first reason, `FH_REASON_*`; 0 where there is none. */
  int32_t reason;
  /** `FH_STEP_*` of the copy. */
  uint32_t steps;
  /** Bytes that were copied. */
  uint64_t bytes_copied;
  /** Nanoseconds from the ledger's start. */
  uint64_t opened_ns;
} fh_holder;

/** Which holders fh_ledger_foreach() visits: those for which everything that is given holds. */
typedef struct fh_query {
  /** `sizeof(fh_query)` */
  uint32_t struct_size;
  uint32_t reserved0;
  /** Opened since this mark (fh_ledger_mark()): what leaked. 0: since ever. */
  uint64_t since;
  /** Hold the same buffer as this tensor. NULL: any. */
  const fh_tensor *holders_of;
  /** Share at least one byte with this tensor, itself not counted. NULL: any. */
  const fh_tensor *aliases_of;
  uint64_t reserved[2];
} fh_query;

/** Visits a holder. Returns 0 to go on, anything else to stop. May call any function of this library. */
typedef int32_t (*fh_holder_fn)(void *user, const fh_holder *holder);

/** Takes the next `len` bytes of a file. Returns 0 to go on, anything else to fail. */
typedef int32_t (*fh_write_fn)(void *user, const char *bytes, size_t len);

/** How much is kept from now on, one of `FH_LEDGER_*`. Records that are open stay, and close as usual. */
FH_API fh_status fh_ledger_set_level(fh_runtime *runtime, int32_t level, fh_error **error) FH_NOEXCEPT;

/**
 * \brief Totals.
 *
 * \param runtime NULL is the one of the process
 * \param out is filled up to its `struct_size`, which the caller sets
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_ledger_stats(fh_runtime *runtime, fh_stats *out, fh_error **error) FH_NOEXCEPT;

/**
 * \brief Who owns the memory at an address.
 *
 * \param runtime NULL is the one of the process
 * \param device where the address is
 * \param address any address inside the buffer
 * \param out is filled up to its `struct_size`, which the caller sets; an `id` of 0 says that nobody is on record
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_ledger_owner(fh_runtime *runtime, DLDevice device, const void *address, fh_holder *out,
                                 fh_error **error) FH_NOEXCEPT;

/**
 * \brief Visits live holders.
 *
 * \param runtime NULL is the one of the process
 * \param query which; NULL is all
 * \param visit is called for each, under no lock, on this thread
 * \param user passed to `visit`
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_ledger_foreach(fh_runtime *runtime, const fh_query *query, fh_holder_fn visit, void *user,
                                   fh_error **error) FH_NOEXCEPT;

/** A mark at this moment, for #fh_query.since. */
FH_API uint64_t fh_ledger_mark(fh_runtime *runtime) FH_NOEXCEPT;

/**
 * \brief Writes the ledger out.
 *
 * Where the environment variable `FREEHOLD_LEDGER` has a path, the ledger of the process is written there when the
 * process ends, without a call: see docs/ledger.md.
 *
 * \param runtime NULL is the one of the process
 * \param format `FH_FORMAT_*`; #FH_FORMAT_OF_PATH needs a path
 * \param path the file to write, or NULL where `write` is given
 * \param write is called with the bytes in order, or NULL where `path` is given
 * \param user passed to `write`
 * \param error receives the error, may be NULL
 */
FH_API fh_status fh_ledger_write(fh_runtime *runtime, int32_t format, const char *path, fh_write_fn write, void *user,
                                 fh_error **error) FH_NOEXCEPT;

/** @} */

/**
 * \defgroup log Log
 * What happens, as it happens: docs/tracing.md lists the events and their fields.
 * @{
 */

/** How much fh_log_set() asks for: each level has those before it too. */
enum {
  /** Nothing. */
  FH_LOG_OFF = 0,
  /** What went wrong inside. */
  FH_LOG_ERROR = 1,
  /** Hazards. */
  FH_LOG_WARN = 2,
  /** What happens once in a while. */
  FH_LOG_INFO = 3,
  /** Every import, decision, copy, export and release. */
  FH_LOG_DEBUG = 4,
  /** Everything. */
  FH_LOG_TRACE = 5
};

/**
 * \brief Takes a line of the log. Called on the thread where it happens, deleters' threads included, under no lock of
 * Freehold's; it may call Freehold, and what it causes itself is not logged. It must not unwind.
 *
 * \param user as given to fh_log_set()
 * \param level `FH_LOG_*`
 * \param event such as "freehold.export"
 * \param text the fields, "name=value" with a space between; event and text live until the callback returns
 */
typedef void (*fh_log_fn)(void *user, int32_t level, const char *event, const char *text);

/**
 * \brief Calls `log` for everything that happens in this process from now on, in place of the callback before.
 *
 * Without a callback each event costs one comparison. A call that is under way on another thread may still end after this
 * returns: `user` must outlive it.
 *
 * \param log NULL ends the log
 * \param user passed to `log`
 * \param level `FH_LOG_*`
 * \param error receives the error, may be NULL: #FH_INVALID_ARGUMENT where a Rust program that this library is linked into
 *        has a `tracing` subscriber of its own
 */
FH_API fh_status fh_log_set(fh_log_fn log, void *user, int32_t level, fh_error **error) FH_NOEXCEPT;

/** @} */

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FREEHOLD_FREEHOLD_H */
