/**
 * \file freehold/view.hpp
 * \brief What accept() can ask for, and the typed view that it gives.
 */
#ifndef FREEHOLD_VIEW_HPP
#define FREEHOLD_VIEW_HPP

#include "tensor.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#if __cplusplus > 202002L && defined(__has_include)
#if __has_include(<mdspan>)
#include <mdspan>
#endif
#endif

namespace freehold {

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

}  // namespace freehold

#endif  // FREEHOLD_VIEW_HPP
