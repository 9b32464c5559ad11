/**
 * \file freehold/types.hpp
 * \brief What calls are told in: sizes, dtypes.
 */
#ifndef FREEHOLD_TYPES_HPP
#define FREEHOLD_TYPES_HPP

#include "base.h"

#include <array>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>
#include <vector>

namespace freehold {

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

}  // namespace freehold

#endif  // FREEHOLD_TYPES_HPP
