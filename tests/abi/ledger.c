/* Who owns what: owner, holders, aliases, marks, levels, the file. */
#include "check.h"

static float data[16];

static int32_t count(void *user, const fh_holder *holder) {
  CHECK(holder->struct_size == sizeof(fh_holder));
  CHECK(holder->id != 0 && holder->framework != NULL && holder->site != NULL);
  for (int32_t i = 0; i < holder->ndim; ++i) CHECK(holder->shape[i] >= 0 && holder->strides != NULL);
  ++*(int *)user;
  return 0;
}

static int32_t stop(void *user, const fh_holder *holder) {
  (void)holder;
  ++*(int *)user;
  return 1;
}

static fh_holder seen;
static int32_t keep(void *user, const fh_holder *holder) {
  (void)user;
  seen = *holder;
  return 0;
}

typedef struct {
  char *text;
  size_t len;
  int refuse;
} sink;

static int32_t take(void *user, const char *bytes, size_t len) {
  sink *s = (sink *)user;
  if (s->refuse) return 7;
  s->text = (char *)realloc(s->text, s->len + len + 1);
  memcpy(s->text + s->len, bytes, len);
  s->len += len;
  s->text[s->len] = 0;
  return 0;
}

static int visited(fh_runtime *rt, const fh_query *query) {
  fh_error *err = NULL;
  int n = 0;
  OK(fh_ledger_foreach(rt, query, count, &n, &err));
  return n;
}

