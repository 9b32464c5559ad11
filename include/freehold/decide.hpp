/**
 * \file freehold/decide.hpp
 * \brief What is asked for, and what is decided.
 */
#ifndef FREEHOLD_DECIDE_HPP
#define FREEHOLD_DECIDE_HPP

#include "decide.h"
#include "error.hpp"
#include "types.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace freehold {

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

}  // namespace freehold

#endif  // FREEHOLD_DECIDE_HPP
