/**
 * \file freehold/base.h
 * \brief What every page needs: how functions are declared, DLPack's structs, versions.
 */
#ifndef FREEHOLD_BASE_H
#define FREEHOLD_BASE_H

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

#ifdef __cplusplus
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

/**
 * \brief 1 where the library that this program runs with has the interface of this header; 0 where it has another, and no
 * other function may be called.
 *
 * A loader asks by the library's name and its symbols' version. An archive that was linked in, and a library that was there
 * already under another name, are not asked: a program that may meet one asks here before its first other call.
 */
static inline int fh_abi_check(void) FH_NOEXCEPT { return fh_abi_version() == FH_ABI_VERSION; }

/** The version of the library, such as "0.1.0". Lives as long as the process. */
FH_API const char *fh_version_string(void) FH_NOEXCEPT;

/** The highest DLPack version that the library reads and writes. */
FH_API DLPackVersion fh_dlpack_version(void) FH_NOEXCEPT;

/** @} */

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FREEHOLD_BASE_H */
