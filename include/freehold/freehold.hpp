/**
 * \file freehold/freehold.hpp
 * \brief Freehold for C++17: header-only, over freehold/freehold.h.
 *
 * \code
 * auto t = freehold::wrap(std::vector<float>(256), {2, 128});
 * auto x = freehold::accept<const float, freehold::shape<-1, 128>, freehold::cpu, freehold::c_order>(t, "x");
 * for (std::int64_t i = 0; i < x.extent(0); ++i) sum += x(i, 0);
 * auto capsule = t.to_dlpack("torch");
 * \endcode
 *
 * Every call that can fail has two forms: `try_name` returns an expected, `name` returns the value and throws
 * freehold::error. Without exceptions (`-fno-exceptions`) `name` prints the message and aborts.
 */
#ifndef FREEHOLD_FREEHOLD_HPP
#define FREEHOLD_FREEHOLD_HPP

#include "freehold.h"

#include <array>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>
#if __cplusplus > 202002L && defined(__has_include)
#if __has_include(<mdspan>)
#include <mdspan>
#endif
#endif

namespace freehold {

/** The first constraint of accept() that a tensor does not meet. */
struct mismatch {
  /** The name that the caller gave the tensor. */
  std::string argument;
  /** "dtype", "values", "rank", "shape", "device", "strides", "alignment" or "writable". */
  std::string constraint;
  /** The dimension, for "shape" and "strides"; -1 for the others. */
  int dimension;
  std::string expected;
  std::string got;
};

/** Why a call failed. */
class error : public std::runtime_error {
 public:
  /** Takes the C error over and frees it. */
  static error take(fh_status status, fh_error *raw) {
    std::vector<std::string> fixes;
    for (std::size_t i = 0; const char *fix = fh_error_fix(raw, i); ++i) fixes.emplace_back(fix);
    error taken(status, fh_error_reason(raw), fh_error_message(raw));
    taken.fixes_ = std::make_shared<const std::vector<std::string>>(std::move(fixes));
    fh_error_free(raw);
    return taken;
  }

  error(fh_status status, std::int32_t reason, const std::string &message)
      : std::runtime_error(message), status_(status), reason_(reason) {}

  /** With the constraint that was not met. */
  error(std::int32_t reason, const std::string &message, freehold::mismatch what)
      : std::runtime_error(message),
        status_(reason == FH_REASON_AR01 ? FH_INVALID_ARGUMENT : FH_REJECTED),
        reason_(reason),
        mismatch_(std::make_shared<const freehold::mismatch>(std::move(what))) {}

  /** One of `FH_REJECTED`, `FH_INVALID_ARGUMENT`... */
  fh_status status() const noexcept { return status_; }
  /** `FH_REASON_*` */
  std::int32_t reason() const noexcept { return reason_; }
  /** The code to write instead, best first. */
  std::vector<std::string> fixes() const { return fixes_ ? *fixes_ : std::vector<std::string>(); }
  /** The constraint of accept() that was not met; nullptr for other errors. */
  const freehold::mismatch *mismatch() const noexcept { return mismatch_.get(); }

 private:
  fh_status status_;
  std::int32_t reason_;
  // Shared, because copying an exception must not throw.
  std::shared_ptr<const std::vector<std::string>> fixes_;
  std::shared_ptr<const freehold::mismatch> mismatch_;
};

namespace detail {

[[noreturn]] inline void raise(const error &e) {
#if defined(__cpp_exceptions)
  throw e;
#else
  std::fprintf(stderr, "freehold: %s\n", e.what());
  std::abort();
#endif
}

}  // namespace detail

/** A value or the error in its place, as std::expected in C++23. */
template <class T>
class [[nodiscard]] expected {
 public:
  expected(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  expected(freehold::error e) : state_(std::in_place_index<1>, std::move(e)) {}

  bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  /** The value; throws the error where there is none. */
  T &value() & { return check(), *std::get_if<0>(&state_); }
  const T &value() const & { return check(), *std::get_if<0>(&state_); }
  T &&value() && { return check(), std::move(*std::get_if<0>(&state_)); }

  /** The value, which must be there. */
  T &operator*() & noexcept { return *std::get_if<0>(&state_); }
  const T &operator*() const & noexcept { return *std::get_if<0>(&state_); }
  T *operator->() noexcept { return std::get_if<0>(&state_); }
  const T *operator->() const noexcept { return std::get_if<0>(&state_); }

  /** The error, which must be there. */
  const freehold::error &error() const noexcept { return *std::get_if<1>(&state_); }

 private:
  void check() const {
    if (!has_value()) detail::raise(error());
  }
  std::variant<T, freehold::error> state_;
};

/** Done, or the error. */
template <>
class [[nodiscard]] expected<void> {
 public:
  expected() = default;
  expected(freehold::error e) : error_(std::make_shared<const freehold::error>(std::move(e))) {}

