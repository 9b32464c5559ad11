//! `pandas.DataFrame`: one array where pandas keeps it in one block, else columns that are gathered in one pass. So are the
//! chunks of a column.

use std::borrow::Cow;

use freehold::{
    Along, Asked, Caps, Code, CopiesPolicy, CopyRule, DType, Decision, Detail, Device, Dialect, Label, Layout, Message,
    Order, Policy, Reason, Request, Runtime, Steps, Tensor, TensorDesc, Traits, Verdict, decide, gather,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use freehold::tensor_algebra::{Dims, compact_strides};

use super::{Ask, Fail, Imported, kind_of};
use crate::dtype;

/// A frame in one block, as its array; one in several is a case for [`Columns`].
pub(super) fn import(x: &Bound<'_, PyAny>, ask: &Ask<'_, '_>) -> Result<Imported, Fail> {
    match one_block(x)? {
        Some(values) => super::import(&values, kind_of(&values)?, ask),
        None => Err(Fail::Scattered(Box::new(Columns::import(x, ask)?))),
    }
}

fn notation(x: &Bound<'_, PyAny>) -> String {
    let shape = x.getattr("shape").and_then(|shape| shape.extract::<(i64, i64)>()).unwrap_or_default();
    format!("DataFrame[{},{}] pandas cpu", shape.0, shape.1)
}

/// The array that holds all of a frame, if there is one: columns of one NumPy dtype that pandas keeps together.
fn one_block<'py>(x: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let dtypes = x.getattr("dtypes")?.getattr("array")?;
    if dtypes.len()? > 0 {
        let (dtype, numpy) = (dtypes.get_item(0)?, x.py().import("numpy")?);
        if !dtype.is_instance(&numpy.getattr("dtype")?)? || dtype.getattr("hasobject")?.is_truthy()? {
            return Ok(None);
        }
        // How many blocks there are only pandas' manager knows. Should it be called otherwise one day, a frame that
        // could be shared is gathered.
        let blocks =
            x.getattr("_mgr").and_then(|manager| manager.getattr("nblocks")).and_then(|n| n.extract::<usize>());
        if blocks.unwrap_or(2) != 1 {
            return Ok(None);
        }
    }
    x.call_method0("to_numpy").map(Some)
}

/// The columns of a frame that is not one block, or the chunks of a column that is not.
pub(crate) struct Columns {
    /// What messages call the parts.
    names: Vec<String>,
    parts: Vec<Tensor>,
    along: Along,
    /// Of the whole.
    shape: Dims,
    strides: Dims,
    /// The dtype that holds all columns, as NumPy promotes.
    common: DType,
    framework: Label,
    /// The whole in compact notation.
    source: String,
}

