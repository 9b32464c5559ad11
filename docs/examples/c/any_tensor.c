/* A C program that takes a tensor of any dtype and layout, adds it up, and accounts for every buffer at the end.
 *
 *   cc any_tensor.c $(pkg-config --cflags --libs freehold) && ./a.out
 */
#include <freehold/freehold.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Says what went wrong and frees the error. Returns 0 where nothing did. */
static int failed(fh_status status, fh_error *error) {
  if (status != FH_OK) fprintf(stderr, "%s\n", fh_error_message(error));
  fh_error_free(error);
  return status != FH_OK;
}

/* The sum of a tensor of any dtype that has numbers. The memory is read where it lies if it is compact float64 already. */
static int sum(const fh_tensor *tensor, double *out) {
  fh_error *error = NULL;
  fh_tensor *numbers = NULL;
  fh_request want;
  fh_request_init(&want, sizeof want);
  want.dtype = (DLDataType){kDLFloat, 64, 1};
  want.device = (DLDevice){kDLCPU, 0};
  want.order = FH_ORDER_C;
  if (failed(fh_convert(tensor, &want, NULL, "any_tensor.c", &numbers, &error), error)) return 1;

  DLTensor view;
  if (failed(fh_tensor_dl(numbers, &view, &error), error)) {
    fh_tensor_release(numbers);
    return 1;
  }
  int64_t count = 1;
  for (int32_t i = 0; i < view.ndim; i++) count *= view.shape[i];
  *out = 0;
  for (int64_t i = 0; i < count; i++) *out += ((const double *)view.data)[i];
  fh_tensor_release(numbers);
  return 0;
}

/* Stands in for a framework: a tensor over memory of its own, with the deleter that gives it back. */
static int produce(DLDataType dtype, void *data, int64_t rows, int64_t columns, int64_t row_step, fh_tensor **out) {
  DLTensor view = {0};
  view.data = data;
  view.device.device_type = kDLCPU;
  view.ndim = 2;
  view.dtype = dtype;
  view.shape = (int64_t[]){rows, columns};
  view.strides = (int64_t[]){row_step, 1};
  fh_owner owner = {.struct_size = sizeof owner, .release = free, .context = data};
  fh_error *error = NULL;
  if (failed(fh_import_raw(NULL, &view, &owner, "producer@any_tensor.c", out, &error), error)) {
    free(data); /* ownership passes on success only */
    return 1;
  }
  return 0;
}

/* Prints one line a holder. */
static int32_t print_holder(void *user, const fh_holder *holder) {
  (void)user;
  printf("  %s holds %" PRIu64 " bytes\n", holder->framework, holder->bytes);
  return 0;
}

int main(void) {
  const uint64_t mark = fh_ledger_mark(NULL);
  double *doubles = malloc(6 * sizeof *doubles);
  int16_t *shorts = malloc(6 * sizeof *shorts);
  if (doubles == NULL || shorts == NULL) return 1;
  for (int i = 0; i < 6; i++) {
    doubles[i] = i + 0.5;
    shorts[i] = (int16_t)(10 * i);
  }
  fh_tensor *a = NULL, *b = NULL;
  double total = 0;
  if (produce((DLDataType){kDLFloat, 64, 1}, doubles, 2, 3, 3, &a)) return 1;
  if (produce((DLDataType){kDLInt, 16, 1}, shorts, 3, 1, 2, &b)) return 1; /* every other element */

  if (sum(a, &total)) return 1;
  printf("float64: %g\n", total);
  if (sum(b, &total)) return 1;
  printf("int16, with gaps: %g\n", total);

  fh_stats stats = {.struct_size = sizeof stats};
  fh_query since = {.struct_size = sizeof since, .since = mark};
  fh_ledger_stats(NULL, &stats, NULL);
  printf("copies: %" PRIu64 ", of %" PRIu64 " bytes; still held:\n", stats.copies, stats.bytes_copied);
  fh_ledger_foreach(NULL, &since, print_holder, NULL, NULL);
  fh_tensor_release(a);
  fh_tensor_release(b);
  fh_ledger_stats(NULL, &stats, NULL);
  printf("at the end: %" PRIu64 "\n", stats.live_holders);
  return stats.live_holders != 0;
}
