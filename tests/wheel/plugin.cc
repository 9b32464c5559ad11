// A library of C++ that Python loads: it takes a capsule and keeps the tensor until it is told to let go.
#include <freehold/freehold.hpp>

namespace fh = freehold;

namespace {
fh::tensor kept;
}

extern "C" {

// Takes the capsule over, and gives the sum of its elements; -1 where it is not what is expected.
double plugin_keep(DLManagedTensorVersioned *managed) {
  fh::versioned_capsule capsule(managed);
  auto taken = fh::tensor::try_from_dlpack(capsule, "plugin");
  if (!taken) return -1;
  kept = std::move(*taken);
  auto x = fh::try_accept<const float, fh::shape<-1>>(kept, "x");
  if (!x) return -1;
  double sum = 0;
  for (float value : *x) sum += value;
  return sum;
}

std::uint64_t plugin_live_holders() {
  fh_stats stats{};
  stats.struct_size = sizeof stats;
  fh_ledger_stats(nullptr, &stats, nullptr);
  return stats.live_holders;
}

void plugin_let_go() { kept = fh::tensor(); }
}
