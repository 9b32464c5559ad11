//! House rules, in force for every handover unless the caller gives others.

use std::num::NonZeroUsize;

use crate::caps::DeviceSet;
use crate::{Device, DeviceKind};

/// What happens to read-only memory whose target has no read-only tensors.
///
/// ```
/// use freehold::{Caps, Policy, ReadonlyPolicy, Request, Tensor, Verdict, decide};
///
/// let t = Tensor::from(vec![1.0f32]).read_only();
/// let verdict = |readonly| {
///     let policy = Policy { readonly, ..Policy::default() };
///     decide(&t.desc(), &Request::convert(), &Caps::TORCH, &policy).verdict
/// };
/// assert_eq!(verdict(ReadonlyPolicy::Copy), Verdict::Copy);
/// assert_eq!(verdict(ReadonlyPolicy::Reject), Verdict::Reject);
/// assert_eq!(verdict(ReadonlyPolicy::Trust), Verdict::Share);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadonlyPolicy {
    /// It is copied.
    #[default]
    Copy,
    /// It is refused.
    Reject,
    /// It is shared, and the ledger records a hazard: the caller promises not to write.
    Trust,
}

/// What happens to memory that an immutable target would share with an owner who can write.
///
/// ```
/// use freehold::{AliasPolicy, Caps, Code, Policy, Request, Tensor, decide};
///
/// let t = Tensor::from(vec![1.0f32]);
/// let caps = Caps { alignment: 1, ..Caps::JAX };
/// let decision = decide(&t.desc(), &Request::share(), &caps, &Policy::default());
/// assert_eq!(decision.code(), Some(Code::AL03)); // whoever has `t` can write to it
/// assert!(!decision.is_ok());
/// let trust = Policy { alias: AliasPolicy::Trust, ..Policy::default() };
/// assert!(decide(&t.desc(), &Request::share(), &caps, &trust).is_ok());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AliasPolicy {
    /// It is copied unless the owner is frozen.
    #[default]
    OneWriter,
    /// It is shared.
    Trust,
}

/// What happens to a copy that the caller did not ask for by name.
///
/// ```
/// use freehold::{Caps, Code, CopiesPolicy, DType, Policy, Request, Tensor, decide};
///
/// let t = Tensor::from(vec![1.0f32]);
/// let cast = |copies| {
///     let policy = Policy { copies, ..Policy::default() };
///     decide(&t.desc(), &Request::convert().dtype(DType::F64), &Caps::NUMPY, &policy)
/// };
/// assert!(cast(CopiesPolicy::Warn).is_ok());
/// assert_eq!(cast(CopiesPolicy::Error).code(), Some(Code::PO01));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CopiesPolicy {
    /// It is made.
    #[default]
    Allow,
    /// It is made, and the face warns once per call site.
    Warn,
    /// It is refused.
    Error,
}

/// What happens to a handover that must wait for a device.
///
/// ```
/// use freehold::{Caps, Code, Device, DeviceKind, Policy, Request, SyncPolicy, Tensor, TensorDesc, decide};
///
/// const GPU: Device = Device::new(DeviceKind::CUDA, 0);
/// let t = Tensor::from(vec![1.0f32]);
/// let there = TensorDesc { device: GPU, ..t.desc() };
/// let to_host = |sync| {
///     let policy = Policy { sync, available: &[GPU], ..Policy::default() };
///     decide(&there, &Request::copy(), &Caps::NUMPY, &policy)
/// };
/// assert!(to_host(SyncPolicy::Allow).is_ok()); // the host waits for the bytes
/// assert_eq!(to_host(SyncPolicy::Error).code(), Some(Code::PO01));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncPolicy {
    /// It waits.
    #[default]
    Allow,
    /// It is refused.
    Error,
}

