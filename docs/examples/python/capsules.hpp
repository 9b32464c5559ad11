// Tensors of any Python framework into Freehold and back, with nothing but Python's own C API: include it from nanobind, pybind11 or
// neither. Hold the GIL. What returns false or nullptr has set a Python error.
#pragma once
#include <Python.h>

#include <freehold/freehold.hpp>

#include <cstring>

namespace capsules {

// A reference that is given back.
struct owned {
  PyObject *ptr;
  explicit owned(PyObject *p) noexcept : ptr(p) {}
  owned(const owned &) = delete;
  ~owned() { Py_XDECREF(ptr); }
};

inline bool raise(const freehold::error &e) {
  PyErr_SetString(PyExc_BufferError, e.what());
  return false;
}

template <class Managed>
bool import(PyObject *capsule, const char *name, const char *used, const char *label, freehold::tensor &out) {
  using holder = std::unique_ptr<Managed, freehold::detail::call_deleter>;
  holder managed(static_cast<Managed *>(PyCapsule_GetPointer(capsule, name)));
  auto taken = freehold::tensor::try_from_dlpack(managed, label);
  // Not taken: it is still the Python capsule's. Taken: the new name tells its destructor so.
  (void)managed.release();
  if (taken || taken.error().reason() == FH_REASON_VE01) PyCapsule_SetName(capsule, used);
  if (!taken) return raise(taken.error());
  out = std::move(*taken);
  return true;
}

// JAX's arrays never change, but its capsules do not say so: a write would go through. What is known of a producer is said here.
inline bool never_changes(PyObject *object) {
  owned module(PyObject_GetAttrString(reinterpret_cast<PyObject *>(Py_TYPE(object)), "__module__"));
  const char *name = module.ptr ? PyUnicode_AsUTF8(module.ptr) : nullptr;
  if (!name) PyErr_Clear();
  return name && std::strncmp(name, "jax", 3) == 0;
}

// The same memory, as a tensor that nobody may write.
inline bool freeze(freehold::tensor &t, const char *label) {
  const DLTensor view = t.dl();
  fh_owner owner{};
  owner.struct_size = sizeof owner;
  owner.flags = t.flags() | FH_FLAG_READ_ONLY | FH_FLAG_IMMUTABLE;
  owner.flags &= ~std::uint32_t(FH_FLAG_LEGACY | FH_FLAG_FROZEN);  // not taken as input
  owner.release = [](void *context) { fh_tensor_release(static_cast<fh_tensor *>(context)); };
  owner.context = t.get();
  fh_tensor *out = nullptr;
  fh_error *e = nullptr;
  const fh_status status = fh_import_raw(nullptr, &view, &owner, label, &out, &e);
  if (status != FH_OK) return raise(freehold::error::take(status, e));
  // The owner has the hold that `t` had.
  fh_tensor_retain(t.get());
  t = freehold::tensor(out);
  return true;
}

// Takes whatever has __dlpack__: arrays of NumPy and JAX, tensors of PyTorch... `label` is where, for the ledger.
inline bool take(PyObject *object, const char *label, freehold::tensor &out) {
  owned method(PyObject_GetAttrString(object, "__dlpack__"));
  owned none(PyTuple_New(0)), ask(Py_BuildValue("{s:(ii)}", "max_version", DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION));
  if (!method.ptr || !none.ptr || !ask.ptr) return false;
  PyObject *made = PyObject_Call(method.ptr, none.ptr, ask.ptr);
  if (!made && PyErr_ExceptionMatches(PyExc_TypeError)) {  // from before DLPack 1.0
    PyErr_Clear();
    made = PyObject_CallNoArgs(method.ptr);
  }
  owned capsule(made);
  if (!capsule.ptr) return false;
  bool taken = false;
  if (PyCapsule_IsValid(capsule.ptr, "dltensor_versioned")) {
    taken = import<DLManagedTensorVersioned>(capsule.ptr, "dltensor_versioned", "used_dltensor_versioned", label, out);
  } else if (PyCapsule_IsValid(capsule.ptr, "dltensor")) {
    taken = import<DLManagedTensor>(capsule.ptr, "dltensor", "used_dltensor", label, out);
  } else {
    PyErr_SetString(PyExc_BufferError, "__dlpack__ did not return a capsule that nobody has used");
  }
  return taken && (!never_changes(object) || freeze(out, label));
}

// The body of __dlpack__(*, stream=None, max_version=None, dl_device=None, copy=None) for tensors on the host.
inline PyObject *give(freehold::tensor t, PyObject *kwargs) {
  const auto argument = [&](const char *name) -> PyObject * {
    PyObject *value = kwargs ? PyDict_GetItemString(kwargs, name) : nullptr;
    return value == Py_None ? nullptr : value;
  };
  int major = 0, minor = 0, type = kDLCPU, index = 0;
  PyObject *version = argument("max_version"), *device = argument("dl_device"), *copy = argument("copy");
  if (version && !PyArg_ParseTuple(version, "ii", &major, &minor)) return nullptr;
  if (device && !PyArg_ParseTuple(device, "ii", &type, &index)) return nullptr;
  if (type != kDLCPU) {
    PyErr_SetString(PyExc_BufferError, "the tensor is on the host");
    return nullptr;
  }
  if (copy == Py_True) {
    auto made = t.try_convert(freehold::request::copy_always());
    if (!made) return raise(made.error()), nullptr;
    t = std::move(*made);
  }
  if (major >= 1) {
    auto out = t.try_to_dlpack("python", {std::uint32_t(major), std::uint32_t(minor)});
    if (!out) return raise(out.error()), nullptr;
    PyObject *capsule = PyCapsule_New(out->get(), "dltensor_versioned", [](PyObject *self) {
      if (!PyCapsule_IsValid(self, "dltensor_versioned")) return;  // somebody took it
      auto *managed = static_cast<DLManagedTensorVersioned *>(PyCapsule_GetPointer(self, "dltensor_versioned"));
      managed->deleter(managed);
    });
    if (capsule) (void)out->release();
    return capsule;
  }
  auto out = t.try_to_dlpack_legacy("python");
  if (!out) return raise(out.error()), nullptr;
  PyObject *capsule = PyCapsule_New(out->get(), "dltensor", [](PyObject *self) {
    if (!PyCapsule_IsValid(self, "dltensor")) return;
    auto *managed = static_cast<DLManagedTensor *>(PyCapsule_GetPointer(self, "dltensor"));
    managed->deleter(managed);
  });
  if (capsule) (void)out->release();
  return capsule;
}

}  // namespace capsules
