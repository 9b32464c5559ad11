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
 * \section pages Pages
 *
 * This header includes them all; a program may include the ones it needs instead.
 *
 * | Page | What is there |
 * |------|---------------|
 * | freehold/base.h | versions, DLPack's structs |
 * | freehold/errors.h | statuses, reason codes, #fh_error |
 * | freehold/runtime.h | #fh_runtime, #fh_policy, memory from functions (#fh_device) |
 * | freehold/tensor.h | #fh_tensor and what is known about it |
 * | freehold/capsule.h | import, borrowed views, export |
 * | freehold/decide.h | #fh_request, #fh_caps, #fh_decision, and what carries one out |
 * | freehold/ledger.h | who owns which buffer, who holds it |
 * | freehold/log.h | what happens, as it happens |
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
 * - **A handle of another kind** is an error too. One that **was given back** is a use of freed memory, and an error where the
 *   environment variable `FREEHOLD_CHECK_HANDLES` is 1 at the first call (or the library was built with debug assertions):
 *   handles are then looked up in a table, at some cost, and giving one back twice does nothing.
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

#include "base.h"
#include "capsule.h"
#include "decide.h"
#include "errors.h"
#include "ledger.h"
#include "log.h"
#include "runtime.h"
#include "tensor.h"

#endif /* FREEHOLD_FREEHOLD_H */