  bool has_value() const noexcept { return !error_; }
  explicit operator bool() const noexcept { return has_value(); }
  /** Throws the error where there is one. */
  void value() const {
    if (error_) detail::raise(*error_);
  }
  /** The error, which must be there. */
  const freehold::error &error() const noexcept { return *error_; }

 private:
  std::shared_ptr<const freehold::error> error_;
};

/** The DLPack dtype of a C++ type. Specialise it for a half or bfloat16 type of your own. */
template <class T, class = void>
struct dtype_of;

template <class T>
struct dtype_of<T, std::enable_if_t<std::is_integral_v<T> && !std::is_same_v<T, bool>>> {
  static constexpr DLDataType value = {std::uint8_t(std::is_signed_v<T> ? kDLInt : kDLUInt), std::uint8_t(sizeof(T) * 8), 1};
};

template <class T>
struct dtype_of<T, std::enable_if_t<std::is_floating_point_v<T> && (sizeof(T) <= 8)>> {
  static constexpr DLDataType value = {kDLFloat, std::uint8_t(sizeof(T) * 8), 1};
};

template <class T>
struct dtype_of<std::complex<T>> {
  static constexpr DLDataType value = {kDLComplex, std::uint8_t(sizeof(T) * 16), 1};
};

template <>
struct dtype_of<bool> {
  static constexpr DLDataType value = {6, 8, 1};  // kDLBool has no name in headers before 0.8.
};

/** A ledger, a policy and allocators. A default-constructed one is the runtime of the process. */
class runtime {
 public:
  runtime() noexcept = default;
  /** A runtime with a ledger of its own. */
  explicit runtime(std::int32_t ledger_level, const fh_policy *policy = nullptr) {
    fh_runtime *raw = nullptr;
    fh_error *e = nullptr;
    const fh_status status = fh_runtime_new(ledger_level, policy, &raw, &e);
    if (status != FH_OK) detail::raise(freehold::error::take(status, e));
    raw_.reset(raw);
  }

  /** The C handle; nullptr for the runtime of the process. */
  fh_runtime *get() const noexcept { return raw_.get(); }

  /** Puts rules in force and gives back the ones before. */
  fh_policy set_policy(const fh_policy &policy) {
    fh_policy before{};
    before.struct_size = sizeof before;
    check(fh_runtime_set_policy, &policy, &before);
    return before;
  }

  void set_ledger_level(std::int32_t level) { check(fh_ledger_set_level, level); }

  /** Totals of the ledger. */
  fh_stats stats() const {
    fh_stats stats{};
    stats.struct_size = sizeof stats;
    check(fh_ledger_stats, &stats);
    return stats;
  }

  /** A mark at this moment, for live(). */
  std::uint64_t mark() const noexcept { return fh_ledger_mark(get()); }

  /** The live holders that were opened since a mark; all for 0. Their shape and strides are not kept. */
  std::vector<fh_holder> live(std::uint64_t since = 0) const {
    std::vector<fh_holder> found;
    fh_query query{};
    query.struct_size = sizeof query;
    query.since = since;
    const fh_holder_fn keep = [](void *user, const fh_holder *holder) -> std::int32_t {
      auto &out = *static_cast<std::vector<fh_holder> *>(user);
      out.push_back(*holder);
      out.back().shape = out.back().strides = nullptr;
      return 0;
    };
    check(fh_ledger_foreach, &query, keep, static_cast<void *>(&found));
    return found;
  }

