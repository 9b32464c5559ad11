/**
 * \file freehold/accept.hpp
 * \brief A tensor as a function needs it, or an error that says what is in the way.
 */
#ifndef FREEHOLD_ACCEPT_HPP
#define FREEHOLD_ACCEPT_HPP

#include "decide.hpp"
#include "error.hpp"
#include "tensor.hpp"
#include "types.hpp"
#include "view.hpp"

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

namespace freehold {

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

#endif  // FREEHOLD_ACCEPT_HPP
