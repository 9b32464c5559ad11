/* A C library that accepts anyone's tensor: it smooths a 1-D signal and hands a new tensor back.
 *
 * It knows neither Python nor PyTorch. It takes a DLPack capsule, asks Freehold for compact float32 (which shares the
 * memory if it is that already, and copies if not), and returns a capsule of its own with what was decided in words.
 */
#include <freehold/freehold.h>

#include <stdio.h>
#include <string.h>

/* Takes over `in` and fills `out` with a new capsule on success (0), and writes what was decided into `words`. On failure
 * the caller still owns `in`, and `words` says why. */
int blur(DLManagedTensorVersioned *in, DLManagedTensorVersioned **out, char *words, size_t size);

int blur(DLManagedTensorVersioned *in, DLManagedTensorVersioned **out, char *words, size_t size) {
    fh_error *error = NULL;
    fh_tensor *source = NULL, *signal = NULL, *result = NULL;
    fh_decision *decision = NULL;

    fh_request want;
    fh_request_init(&want, sizeof want);
    want.dtype = (DLDataType){kDLFloat, 32, 1};
    want.order = FH_ORDER_C;
    fh_caps caps;
    fh_caps_init(&caps, sizeof caps);

    fh_status status = fh_import_versioned(NULL, in, "torch@blur.c", &source, &error);
    if (status != FH_OK) {
        snprintf(words, size, "%s", fh_error_message(error));
        fh_error_free(error);
        return status;
    }
    status = fh_decide(source, &want, &caps, &decision, &error);
    if (status == FH_OK) status = fh_execute(source, decision, "blur.c", &signal, &error);
    DLTensor x, y;
    if (status == FH_OK) status = fh_tensor_dl(signal, &x, &error);
    if (status == FH_OK)
        status = fh_tensor_new(NULL, x.dtype, x.device, x.ndim, x.shape, "blur.c", &result, &error);
    if (status == FH_OK) status = fh_tensor_dl(result, &y, &error);
    if (status == FH_OK && x.ndim == 1) {
        const float *a = (const float *)x.data;
        float *b = (float *)y.data;
        for (int64_t i = 0, n = x.shape[0]; i < n; i++)
            b[i] = (a[i > 0 ? i - 1 : i] + a[i] + a[i + 1 < n ? i + 1 : i]) / 3.0f;
    }
    if (status == FH_OK) status = fh_export_versioned(result, fh_dlpack_version(), "torch", out, &error);

    fh_cost cost = {.struct_size = sizeof cost};
    if (status == FH_OK && fh_decision_cost(decision, &cost, NULL) == FH_OK) {
        fh_stats now = {.struct_size = sizeof now};
        fh_ledger_stats(NULL, &now, NULL);
        snprintf(words, size, "%s, %llu bytes copied; live on the library's own ledger: %llu holders",
                 fh_decision_verdict(decision) == FH_VERDICT_SHARE ? "shared" : "copied", (unsigned long long)cost.bytes_copied,
                 (unsigned long long)now.live_holders);
    } else {
        snprintf(words, size, "%s", fh_error_message(error));
    }
    fh_error_free(error);
    fh_decision_free(decision);
    fh_tensor_release(result);
    fh_tensor_release(signal);
    fh_tensor_release(source);
    return status;
}
