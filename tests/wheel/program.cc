// A program without Python, against the library inside the Python package: wraps, accepts, converts, reads the ledger.
#include <freehold/freehold.hpp>
#include <cstdio>

namespace fh = freehold;

int main() {
  fh::tensor t = fh::wrap(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3});
  auto x = fh::accept<const float, fh::shape<-1, 3>>(t, "x");
  float sum = 0;
  for (float value : x) sum += value;
  fh_request request = fh::request::convert();
  request.dtype = fh::dtype_of<std::int32_t>::value;
  auto whole = fh::accept<const std::int32_t, fh::shape<2, 3>>(t.convert(request));
  fh_stats stats{};
  stats.struct_size = sizeof stats;
  fh_ledger_stats(nullptr, &stats, nullptr);
  if (sum != 21 || whole(1, 2) != 6 || stats.bytes_copied != 24) return 1;
  std::puts(fh_version_string());
  return 0;
}
