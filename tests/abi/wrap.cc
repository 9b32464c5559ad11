// wrap: memory of C++ as tensors, with whatever keeps it alive.
#include <freehold/freehold.hpp>

#include "check.h"

namespace fh = freehold;

namespace {

// Moved, never copied; counts how often the last one of a chain of moves goes.
struct Watched {
  int *gone = nullptr;
  explicit Watched(int *count) : gone(count) {}
  Watched(Watched &&other) noexcept : gone(std::exchange(other.gone, nullptr)) {}
  ~Watched() {
    if (gone) ++*gone;
  }
};

void owners() {
  int gone = 0;
  std::array<float, 6> values = {0, 1, 2, 3, 4, 5};
  {
    fh::tensor t = fh::wrap(values.data(), {2, 3}, Watched(&gone));
    CHECK_EQ(gone, 0);
    CHECK(t.dl().data == values.data() && t.dl().strides[0] == 3 && t.dl().ndim == 2);
    CHECK_EQ(t.flags() & FH_FLAG_READ_ONLY, 0);
    fh::versioned_capsule out = t.to_dlpack("torch");
    t = fh::tensor();
    CHECK_EQ(gone, 0);
  }
  CHECK_EQ(gone, 1);

  // An owner that shares: the memory lives as long as the tensor.
  auto shared = std::make_shared<std::vector<double>>(4, 2.5);
  std::weak_ptr<std::vector<double>> alive = shared;
  double *first = shared->data();
  fh::tensor t = fh::wrap(first, {2, 2}, std::move(shared));
  CHECK(!alive.expired());
  auto x = fh::accept<double, fh::shape<2, 2>>(t);
  t = fh::tensor();
  CHECK(!alive.expired() && x(1, 1) == 2.5);
  x = fh::accept<double, fh::shape<2, 2>>(fh::tensor::zeros<double>({2, 2}));
  CHECK(alive.expired() && x(1, 1) == 0);

  auto unique = std::make_unique<int[]>(3);
  int *numbers = unique.get();
  numbers[2] = 7;
  t = fh::wrap(numbers, {3}, std::move(unique));
  CHECK(static_cast<int *>(t.dl().data)[2] == 7);
}

void read_only() {
  static const std::uint8_t table[4] = {1, 2, 3, 4};
  fh::tensor t = fh::wrap(table, {4}, fh::unowned());
  CHECK(t.flags() & FH_FLAG_READ_ONLY);
  CHECK(!fh::try_accept<std::uint8_t, fh::shape<4>>(t));
  CHECK(fh::accept<const std::uint8_t, fh::shape<4>>(t)(3) == 4);
  CHECK_EQ(t.try_to_dlpack_legacy().error().reason(), FH_REASON_RO01);
  CHECK(t.to_dlpack()->flags & 1);
}

void strides() {
  float data[6] = {0, 1, 2, 3, 4, 5};
  fh::tensor back = fh::wrap(data + 5, {6}, fh::unowned(), {-1});
  CHECK(fh::accept<float, fh::shape<6>, fh::cpu, fh::strided>(back)(5) == 0);
  const std::array<std::int64_t, 2> shape = {3, 2};
  const std::vector<std::int64_t> steps = {1, 3};
  fh::tensor turned = fh::wrap(data, shape, fh::unowned(), steps, "mine@wrap.cc");
  CHECK(fh::accept<float, fh::shape<3, 2>, fh::cpu, fh::f_order>(turned)(1, 1) == 4);
  CHECK(turned.overlaps(back));
  fh::tensor scalar = fh::wrap(data + 2, {}, fh::unowned());
  CHECK(fh::accept<float, fh::shape<>>(scalar)() == 2);
}

// On an error the owner goes, and nothing else happened.
void refused() {
  int gone = 0;
  float data[4] = {0};
  auto made = fh::try_wrap(data, {2, 2}, Watched(&gone), {1});
  CHECK(!made && made.error().status() == FH_INVALID_ARGUMENT && gone == 1);
  CHECK_HAS(made.error().what(), "1 strides for 2 dimensions");
  made = fh::try_wrap(data, {-4}, Watched(&gone));
  CHECK(!made && gone == 2);
  CHECK_HAS(made.error().what(), "shape");
  made = fh::try_wrap(static_cast<float *>(nullptr), {4}, Watched(&gone));
  CHECK(!made && gone == 3);
  CHECK_HAS(made.error().what(), "NULL");
  CHECK(fh::try_wrap(static_cast<float *>(nullptr), {0}, Watched(&gone)).has_value());
  CHECK_EQ(gone, 4);
}

}  // namespace

int main() {
  owners();
  read_only();
  strides();
  refused();
  CHECK_EQ(fh::runtime().stats().live_holders, 0);
  return done("wrap");
}