/// House rules.
///
/// ```
/// use freehold::{Caps, CopiesPolicy, Policy, Request, Tensor, Verdict, decide};
///
/// let strict = Policy { copies: CopiesPolicy::Error, ..Policy::default() };
/// let t = Tensor::from(vec![1.0f64]);
/// let narrow = Request::convert().dtype(freehold::DType::F32);
/// assert_eq!(decide(&t.desc(), &narrow, &Caps::TORCH, &strict).verdict, Verdict::Reject);
/// // What is asked for by name is no surprise.
/// assert_eq!(decide(&t.desc(), &Request::copy(), &Caps::TORCH, &strict).verdict, Verdict::Copy);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Read-only memory and targets without read-only tensors.
    pub readonly: ReadonlyPolicy,
    /// Immutable targets over mutable owners.
    pub alias: AliasPolicy,
    /// Copies that nobody asked for by name.
    pub copies: CopiesPolicy,
    /// The most bytes that one handover may copy, asked for or not.
    pub max_copy_bytes: Option<u64>,
    /// Waiting for devices.
    pub sync: SyncPolicy,
    /// The kinds of device that a handover may touch: those of the source and of the result must both be among them.
    pub devices: DeviceSet,
    /// The most threads that one copy uses, the calling one included; `None` for as many as it repays, of
    /// `FREEHOLD_NUM_THREADS` or the processors that are there.
    pub threads: Option<NonZeroUsize>,
    /// The devices that are here, for `DV02`.
    pub available: &'static [Device],
    /// Whether the host may read managed memory while a device works, so that it is shared with the host and not copied.
    pub managed_on_host: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Policy {
    /// The rules in force when nobody says otherwise.
    pub const DEFAULT: Policy = Policy {
        readonly: ReadonlyPolicy::Copy,
        alias: AliasPolicy::OneWriter,
        copies: CopiesPolicy::Allow,
        max_copy_bytes: None,
        sync: SyncPolicy::Allow,
        devices: DeviceSet::ALL,
        threads: None,
        available: &[Device::CPU],
        managed_on_host: false,
    };

    /// Whether the device is here: the host, or one of `available`.
    pub(crate) fn reaches(&self, device: Device) -> bool {
        let kind = if has_driver(device.kind) { DeviceKind::CUDA } else { device.kind };
        device.kind == DeviceKind::CPU || self.available.contains(&Device { kind, ..device })
    }

    /// Whether bytes can be copied to and from the device here.
    pub(crate) fn moves(&self, device: Device) -> bool {
        device.kind == DeviceKind::CPU || (has_driver(device.kind) && self.reaches(device))
    }

    /// Changes one rule by name, as `FREEHOLD_POLICY` and `fh.policy` spell it. On error: the rule's allowed values.
    ///
    /// ```
    /// use freehold::{Policy, ReadonlyPolicy};
    ///
    /// let mut policy = Policy::default();
    /// assert_eq!(policy.set("readonly", "trust"), Ok(()));
    /// assert_eq!(policy.set("readonly", "maybe"), Err("be copy, reject or trust"));
    /// assert_eq!(policy.readonly, ReadonlyPolicy::Trust);
    /// ```
    pub fn set(&mut self, rule: &str, value: &str) -> Result<(), &'static str> {
        match (rule, value) {
            ("readonly", "copy") => self.readonly = ReadonlyPolicy::Copy,
            ("readonly", "reject") => self.readonly = ReadonlyPolicy::Reject,
            ("readonly", "trust") => self.readonly = ReadonlyPolicy::Trust,
            ("readonly", _) => return Err("be copy, reject or trust"),
            ("alias", "one-writer") => self.alias = AliasPolicy::OneWriter,
            ("alias", "trust") => self.alias = AliasPolicy::Trust,
            ("alias", _) => return Err("be one-writer or trust"),
            ("copies", "allow") => self.copies = CopiesPolicy::Allow,
            ("copies", "warn") => self.copies = CopiesPolicy::Warn,
            ("copies", "error") => self.copies = CopiesPolicy::Error,
            ("copies", _) => return Err("be allow, warn or error"),
            ("sync", "allow") => self.sync = SyncPolicy::Allow,
            ("sync", "error") => self.sync = SyncPolicy::Error,
            ("sync", _) => return Err("be allow or error"),
            ("max_copy_bytes", "none" | "") => self.max_copy_bytes = None,
            ("max_copy_bytes", n) => {
                self.max_copy_bytes = Some(n.parse().map_err(|_| "be a whole number of bytes, or none")?);
            }
            ("devices", "any" | "none" | "") => self.devices = DeviceSet::ALL,
            ("devices", list) => self.devices = devices(list)?,
            ("threads", "none" | "") => self.threads = None,
            ("threads", n) => self.threads = Some(n.parse().map_err(|_| "be a number of threads above 0, or none")?),
            _ => return Err("name one of the rules readonly, alias, copies, sync, max_copy_bytes, devices, threads"),
        }
        Ok(())
    }

    /// Reads rules in the form of `FREEHOLD_POLICY`: `readonly=reject,max_copy_bytes=1048576`. On error: the entry
    /// and what it must be.
    ///
    /// ```
    /// use freehold::Policy;
    ///
    /// assert_eq!(Policy::parse("readonly=reject, max_copy_bytes=1024").expect("valid").max_copy_bytes, Some(1024));
    /// assert_eq!(Policy::parse("sync=never"), Err(("sync=never".to_owned(), "be allow or error")));
    /// ```
    pub fn parse(text: &str) -> Result<Policy, (String, &'static str)> {
        let mut policy = Policy::DEFAULT;
        for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let (rule, value) = entry.split_once('=').ok_or((entry.to_owned(), "have the form rule=value"))?;
            policy.set(rule.trim(), value.trim()).map_err(|must| (entry.to_owned(), must))?;
        }
        Ok(policy)
    }
}

/// The kinds of memory that the CUDA driver copies to and from.
fn has_driver(kind: DeviceKind) -> bool {
    matches!(kind, DeviceKind::CUDA | DeviceKind::CUDA_HOST | DeviceKind::CUDA_MANAGED)
}

/// `cpu+cuda`: kinds, each of which may come with an index that a rule about kinds has no use for.
fn devices(list: &str) -> Result<DeviceSet, &'static str> {
    let kinds: Option<Vec<DeviceKind>> =
        list.split(['+', ' ']).filter(|name| !name.is_empty()).map(DeviceKind::from_name).collect();
    kinds.map(|kinds| DeviceSet::of(&kinds)).ok_or("be kinds of device joined by +, such as cpu+cuda, or any")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_form() {
        let p = Policy::parse("readonly=reject, copies=error,max_copy_bytes=16").expect("valid");
        assert_eq!((p.readonly, p.copies, p.max_copy_bytes), (ReadonlyPolicy::Reject, CopiesPolicy::Error, Some(16)));
        assert_eq!(Policy::parse("readonly=maybe").unwrap_err().1, "be copy, reject or trust");
        let p = Policy::parse("devices=cpu+cuda").expect("valid");
        assert!(p.devices.contains(DeviceKind::CUDA) && !p.devices.contains(DeviceKind::METAL));
        assert_eq!(Policy::parse("devices=any"), Ok(Policy::DEFAULT));
        assert!(Policy::parse("devices=abacus").is_err());
        assert_eq!(Policy::parse("threads=2").expect("valid").threads.map(NonZeroUsize::get), Some(2));
        assert_eq!(Policy::parse("threads=0").unwrap_err().1, "be a number of threads above 0, or none");
        assert!(Policy::parse("readonly").is_err() && Policy::parse("speed=high").is_err());
    }
}
