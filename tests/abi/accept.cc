// accept: a typed view, or the first constraint that fails with argument, dimension, expected and got.
#include <freehold/freehold.hpp>

#include "check.h"

namespace fh = freehold;

namespace {

template <class Result>
void refused(const Result &result, std::int32_t reason, const char *constraint, int dimension, const char *expected,
             const char *got) {
  CHECK(!result);
  const fh::mismatch *what = result.error().mismatch();
  CHECK(what != nullptr);
  CHECK_EQ(result.error().reason(), reason);
  CHECK_EQ(result.error().status(), reason == FH_REASON_AR01 ? FH_INVALID_ARGUMENT : FH_REJECTED);
  CHECK(what->argument == "weights");
  CHECK_HAS(what->constraint.c_str(), constraint);
  CHECK_EQ(what->dimension, dimension);
  CHECK_HAS(what->expected.c_str(), expected);
  CHECK_HAS(what->got.c_str(), got);
  CHECK_HAS(result.error().what(), "weights");
  CHECK_HAS(result.error().what(), got);
}

fh::tensor strided(float *data, std::vector<std::int64_t> shape, std::vector<std::int64_t> strides, std::uint32_t flags = 0) {
  DLTensor dl{};
  dl.data = data;
  dl.device = on_cpu();
  dl.ndim = std::int32_t(shape.size());
  dl.dtype = fh::dtype_of<float>::value;
  dl.shape = shape.data();
  dl.strides = strides.data();
  return fh::tensor::borrow(dl, flags);
}

void accepted() {
  std::vector<float> values(256);
  values[129] = 7;
  fh::tensor t = fh::wrap(std::move(values), {2, 128});
  auto x = fh::accept<const float, fh::shape<-1, 128>, fh::cpu, fh::c_order>(t, "weights");
  static_assert(std::is_same_v<decltype(x(0, 0)), const float &>);
  CHECK_EQ(x.extent(0), 2);
  CHECK_EQ(x.stride(0), 128);
  CHECK_EQ(x.size(), 256);
  CHECK(x(1, 1) == 7);
  CHECK_EQ(x.end() - x.begin(), 256);
  // The view keeps the memory.
  t = fh::tensor();
  CHECK(x(1, 1) == 7);
  auto w = fh::accept<float, fh::shape<2, -1>>(x.tensor());
  w(1, 2) = 9;
  CHECK(x(1, 2) == 9);

  float data[6] = {0, 1, 2, 3, 4, 5};
  auto back = fh::accept<const float, fh::shape<2, 3>, fh::any_device, fh::strided>(strided(data + 3, {2, 3}, {-3, 1}));
  CHECK(back(0, 0) == 3 && back(1, 2) == 2);
  auto columns = fh::accept<const float, fh::shape<2, 3>, fh::cpu, fh::f_order>(strided(data, {2, 3}, {1, 2}));
  CHECK(columns(1, 2) == 5);
  // Dimensions of 1 may have any stride, and nothing is compact enough where there is no element.
  CHECK(fh::try_accept<const float, fh::shape<1, 3>>(strided(data, {1, 3}, {777, 1})).has_value());
  CHECK(fh::try_accept<const float, fh::shape<0, -1>>(strided(data, {0, 3}, {5, 5})).has_value());
  auto scalar = fh::accept<float, fh::shape<>>(strided(data + 5, {}, {}));
  CHECK(scalar() == 5 && scalar.size() == 1);
#if defined(__cpp_lib_mdspan)
  auto m = x.mdspan();
  static_assert(decltype(m)::rank() == 2);
  CHECK_EQ(m.extent(1), 128);
  CHECK((m[1, 1]) == 7);
  CHECK((columns.mdspan()[1, 2]) == 5);
  auto n = fh::accept<const float, fh::shape<2, 2>, fh::cpu, fh::strided>(strided(data, {2, 2}, {3, 2})).mdspan();
  CHECK((n[1, 1]) == 5);
  puts("accept: with std::mdspan");
#endif
}

void refusals() {
  float data[64] = {0};
  const char *name = "weights";
  fh::tensor t = strided(data, {2, 3}, {3, 1}, FH_FLAG_READ_ONLY);
  refused(fh::try_accept<const double, fh::shape<2, 3>>(t, name), FH_REASON_DT02, "dtype", -1, "float64", "float32");
  refused(fh::try_accept<const bool, fh::shape<2, 3>>(t, name), FH_REASON_DT02, "dtype", -1, "bool", "float32");
  refused(fh::try_accept<const float, fh::shape<2>>(t, name), FH_REASON_AR01, "rank", -1, "1", "2");
  refused(fh::try_accept<const float, fh::shape<-1, 4>>(t, name), FH_REASON_AR01, "shape", 1, "4", "3");
  refused(fh::try_accept<const float, fh::shape<2, 3>, fh::cuda>(t, name), FH_REASON_DV01, "device", -1, "cuda", "cpu");
  refused(fh::try_accept<const float, fh::shape<2, 3>, fh::cpu, fh::f_order>(t, name), FH_REASON_ST02, "strides", 0,
          "1 (F order)", "3");
  refused(fh::try_accept<float, fh::shape<2, 3>>(t, name), FH_REASON_RO01, "writable", -1, "writable", "read-only");
  t = strided(data, {2, 3}, {1, 2});
  refused(fh::try_accept<float, fh::shape<2, 3>>(t, name), FH_REASON_ST02, "strides", 1, "1 (C order)", "2");
  t = strided(data, {2, 3}, {3, 1}, FH_FLAG_SWAPPED);
  refused(fh::try_accept<float, fh::shape<2, 3>>(t, name), FH_REASON_LZ01, "values", -1, "bytes", "byte order");
  t = strided(reinterpret_cast<float *>(reinterpret_cast<char *>(data) + 1), {2, 3}, {3, 1});
  refused(fh::try_accept<float, fh::shape<2, 3>>(t, name), FH_REASON_AG01, "alignment", -1, "4 bytes", "= 1");
  refused(fh::try_accept<float, fh::shape<2, 3>>(fh::tensor(), name), FH_REASON_AR01, "rank", -1, "a tensor", "empty");

  bool caught = false;
  try {
    fh::accept<double, fh::shape<2, 3>>(t, name);
  } catch (const fh::error &e) {
    caught = e.mismatch() != nullptr && e.mismatch()->constraint == "dtype";
    const fh::error copy = e;
    CHECK(copy.mismatch() == e.mismatch());
  }
  CHECK(caught);
}

// With may_copy, what a copy can mend is mended once, and the view says why.
void copies() {
  float data[6] = {0, 1, 2, 3, 4, 5};
  fh::decision why;
  auto same = fh::accept<const float, fh::shape<-1, 3>, fh::cpu, fh::c_order, fh::may_copy>(strided(data, {2, 3}, {3, 1}),
                                                                                           "weights", &why);
  CHECK(same.data() == data && same.bytes_copied() == 0 && std::string(same.reason()).empty());
  CHECK(why.get() == nullptr && !why);

  auto columns = fh::accept<const float, fh::shape<-1, 3>, fh::cpu, fh::c_order, fh::may_copy>(strided(data, {2, 3}, {1, 2}),
                                                                                              "weights", &why);
  CHECK(columns.data() != data && columns(1, 2) == 5 && columns(0, 1) == 2);
  CHECK_EQ(columns.bytes_copied(), 24);
  CHECK(std::string(columns.reason()) == "LY01");
  CHECK_EQ(why.verdict(), FH_VERDICT_COPY);
  CHECK_EQ(why.cost().steps, FH_STEP_LAYOUT);
  CHECK_HAS(why.explain().c_str(), "24 B");

  fh::tensor t = fh::wrap(std::vector<std::int16_t>{1, -2, 3}, {3});
  auto cast = fh::accept<const double, fh::shape<3>, fh::cpu, fh::strided, fh::may_copy>(t, "weights");
  CHECK(cast(1) == -2 && std::string(cast.reason()) == "CA01" && cast.bytes_copied() == 24);
  auto swapped = fh::accept<const float, fh::shape<1>, fh::cpu, fh::c_order, fh::may_copy>(
      strided(data, {1}, {1}, FH_FLAG_SWAPPED), "weights");
  CHECK(swapped.data() != data && std::string(swapped.reason()) == "BO01");
  alignas(8) char bytes[9] = {0};
  auto moved = fh::accept<const float, fh::shape<2>, fh::cpu, fh::c_order, fh::may_copy>(
      strided(reinterpret_cast<float *>(bytes + 1), {2}, {1}), "weights");
  CHECK(std::string(moved.reason()) == "AG01" && moved(0) == 0);

  // A shape is not mended, and it is named before anything that could be.
  refused(fh::try_accept<const double, fh::shape<-1, 4>, fh::cpu, fh::c_order, fh::may_copy>(strided(data, {2, 3}, {3, 1}),
                                                                                            "weights"),
          FH_REASON_AR01, "shape", 1, "4", "3");
  refused(fh::try_accept<const double, fh::shape<>, fh::cpu, fh::c_order, fh::may_copy>(fh::tensor(), "weights"),
          FH_REASON_AR01, "rank", -1, "a tensor", "empty");
  // Values that do not fit: the error is the copy's, with the argument and the constraint that led to it.
  t = fh::wrap(std::vector<double>{1, 1e9}, {2});
  auto lossy = fh::try_accept<const std::int16_t, fh::shape<2>, fh::cpu, fh::c_order, fh::may_copy>(t, "weights");
  CHECK(!lossy && lossy.error().reason() == FH_REASON_CA02 && lossy.error().status() == FH_REJECTED);
  CHECK(lossy.error().mismatch() && lossy.error().mismatch()->constraint == "dtype");
  CHECK_HAS(lossy.error().what(), "weights: dtype: expected int16, got float64");
  CHECK_HAS(lossy.error().what(), "x[1]=1000000000.0");
  // A policy that forbids copies holds here too.
  fh_policy policy{};
  policy.struct_size = sizeof policy;
  policy.copies = FH_COPIES_ERROR;
  fh::runtime strict(FH_LEDGER_RECORDS, &policy);
  t = fh::wrap(std::vector<double>{1, 2}, {2}, nullptr, strict);
  auto forbidden = fh::try_accept<const float, fh::shape<2>, fh::cpu, fh::c_order, fh::may_copy>(t, "weights");
  CHECK(!forbidden && forbidden.error().reason() == FH_REASON_PO01);
  CHECK(!forbidden.error().fixes().empty());
  CHECK(fh::try_accept<const double, fh::shape<2>, fh::cpu, fh::c_order, fh::may_copy>(t, "weights").has_value());
}

}  // namespace

int main() {
  accepted();
  refusals();
  copies();
  CHECK_EQ(fh::runtime().stats().live_holders, 0);
  return done("accept");
}