impl Columns {
    fn import<'py>(x: &Bound<'py, PyAny>, ask: &Ask<'_, 'py>) -> Result<Columns, Fail> {
        // What is on the ledger is the gathered copy, not the look at each column.
        let quiet = Ask { quiet: true, freeze: false, ..*ask };
        let (mut names, mut parts) = (Vec::new(), Vec::new());
        for item in x.call_method0("items")?.try_iter()? {
            let (name, column): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item?.extract()?;
            let name = name.repr()?.to_string();
            match super::import(&column, kind_of(&column)?, &quiet) {
                Ok(imported) => parts.push(imported.tensor),
                Err(fail) => return Err(in_column(&name, fail)),
            }
            names.push(name);
        }
        let py = x.py();
        let spelled: Vec<&str> = parts.iter().filter_map(|part| part.dtype().name()).collect();
        let common = py.import("numpy")?.getattr("result_type")?.call1(PyTuple::new(py, spelled)?)?;
        let shape = x.getattr("shape")?.extract::<(i64, i64)>()?;
        let shape = Dims::from_slice(&[shape.0, shape.1]);
        let common = dtype::argument(&common)?;
        Self::of(names, parts, Along::Columns, shape, common, Label::PANDAS, notation(x))
    }

    /// The chunks of a column, each of which is one array.
    pub(super) fn chunks(parts: Vec<Tensor>, framework: Label, source: String) -> Result<Columns, Fail> {
        let mut shape = Dims::from_slice(parts[0].shape());
        shape[0] = parts.iter().map(|part| part.shape()[0]).sum();
        let common = parts[0].dtype();
        let names = (0..parts.len()).map(|i| format!("{i}")).collect();
        Self::of(names, parts, Along::Chunks, shape, common, framework, source)
    }

    fn of(
        names: Vec<String>,
        parts: Vec<Tensor>,
        along: Along,
        shape: Dims,
        common: DType,
        framework: Label,
        source: String,
    ) -> Result<Columns, Fail> {
        let strides = compact_strides(&shape, Order::C).map_err(freehold::Error::capsule)?;
        Ok(Columns { names, parts, along, shape, strides, common, framework, source })
    }

    /// What the parts are.
    fn what(&self) -> &'static str {
        match self.along {
            Along::Columns => "columns",
            Along::Chunks => "chunks",
        }
    }

    /// Why a call that cannot gather is refused.
    pub(crate) fn refuse(&self) -> Fail {
        let text = format!("its {} are not one array", self.what());
        Fail::refused(Code::LY01, self.source.clone(), text).fix(format!("fh.copy(x)  # gathers the {}", self.what()))
    }

    /// A column, for what depends on a tensor.
    pub(crate) fn first(&self) -> &Tensor {
        &self.parts[0]
    }

    /// How many dimensions the whole has.
    pub(crate) fn ndim(&self) -> usize {
        self.shape.len()
    }

    /// The whole as one tensor, row after row: a row is a sample.
    fn desc(&self) -> TensorDesc<'_> {
        TensorDesc {
            address: 0,
            device: Device::CPU,
            dtype: self.common,
            layout: Layout::new(&self.shape, &self.strides),
            traits: Traits::empty(),
            framework: self.framework,
        }
    }

    pub(crate) fn decide(&self, request: &Request, caps: &Caps, policy: &Policy) -> Decision {
        let all = Request { copy: CopyRule::Always, freeze: false, ..*request };
        let mut decision = decide(&self.desc(), &all, caps, policy);
        if decision.verdict == Verdict::Reject {
            return decision;
        }
        if caps.own_memory {
            // Gathered here, and then copied into the target's own memory.
            decision.bytes_copied *= 2;
            decision.bytes_allocated *= 2;
        }
        if !self.parts.iter().all(|part| part.dtype() == decision.dtype) {
            let mut kinds: Vec<String> = self.parts.iter().map(|part| part.dtype().to_string()).collect();
            kinds.sort_unstable();
            kinds.dedup();
            let text = format!("{} -> {}", kinds.join(", "), decision.dtype);
            decision.reasons.retain(|reason| reason.code != Code::CA01);
            decision.reasons.insert(0, Reason::text(Code::CA01, text));
            decision.steps |= Steps::CAST;
        }
        decision.reasons.retain(|reason| reason.code != Code::LY01);
        let text = format!("{} {}, which are not one array, are gathered", self.parts.len(), self.what());
        decision.reasons.insert(0, Reason { code: Code::LY01, detail: Detail::Text(Cow::Owned(text)) });
        decision.steps |= Steps::LAYOUT;
        if request.copy == CopyRule::Always {
            return decision;
        }
        decision.steps -= Steps::FRESH;
        let refusal = match (request.copy, policy.copies) {
            (CopyRule::Never, _) => None,
            (_, CopiesPolicy::Error) => {
                Some(Reason::text(Code::PO01, format!("copies=\"error\" (asked: {} B)", decision.bytes_copied)))
            }
            _ => return decision,
        };
        decision.reasons.insert_many(0, refusal);
        Decision { verdict: Verdict::Reject, steps: Steps::empty(), bytes_copied: 0, bytes_allocated: 0, ..decision }
    }

    /// The refusal in words.
    pub(crate) fn message(&self, decision: &Decision, request: &Request, caps: &Caps, policy: &Policy) -> Message {
        let mut asked = Asked::new(self.desc(), request, caps, policy, Dialect::Python);
        asked.source = Some(self.source.clone());
        let mut message = Message::of(&asked, decision);
        let share = Request { copy: CopyRule::Never, ..*request };
        if message.code == Code::LY01
            && self.along == Along::Columns
            && decide(&self.first().desc(), &share, caps, policy).is_ok()
        {
            let to = if caps.name == Caps::FREEHOLD.name { String::new() } else { format!(", \"{}\"", caps.name) };
            message.fixes.push(format!("fh.share(x[{}]{to})  # a column at a time", self.names[0]));
        }
        message
    }

    /// Gathers the columns, each cast on the way.
    pub(crate) fn gather(
        &self,
        py: Python<'_>,
        decision: &Decision,
        request: &Request,
        caps: &Caps,
        policy: &Policy,
        site: Label,
    ) -> Result<Tensor, freehold::Error> {
        let asked: Vec<Asked<'_>> = self
            .parts
            .iter()
            .zip(&self.names)
            .map(|(part, name)| {
                let mut asked = Asked::new(part.desc(), request, caps, policy, Dialect::Python);
                asked.source = Some(match self.along {
                    Along::Columns => format!("column {name}, {}", part.desc()),
                    Along::Chunks => format!("chunk {name}, {}", part.desc()),
                });
                asked
            })
            .collect();
        if decision.verdict == Verdict::Reject {
            let message = self.message(decision, request, caps, policy);
            Runtime::global().ledger().reject(self.framework, Label::intern(caps.name), message.code);
            return Err(freehold::Error::rejected(message, Some(decision.clone())));
        }
        py.detach(|| gather(&self.parts, self.along, decision, &asked, site))
    }
}

/// A refusal of one column, with its name, and its fixes on the column.
fn in_column(name: &str, fail: Fail) -> Fail {
    match fail {
        Fail::Refused(mut refusal) => {
            let text = format!("column {name}: {}", refusal.reason.detail);
            refusal.reason = Reason::text(refusal.reason.code, text);
            for fix in &mut refusal.fixes {
                if let Some(rest) = fix.strip_prefix("x.") {
                    *fix = format!("x[{name}] = x[{name}].{rest}");
                }
            }
            Fail::Refused(refusal)
        }
        other => other,
    }
}
