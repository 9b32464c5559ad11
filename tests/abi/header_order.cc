// freehold.hpp and a dlpack.h (REAL) in every order. Only compiled, with and without exceptions.
#if ORDER == 2
#include REAL
#endif
#include <freehold/freehold.hpp>
#if ORDER > 2
#include REAL
#endif
#include <freehold/freehold.hpp>

float first(const freehold::tensor &t);
float first(const freehold::tensor &t) {
  return freehold::accept<const float, freehold::shape<-1, 4>, freehold::cpu, freehold::strided>(t, "t")(0, 0);
}
