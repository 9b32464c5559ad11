//! The driver that was found.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::context::Contexts;
use super::symbols::{Api, Core};
use super::{LIBRARY_VARIABLE, Status, Unavailable};

/// The name under which the driver installs its library; the loader searches its usual places. Not `libcuda.so`: on a
/// machine with the toolkit that can be a stub for linking.
const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// The version of CUDA that a driver supports, in the driver's encoding: 12080 is 12.8.
///
/// ```
/// use freehold_device::cuda::Version;
///
/// assert_eq!(Version(12080).to_string(), "12.8");
/// assert!(Version(12080) < Version(13000));
/// ```
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Version(pub i32);

impl Version {
    /// The major number.
    pub const fn major(self) -> i32 {
        self.0 / 1000
    }

    /// The minor number.
    pub const fn minor(self) -> i32 {
        self.0 % 1000 / 10
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

/// One CUDA device; its index in [`Driver::devices`] is its index in DLPack.
///
/// ```no_run
/// use freehold_device::cuda::{Context, CudaError};
///
/// let context = Context::of(0)?;
/// let (_, total) = context.memory_info()?;
/// assert!(total as u64 <= context.driver().devices[0].total_memory);
/// # Ok::<(), CudaError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The name, such as `NVIDIA H200`.
    pub name: String,
    /// The memory of the device, in bytes.
    pub total_memory: u64,
}

/// A CUDA driver that works and has at least one device.
///
/// ```no_run
/// use freehold_device::cuda::{CudaError, Version, probe};
///
/// let driver = probe().map_err(CudaError::from)?;
/// assert!(driver.version >= Version(11000));
/// for (ordinal, device) in driver.devices.iter().enumerate() {
///     println!("cuda:{ordinal} {}, {} bytes", device.name, device.total_memory);
/// }
/// # Ok::<(), CudaError>(())
/// ```
#[non_exhaustive]
pub struct Driver {
    /// The CUDA version that the driver supports.
    pub version: Version,
    /// The devices, in the driver's order (which `CUDA_VISIBLE_DEVICES` changes).
    pub devices: Vec<DeviceInfo>,
    pub(super) api: Api,
    pub(super) contexts: Contexts,
    /// [`forks`] when the driver was started: it does not work in a forked child.
    pub(super) forks: u32,
}

/// Set when the process begins to exit. From then on memory is leaked: the driver may be half gone, and its calls crash.
static EXITING: AtomicBool = AtomicBool::new(false);

/// Whether the process is exiting, so that no call of a driver is safe any more.
///
/// ```
/// assert!(!freehold_device::cuda::is_exiting());
/// ```
pub fn is_exiting() -> bool {
    EXITING.load(Ordering::Acquire)
}

/// How often this process and its parents were forked since a driver was first loaded. Asking the system for the number of
/// the process instead costs as much as a whole hit of a pool.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// See [`FORKS`].
pub(super) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Handlers run in reverse order, and the driver registered its own while it was loaded: ours runs before those.
fn watch_exit() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    extern "C" fn exiting() {
        EXITING.store(true, Ordering::Release);
        super::release::stop();
    }
    #[cfg(unix)]
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    ONCE.call_once(|| {
        #[cfg(unix)]
        // SAFETY: both functions are `extern "C"`, live for ever, and do not unwind; the second does what a child of a process
        // with many threads may do.
        unsafe {
            libc::atexit(exiting);
            libc::pthread_atfork(None, None, Some(forked));
        }
    });
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("version", &self.version).field("devices", &self.devices).finish_non_exhaustive()
    }
}

/// The CUDA driver of this machine, or why there is none. Looked for once, then remembered.
///
/// The first call runs `cuInit`. It makes no context and takes no device memory, but it binds CUDA to this process: a
/// child forked afterwards cannot use CUDA (a child that is spawned can). Call it only when CUDA is asked about.
///
/// ```
/// use freehold_device::cuda::probe;
///
/// match probe() {
///     Ok(driver) => assert!(!driver.devices.is_empty()),
///     Err(why) => assert!(why.to_string().contains("CUDA driver"), "{why}"),
/// }
/// ```
pub fn probe() -> Result<&'static Driver, &'static Unavailable> {
    static DRIVER: OnceLock<Result<Driver, Unavailable>> = OnceLock::new();
    DRIVER
        .get_or_init(|| {
            let chosen = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty());
            let path = chosen.as_deref().unwrap_or(OsStr::new(LIBRARY));
            // SAFETY: a library of this name is the machine's driver, which every CUDA program loads; another one is
            // named by whoever controls the environment, and with it what this process loads anyway.
            let found = unsafe { Driver::load(path) };
            #[cfg(feature = "tracing")]
            match &found {
                Ok(driver) => tracing::debug!(version = %driver.version, devices = driver.devices.len(), "CUDA driver"),
                Err(why) => tracing::debug!(%why, "no CUDA"),
            }
            found
        })
        .as_ref()
}