  /** The ledger as JSON. */
  std::string json() const {
    std::string text;
    const fh_write_fn append = [](void *user, const char *bytes, std::size_t len) -> std::int32_t {
      static_cast<std::string *>(user)->append(bytes, len);
      return 0;
    };
    check(fh_ledger_write, std::int32_t(FH_FORMAT_JSON), static_cast<const char *>(nullptr), append,
          static_cast<void *>(&text));
    return text;
  }

 private:
  template <class Function, class... Arguments>
  void check(Function function, Arguments... arguments) const {
    fh_error *e = nullptr;
    const fh_status status = function(get(), arguments..., &e);
    if (status != FH_OK) detail::raise(freehold::error::take(status, e));
  }
  struct free_runtime {
    void operator()(fh_runtime *raw) const noexcept { fh_runtime_free(raw); }
  };
  std::unique_ptr<fh_runtime, free_runtime> raw_;
};

/** What the caller wants. */
struct request : fh_request {
  request() noexcept { fh_request_init(this, sizeof(fh_request)); }
  /** Shares or refuses. */
  static request share() noexcept { return request().with_copy(FH_COPY_NEVER); }
  /** Shares when it can, else copies. */
  static request convert() noexcept { return request(); }
  /** Always new memory. */
  static request copy_always() noexcept { return request().with_copy(FH_COPY_ALWAYS); }

  template <class T>
  request as() const noexcept {
    request changed = *this;
    changed.dtype = dtype_of<T>::value;
    return changed;
  }
  request with_copy(std::int32_t rule) const noexcept {
    request changed = *this;
    changed.copy = rule;
    return changed;
  }
  request in_order(std::int32_t which) const noexcept {
    request changed = *this;
    changed.order = which;
    return changed;
  }
  request allow_loss() const noexcept {
    request changed = *this;
    changed.on_loss = FH_ON_LOSS_ALLOW;
    return changed;
  }
  request detached() const noexcept {
    request changed = *this;
    changed.detach = 1;
    return changed;
  }
};

/** What a target takes. */
struct caps : fh_caps {
  /** A target that takes anything. */
  caps() noexcept { fh_caps_init(this, sizeof(fh_caps)); }
  /** A target that the library knows: "numpy", "torch"... */
  explicit caps(const char *target) : caps() {
    fh_error *e = nullptr;
    const fh_status status = fh_caps_for(target, this, &e);
    if (status != FH_OK) detail::raise(freehold::error::take(status, e));
  }
};

/** A verdict with its reasons and cost. */
class decision {
 public:
  explicit decision(fh_decision *owned) noexcept : raw_(owned) {}
  const fh_decision *get() const noexcept { return raw_.get(); }
  /** `FH_VERDICT_*` */
  std::int32_t verdict() const noexcept { return fh_decision_verdict(get()); }
  /** Whether something is handed over. */
  explicit operator bool() const noexcept { return verdict() != FH_VERDICT_REJECT; }
  fh_cost cost() const noexcept {
    fh_cost cost{};
    cost.struct_size = sizeof cost;
    fh_decision_cost(get(), &cost, nullptr);
    return cost;
  }
  /** The reasons' codes, the first one first. */
  std::vector<std::int32_t> reasons() const {
    std::vector<std::int32_t> codes(fh_decision_reason_count(get()));
    for (std::size_t i = 0; i < codes.size(); ++i) {
      fh_reason reason{};
      reason.struct_size = sizeof reason;
      fh_decision_reason(get(), i, &reason, nullptr);
      codes[i] = reason.code;
    }
    return codes;
  }
  /** The decision in words. */
  std::string explain() const { return fh_decision_explain(get()); }

