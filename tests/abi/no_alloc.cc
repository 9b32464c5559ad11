// The C++ face allocates nothing where all goes well: what memory is taken, the C ABI takes. Every operator new is counted.
#include <freehold/freehold.hpp>

#include <new>

#include "check.h"

namespace {
long allocations;
}

// Not inlined: gcc would see malloc's memory go to operator delete.
#define APART __attribute__((noinline))
APART void *operator new(std::size_t bytes) {
  ++allocations;
  void *memory = std::malloc(bytes ? bytes : 1);
  if (!memory) std::abort();
  return memory;
}
APART void *operator new[](std::size_t bytes) { return operator new(bytes); }
APART void operator delete(void *memory) noexcept { std::free(memory); }
APART void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }
APART void operator delete[](void *memory) noexcept { std::free(memory); }
APART void operator delete[](void *memory, std::size_t) noexcept { std::free(memory); }

namespace fh = freehold;

namespace {

// Where the address is known elsewhere, the compiler cannot put an allocation off until later.
const void *volatile known;
APART void escape(const void *address) { known = address; }

// valgrind puts its own operator new in the place of ours; then there is nothing to count.
bool counting() {
  const long before = allocations;
  operator delete(operator new(1));
  if (allocations == before + 1) return true;
  const char *preloaded = std::getenv("LD_PRELOAD");
  CHECK_HAS(preloaded, "vgpreload");
  return false;
}

template <class Call>
long counted(Call call) {
  const long before = allocations;
  call();
  return allocations - before;
}

}  // namespace

int main() {
  float data[6] = {0, 1, 2, 3, 4, 5};
  std::int64_t shape[2] = {2, 3};
  DLTensor dl{};
  dl.data = data;
  dl.device = on_cpu();
  dl.ndim = 2;
  dl.dtype = fh::dtype_of<float>::value;
  dl.shape = shape;

  if (!counting()) return done("no_alloc");
  CHECK_EQ(counted([&] {
             fh::tensor t = fh::tensor::borrow(dl);
             auto x = fh::accept<const float, fh::shape<-1, 3>>(t, "x");
             CHECK(x(1, 2) == 5);
           }),
           0);
  CHECK_EQ(counted([&] {
             fh::tensor t = fh::wrap(data, {2, 3}, fh::unowned(), {3, 1}, "mine@no_alloc.cc");
             fh::tensor again = t;
             fh::versioned_capsule out = again.to_dlpack("torch");
             fh::tensor back = fh::tensor::from_dlpack(std::move(out));
             CHECK(back.overlaps(t));
           }),
           0);
  CHECK_EQ(counted([&] {
             const fh::tensor t = fh::tensor::zeros<double>({2, 3});
             fh::decision why;
             auto x = fh::accept<const float, fh::shape<2, 3>, fh::cpu, fh::f_order, fh::may_copy>(t, "x", &why);
             CHECK(x.bytes_copied() == 24 && why.reason_count() > 0);
             CHECK_HAS(why.reason(0).name, "CA01");
             fh::tensor shared = t.convert(fh::request::share(), fh::caps("torch"), "no_alloc.cc");
             shared.copy_into(t);
           }),
           0);
  // An owner is kept in one, a vector in one of three words; its elements stay where they are.
  CHECK_EQ(counted([&] { fh::wrap(data, {6}, std::shared_ptr<int>()); }), 1);
  static std::vector<float> values(6);
  escape(&values);
  CHECK_EQ(counted([&] { fh::wrap(std::move(values), {2, 3}); }), 1);
  return done("no_alloc");
}