impl Driver {
    /// Opens a driver library, which stays open for the life of the process, and asks it for its devices.
    /// [`probe`] is this for the machine's own driver.
    ///
    /// ```
    /// # #[cfg(all(target_os = "linux", target_env = "gnu"))] {
    /// use freehold_device::cuda::{Driver, Unavailable};
    ///
    /// // SAFETY: the C library, which is loaded already, has no functions of these names.
    /// let why = unsafe { Driver::load("libc.so.6") }.unwrap_err();
    /// assert!(matches!(why, Unavailable::MissingSymbol { symbols, .. } if symbols.contains(&"cuInit")));
    /// # }
    /// ```
    ///
    /// # Safety
    ///
    /// * Running the library's initialisers is sound.
    /// * Where it has functions with the names of the CUDA driver, they behave as `cuda.h` says.
    pub unsafe fn load(path: impl AsRef<OsStr>) -> Result<Driver, Unavailable> {
        // SAFETY: the caller vouches for the initialisers and the signatures.
        let api = unsafe { Api::open(path.as_ref()) }?;
        let symbols = &api.core;
        // SAFETY: `cuInit` takes flags, which must be zero.
        match unsafe { (symbols.init)(0) } {
            Status::SUCCESS => {}
            Status::NO_DEVICE => return Err(Unavailable::NoDevice),
            status => return Err(Unavailable::InitFailed(status)),
        }
        let mut version: c_int = 0;
        // SAFETY: the pointer is to an int of ours, as `cuda.h` asks.
        check("cuDriverGetVersion", unsafe { (symbols.driver_get_version)(&raw mut version) })?;
        let mut count: c_int = 0;
        // SAFETY: as above.
        check("cuDeviceGetCount", unsafe { (symbols.device_get_count)(&raw mut count) })?;
        if count <= 0 {
            return Err(Unavailable::NoDevice);
        }
        let devices: Vec<_> = (0..count).map(|ordinal| describe(symbols, ordinal)).collect::<Result<_, _>>()?;
        watch_exit();
        let contexts = Contexts::new(devices.len());
        Ok(Driver { version: Version(version), devices, api, contexts, forks: forks() })
    }

    /// The driver's functions, for what is not wrapped here. They are as safe as `cuda.h` says.
    pub fn api(&self) -> &Api {
        &self.api
    }
}

/// Asks for the name and the memory of one device.
fn describe(symbols: &Core, ordinal: c_int) -> Result<DeviceInfo, Unavailable> {
    let mut device: c_int = 0;
    // SAFETY: the pointer is to an int of ours, as `cuda.h` asks.
    check("cuDeviceGet", unsafe { (symbols.device_get)(&raw mut device, ordinal) })?;
    let mut name: [c_char; 256] = [0; 256];
    // The last byte is kept from the driver, so that the text always ends.
    let room = name.len() as c_int - 1;
    // SAFETY: the pointer is to `room` bytes of ours and more.
    check("cuDeviceGetName", unsafe { (symbols.device_get_name)(name.as_mut_ptr(), room, device) })?;
    // SAFETY: the array is initialised and its last byte is zero.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    let mut bytes: usize = 0;
    // SAFETY: the pointer is to a size_t of ours.
    check("cuDeviceTotalMem_v2", unsafe { (symbols.device_total_mem)(&raw mut bytes, device) })?;
    Ok(DeviceInfo { name: name.to_string_lossy().into_owned(), total_memory: bytes as u64 })
}

fn check(function: &'static str, status: Status) -> Result<(), Unavailable> {
    if status == Status::SUCCESS { Ok(()) } else { Err(Unavailable::QueryFailed { function, status }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_decode() {
        assert_eq!(Version(12080).to_string(), "12.8");
        assert_eq!(Version(11020).to_string(), "11.2");
        assert_eq!(Version(13000).to_string(), "13.0");
        assert!(Version(12080) < Version(13000));
    }
}
