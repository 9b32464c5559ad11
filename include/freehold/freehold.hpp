/**
 * \file freehold/freehold.hpp
 * \brief Freehold for C++17: header-only, over freehold/freehold.h.
 *
 * \code
 * auto t = freehold::wrap(std::vector<float>(256), {2, 128});
 * auto x = freehold::accept<const float, freehold::shape<-1, 128>, freehold::cpu, freehold::c_order>(t, "x");
 * for (std::int64_t i = 0; i < x.extent(0); ++i) sum += x(i, 0);
 * auto capsule = t.to_dlpack("torch");
 * \endcode
 *
 * This header includes its pages; a program may include the ones it needs instead: error.hpp, types.hpp, runtime.hpp, decide.hpp,
 * tensor.hpp, wrap.hpp, view.hpp, accept.hpp.
 *
 * Every call that can fail has two forms: `try_name` returns an expected, `name` returns the value and throws
 * freehold::error. Without exceptions (`-fno-exceptions`) `name` prints the message and aborts.
 */
#ifndef FREEHOLD_FREEHOLD_HPP
#define FREEHOLD_FREEHOLD_HPP

#include "accept.hpp"
#include "decide.hpp"
#include "error.hpp"
#include "freehold.h"
#include "runtime.hpp"
#include "tensor.hpp"
#include "types.hpp"
#include "view.hpp"
#include "wrap.hpp"

#endif  // FREEHOLD_FREEHOLD_HPP
