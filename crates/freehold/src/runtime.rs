//! What handovers share: a ledger, a policy, and where results are allocated.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use freehold_device::{AllocError, Buffer, MemoryResource, Stream};
use freehold_ledger::{Ledger, Level};

use crate::{Device, DeviceKind, DeviceSet, Policy, Request};

/// A ledger, a policy and the memory resources in force. Cheap to clone; the process has a default one, which
/// [`Runtime::global`] names.
///
/// ```
/// use freehold::{DType, Runtime, Tensor, ledger::Level};
///
/// let apart = Runtime::new(Level::Records);
/// let t = Tensor::zeros(DType::F32, &[256], &apart)?;
/// assert_eq!(apart.ledger().live().len(), 1);
/// assert_eq!(t.allocation().map(|(base, _)| base % 256), Some(0));
/// # Ok::<(), freehold::Error>(())
/// ```
#[derive(Clone)]
pub struct Runtime(Option<Arc<State>>);

struct State {
    ledger: Ledger,
    settings: Mutex<Settings>,
    registered: AtomicBool,
}

struct Settings {
    policy: Policy,
    /// Where results of a device are allocated; the host's default where none is registered.
    resources: Vec<Arc<dyn MemoryResource>>,
}

impl Settings {
    fn new(policy: Policy) -> Self {
        Self { policy, resources: Vec::new() }
    }
}

/// The default runtime's ledger is a plain static, so that closing a record needs no lookup.
pub(crate) static LEDGER: Ledger = Ledger::new(Level::Records);

/// The `devices` of the default runtime's policy, for [`Runtime::devices`].
static DEVICES: AtomicU32 = AtomicU32::new(DeviceSet::ALL.0);

/// Whether the default runtime was ever given a resource: until then results come from the host's pool, without a lock.
static REGISTERED: AtomicBool = AtomicBool::new(false);

fn global_settings() -> &'static Mutex<Settings> {
    static SETTINGS: OnceLock<Mutex<Settings>> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        // A policy that cannot be read must not be half in force: the default is, and it is said on stderr once.
        let text = std::env::var("FREEHOLD_POLICY").unwrap_or_default();
        let policy = Policy::parse(&text).unwrap_or_else(|(entry, must)| {
            eprintln!("freehold: FREEHOLD_POLICY: {entry} must {must}; the default policy is in force");
            Policy::DEFAULT
        });
        DEVICES.store(policy.devices.0, Ordering::Relaxed);
        Mutex::new(Settings::new(policy))
    })
}

/// The devices found when somebody first asked for one that is not the host.
fn available() -> &'static [Device] {
    static AVAILABLE: OnceLock<Vec<Device>> = OnceLock::new();
    AVAILABLE.get_or_init(freehold_device::devices)
}

impl Policy {
    /// The policy with the devices that are here, where the request or its source is not the host's ordinary memory.
    ///
    /// ```
    /// use freehold::{Device, Policy, Request};
    ///
    /// // Both are the host: nobody looks for devices.
    /// let policy = Policy::default().look(&Request::convert(), Some(Device::CPU));
    /// assert_eq!(policy, Policy::default());
    /// ```
    pub fn look(self, request: &Request, source: Option<Device>) -> Policy {
        let elsewhere = |device: Device| device.kind != DeviceKind::CPU;
        if !source.is_some_and(elsewhere) && !request.device.is_some_and(elsewhere) {
            return self;
        }
        let managed = source.filter(|device| device.kind == DeviceKind::CUDA_MANAGED);
        let managed_on_host = managed.is_some_and(|device| freehold_device::cuda::reads_managed(device.id));
        Policy { available: available(), managed_on_host, ..self }
    }
}

impl Runtime {
    /// The process-wide default (`NULL` in C).
    pub const fn global() -> Runtime {
        Runtime(None)
    }

    /// A runtime with a ledger of its own.
    pub fn new(level: Level) -> Runtime {
        let settings = Mutex::new(Settings::new(Policy::DEFAULT));
        Runtime(Some(Arc::new(State { ledger: Ledger::new(level), settings, registered: AtomicBool::new(false) })))
    }

    /// Whether it is the process's own, of which nothing is counted.
    #[inline]
    pub(crate) fn is_global(&self) -> bool {
        self.0.is_none()
    }

    /// The ledger.
    #[inline]
    pub fn ledger(&self) -> &Ledger {
        match &self.0 {
            None => &LEDGER,
            Some(state) => &state.ledger,
        }
    }

    /// The ledger, for opening a record.
    #[inline(always)]
    pub(crate) fn books(&self) -> &Ledger {
        if self.0.is_none() {
            crate::fork::watch();
        }
        self.ledger()
    }