 private:
  struct free_decision {
    void operator()(fh_decision *raw) const noexcept { fh_decision_free(raw); }
  };
  std::unique_ptr<fh_decision, free_decision> raw_;
};

namespace detail {

struct call_deleter {
  template <class Managed>
  void operator()(Managed *managed) const noexcept {
    if (managed->deleter) managed->deleter(managed);
  }
};

}  // namespace detail

/** A capsule that nobody has taken yet; destroying it calls its deleter. */
using versioned_capsule = std::unique_ptr<DLManagedTensorVersioned, detail::call_deleter>;
/** As versioned_capsule, for consumers from before DLPack 1.0. */
using legacy_capsule = std::unique_ptr<DLManagedTensor, detail::call_deleter>;

/** A tensor: copying shares it, destroying the last one lets go of the memory. */
class tensor {
 public:
  tensor() noexcept = default;
  /** Takes one hold on a C handle over. */
  explicit tensor(fh_tensor *owned) noexcept : raw_(owned) {}
  tensor(const tensor &other) noexcept : raw_(fh_tensor_retain(other.raw_)) {}
  tensor(tensor &&other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  tensor &operator=(tensor other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~tensor() { fh_tensor_release(raw_); }

  /** The C handle, still held by this. */
  fh_tensor *get() const noexcept { return raw_; }
  explicit operator bool() const noexcept { return raw_ != nullptr; }

  /** Takes a capsule over. Where that fails it stays in `capsule`, except that an unknown major version is released. */
  static expected<tensor> try_from_dlpack(versioned_capsule &capsule, const char *label = nullptr, const runtime &rt = {}) {
    auto made = make([&](fh_tensor **out, fh_error **e) {
      return fh_import_versioned(rt.get(), capsule.get(), label, out, e);
    });
    if (made || made.error().reason() == FH_REASON_VE01) (void)capsule.release();
    return made;
  }
  static expected<tensor> try_from_dlpack(legacy_capsule &capsule, const char *label = nullptr, const runtime &rt = {}) {
    auto made = make([&](fh_tensor **out, fh_error **e) {
      return fh_import_legacy(rt.get(), capsule.get(), label, out, e);
    });
    if (made) (void)capsule.release();
    return made;
  }
  /** Takes a capsule over, and lets go of it where that fails. */
  static tensor from_dlpack(versioned_capsule capsule, const char *label = nullptr, const runtime &rt = {}) {
    return try_from_dlpack(capsule, label, rt).value();
  }
  static tensor from_dlpack(legacy_capsule capsule, const char *label = nullptr, const runtime &rt = {}) {
    return try_from_dlpack(capsule, label, rt).value();
  }

  /** Looks at somebody else's tensor for the length of a call: see fh_view_borrow(). */
  static expected<tensor> try_borrow(const DLTensor &view, std::uint32_t flags = 0, const runtime &rt = {}) {
    return make([&](fh_tensor **out, fh_error **e) { return fh_view_borrow(rt.get(), &view, flags, out, e); });
  }
  static tensor borrow(const DLTensor &view, std::uint32_t flags = 0, const runtime &rt = {}) {
    return try_borrow(view, flags, rt).value();
  }

  /** New host memory, all bytes 0. */
  static expected<tensor> try_zeros(DLDataType dtype, const std::vector<std::int64_t> &shape, const runtime &rt = {}) {
    DLDevice device{};
    device.device_type = kDLCPU;
    return make([&](fh_tensor **out, fh_error **e) {
      return fh_tensor_new(rt.get(), dtype, device, std::int32_t(shape.size()), shape.data(), "c++", out, e);
    });
  }
  template <class T>
  static tensor zeros(const std::vector<std::int64_t> &shape, const runtime &rt = {}) {
    return try_zeros(dtype_of<T>::value, shape, rt).value();
  }

  /** The tensor as DLPack describes it; shape and strides live as long as the tensor. All 0 for an empty handle. */
  DLTensor dl() const noexcept {
    DLTensor view{};
    fh_tensor_dl(raw_, &view, nullptr);
    return view;
  }
  /** `FH_FLAG_*` */
  std::uint32_t flags() const noexcept { return fh_tensor_flags(raw_); }
  /** Its record on the ledger. */
  std::uint64_t id() const noexcept { return fh_tensor_id(raw_); }

  expected<freehold::decision> try_decide(const fh_request &request = freehold::request(),
                                          const fh_caps &caps = freehold::caps()) const {
    fh_decision *out = nullptr;
    fh_error *e = nullptr;
    const fh_status status = fh_decide(raw_, &request, &caps, &out, &e);
    if (status != FH_OK) return freehold::error::take(status, e);
    return freehold::decision(out);
  }
  freehold::decision decide(const fh_request &request = freehold::request(),
                            const fh_caps &caps = freehold::caps()) const {
    return try_decide(request, caps).value();
  }

  expected<tensor> try_execute(const freehold::decision &decision, const char *label = nullptr) const {
    return make([&](fh_tensor **out, fh_error **e) { return fh_execute(raw_, decision.get(), label, out, e); });
  }
  tensor execute(const freehold::decision &decision, const char *label = nullptr) const {
    return try_execute(decision, label).value();
  }

  expected<tensor> try_convert(const fh_request &request, const fh_caps &caps = freehold::caps(),
                               const char *label = nullptr) const {
    return make([&](fh_tensor **out, fh_error **e) { return fh_convert(raw_, &request, &caps, label, out, e); });
  }
  tensor convert(const fh_request &request, const fh_caps &caps = freehold::caps(), const char *label = nullptr) const {
    return try_convert(request, caps, label).value();
  }

  /** Copies and casts into memory that is there. */
  expected<void> try_copy_into(const tensor &target, const fh_request &request = freehold::request()) const {
    fh_error *e = nullptr;
    const fh_status status = fh_copy_into(raw_, target.raw_, &request, &e);
    if (status != FH_OK) return freehold::error::take(status, e);
    return {};
  }
  void copy_into(const tensor &target, const fh_request &request = freehold::request()) const {
    try_copy_into(target, request).value();
  }

  /** A capsule that keeps the memory alive by itself. */
  expected<versioned_capsule> try_to_dlpack(const char *label = nullptr, DLPackVersion max_version = {0, 0}) const {
    DLManagedTensorVersioned *out = nullptr;
    fh_error *e = nullptr;
    const fh_status status = fh_export_versioned(raw_, max_version, label, &out, &e);
    if (status != FH_OK) return freehold::error::take(status, e);
    return versioned_capsule(out);
  }
  versioned_capsule to_dlpack(const char *label = nullptr, DLPackVersion max_version = {0, 0}) const {
    return try_to_dlpack(label, max_version).value();
  }
  expected<legacy_capsule> try_to_dlpack_legacy(const char *label = nullptr) const {
    DLManagedTensor *out = nullptr;
    fh_error *e = nullptr;
    const fh_status status = fh_export_legacy(raw_, label, &out, &e);
    if (status != FH_OK) return freehold::error::take(status, e);
    return legacy_capsule(out);
  }
  legacy_capsule to_dlpack_legacy(const char *label = nullptr) const { return try_to_dlpack_legacy(label).value(); }

  /** Makes a CUDA stream wait until the values are there, and has the memory kept until the stream has used it. */
  void use_on(std::int64_t stream) const {
    fh_error *e = nullptr;
    const fh_status status = fh_tensor_use_on(raw_, stream, &e);
    if (status != FH_OK) detail::raise(freehold::error::take(status, e));
  }

  /** Whether a byte is shared, exactly; unknown counts as shared. */
  bool overlaps(const tensor &other) const {
    std::int32_t answer = FH_OVERLAP_NONE;
    fh_error *e = nullptr;
    const fh_status status = fh_tensor_overlap(raw_, other.raw_, &answer, &e);
    if (status != FH_OK) detail::raise(freehold::error::take(status, e));
    return answer != FH_OVERLAP_NONE;
  }

 private:
  template <class Call>
  static expected<tensor> make(Call call) {
    fh_tensor *out = nullptr;
    fh_error *e = nullptr;
    const fh_status status = call(&out, &e);
    if (status != FH_OK) return freehold::error::take(status, e);
    return tensor(out);
  }

  fh_tensor *raw_ = nullptr;
};

/** A tensor over a vector's elements, without a copy. Where that fails the vector is as it was. */
template <class T>
expected<tensor> try_wrap(std::vector<T> &&values, const std::vector<std::int64_t> &shape, const char *label = nullptr,
                          const runtime &rt = {}) {
  static_assert(!std::is_same_v<T, bool>, "std::vector<bool> packs its elements; use std::vector<std::uint8_t>");
  std::int64_t count = 1;
  for (const std::int64_t n : shape) {
    if (n < 0 || (n > 0 && count > INT64_MAX / n)) count = -1;
    if (count < 0) break;
    count *= n;
  }
  if (count < 0 || std::uint64_t(count) != values.size()) {
    return freehold::error(FH_INVALID_ARGUMENT, FH_REASON_AR01,
                           "[AR01] wrap: the shape does not have " + std::to_string(values.size()) + " elements.");
  }
  auto owned = std::make_unique<std::vector<T>>(std::move(values));
  DLTensor view{};
  view.data = owned->data();
  view.device.device_type = kDLCPU;
  view.ndim = std::int32_t(shape.size());
  view.dtype = dtype_of<T>::value;
  view.shape = const_cast<std::int64_t *>(shape.data());
  fh_owner owner{};
  owner.struct_size = sizeof owner;
  owner.release = [](void *context) { delete static_cast<std::vector<T> *>(context); };
  owner.context = owned.get();
  owner.allocation = reinterpret_cast<std::uintptr_t>(owned->data());
  owner.allocation_bytes = owned->capacity() * sizeof(T);
  fh_tensor *out = nullptr;
  fh_error *e = nullptr;
  const fh_status status = fh_import_raw(rt.get(), &view, &owner, label ? label : "c++", &out, &e);
  if (status != FH_OK) {
    values = std::move(*owned);
    return freehold::error::take(status, e);
  }
  (void)owned.release();
  return tensor(out);
}

template <class T>
tensor wrap(std::vector<T> &&values, const std::vector<std::int64_t> &shape, const char *label = nullptr,
            const runtime &rt = {}) {
  return try_wrap(std::move(values), shape, label, rt).value();
}

/** One dimension. */
template <class T>
tensor wrap(std::vector<T> &&values) {
  const std::int64_t size = std::int64_t(values.size());
  return try_wrap(std::move(values), {size}).value();
}

/** Sizes that accept() asks for; -1 takes any. */
template <std::int64_t... Extents>
struct shape {
  static constexpr std::size_t rank = sizeof...(Extents);
  // One more than needed: an array of no element has no data.
  static constexpr std::int64_t extents[rank + 1] = {Extents..., 0};
};

/** Memory that the host reads through the pointer: plain, or pinned by CUDA or ROCm. */
struct cpu {
  static constexpr const char *name = "cpu";
  static constexpr bool takes(int type) { return type == kDLCPU || type == kDLCUDAHost || type == kDLROCMHost; }
};
/** CUDA device memory, managed memory included. */
struct cuda {
  static constexpr const char *name = "cuda";
  static constexpr bool takes(int type) { return type == kDLCUDA || type == kDLCUDAManaged; }
};
struct any_device {
  static constexpr const char *name = "any device";
  static constexpr bool takes(int) { return true; }
};

/** Compact, row-major. */
struct c_order {
  static constexpr const char *name = "C order";
  static constexpr int order = FH_ORDER_C;
};
/** Compact, column-major. */
struct f_order {
  static constexpr const char *name = "F order";
  static constexpr int order = FH_ORDER_F;
};
/** Any strides, negative ones too. */
struct strided {
  static constexpr const char *name = "any strides";
  static constexpr int order = FH_ORDER_ANY;
};

/** Typed access to a tensor that was accepted. Keeps the tensor alive. */
template <class T, std::size_t Rank, class Layout = strided>
class view {
 public:
  using element_type = T;
  static constexpr std::size_t rank = Rank;

  T *data() const noexcept { return data_; }
  std::int64_t extent(std::size_t dimension) const noexcept { return extents_[dimension]; }
  /** In elements. */
  std::int64_t stride(std::size_t dimension) const noexcept { return strides_[dimension]; }
  std::int64_t size() const noexcept {
    std::int64_t count = 1;
    for (std::size_t i = 0; i < Rank; ++i) count *= extents_[i];
    return count;
  }
  const freehold::tensor &tensor() const noexcept { return tensor_; }

  /** One element. The indices are not checked. */
  template <class... Index>
  T &operator()(Index... index) const noexcept {
    static_assert(sizeof...(Index) == Rank, "as many indices as dimensions");
    const std::array<std::int64_t, Rank> at{std::int64_t(index)...};
    std::int64_t offset = 0;
    for (std::size_t i = 0; i < Rank; ++i) offset += at[i] * strides_[i];
    return data_[offset];
  }

  /** All elements, where they are compact. */
  template <class L = Layout, class = std::enable_if_t<L::order != FH_ORDER_ANY>>
  T *begin() const noexcept {
    return data_;
  }
  template <class L = Layout, class = std::enable_if_t<L::order != FH_ORDER_ANY>>
  T *end() const noexcept {
    return data_ + size();
  }

#if defined(__cpp_lib_mdspan)
  /** As std::mdspan. Its mappings have no negative strides: a view in any strides must not have one. */
  auto mdspan() const noexcept {
    using extents = std::dextents<std::int64_t, Rank>;
    if constexpr (Layout::order == FH_ORDER_C) {
      return std::mdspan<T, extents, std::layout_right>(data_, extents_);
    } else if constexpr (Layout::order == FH_ORDER_F) {
      return std::mdspan<T, extents, std::layout_left>(data_, extents_);
    } else {
      return std::mdspan<T, extents, std::layout_stride>(data_, {extents(extents_), strides_});
    }
  }
#endif

  view(freehold::tensor tensor, const DLTensor &dl) noexcept : tensor_(std::move(tensor)), data_(static_cast<T *>(dl.data)) {
    for (std::size_t i = 0; i < Rank; ++i) {
      extents_[i] = dl.shape[i];
      strides_[i] = dl.strides[i];
    }
  }

 private:
  freehold::tensor tensor_;
  T *data_;
  std::array<std::int64_t, Rank> extents_{};
  std::array<std::int64_t, Rank> strides_{};
};

namespace detail {

inline std::string dtype_name(DLDataType dtype) {
  static constexpr const char *codes[] = {"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
  std::string name = dtype.code < 7 ? codes[dtype.code] : "code " + std::to_string(int(dtype.code)) + " of ";
  if (dtype.code != 6) name += std::to_string(int(dtype.bits)) + (dtype.code < 7 ? "" : " bits");
  if (dtype.lanes != 1) name += "x" + std::to_string(int(dtype.lanes));
  return name;
}

inline std::string device_name(DLDevice device) {
  switch (int(device.device_type)) {
    case kDLCPU:
      return "cpu";
    case kDLCUDA:
      return "cuda:" + std::to_string(device.device_id);
    default:
      return "device type " + std::to_string(int(device.device_type)) + ":" + std::to_string(device.device_id);
  }
}

inline error refuse(std::int32_t code, const char *name, const char *argument, const char *constraint, int dimension,
                    std::string wanted, std::string got) {
  std::string text = std::string("[") + name + "] " + argument + ": " + constraint;
  if (dimension >= 0) text += " of dimension " + std::to_string(dimension);
  text += ": expected " + wanted + ", got " + got;
  return error(code, text, mismatch{argument, constraint, dimension, std::move(wanted), std::move(got)});
}

/** The first dimension whose stride is not the compact one; -1 where there is none. */
inline int first_not_compact(const DLTensor &dl, int order, std::int64_t &want) {
  for (int i = 0; i < dl.ndim; ++i) {
    if (dl.shape[i] == 0) return -1;
  }
  want = 1;
  for (int n = 0; n < dl.ndim; ++n) {
    const int i = order == FH_ORDER_C ? dl.ndim - 1 - n : n;
    if (dl.shape[i] != 1 && dl.strides[i] != want) return i;
    want *= dl.shape[i];
  }
  return -1;
}

}  // namespace detail

/**
 * \brief A typed view of a tensor that is as the function needs it, or an error that names the first constraint that fails.
 *
 * \tparam T element type; without `const` the memory must be writable
 * \tparam Shape shape<...>
 * \tparam Device cpu, cuda, any_device
 * \tparam Layout c_order, f_order, strided
 * \param t the tensor
 * \param argument its name, for the error
 */
template <class T, class Shape, class Device = cpu, class Layout = c_order>
expected<view<T, Shape::rank, Layout>> try_accept(const tensor &t, const char *argument = "tensor") {
  using detail::refuse;
  if (!t) return refuse(FH_REASON_AR01, "AR01", argument, "rank", -1, "a tensor", "an empty handle");
  const DLTensor dl = t.dl();
  const std::uint32_t flags = t.flags();
  constexpr DLDataType want = dtype_of<std::remove_const_t<T>>::value;
  if (dl.dtype.code != want.code || dl.dtype.bits != want.bits || dl.dtype.lanes != want.lanes) {
    return refuse(FH_REASON_DT02, "DT02", argument, "dtype", -1, detail::dtype_name(want), detail::dtype_name(dl.dtype));
  }
  if (flags & (FH_FLAG_CONJ | FH_FLAG_NEG | FH_FLAG_SWAPPED)) {
    return refuse(FH_REASON_LZ01, "LZ01", argument, "values", -1, "the bytes in memory",
                  flags & FH_FLAG_SWAPPED ? "the other byte order" : "lazy conj or neg bits");
  }
  if (dl.ndim != std::int32_t(Shape::rank)) {
    return refuse(FH_REASON_AR01, "AR01", argument, "rank", -1, std::to_string(Shape::rank), std::to_string(dl.ndim));
  }
  for (int i = 0; i < dl.ndim; ++i) {
    if (Shape::extents[i] >= 0 && dl.shape[i] != Shape::extents[i]) {
      return refuse(FH_REASON_AR01, "AR01", argument, "shape", i, std::to_string(Shape::extents[i]),
                    std::to_string(dl.shape[i]));
    }
  }
  if (!Device::takes(int(dl.device.device_type))) {
    return refuse(FH_REASON_DV01, "DV01", argument, "device", -1, Device::name, detail::device_name(dl.device));
  }
  if (flags & FH_FLAG_BYTE_STRIDES) {
    return refuse(FH_REASON_ST03, "ST03", argument, "strides", -1, "whole elements", "bytes");
  }
  if constexpr (Layout::order != FH_ORDER_ANY) {
    std::int64_t compact = 0;
    const int dimension = detail::first_not_compact(dl, Layout::order, compact);
    if (dimension >= 0) {
      return refuse(FH_REASON_ST02, "ST02", argument, "strides", dimension,
                    std::to_string(compact) + " (" + Layout::name + ")", std::to_string(dl.strides[dimension]));
    }
  }
  if (reinterpret_cast<std::uintptr_t>(dl.data) % alignof(T) != 0) {
    return refuse(FH_REASON_AG01, "AG01", argument, "alignment", -1, std::to_string(alignof(T)) + " bytes",
                  "address % " + std::to_string(alignof(T)) + " = " +
                      std::to_string(reinterpret_cast<std::uintptr_t>(dl.data) % alignof(T)));
  }
  if (!std::is_const_v<T> && (flags & (FH_FLAG_READ_ONLY | FH_FLAG_IMMUTABLE))) {
    return refuse(FH_REASON_RO01, "RO01", argument, "writable", -1, "writable", "read-only");
  }
  return view<T, Shape::rank, Layout>(t, dl);
}

/** As try_accept(), and throws the error. */
template <class T, class Shape, class Device = cpu, class Layout = c_order>
view<T, Shape::rank, Layout> accept(const tensor &t, const char *argument = "tensor") {
  return try_accept<T, Shape, Device, Layout>(t, argument).value();
}

}  // namespace freehold

#endif  // FREEHOLD_FREEHOLD_HPP
