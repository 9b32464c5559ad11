/* A C library that accepts anyone's tensor: it smooths a 1-D float32 signal and hands a new tensor back.
 *
 * It knows neither Python nor PyTorch. It takes a DLPack capsule, asks Freehold for compact float32 (which shares the
 * memory if it is that already, and copies and says so if not), and returns a capsule of its own.
 */
#include <freehold/freehold.h>

#include <stdio.h>
#include <stdlib.h>

/* Takes ownership of `in` on success only. On failure returns nonzero and writes why into `why`. */
int blur(struct DLManagedTensorVersioned *in, struct DLManagedTensorVersioned **out, char *why, size_t why_size);

static int fail(fh_error *error, char *why, size_t why_size) {
    snprintf(why, why_size, "%s", error ? fh_error_message(error) : "unknown");
    fh_error_free(error);
    return 1;
}

int blur(struct DLManagedTensorVersioned *in, struct DLManagedTensorVersioned **out, char *why, size_t why_size) {
    fh_error *error = NULL;
    fh_tensor *source = NULL, *compact = NULL, *result = NULL;

    if (fh_import_versioned(NULL, in, "torch", &source, &error) != FH_OK) return fail(error, why, why_size);

    fh_request request;
    fh_request_init(&request);
    request.order = FH_ORDER_C;
    int status = fh_convert(NULL, source, &request, NULL, &compact, &error);
    if (status != FH_OK) goto done;

    {
        DLTensor x;
        fh_tensor_dl(compact, &x);
        int64_t n = x.ndim == 1 ? x.shape[0] : 0;
        status = fh_tensor_new(NULL, x.dtype, x.device, x.ndim, x.shape, "blur.c", &result, &error);
        if (status != FH_OK) goto done;
        DLTensor y;
        fh_tensor_dl(result, &y);
        const float *a = (const float *)x.data;
        float *b = (float *)y.data;
        for (int64_t i = 0; i < n; i++) {
            float left = a[i > 0 ? i - 1 : i], right = a[i + 1 < n ? i + 1 : i];
            b[i] = (left + a[i] + right) / 3.0f;
        }
        status = fh_export_versioned(result, "torch", out, &error);
    }
done:
    if (status != FH_OK) fail(error, why, why_size);
    fh_tensor_release(result);
    fh_tensor_release(compact);
    fh_tensor_release(source);
    return status;
}
