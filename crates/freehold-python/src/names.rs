//! Names of types and modules, what has been imported, and how a message shows a value.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// Modules that the process has imported, by name. Nothing is imported here.
pub(crate) fn imported<'py>(py: Python<'py>, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let modules = MODULES.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind())
    })?;
    // A module set to None in sys.modules is one whose import is forbidden.
    Ok(modules.bind(py).get_item(name)?.filter(|module| !module.is_none()))
}

/// Something of a module's that is looked up once: to import a module that is there costs as much as a handover.
pub(crate) struct Named {
    module: &'static str,
    path: &'static [&'static str],
    found: PyOnceLock<Py<PyAny>>,
}

impl Named {
    pub(crate) const fn new(module: &'static str, path: &'static [&'static str]) -> Named {
        Named { module, path, found: PyOnceLock::new() }
    }

    /// Imports the module if it must; what could not be had is looked for again.
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        let found = self.found.get_or_try_init(py, || {
            let module = py.import(self.module)?.into_any();
            self.path.iter().try_fold(module, |object, name| object.getattr(*name)).map(Bound::unbind)
        })?;
        Ok(found.bind(py))
    }
}

/// As [`Named`], for what a release may not have: looked for once, whatever comes of it.
pub(crate) struct Sought {
    module: &'static str,
    path: &'static [&'static str],
    found: PyOnceLock<Option<Py<PyAny>>>,
}

impl Sought {
    pub(crate) const fn new(module: &'static str, path: &'static [&'static str]) -> Sought {
        Sought { module, path, found: PyOnceLock::new() }
    }

    pub(crate) fn get<'py>(&self, py: Python<'py>) -> Option<&Bound<'py, PyAny>> {
        let found = self.found.get_or_init(py, || {
            let module = py.import(self.module).ok()?.into_any();
            self.path.iter().try_fold(module, |object, name| object.getattr(*name)).ok().map(Bound::unbind)
        });
        found.as_ref().map(|found| found.bind(py))
    }
}

/// The first component of a type's `__module__`: the framework that it belongs to.
pub(crate) fn top_module(class: &Bound<'_, PyAny>) -> String {
    class
        .getattr(pyo3::intern!(class.py(), "__module__"))
        .and_then(|module| module.extract::<String>())
        .map(|module| module.split('.').next().unwrap_or_default().to_owned())
        .unwrap_or_default()
}

/// The name of an object's type with its module, as messages print it: `pandas.Series`.
pub(crate) fn type_name(object: &Bound<'_, PyAny>) -> String {
    let class = object.get_type();
    let name = class.name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    match top_module(&class) {
        module if module.is_empty() || module == "builtins" => name,
        module => format!("{module}.{name}"),
    }
}

/// A value as Python shows it, for a message about it.
pub(crate) fn shown(value: &Bound<'_, PyAny>) -> String {
    value.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string())
}
