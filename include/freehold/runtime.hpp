/**
 * \file freehold/runtime.hpp
 * \brief Runtimes and their ledgers.
 */
#ifndef FREEHOLD_RUNTIME_HPP
#define FREEHOLD_RUNTIME_HPP

#include "error.hpp"
#include "ledger.h"
#include "runtime.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace freehold {

/** A ledger, a policy and allocators. A default-constructed one is the runtime of the process. */
class runtime {
 public:
  runtime() noexcept = default;
  /** A runtime with a ledger of its own. */
  explicit runtime(std::int32_t ledger_level, const fh_policy *policy = nullptr) {
    if (!detail::is_our_library()) detail::raise(detail::other_library());
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

}  // namespace freehold

#endif  // FREEHOLD_RUNTIME_HPP
