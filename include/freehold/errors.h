/**
 * \file freehold/errors.h
 * \brief Statuses, reason codes, and what an error says.
 */
#ifndef FREEHOLD_ERRORS_H
#define FREEHOLD_ERRORS_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

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

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FREEHOLD_ERRORS_H */
