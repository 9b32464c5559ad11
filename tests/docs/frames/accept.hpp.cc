// What the sample of accept.hpp stands in: the tensor that a function was given.
#include <freehold/freehold.hpp>
#include <cstdio>

using namespace freehold;

int main() {
  const auto t = wrap(std::vector<float>(256), {2, 128});
/* sample */
  return x.extent(0) == 2 && x.bytes_copied() == 0 ? 0 : 1;
}
