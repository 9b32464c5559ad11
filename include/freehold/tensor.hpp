/**
 * \file freehold/tensor.hpp
 * \brief Tensors and capsules.
 */
#ifndef FREEHOLD_TENSOR_HPP
#define FREEHOLD_TENSOR_HPP

#include "capsule.h"
#include "decide.hpp"
#include "error.hpp"
#include "runtime.hpp"
#include "tensor.h"
#include "types.hpp"

#include <cstdint>
#include <memory>
#include <utility>

namespace freehold {

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
    if (!detail::is_our_library()) return detail::other_library();
    fh_tensor *out = nullptr;
    fh_error *e = nullptr;
    const fh_status status = call(&out, &e);
    if (status != FH_OK) return freehold::error::take(status, e);
    return tensor(out);
  }

  fh_tensor *raw_ = nullptr;
};

}  // namespace freehold

#endif  // FREEHOLD_TENSOR_HPP
