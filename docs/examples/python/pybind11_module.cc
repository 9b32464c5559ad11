// A pybind11 module whose functions take tensors of any framework and return tensors that any framework takes.
#include <pybind11/pybind11.h>

#include "capsules.hpp"
#include "kernels.hpp"

namespace py = pybind11;

static freehold::tensor take(const py::object &x, const char *label) {
  freehold::tensor t;
  if (!capsules::take(x.ptr(), label, t)) throw py::error_already_set();
  return t;
}

PYBIND11_MODULE(pybind11_module, m) {
  py::register_exception<freehold::error>(m, "FreeholdError", PyExc_BufferError);
  py::class_<freehold::tensor>(m, "Tensor")
      .def("__dlpack__",
           [](const freehold::tensor &t, const py::kwargs &kwargs) {
             PyObject *capsule = capsules::give(t, kwargs.ptr());
             if (!capsule) throw py::error_already_set();
             return py::reinterpret_steal<py::object>(capsule);
           })
      .def("__dlpack_device__", [](const freehold::tensor &) { return py::make_tuple(int(kDLCPU), 0); });
  m.def("unit_rows", [](const py::object &x) { return unit_rows(take(x, "unit_rows")); });
  m.def("scale", [](const py::object &x, float by) { scale(take(x, "scale"), by); });
  m.def("live", [] { return freehold::runtime().stats().live_holders; });
}
