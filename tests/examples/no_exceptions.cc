// The C++ face without exceptions: every error comes back as a value, or ends the program with its message.
#include <freehold/freehold.hpp>

#include <cstdio>

namespace fh = freehold;

int main(int argc, char **) {
  const fh::tensor t = fh::wrap(std::vector<float>{1, 2, 3});
  auto good = fh::try_accept<const float, fh::shape<3>>(t, "x");
  auto bad = fh::try_accept<const float, fh::shape<-1, 3>>(t, "x");
  auto lossy = fh::wrap(std::vector<double>{1e9}).try_convert(fh::request::convert().as<std::int8_t>());
  if (!good || bad || lossy) return 1;
  std::printf("%g\n%s\n", double((*good)(2)), bad.error().what());
  std::printf("%d: %s\n", int(lossy.error().reason()), lossy.error().fixes().front().c_str());
  if (argc > 1) fh::accept<const float, fh::shape<-1, 3>>(t, "x");
  return 0;
}
