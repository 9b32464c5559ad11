// k nearest neighbours of points that lie in anyone's tensor.
#pragma once
#include <freehold/freehold.hpp>

#include <functional>
#include <string>

// The rows of `points` nearest to `query`, nearest first, as an int64 tensor of `k`. Points of float32 in C order on the host are
// used where they are; others are copied once, and `say` is told why.
freehold::tensor nearest(const freehold::tensor &points, const freehold::tensor &query, std::int64_t k,
                         const std::function<void(const std::string &)> &say = {});