int main(int argc, char **argv) {
  const int64_t shape[1] = {8};
  int deleted = 0, n = 0;
  fh_error *err = NULL;
  fh_runtime *rt = NULL;
  fh_tensor *whole = NULL, *evens = NULL, *odds = NULL, *copy = NULL;
  fh_request request = request_of(FH_COPY_ALWAYS);
  fh_caps caps = caps_of("torch");
  DLManagedTensorVersioned *out = NULL;
  fh_stats stats = {.struct_size = sizeof stats};
  fh_holder holder = {.struct_size = sizeof holder};
  fh_query query = {.struct_size = sizeof query};
  uint64_t mark, leaked_id;
  test_capsule *a, *b, *c;
  sink s = {NULL, 0, 0};
  char path[4096];

  /* A runtime of its own: nothing of the process's is on its ledger. */
  OK(fh_runtime_new(FH_LEDGER_RECORDS, NULL, &rt, &err));
  CHECK_EQ(visited(rt, NULL), 0);
  a = make_capsule(data, 1, shape, &deleted);
  a->shape[0] = 16;
  b = make_capsule(data, 1, shape, &deleted);
  b->strides[0] = 2;
  c = make_capsule(data + 1, 1, shape, &deleted);
  c->strides[0] = 2;
  OK(fh_import_versioned(rt, &a->versioned, "numpy@ledger.c:1", &whole, &err));
  OK(fh_import_versioned(rt, &b->versioned, "jax", &evens, &err));
  OK(fh_import_versioned(rt, &c->versioned, NULL, &odds, &err));
  CHECK_EQ(visited(rt, NULL), 3);
  OK(fh_ledger_foreach(rt, NULL, stop, &n, &err));
  CHECK_EQ(n, 1);

  /* The owner of an address in the middle. */
  OK(fh_ledger_owner(rt, on_cpu(), data + 5, &holder, &err));
  CHECK(holder.id != 0);
  CHECK_EQ(holder.role, FH_ROLE_OWNER);
  CHECK(holder.shape == NULL && holder.strides == NULL && holder.ndim == 1);
  holder.struct_size = sizeof holder;
  OK(fh_ledger_owner(rt, on_cpu(), &deleted, &holder, &err));
  CHECK_EQ(holder.id, 0);
  CHECK(strcmp(holder.framework, "") == 0);

  /* Aliases by exact overlap: evens and odds share no byte, both share with the whole. */
  query.aliases_of = whole;
  CHECK_EQ(visited(rt, &query), 2);
  query.aliases_of = evens;
  CHECK_EQ(visited(rt, &query), 1);
  OK(fh_ledger_foreach(rt, &query, keep, NULL, &err));
  CHECK_EQ(seen.id, fh_tensor_id(whole));
  CHECK(strcmp(seen.framework, "numpy") == 0);
  CHECK(strcmp(seen.site, "ledger.c:1") == 0);
  CHECK(seen.address == (uintptr_t)data && seen.start == seen.address && seen.bytes == 64);
  CHECK_EQ(seen.verdict, -1);
  query.aliases_of = NULL;
  query.holders_of = odds;
  CHECK_EQ(visited(rt, &query), 3);
  query.holders_of = NULL;

  /* Leaks since a mark: what was opened after it and is still open. */
  mark = fh_ledger_mark(rt);
  query.since = mark;
  CHECK_EQ(visited(rt, &query), 0);
  OK(fh_convert(whole, &request, &caps, "train.c:9", &copy, &err));
  OK(fh_export_versioned(copy, version_of(0, 0), "torch", &out, &err));
  CHECK_EQ(visited(rt, &query), 2);
  OK(fh_ledger_foreach(rt, &query, keep, NULL, &err));
  CHECK_EQ(seen.role, FH_ROLE_HOLDER);
  CHECK(seen.flags & FH_HOLDER_EXPORTED);
  CHECK_EQ(seen.verdict, FH_VERDICT_SHARE);
  CHECK_EQ(seen.parent, fh_tensor_id(copy));
  leaked_id = seen.id;
  fh_tensor_release(copy);
  query.aliases_of = whole;
  CHECK_EQ(visited(rt, &query), 0);
  query.aliases_of = NULL;
  OK(fh_ledger_foreach(rt, &query, keep, NULL, &err));
  CHECK_EQ(seen.id, leaked_id);
  out->deleter(out);
  CHECK_EQ(visited(rt, &query), 0);
  query.since = UINT64_MAX;
  FAILS(fh_ledger_foreach(rt, &query, keep, NULL, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);

  OK(fh_ledger_stats(rt, &stats, &err));
  CHECK_EQ(stats.level, FH_LEDGER_RECORDS);
  CHECK_EQ(stats.live_holders, 3);
  CHECK_EQ(stats.live_buffers, 1);
  CHECK_EQ(stats.live_bytes, 64);
  CHECK_EQ(stats.opened, 5);
  CHECK_EQ(stats.closed, 2);
  CHECK_EQ(stats.copies, 1);
  CHECK_EQ(stats.shares, 1);
  CHECK_EQ(stats.bytes_copied, 64);
  CHECK_EQ(stats.rejects, 0);
  CHECK_EQ(stats.double_closed, 0);

  /* Every format goes to a sink; a name that says none is refused. */
  for (int32_t format = FH_FORMAT_JSON; format <= FH_FORMAT_HTML; ++format) {
    s.len = 0;
    OK(fh_ledger_write(rt, format, NULL, take, &s, &err));
    CHECK(s.len > 100);
  }
  s.len = 0;
  FAILS(fh_ledger_write(rt, FH_FORMAT_HTML + 1, NULL, take, &s, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  FAILS(fh_ledger_write(rt, FH_FORMAT_OF_PATH, NULL, take, &s, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  FAILS(fh_ledger_write(rt, FH_FORMAT_OF_PATH, "/tmp/x.txt", NULL, NULL, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  CHECK_EQ(s.len, 0);

  /* The file: to a sink, and to a path. */
  OK(fh_ledger_write(rt, FH_FORMAT_JSON, NULL, take, &s, &err));
  CHECK_HAS(s.text, "\"freehold.ledger/2\"");
  CHECK_HAS(s.text, "\"ledger.c:1\"");
  CHECK_HAS(s.text, "request.copy = FH_COPY_IF_NEEDED shares instead of copying");
  CHECK(strstr(s.text, "fh.") == NULL && strstr(s.text, "Request::") == NULL);
  CHECK_EQ(s.text[0], '{');
  s.refuse = 1;
  FAILS(fh_ledger_write(rt, FH_FORMAT_JSON, NULL, take, &s, &err), FH_IO, FH_REASON_AR01);
  FAILS(fh_ledger_write(rt, FH_FORMAT_JSON, "/no/such/directory/x.json", NULL, NULL, &err), FH_IO, FH_REASON_AR01);
  FAILS(fh_ledger_write(rt, FH_FORMAT_JSON, "x", take, &s, &err), FH_INVALID_ARGUMENT, FH_REASON_AR01);
  if (argc > 1) {
    FILE *file;
    snprintf(path, sizeof path, "%s/ledger.%ld.json", argv[1], (long)(uintptr_t)&path);
    OK(fh_ledger_write(rt, FH_FORMAT_JSON, path, NULL, NULL, &err));
    file = fopen(path, "rb");
    CHECK(file != NULL);
    CHECK_EQ(fgetc(file), '{');
    CHECK(fseek(file, 0, SEEK_END) == 0 && ftell(file) > 500);
    fclose(file);
    remove(path);

    /* The format that the name ends with. */
    snprintf(path, sizeof path, "%s/ledger.%ld.html", argv[1], (long)(uintptr_t)&path);
    OK(fh_ledger_write(rt, FH_FORMAT_OF_PATH, path, NULL, NULL, &err));
    file = fopen(path, "rb");
    CHECK(file != NULL && fgetc(file) == '<');
    fclose(file);
    remove(path);
  }
  free(s.text);

  /* Levels change while tensors live; what is open closes as usual. */
  OK(fh_ledger_set_level(rt, FH_LEDGER_OFF, &err));
  OK(fh_convert(whole, &request, &caps, NULL, &copy, &err));
  CHECK_EQ(fh_tensor_id(copy), 0);
  fh_tensor_release(copy);
  fh_tensor_release(whole);
  fh_tensor_release(evens);
  OK(fh_ledger_set_level(rt, FH_LEDGER_COUNTERS, &err));
  CHECK_EQ(visited(rt, NULL), 1);
  /* The tensor outlives the handle of its runtime. */
  fh_runtime_free(rt);
  fh_tensor_release(odds);
  CHECK_EQ(deleted, 3);
  return done("ledger");
}
