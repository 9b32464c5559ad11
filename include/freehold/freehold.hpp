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
  /** What the caller asked for. */
  std::string expected;
  /** What the tensor has. */
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

  /** An error of this header's own. */
  error(fh_status status, std::int32_t reason, const std::string &message)
      : std::runtime_error(message), status_(status), reason_(reason) {}

  /** With the constraint that was not met. */
  error(std::int32_t reason, const std::string &message, freehold::mismatch what)
      : std::runtime_error(message),
        status_(reason == FH_REASON_AR01 ? FH_INVALID_ARGUMENT : FH_REJECTED),
        reason_(reason),
        mismatch_(std::make_shared<const freehold::mismatch>(std::move(what))) {}

  /** Another error with its words and the constraint that led to it; status, reason and fixes stay. */
  error(const error &from, const std::string &message, freehold::mismatch what)
      : std::runtime_error(message),
        status_(from.status_),
        reason_(from.reason_),
        fixes_(from.fixes_),
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
  /** With a value. */
  expected(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  /** With an error. */
  expected(freehold::error e) : state_(std::in_place_index<1>, std::move(e)) {}

  /** Whether there is a value. */
  bool has_value() const noexcept { return state_.index() == 0; }
  /** As has_value(). */
  explicit operator bool() const noexcept { return has_value(); }

  /** The value; throws the error where there is none. */
  T &value() & { return check(), *std::get_if<0>(&state_); }
  /** The value; throws the error where there is none. */
  const T &value() const & { return check(), *std::get_if<0>(&state_); }
  /** The value, moved out; throws the error where there is none. */
  T &&value() && { return check(), std::move(*std::get_if<0>(&state_)); }

  /** The value, which must be there. */
  T &operator*() & noexcept { return *std::get_if<0>(&state_); }
  /** The value, which must be there. */
  const T &operator*() const & noexcept { return *std::get_if<0>(&state_); }
  /** Into the value, which must be there. */
  T *operator->() noexcept { return std::get_if<0>(&state_); }
  /** Into the value, which must be there. */
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
  /** Done. */
  expected() = default;
  /** With an error. */
  expected(freehold::error e) : error_(std::make_shared<const freehold::error>(std::move(e))) {}

  /** Whether it is done. */
  bool has_value() const noexcept { return !error_; }
  /** As has_value(). */
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

/** Sizes or strides that a call looks at: a braced list, a vector, an array, or a pointer and how many. Nothing is copied. */
class extents {
 public:
  /** No dimension. */
  constexpr extents() noexcept = default;
  /** `count` numbers, which must live as long as the call. */
  constexpr extents(const std::int64_t *first, std::size_t count) noexcept : first_(first), count_(count) {}
  /** A braced list, which lives as long as the call that it is written in. */
  constexpr extents(std::initializer_list<std::int64_t> list) noexcept : extents(list.begin(), list.size()) {}
  /** The numbers of a vector. */
  extents(const std::vector<std::int64_t> &list) noexcept : extents(list.data(), list.size()) {}
  /** The numbers of an array. */
  template <std::size_t N>
  constexpr extents(const std::array<std::int64_t, N> &list) noexcept : extents(list.data(), N) {}

  /** The first number. */
  constexpr const std::int64_t *data() const noexcept { return first_; }
  /** How many there are. */
  constexpr std::size_t size() const noexcept { return count_; }
  /** The first number. */
  constexpr const std::int64_t *begin() const noexcept { return first_; }
  /** One past the last. */
  constexpr const std::int64_t *end() const noexcept { return first_ + count_; }

 private:
  const std::int64_t *first_ = nullptr;
  std::size_t count_ = 0;
};

/** The DLPack dtype of a C++ type. Specialise it for a half or bfloat16 type of your own. */
template <class T, class = void>
struct dtype_of;

/** Integers, by their size. */
template <class T>
struct dtype_of<T, std::enable_if_t<std::is_integral_v<T> && !std::is_same_v<T, bool>>> {
  /** The dtype. */
  static constexpr DLDataType value = {std::uint8_t(std::is_signed_v<T> ? kDLInt : kDLUInt), std::uint8_t(sizeof(T) * 8), 1};
};

/** float and double. */
template <class T>
struct dtype_of<T, std::enable_if_t<std::is_floating_point_v<T> && (sizeof(T) <= 8)>> {
  /** The dtype. */
  static constexpr DLDataType value = {kDLFloat, std::uint8_t(sizeof(T) * 8), 1};
};

/** Complex numbers. */
template <class T>
struct dtype_of<std::complex<T>> {
  /** The dtype. */
  static constexpr DLDataType value = {kDLComplex, std::uint8_t(sizeof(T) * 16), 1};
};

/** A byte that is 0 or 1. */
template <>
struct dtype_of<bool> {
  /** The dtype. */
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

  /** How much the ledger keeps from now on, `FH_LEDGER_*`. */
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
  /** The defaults: share when it can, else copy; keep dtype, device, order. */
  request() noexcept { fh_request_init(this, sizeof(fh_request)); }
  /** Shares or refuses. */
  static request share() noexcept { return request().with_copy(FH_COPY_NEVER); }
  /** Shares when it can, else copies. */
  static request convert() noexcept { return request(); }
  /** Always new memory. */
  static request copy_always() noexcept { return request().with_copy(FH_COPY_ALWAYS); }

  /** With a dtype. */
  template <class T>
  request as() const noexcept {
    request changed = *this;
    changed.dtype = dtype_of<T>::value;
    return changed;
  }
  /** With `FH_COPY_*`. */
  request with_copy(std::int32_t rule) const noexcept {
    request changed = *this;
    changed.copy = rule;
    return changed;
  }
  /** With `FH_ORDER_*`. */
  request in_order(std::int32_t which) const noexcept {
    request changed = *this;
    changed.order = which;
    return changed;
  }
  /** Truncates and saturates values that do not fit, in place of an error. */
  request allow_loss() const noexcept {
    request changed = *this;
    changed.on_loss = FH_ON_LOSS_ALLOW;
    return changed;
  }
  /** Without the autograd graph. */
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
  /** No decision; its verdict is a reject without a reason. */
  decision() noexcept = default;
  /** Takes a C handle over. */
  explicit decision(fh_decision *owned) noexcept : raw_(owned) {}
  /** The C handle; nullptr where there is none. */
  const fh_decision *get() const noexcept { return raw_.get(); }
  /** `FH_VERDICT_*` */
  std::int32_t verdict() const noexcept { return fh_decision_verdict(get()); }
  /** Whether something is handed over. */
  explicit operator bool() const noexcept { return verdict() != FH_VERDICT_REJECT; }
  /** What it costs when it is carried out. */
  fh_cost cost() const noexcept {
    fh_cost cost{};
    cost.struct_size = sizeof cost;
    fh_decision_cost(get(), &cost, nullptr);
    return cost;
  }
  /** How many reasons there are; 0 for a share that nothing spoke against. */
  std::size_t reason_count() const noexcept { return fh_decision_reason_count(get()); }
  /** One reason, the first one first; its texts belong to the decision. All 0 where `index` is past the last. */
  fh_reason reason(std::size_t index) const noexcept {
    fh_reason reason{};
    reason.struct_size = sizeof reason;
    fh_decision_reason(get(), index, &reason, nullptr);
    return reason;
  }
  /** The reasons' codes, the first one first. */
  std::vector<std::int32_t> reasons() const {
    std::vector<std::int32_t> codes(reason_count());
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = reason(i).code;
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
  /** An empty handle. */
  tensor() noexcept = default;
  /** Takes one hold on a C handle over. */
  explicit tensor(fh_tensor *owned) noexcept : raw_(owned) {}
  /** Another hold on the same tensor. */
  tensor(const tensor &other) noexcept : raw_(fh_tensor_retain(other.raw_)) {}
  /** Takes the hold; `other` is empty afterwards. */
  tensor(tensor &&other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  /** Lets go of what it had. */
  tensor &operator=(tensor other) noexcept {
    std::swap(raw_, other.raw_);
    return *this;
  }
  ~tensor() { fh_tensor_release(raw_); }

  /** The C handle, still held by this. */
  fh_tensor *get() const noexcept { return raw_; }
  /** Whether there is a tensor. */
  explicit operator bool() const noexcept { return raw_ != nullptr; }

  /** Takes a capsule over. Where that fails it stays in `capsule`, except that an unknown major version is released. */
  static expected<tensor> try_from_dlpack(versioned_capsule &capsule, const char *label = nullptr, const runtime &rt = {}) {
    auto made = make([&](fh_tensor **out, fh_error **e) {
      return fh_import_versioned(rt.get(), capsule.get(), label, out, e);
    });
    if (made || made.error().reason() == FH_REASON_VE01) (void)capsule.release();
    return made;
  }
  /** Takes a capsule over. Where that fails it stays in `capsule`. */
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
  /** Takes a capsule over, and lets go of it where that fails. */
  static tensor from_dlpack(legacy_capsule capsule, const char *label = nullptr, const runtime &rt = {}) {
    return try_from_dlpack(capsule, label, rt).value();
  }

  /** Looks at somebody else's tensor for the length of a call: see fh_view_borrow(). */
  static expected<tensor> try_borrow(const DLTensor &view, std::uint32_t flags = 0, const runtime &rt = {}) {
    return make([&](fh_tensor **out, fh_error **e) { return fh_view_borrow(rt.get(), &view, flags, out, e); });
  }
  /** As try_borrow(), and throws the error. */
  static tensor borrow(const DLTensor &view, std::uint32_t flags = 0, const runtime &rt = {}) {
    return try_borrow(view, flags, rt).value();
  }

  /** New host memory, all bytes 0. */
  static expected<tensor> try_zeros(DLDataType dtype, extents shape, const runtime &rt = {}) {
    DLDevice device{};
    device.device_type = kDLCPU;
    return make([&](fh_tensor **out, fh_error **e) {
      return fh_tensor_new(rt.get(), dtype, device, std::int32_t(shape.size()), shape.data(), "c++", out, e);
    });
  }
  /** As try_zeros(), of the dtype of T, and throws the error. */
  template <class T>
  static tensor zeros(extents shape, const runtime &rt = {}) {
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

  /** What would happen, from metadata alone: see fh_decide(). */
  expected<freehold::decision> try_decide(const fh_request &request = freehold::request(),
                                          const fh_caps &caps = freehold::caps()) const {
    fh_decision *out = nullptr;
    fh_error *e = nullptr;
    const fh_status status = fh_decide(raw_, &request, &caps, &out, &e);
    if (status != FH_OK) return freehold::error::take(status, e);
    return freehold::decision(out);
  }
  /** As try_decide(), and throws the error. A decision that rejects is none. */
  freehold::decision decide(const fh_request &request = freehold::request(),
                            const fh_caps &caps = freehold::caps()) const {
    return try_decide(request, caps).value();
  }

  /** Carries a decision out: see fh_execute(). */
  expected<tensor> try_execute(const freehold::decision &decision, const char *label = nullptr) const {
    return make([&](fh_tensor **out, fh_error **e) { return fh_execute(raw_, decision.get(), label, out, e); });
  }
  /** As try_execute(), and throws the error. */
  tensor execute(const freehold::decision &decision, const char *label = nullptr) const {
    return try_execute(decision, label).value();
  }

  /** Decides and executes: see fh_convert(). */
  expected<tensor> try_convert(const fh_request &request, const fh_caps &caps = freehold::caps(),
                               const char *label = nullptr) const {
    return make([&](fh_tensor **out, fh_error **e) { return fh_convert(raw_, &request, &caps, label, out, e); });
  }
  /** As try_convert(), and throws the error. */
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
  /** As try_copy_into(), and throws the error. */
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
  /** As try_to_dlpack(), and throws the error. */
  versioned_capsule to_dlpack(const char *label = nullptr, DLPackVersion max_version = {0, 0}) const {
    return try_to_dlpack(label, max_version).value();
  }
  /** A capsule for consumers from before DLPack 1.0; read-only memory is refused. */
  expected<legacy_capsule> try_to_dlpack_legacy(const char *label = nullptr) const {
    DLManagedTensor *out = nullptr;
    fh_error *e = nullptr;
    const fh_status status = fh_export_legacy(raw_, label, &out, &e);
    if (status != FH_OK) return freehold::error::take(status, e);
    return legacy_capsule(out);
  }
  /** As try_to_dlpack_legacy(), and throws the error. */
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

namespace detail {

/** How many elements a shape has; -1 where that is no number. */
inline std::int64_t count(extents shape) noexcept {
  std::int64_t count = 1;
  for (const std::int64_t n : shape) {
    if (n < 0 || (n > 0 && count > INT64_MAX / n)) return -1;
    count *= n;
  }
  return count;
}

inline DLTensor describe(const void *data, DLDataType dtype, extents shape, extents strides) noexcept {
  DLTensor view{};
  // DLPack has one struct for what is read and what is written; the flags say which.
  view.data = const_cast<void *>(data);
  view.device.device_type = kDLCPU;
  view.ndim = std::int32_t(shape.size());
  view.dtype = dtype;
  view.shape = const_cast<std::int64_t *>(shape.data());
  view.strides = const_cast<std::int64_t *>(strides.data());
  return view;
}

}  // namespace detail

/**
 * \brief A tensor over a vector's elements, without a copy. Where that fails the vector is as it was.
 *
 * One allocation of three words holds the vector itself.
 */
template <class T>
expected<tensor> try_wrap(std::vector<T> &&values, extents shape, const char *label = nullptr, const runtime &rt = {}) {
  static_assert(!std::is_same_v<T, bool>, "std::vector<bool> packs its elements; use std::vector<std::uint8_t>");
  const std::int64_t count = detail::count(shape);
  if (count < 0 || std::uint64_t(count) != values.size()) {
    return freehold::error(FH_INVALID_ARGUMENT, FH_REASON_AR01,
                           "[AR01] wrap: the shape does not have " + std::to_string(values.size()) + " elements.");
  }
  auto owned = std::make_unique<std::vector<T>>(std::move(values));
  const DLTensor view = detail::describe(owned->data(), dtype_of<T>::value, shape, {});
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

/** As try_wrap(), and throws the error. */
template <class T>
tensor wrap(std::vector<T> &&values, extents shape, const char *label = nullptr, const runtime &rt = {}) {
  return try_wrap(std::move(values), shape, label, rt).value();
}

/** One dimension. */
template <class T>
tensor wrap(std::vector<T> &&values) {
  const std::int64_t size = std::int64_t(values.size());
  return try_wrap(std::move(values), {size}).value();
}

/** Says of memory that it outlives the tensor and everything made from it: a static table, a mapping that is never undone. */
struct unowned {};

/**
 * \brief A tensor over memory that is there already.
 *
 * A pointer to `const` elements makes a read-only tensor.
 *
 * \param data the first element; the memory around it that shape and strides reach must stay valid until the owner goes
 * \param shape sizes
 * \param owner what keeps the memory: a std::shared_ptr, a std::unique_ptr, any object whose destruction lets go; it is
 *        moved into the tensor and destroyed once, on whatever thread the last holder lets go, and must not throw then. unowned
 *        keeps nothing. On an error it is destroyed. One allocation holds it.
 * \param strides in elements; none is compact, row-major
 * \param label who made it, for the ledger
 * \param rt whose ledger it goes on
 */
template <class T, class Owner>
expected<tensor> try_wrap(T *data, extents shape, Owner owner, extents strides = {}, const char *label = nullptr,
                          const runtime &rt = {}) {
  if (strides.size() != 0 && strides.size() != shape.size()) {
    return freehold::error(FH_INVALID_ARGUMENT, FH_REASON_AR01,
                           "[AR01] wrap: " + std::to_string(strides.size()) + " strides for " +
                               std::to_string(shape.size()) + " dimensions.");
  }
  const DLTensor view = detail::describe(data, dtype_of<std::remove_const_t<T>>::value, shape, strides);
  fh_owner raw{};
  raw.struct_size = sizeof raw;
  raw.flags = std::is_const_v<T> ? std::uint32_t(FH_FLAG_READ_ONLY) : 0;
  std::unique_ptr<Owner> kept;
  if constexpr (!std::is_same_v<Owner, unowned>) {
    kept = std::make_unique<Owner>(std::move(owner));
    raw.release = [](void *context) { delete static_cast<Owner *>(context); };
    raw.context = kept.get();
  }
  fh_tensor *out = nullptr;
  fh_error *e = nullptr;
  const fh_status status = fh_import_raw(rt.get(), &view, &raw, label ? label : "c++", &out, &e);
  if (status != FH_OK) return freehold::error::take(status, e);
  (void)kept.release();
  return tensor(out);
}

/** As try_wrap(), and throws the error. */
template <class T, class Owner>
tensor wrap(T *data, extents shape, Owner owner, extents strides = {}, const char *label = nullptr, const runtime &rt = {}) {
  return try_wrap(data, shape, std::move(owner), strides, label, rt).value();
}

/** Sizes that accept() asks for; -1 takes any. */
template <std::int64_t... Extents>
struct shape {
  /** How many dimensions. */
  static constexpr std::size_t rank = sizeof...(Extents);
  /** The sizes, and one more: an array of no element has no data. */
  static constexpr std::int64_t extents[rank + 1] = {Extents..., 0};
};

/** Memory that the host reads through the pointer: plain, or pinned by CUDA or ROCm. */
struct cpu {
  /** For messages. */
  static constexpr const char *name = "cpu";
  /** Where may_copy puts it, a DLDeviceType; 0 for nowhere. */
  static constexpr int copy_to = kDLCPU;
  /** Whether a DLDeviceType will do. */
  static constexpr bool takes(int type) { return type == kDLCPU || type == kDLCUDAHost || type == kDLROCMHost; }
};
/** CUDA device memory, managed memory included. */
struct cuda {
  /** For messages. */
  static constexpr const char *name = "cuda";
  /** Where may_copy puts it, a DLDeviceType; 0 for nowhere. */
  static constexpr int copy_to = kDLCUDA;
  /** Whether a DLDeviceType will do. */
  static constexpr bool takes(int type) { return type == kDLCUDA || type == kDLCUDAManaged; }
};
/** Wherever it is. */
struct any_device {
  /** For messages. */
  static constexpr const char *name = "any device";
  /** Where may_copy puts it, a DLDeviceType; 0 for nowhere. */
  static constexpr int copy_to = 0;
  /** Whether a DLDeviceType will do. */
  static constexpr bool takes(int) { return true; }
};

/** Compact, row-major. */
struct c_order {
  /** For messages. */
  static constexpr const char *name = "C order";
  /** `FH_ORDER_*` */
  static constexpr int order = FH_ORDER_C;
};
/** Compact, column-major. */
struct f_order {
  /** For messages. */
  static constexpr const char *name = "F order";
  /** `FH_ORDER_*` */
  static constexpr int order = FH_ORDER_F;
};
/** Any strides, negative ones too. */
struct strided {
  /** For messages. */
  static constexpr const char *name = "any strides";
  /** `FH_ORDER_*` */
  static constexpr int order = FH_ORDER_ANY;
};

/** accept() shares or refuses. */
struct must_share {
  /** Whether it may. */
  static constexpr bool copies = false;
};
/** accept() copies, once, what does not fit in dtype, memory order, alignment or device. The shape must fit. */
struct may_copy {
  /** Whether it may. */
  static constexpr bool copies = true;
};

/** Typed access to a tensor that was accepted. Keeps the tensor alive. */
template <class T, std::size_t Rank, class Layout = strided>
class view {
 public:
  /** T, with its const. */
  using element_type = T;
  /** How many dimensions. */
  static constexpr std::size_t rank = Rank;

  /** The first element. */
  T *data() const noexcept { return data_; }
  /** The size of a dimension. */
  std::int64_t extent(std::size_t dimension) const noexcept { return extents_[dimension]; }
  /** The step from one element of a dimension to the next, in elements. */
  std::int64_t stride(std::size_t dimension) const noexcept { return strides_[dimension]; }
  /** How many elements there are. */
  std::int64_t size() const noexcept {
    std::int64_t count = 1;
    for (std::size_t i = 0; i < Rank; ++i) count *= extents_[i];
    return count;
  }
  /** The tensor that is kept alive. */
  const freehold::tensor &tensor() const noexcept { return tensor_; }
  /** Bytes that accept() copied; 0 where the memory is the tensor's own. */
  std::uint64_t bytes_copied() const noexcept { return bytes_copied_; }
  /** Why it copied, such as "ST02"; "" where it did not. */
  const char *reason() const noexcept { return reason_; }

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
  /** One past the last. */
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

  /** For accept(), which has checked that the tensor is so. */
  view(freehold::tensor tensor, const DLTensor &dl, std::uint64_t bytes_copied = 0, const char *reason = "") noexcept
      : tensor_(std::move(tensor)), data_(static_cast<T *>(dl.data)), bytes_copied_(bytes_copied), reason_(reason) {
    for (std::size_t i = 0; i < Rank; ++i) {
      extents_[i] = dl.shape[i];
      strides_[i] = dl.strides[i];
    }
  }

 private:
  freehold::tensor tensor_;
  T *data_;
  std::uint64_t bytes_copied_;
  const char *reason_;
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

/** A constraint of accept(), in the order in which they are checked. */
enum class constraint { none, handle, rank, shape, dtype, values, device, byte_strides, strides, alignment, writable };

/** The first constraint that fails, without a word: nothing is allocated until somebody wants to read it. */
struct finding {
  constraint what = constraint::none;
  int dimension = -1;
  std::int64_t wanted = 0;
};

/** The first dimension whose stride is not the compact one. */
inline finding first_not_compact(const DLTensor &dl, int order) noexcept {
  for (int i = 0; i < dl.ndim; ++i) {
    if (dl.shape[i] == 0) return {};
  }
  std::int64_t wanted = 1;
  for (int n = 0; n < dl.ndim; ++n) {
    const int i = order == FH_ORDER_C ? dl.ndim - 1 - n : n;
    if (dl.shape[i] != 1 && dl.strides[i] != wanted) return {constraint::strides, i, wanted};
    wanted *= dl.shape[i];
  }
  return {};
}

template <class T, class Shape, class Device, class Layout>
finding examine(const DLTensor &dl, std::uint32_t flags) noexcept {
  constexpr DLDataType want = dtype_of<std::remove_const_t<T>>::value;
  if (dl.ndim != std::int32_t(Shape::rank)) return {constraint::rank, -1, std::int64_t(Shape::rank)};
  for (int i = 0; i < dl.ndim; ++i) {
    if (Shape::extents[i] >= 0 && dl.shape[i] != Shape::extents[i]) return {constraint::shape, i, Shape::extents[i]};
  }
  if (dl.dtype.code != want.code || dl.dtype.bits != want.bits || dl.dtype.lanes != want.lanes) return {constraint::dtype};
  if (flags & (FH_FLAG_CONJ | FH_FLAG_NEG | FH_FLAG_SWAPPED)) return {constraint::values};
  if (!Device::takes(int(dl.device.device_type))) return {constraint::device};
  if (flags & FH_FLAG_BYTE_STRIDES) return {constraint::byte_strides};
  if constexpr (Layout::order != FH_ORDER_ANY) {
    const finding found = first_not_compact(dl, Layout::order);
    if (found.what != constraint::none) return found;
  }
  if (reinterpret_cast<std::uintptr_t>(dl.data) % alignof(T) != 0) return {constraint::alignment};
  if (!std::is_const_v<T> && (flags & (FH_FLAG_READ_ONLY | FH_FLAG_IMMUTABLE))) return {constraint::writable};
  return {};
}

inline error refuse(std::int32_t code, const char *name, const char *argument, const char *constraint, int dimension,
                    std::string wanted, std::string got) {
  std::string text = std::string("[") + name + "] " + argument + ": " + constraint;
  if (dimension >= 0) text += " of dimension " + std::to_string(dimension);
  text += ": expected " + wanted + ", got " + got;
  return error(code, text, mismatch{argument, constraint, dimension, std::move(wanted), std::move(got)});
}

/** A finding in words. */
template <class T, class Device, class Layout>
error refuse(const finding &found, const DLTensor &dl, std::uint32_t flags, const char *argument) {
  const auto number = [](auto n) { return std::to_string(n); };
  const int i = found.dimension;
  switch (found.what) {
    case constraint::rank:
      return refuse(FH_REASON_AR01, "AR01", argument, "rank", -1, number(found.wanted), number(dl.ndim));
    case constraint::shape:
      return refuse(FH_REASON_AR01, "AR01", argument, "shape", i, number(found.wanted), number(dl.shape[i]));
    case constraint::dtype:
      return refuse(FH_REASON_DT02, "DT02", argument, "dtype", -1, dtype_name(dtype_of<std::remove_const_t<T>>::value),
                    dtype_name(dl.dtype));
    case constraint::values:
      return refuse(FH_REASON_LZ01, "LZ01", argument, "values", -1, "the bytes in memory",
                    flags & FH_FLAG_SWAPPED ? "the other byte order" : "lazy conj or neg bits");
    case constraint::device:
      return refuse(FH_REASON_DV01, "DV01", argument, "device", -1, Device::name, device_name(dl.device));
    case constraint::byte_strides:
      return refuse(FH_REASON_ST03, "ST03", argument, "strides", -1, "whole elements", "bytes");
    case constraint::strides:
      return refuse(FH_REASON_ST02, "ST02", argument, "strides", i, number(found.wanted) + " (" + Layout::name + ")",
                    number(dl.strides[i]));
    case constraint::alignment:
      return refuse(FH_REASON_AG01, "AG01", argument, "alignment", -1, number(alignof(T)) + " bytes",
                    "address % " + number(alignof(T)) + " = " +
                        number(reinterpret_cast<std::uintptr_t>(dl.data) % alignof(T)));
    case constraint::writable:
      return refuse(FH_REASON_RO01, "RO01", argument, "writable", -1, "writable", "read-only");
    case constraint::none:
    case constraint::handle:
      break;
  }
  return refuse(FH_REASON_AR01, "AR01", argument, "rank", -1, "a tensor", "an empty handle");
}

/** Decides and executes: one pass into new memory where the tensor is not as the function needs it. */
template <class T, class Device, class Layout>
expected<tensor> mend(const tensor &t, const DLTensor &dl, decision &made) {
  request want = request::convert().as<std::remove_const_t<T>>().in_order(Layout::order);
  want.alignment = alignof(T);
  if (!Device::takes(int(dl.device.device_type))) {
    want.device.device_type = static_cast<DLDeviceType>(Device::copy_to);
    want.device.device_id = 0;
  }
  auto decided = t.try_decide(want);
  if (!decided) return decided.error();
  made = std::move(*decided);
  return t.try_execute(made, "accept");
}

}  // namespace detail

/**
 * \brief A typed view of a tensor that is as the function needs it, or an error that names the first constraint that fails.
 *
 * \code
 * auto x = accept<const float, shape<-1, 128>, cpu, c_order, may_copy>(t, "x");
 * if (x.bytes_copied()) std::printf("copied: %s\n", x.reason());
 * \endcode
 *
 * \tparam T element type; without `const` the memory must be writable
 * \tparam Shape shape<...>
 * \tparam Device cpu, cuda, any_device
 * \tparam Layout c_order, f_order, strided
 * \tparam Copying must_share, may_copy; a copy is for reading only, as nobody would see what is written to it
 * \param t the tensor
 * \param argument its name, for the error
 * \param why with may_copy, receives the decision where the tensor was not as asked; may be nullptr
 */
template <class T, class Shape, class Device = cpu, class Layout = c_order, class Copying = must_share>
expected<view<T, Shape::rank, Layout>> try_accept(const tensor &t, const char *argument = "tensor",
                                                  decision *why = nullptr) {
  static_assert(!Copying::copies || std::is_const_v<T>, "may_copy needs const elements: writes to a copy would be lost");
  using made_view = view<T, Shape::rank, Layout>;
  (void)why;
  const DLTensor dl = t.dl();
  const std::uint32_t flags = t.flags();
  const detail::finding found = t ? detail::examine<T, Shape, Device, Layout>(dl, flags)
                                  : detail::finding{detail::constraint::handle};
  if (found.what == detail::constraint::none) return made_view(t, dl);
  if constexpr (Copying::copies) {
    if (found.what > detail::constraint::shape) {
      decision made;
      expected<tensor> mended = detail::mend<T, Device, Layout>(t, dl, made);
      if (!mended) {
        const error first = detail::refuse<T, Device, Layout>(found, dl, flags, argument);
        return error(mended.error(), std::string(first.what()) + "; and no copy mends it:\n" + mended.error().what(),
                     *first.mismatch());
      }
      const DLTensor now = mended->dl();
      const detail::finding still = detail::examine<T, Shape, Device, Layout>(now, mended->flags());
      if (still.what != detail::constraint::none) {
        return detail::refuse<T, Device, Layout>(still, now, mended->flags(), argument);
      }
      const fh_cost cost = made.cost();
      const fh_reason reason = made.reason(0);
      if (why) *why = std::move(made);
      return made_view(*mended, now, cost.bytes_copied, cost.bytes_copied && reason.name ? reason.name : "");
    }
  }
  return detail::refuse<T, Device, Layout>(found, dl, flags, argument);
}

/** As try_accept(), and throws the error. */
template <class T, class Shape, class Device = cpu, class Layout = c_order, class Copying = must_share>
view<T, Shape::rank, Layout> accept(const tensor &t, const char *argument = "tensor", decision *why = nullptr) {
  return try_accept<T, Shape, Device, Layout, Copying>(t, argument, why).value();
}

}  // namespace freehold

#endif  // FREEHOLD_FREEHOLD_HPP
