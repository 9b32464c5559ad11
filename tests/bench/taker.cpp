// A nanobind function that takes any array, as an extension would, for the figures of `make bench-python`.

#include <cstdint>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

NB_MODULE(taker, m) {
    m.def("take", [](nanobind::ndarray<> x) { return reinterpret_cast<std::uintptr_t>(x.data()); });
    m.def("take_ro", [](nanobind::ndarray<nanobind::ro> x) { return reinterpret_cast<std::uintptr_t>(x.data()); });
}