    fn with<R>(&self, f: impl FnOnce(&mut Settings) -> R) -> R {
        let settings = match &self.0 {
            None => global_settings(),
            Some(state) => &state.settings,
        };
        f(&mut settings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.with(|s| s.policy)
    }

    /// The policy in force, for a request about memory on a device (where it is known). Looks for devices only if one of
    /// the two is not the host: looking initialises the CUDA driver, after which a forked child (a `DataLoader` worker)
    /// could not use it.
    ///
    /// ```
    /// use freehold::{Device, Request, Runtime, ledger::Level};
    ///
    /// let runtime = Runtime::new(Level::Records);
    /// assert_eq!(runtime.policy_for(&Request::convert(), Some(Device::CPU)), runtime.policy());
    /// ```
    pub fn policy_for(&self, request: &Request, source: Option<Device>) -> Policy {
        self.policy().look(request, source)
    }

    /// The `devices` of the policy in force: all that [`crate::shares_plainly`] needs of it, without a lock.
    ///
    /// ```
    /// use freehold::{DeviceKind, DeviceSet, Policy, Runtime, ledger::Level};
    ///
    /// let (runtime, devices) = (Runtime::new(Level::Records), DeviceSet::of(&[DeviceKind::CPU]));
    /// runtime.set_policy(Policy { devices, ..Policy::default() });
    /// assert_eq!(runtime.devices(), devices);
    /// ```
    #[inline]
    pub fn devices(&self) -> DeviceSet {
        match &self.0 {
            None => {
                global_settings();
                DeviceSet(DEVICES.load(Ordering::Relaxed))
            }
            Some(_) => self.policy().devices,
        }
    }

    /// Puts a policy in force, and gives back the one before.
    ///
    /// ```
    /// use freehold::{CopiesPolicy, Policy, Runtime, ledger::Level};
    ///
    /// let runtime = Runtime::new(Level::Records);
    /// let before = runtime.set_policy(Policy { copies: CopiesPolicy::Error, ..Policy::default() });
    /// assert_eq!((before.copies, runtime.policy().copies), (CopiesPolicy::Allow, CopiesPolicy::Error));
    /// ```
    pub fn set_policy(&self, policy: Policy) -> Policy {
        self.with(|s| {
            if self.0.is_none() {
                DEVICES.store(policy.devices.0, Ordering::Relaxed);
            }
            std::mem::replace(&mut s.policy, policy)
        })
    }

    /// Where results on a device are allocated: what was registered for it, else the default of the device.
    ///
    /// ```
    /// use freehold::{Device, DeviceKind, Runtime, ledger::Level};
    ///
    /// let runtime = Runtime::new(Level::Records);
    /// assert_eq!(runtime.resource(Device::CPU).map(|resource| resource.device()), Some(Device::CPU));
    /// assert!(runtime.resource(Device::new(DeviceKind::METAL, 0)).is_none());
    /// ```
    pub fn resource(&self, device: Device) -> Option<Arc<dyn MemoryResource>> {
        self.with(|s| s.resources.iter().find(|r| r.device() == device).cloned())
            .or_else(|| freehold_device::default_resource(device))
    }

    fn registered(&self) -> &AtomicBool {
        match &self.0 {
            None => &REGISTERED,
            Some(state) => &state.registered,
        }
    }

    /// Memory for a result, used first on a stream; `None` where no resource is on the device.
    pub(crate) fn allocate(
        &self,
        device: Device,
        bytes: usize,
        align: usize,
        stream: Stream,
    ) -> Option<Result<Buffer, AllocError>> {
        if device == Device::CPU && !self.registered().load(Ordering::Acquire) {
            return Some(Buffer::host_aligned(bytes, align));
        }
        let resource = self.resource(device)?;
        Some(Buffer::new(&resource, bytes, align, stream))
    }

    /// Allocates results on the resource's device from it, in place of the one before.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use freehold::device::{HostMemory, Statistics};
    /// use freehold::{DType, Runtime, Tensor, ledger::Level};
    ///
    /// let (runtime, counted) = (Runtime::new(Level::Records), Arc::new(Statistics::new(HostMemory)));
    /// runtime.register_resource(counted.clone());
    /// let t = Tensor::zeros(DType::F64, &[8], &runtime)?;
    /// assert_eq!(counted.statistics().current_bytes as u64, t.nbytes());
    /// # Ok::<(), freehold::Error>(())
    /// ```
    pub fn register_resource(&self, resource: Arc<dyn MemoryResource>) {
        self.registered().store(true, Ordering::Release);
        self.with(|s| {
            s.resources.retain(|r| r.device() != resource.device());
            s.resources.push(resource);
        });
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self::global()
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_none() { "Runtime(global)" } else { "Runtime" })
    }
}
