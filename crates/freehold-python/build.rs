//! Which Python this is built for, as `cfg`: free-threaded builds have no GIL to protect anything (`Py_GIL_DISABLED`).

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
