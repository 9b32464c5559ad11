// A nanobind module whose functions take tensors of any framework and return tensors that any framework takes.
#include <nanobind/nanobind.h>

#include "capsules.hpp"
#include "kernels.hpp"

namespace nb = nanobind;

static freehold::tensor take(const nb::object &x, const char *label) {
  freehold::tensor t;
  if (!capsules::take(x.ptr(), label, t)) throw nb::python_error();
  return t;
}

NB_MODULE(nanobind_module, m) {
  nb::exception<freehold::error>(m, "FreeholdError", PyExc_BufferError);
  nb::class_<freehold::tensor>(m, "Tensor")
      .def("__dlpack__",
           [](const freehold::tensor &t, const nb::kwargs &kwargs) {
             PyObject *capsule = capsules::give(t, kwargs.ptr());
             if (!capsule) throw nb::python_error();
             return nb::steal(capsule);
           })
      .def("__dlpack_device__", [](const freehold::tensor &) { return nb::make_tuple(int(kDLCPU), 0); });
  m.def("unit_rows", [](const nb::object &x) { return unit_rows(take(x, "unit_rows")); });
  m.def("scale", [](const nb::object &x, float by) { scale(take(x, "scale"), by); });
  m.def("live", [] { return freehold::runtime().stats().live_holders; });
}
