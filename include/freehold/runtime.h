/**
 * \file freehold/runtime.h
 * \brief Runtimes: a ledger, rules, and the memory that results are allocated from.
 */
#ifndef FREEHOLD_RUNTIME_H
#define FREEHOLD_RUNTIME_H

#include "errors.h"

#ifdef __cplusplus
extern "C" {
#endif

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

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FREEHOLD_RUNTIME_H */
