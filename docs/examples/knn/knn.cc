#include "knn.hpp"

#include <algorithm>
#include <numeric>

namespace fh = freehold;

namespace {

// What this library needs of a tensor, said once: float32, on the host, rows that lie one after the other.
template <class Shape>
auto rows(const fh::tensor &t, const char *name, const std::function<void(const std::string &)> &say) {
  fh::decision why;
  auto x = fh::accept<const float, Shape, fh::cpu, fh::c_order, fh::may_copy>(t, name, &why);
  if (say && x.bytes_copied()) say(std::string(name) + ": " + why.explain());
  return x;
}

}  // namespace

fh::tensor nearest(const fh::tensor &points, const fh::tensor &query, std::int64_t k,
                   const std::function<void(const std::string &)> &say) {
  auto p = rows<fh::shape<-1, -1>>(points, "points", say);
  auto q = rows<fh::shape<-1>>(query, "query", say);
  if (q.extent(0) != p.extent(1)) throw std::invalid_argument("query: as many numbers as a point has");
  k = std::clamp<std::int64_t>(k, 0, p.extent(0));

  std::vector<float> distance(std::size_t(p.extent(0)));
  for (std::int64_t i = 0; i < p.extent(0); ++i)
    for (std::int64_t j = 0; j < p.extent(1); ++j)
      distance[std::size_t(i)] += (p(i, j) - q(j)) * (p(i, j) - q(j));
  std::vector<std::int64_t> order(distance.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](std::int64_t a, std::int64_t b) {
    return distance[std::size_t(a)] < distance[std::size_t(b)];
  });
  order.resize(std::size_t(k));
  return fh::wrap(std::move(order), {k}, "knn");
}
