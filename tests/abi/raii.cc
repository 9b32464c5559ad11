// The C++ face: handles that let go by themselves, errors both ways, vectors as tensors.
#include <freehold/freehold.hpp>

#include "check.h"

namespace fh = freehold;

namespace {

template <class Call>
fh::error thrown(Call call) {
  try {
    call();
  } catch (const fh::error &e) {
    return e;
  }
  CHECK(!"nothing was thrown");
  std::abort();
}

std::uint64_t live() { return fh::runtime().stats().live_holders; }

void handles() {
  float data[4] = {1, 2, 3, 4};
  const std::int64_t shape[1] = {4};
  int deleted = 0;
  {
    fh::versioned_capsule in(&make_capsule(data, 1, shape, &deleted)->versioned);
    fh::tensor a = fh::tensor::from_dlpack(std::move(in), "torch@raii.cc");
    fh::tensor b = a, c;
    c = b;
    b = std::move(c);
    CHECK(!c && b.get() == a.get());
    CHECK_EQ(live(), 1);
    CHECK(a.dl().data == data && a.dl().shape[0] == 4);
    fh::versioned_capsule out = a.to_dlpack("numpy");
    fh::legacy_capsule old = a.to_dlpack_legacy();
    CHECK_EQ(live(), 3);
    a = fh::tensor();
    b = fh::tensor();
    CHECK_EQ(deleted, 0);
    fh::tensor again = fh::tensor::from_dlpack(std::move(old));
    CHECK(again.overlaps(fh::tensor::borrow(out->dl_tensor)));
  }
  CHECK_EQ(deleted, 1);
  CHECK_EQ(live(), 0);
}

// Where an import fails, the capsule stays where it was.
void refused() {
  float data[4] = {1, 2, 3, 4};
  const std::int64_t shape[1] = {4};
  int deleted = 0;
  fh::versioned_capsule in(&make_capsule(data, 1, shape, &deleted)->versioned);
  in->dl_tensor.ndim = -1;
  auto made = fh::tensor::try_from_dlpack(in);
  CHECK(!made && in);
  CHECK_EQ(made.error().reason(), FH_REASON_CP02);
  CHECK_EQ(made.error().status(), FH_REJECTED);
  CHECK_HAS(made.error().what(), "ndim");
  CHECK(!made.error().fixes().empty() && made.error().mismatch() == nullptr);
  CHECK_EQ(deleted, 0);
  // Taken by value: gone with the failure.
  CHECK_EQ(thrown([&] { fh::tensor::from_dlpack(std::move(in)); }).reason(), FH_REASON_CP02);
  CHECK_EQ(deleted, 1);
  // An unknown major version is released by the library, once.
  in.reset(&make_capsule(data, 1, shape, &deleted)->versioned);
  in->version.major = 9;
  CHECK_EQ(fh::tensor::try_from_dlpack(in).error().reason(), FH_REASON_VE01);
  CHECK(!in);
  CHECK_EQ(deleted, 2);
  fh::legacy_capsule old(&make_capsule(data, 1, shape, &deleted)->legacy);
  old->dl_tensor.dtype.lanes = 0;
  CHECK(!fh::tensor::try_from_dlpack(old) && old);
  old.reset();
  CHECK_EQ(deleted, 3);
}

void vectors() {
  std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const float *where = values.data();
  // A shape of another size: the vector is as it was.
  CHECK(!fh::try_wrap(std::move(values), {4}));
  CHECK(!fh::try_wrap(std::move(values), {-2, -3}));
  CHECK(!fh::try_wrap(std::move(values), {INT64_MAX, INT64_MAX, 6}));
  CHECK(values.size() == 6 && values.data() == where);
  CHECK_EQ(thrown([&] { fh::wrap(std::move(values), {7}); }).status(), FH_INVALID_ARGUMENT);
  fh::tensor t = fh::wrap(std::move(values), {2, 3});
  CHECK(t.dl().data == where && t.dl().strides[0] == 3);
  CHECK_EQ(fh::wrap(std::vector<std::complex<double>>(5)).dl().dtype.bits, 128);
  CHECK_EQ(fh::wrap(std::vector<std::uint16_t>(5)).dl().dtype.code, kDLUInt);
  CHECK_EQ(fh::wrap(std::vector<float>()).dl().shape[0], 0);
  CHECK_EQ(fh::tensor::zeros<double>({2, 2}).dl().dtype.bits, 64);
}

void decisions() {
  fh::tensor t = fh::wrap(std::vector<float>{1, 2.5f, 3, 400}, {2, 2});
  const fh::caps torch("torch");
  fh::decision d = t.decide(fh::request::share(), torch);
  CHECK(d && d.verdict() == FH_VERDICT_SHARE && d.reasons().empty());
  CHECK_EQ(d.cost().bytes_copied, 0);
  CHECK(t.execute(d).dl().data == t.dl().data);
  d = t.decide(fh::request::convert().as<std::int8_t>().in_order(FH_ORDER_F), torch);
  CHECK_EQ(d.verdict(), FH_VERDICT_COPY);
  CHECK_EQ(d.reasons().at(0), FH_REASON_CA01);
  CHECK_EQ(d.cost().steps, FH_STEP_CAST | FH_STEP_LAYOUT);
  CHECK_HAS(d.explain().c_str(), "f32 -> i8");
  CHECK_EQ(t.try_execute(d).error().reason(), FH_REASON_CA02);
  fh::tensor small = t.convert(fh::request::convert().as<std::int8_t>().allow_loss(), torch, "raii.cc");
  CHECK_EQ(static_cast<std::int8_t *>(small.dl().data)[3], 127);
  CHECK(!t.overlaps(small));
  fh::tensor into = fh::tensor::zeros<double>({2, 2});
  t.copy_into(into);
  CHECK(static_cast<double *>(into.dl().data)[1] == 2.5);
  CHECK_EQ(t.try_copy_into(fh::tensor::zeros<double>({3})).error().status(), FH_INVALID_ARGUMENT);
  CHECK_EQ(thrown([] { fh::caps("nobody"); }).status(), FH_INVALID_ARGUMENT);
  CHECK_EQ(thrown([] { fh::tensor().decide(); }).status(), FH_INVALID_ARGUMENT);
}

void runtimes() {
  fh::runtime rt(FH_LEDGER_RECORDS);
  fh::tensor outlives;
  {
    const std::uint64_t mark = rt.mark();
    fh::tensor t = fh::wrap(std::vector<float>(8), {8}, "mine@raii.cc:9", rt);
    std::vector<fh_holder> found = rt.live(mark);
    CHECK_EQ(found.size(), 1);
    CHECK(found[0].id == t.id() && std::string(found[0].framework) == "mine");
    CHECK_HAS(rt.json().c_str(), "raii.cc:9");
    fh_policy policy{};
    policy.struct_size = sizeof policy;
    policy.copies = FH_COPIES_ERROR;
    CHECK_EQ(rt.set_policy(policy).copies, FH_COPIES_ALLOW);
    CHECK_EQ(t.try_convert(fh::request::convert().as<double>()).error().reason(), FH_REASON_PO01);
    outlives = t;
  }
  CHECK_EQ(rt.stats().live_holders, 1);
  rt.set_ledger_level(FH_LEDGER_OFF);
  CHECK_EQ(thrown([&] { rt.set_ledger_level(44); }).reason(), FH_REASON_AR01);
  CHECK_EQ(thrown([&] { fh::runtime bad(44); }).reason(), FH_REASON_AR01);
  rt = fh::runtime();
  CHECK(static_cast<float *>(outlives.dl().data)[7] == 0);
}

}  // namespace

int main() {
  handles();
  refused();
  vectors();
  decisions();
  runtimes();
  CHECK_EQ(live(), 0);
  return done("raii");
}
