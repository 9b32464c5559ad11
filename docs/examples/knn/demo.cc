// Calls nearest() with tensors as several producers make them.
#include "knn.hpp"

#include <cstdio>

namespace fh = freehold;

static void show(const char *what, const fh::tensor &points, const fh::tensor &query) {
  std::printf("%s:\n", what);
  const fh::tensor found = nearest(points, query, 2, [](const std::string &why) {
    std::printf("  %s\n", why.substr(0, why.find('\n')).c_str());
  });
  auto index = fh::accept<const std::int64_t, fh::shape<-1>>(found);
  std::printf("  nearest %lld and %lld\n", static_cast<long long>(index(0)), static_cast<long long>(index(1)));
}

int main() {
  const fh::tensor query = fh::wrap(std::vector<float>{0.9f, 0.1f});
  std::vector<float> values = {0, 0, 1, 0, 5, 5, 1, 1};
  float *data = values.data();
  const fh::tensor plain = fh::wrap(std::move(values), {4, 2});
  show("float32, C order", plain, query);
  show("the same memory, read by columns", fh::wrap(data, {4, 2}, plain, {1, 4}), query);
  show("float64", fh::wrap(std::vector<double>{0, 0, 1, 0, 5, 5, 1, 1}, {4, 2}), query);
  try {
    nearest(query, query, 2);
  } catch (const fh::error &e) {
    std::printf("one dimension too few:\n  %s\n", e.what());
  }
}
