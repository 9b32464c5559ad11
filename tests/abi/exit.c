/* FREEHOLD_LEDGER: the ledger is written when a C program ends, once, and by a forked child under its own name. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

static float data[4];

/* Reachable at the end, as what a program forgot in a global variable is. */
static fh_tensor *forgotten[2];

static void lend(int which, const char *label) {
  const int64_t shape[1] = {4};
  static int deleted;
  fh_error *err = NULL;
  OK(fh_import_versioned(NULL, &make_capsule(data, 1, shape, &deleted)->versioned, label, &forgotten[which], &err));
}

static int ended(pid_t child) {
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int holds(const char *path, const char *part) {
  static char text[1 << 20];
  FILE *file = fopen(path, "rb");
  size_t len;
  if (file == NULL) return 0;
  len = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[len] = 0;
  return strstr(text, part) != NULL;
}

int main(int argc, char **argv) {
  char path[4096], childs[4096 + 32];
  pid_t program, child = 0;
  int ends[2];
  if (argc < 2) return 0; /* no folder to write to */
  snprintf(path, sizeof path, "%s/exit.%ld.json", argv[1], (long)getpid());
  CHECK(pipe(ends) == 0);

  /* The variable is read with the first record, so a child of this process can play the program. */
  program = fork();
  CHECK(program >= 0);
  if (program == 0) {
    CHECK(setenv("FREEHOLD_LEDGER", path, 1) == 0);
    lend(0, "numpy@exit.c:1");
    child = fork();
    if (child == 0) {
      lend(1, "torch@exit.c:2");
      exit(0);
    }
    CHECK(write(ends[1], &child, sizeof child) == (ssize_t)sizeof child);
    CHECK_EQ(ended(child), 0);
    exit(0);
  }
  CHECK_EQ(ended(program), 0);
  CHECK(read(ends[0], &child, sizeof child) == (ssize_t)sizeof child);
  CHECK(holds(path, "\"exit.c:1\"") && !holds(path, "\"exit.c:2\""));
  CHECK(holds(path, "fh_tensor_release() or its capsule's deleter gives it back"));
  snprintf(childs, sizeof childs, "%.*s.%ld.json", (int)(strlen(path) - 5), path, (long)child);
  CHECK(holds(childs, "\"exit.c:2\"") && !holds(childs, "\"exit.c:1\""));
  CHECK(remove(path) == 0 && remove(childs) == 0);
  return 0;
}
