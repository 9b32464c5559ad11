/* What it costs to load the library: dlopen() and the first call, in a process that has not. Usage: load LIBRARY. Prints
 * nanoseconds; the caller runs it often and takes the fastest. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(int argc, char **argv) {
  const double start = now();
  void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  void *symbol = library ? dlsym(library, "fh_abi_version") : NULL;
  uint32_t (*version)(void);
  if (symbol == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  *(void **)&version = symbol;
  if (version() == 0) return 1;
  printf("%.0f\n", now() - start);
  return 0;
}
