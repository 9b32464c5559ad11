/**
 * \file freehold/ledger.h
 * \brief The ledger: who owns which buffer, and who holds it.
 */
#ifndef FREEHOLD_LEDGER_H
#define FREEHOLD_LEDGER_H

#include "errors.h"
#include "runtime.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

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

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* FREEHOLD_LEDGER_H */
