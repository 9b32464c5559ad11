/**
 * \file freehold/wrap.hpp
 * \brief Tensors over memory that is there already.
 */
#ifndef FREEHOLD_WRAP_HPP
#define FREEHOLD_WRAP_HPP

#include "error.hpp"
#include "runtime.hpp"
#include "tensor.hpp"
#include "types.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace freehold {

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
  if (!detail::is_our_library()) return detail::other_library();
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
  if (!detail::is_our_library()) return detail::other_library();
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

}  // namespace freehold

#endif  // FREEHOLD_WRAP_HPP
