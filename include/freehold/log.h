/**
 * \file freehold/log.h
 * \brief The log: what happens, as it happens.
 */
#ifndef FREEHOLD_LOG_H
#define FREEHOLD_LOG_H

#include "errors.h"

#ifdef __cplusplus
extern "C" {
#endif

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

#endif /* FREEHOLD_LOG_H */
