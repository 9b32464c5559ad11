/**
 * \file freehold/error.hpp
 * \brief Errors, and expected, which holds a value or one.
 */
#ifndef FREEHOLD_ERROR_HPP
#define FREEHOLD_ERROR_HPP

#include "errors.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

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

/** Whether the library has the interface of this header. Asked once, by the first call that makes a tensor or a runtime. */
inline bool is_our_library() noexcept {
  static const bool same = fh_abi_check() != 0;
  return same;
}

/** Nothing of the library is used. */
inline error other_library() {
  return error(FH_INVALID_ARGUMENT, FH_REASON_AR01,
               "[AR01] libfreehold: expected interface " + std::to_string(FH_ABI_VERSION) + ", got " +
                   std::to_string(fh_abi_version()) + ": this program was compiled with the headers of another version.");
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

}  // namespace freehold

#endif  // FREEHOLD_ERROR_HPP
