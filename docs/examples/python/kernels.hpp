// What both modules offer to Python. It knows no Python.
#pragma once
#include <freehold/freehold.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

// Each row divided by its length: float32 in C order where it is that already, else one copy.
inline freehold::tensor unit_rows(const freehold::tensor &t) {
  namespace fh = freehold;
  auto x = fh::accept<const float, fh::shape<-1, -1>, fh::cpu, fh::c_order, fh::may_copy>(t, "x");
  const fh::tensor result = fh::tensor::zeros<float>({x.extent(0), x.extent(1)});
  auto y = fh::accept<float, fh::shape<-1, -1>>(result, "result");
  for (std::int64_t i = 0; i < x.extent(0); ++i) {
    float square = 0;
    for (std::int64_t j = 0; j < x.extent(1); ++j) square += x(i, j) * x(i, j);
    for (std::int64_t j = 0; j < x.extent(1); ++j) y(i, j) = square > 0 ? x(i, j) / std::sqrt(square) : 0;
  }
  return result;
}

// Multiplies in place: the caller's own memory, or an error that says why not. Never a copy.
inline void scale(const freehold::tensor &t, float by) {
  namespace fh = freehold;
  for (float &value : fh::accept<float, fh::shape<-1>>(t, "x")) value *= by;
}
