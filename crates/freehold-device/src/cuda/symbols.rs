//! The functions of the driver that are used, resolved at once.

use std::error::Error;
use std::ffi::{OsStr, c_char, c_int, c_uint, c_void};
use std::ptr::NonNull;

use libloading::Library;

use super::sys::{
    CuContext, CuDevice, CuDevicePtr, CuEvent, CuFunction, CuHostFn, CuMemAccessDesc, CuMemPoolProps,
    CuMemPoolPtrExportData, CuMemcpy2D, CuMemcpy3D, CuMemcpyAttributes, CuMemoryPool, CuModule, CuStream,
};
use super::{Status, Unavailable};

/// One group of functions: a table exists only where all of them do.
macro_rules! group {
    ($(#[$doc:meta])* $group:ident { $($field:ident = $name:literal: fn($($arg:ty),* $(,)?);)* }) => {
        $(#[$doc])*
        #[derive(Copy, Clone)]
        #[allow(missing_docs, reason = "named after the functions of cuda.h")]
        pub struct $group {
            $(pub $field: unsafe extern "C" fn($($arg),*) -> Status,)*
        }

        impl $group {
            /// Resolves every function, or names those that are missing.
            ///
            /// # Safety
            ///
            /// * Where the library has functions of these names, they have the signatures of `cuda.h`.
            unsafe fn resolve(library: &Library) -> Result<$group, Vec<&'static str>> {
                let [$($field),*] = addresses(library, [$(concat!($name, "\0")),*])?;
                // SAFETY: the caller vouches for the signatures; a function pointer is an address that is not null.
                unsafe {
                    Ok($group {
                        $($field: std::mem::transmute::<NonNull<c_void>, unsafe extern "C" fn($($arg),*) -> Status>($field),)*
                    })
                }
            }
        }
    };
}

/// The addresses of functions, whose names end with a NUL, or the names that are missing.
fn addresses<const N: usize>(
    library: &Library,
    names: [&'static str; N],
) -> Result<[NonNull<c_void>; N], Vec<&'static str>> {
    let mut found = [NonNull::dangling(); N];
    let missing = look_up(library, &names, &mut found);
    if missing.is_empty() { Ok(found) } else { Err(missing) }
}

/// Not generic, so that it is there once.
fn look_up(library: &Library, names: &[&'static str], found: &mut [NonNull<c_void>]) -> Vec<&'static str> {
    let mut missing = Vec::new();
    for (name, place) in names.iter().zip(found) {
        // SAFETY: only the address is taken.
        let symbol = unsafe { library.get::<*mut c_void>(*name) };
        match symbol.ok().and_then(|symbol| NonNull::new(*symbol)) {
            Some(address) => *place = address,
            None => missing.push(name.trim_end_matches('\0')),
        }
    }
    missing
}

// Split in two, because a tuple of so many results would be unwieldy: what asks, and what acts.
group! {
    /// Devices, contexts and questions. Every driver since CUDA 11 has them.
    ///
    /// ```no_run
    /// use freehold_device::cuda::{Core, CudaError, probe};
    ///
    /// let Core { device_get_name, .. } = probe().map_err(CudaError::from)?.api().core;
    /// let mut name = [0; 64];
    /// // SAFETY: so many bytes of ours.
    /// let status = unsafe { device_get_name(name.as_mut_ptr(), 64, 0) };
    /// assert!(status.0 == 0 && name[0] != 0);
    /// # Ok::<(), CudaError>(())
    /// ```
    Core {
        init = "cuInit": fn(c_uint);
        driver_get_version = "cuDriverGetVersion": fn(*mut c_int);
        device_get_count = "cuDeviceGetCount": fn(*mut c_int);
        device_get = "cuDeviceGet": fn(*mut CuDevice, c_int);
        device_get_name = "cuDeviceGetName": fn(*mut c_char, c_int, CuDevice);
        device_total_mem = "cuDeviceTotalMem_v2": fn(*mut usize, CuDevice);
        device_get_attribute = "cuDeviceGetAttribute": fn(*mut c_int, c_int, CuDevice);
        primary_retain = "cuDevicePrimaryCtxRetain": fn(*mut CuContext, CuDevice);
        primary_release = "cuDevicePrimaryCtxRelease_v2": fn(CuDevice);
        primary_state = "cuDevicePrimaryCtxGetState": fn(CuDevice, *mut c_uint, *mut c_int);
        ctx_get_current = "cuCtxGetCurrent": fn(*mut CuContext);
        ctx_set_current = "cuCtxSetCurrent": fn(CuContext);
        pointer_attribute = "cuPointerGetAttribute": fn(*mut c_void, c_uint, CuDevicePtr);
        pointer_attributes = "cuPointerGetAttributes": fn(c_uint, *const c_uint, *const *mut c_void, CuDevicePtr);
        mem_get_info = "cuMemGetInfo_v2": fn(*mut usize, *mut usize);
        can_access_peer = "cuDeviceCanAccessPeer": fn(*mut c_int, CuDevice, CuDevice);
        enable_peer_access = "cuCtxEnablePeerAccess": fn(CuContext, c_uint);
    }
}

group! {
    /// Memory and copies. Every driver since CUDA 11 has them.
    ///
    /// ```no_run
    /// use freehold_device::cuda::{Context, Memory};
    ///
    /// let context = Context::of(0)?;
    /// let Memory { mem_alloc, mem_free, .. } = context.api().memory;
    /// let (_entered, mut address) = (context.enter()?, 0);
    /// // SAFETY: the place is ours, and the context current.
    /// assert_eq!(unsafe { mem_alloc(&raw mut address, 1000) }.0, 0);
    /// // SAFETY: allocated above; nothing uses it.
    /// assert_eq!(unsafe { mem_free(address) }.0, 0);
    /// # Ok::<(), freehold_device::cuda::CudaError>(())
    /// ```
    Memory {
        mem_alloc = "cuMemAlloc_v2": fn(*mut CuDevicePtr, usize);
        mem_free = "cuMemFree_v2": fn(CuDevicePtr);
        mem_alloc_managed = "cuMemAllocManaged": fn(*mut CuDevicePtr, usize, c_uint);
        mem_host_alloc = "cuMemHostAlloc": fn(*mut *mut c_void, usize, c_uint);
        mem_free_host = "cuMemFreeHost": fn(*mut c_void);
        memcpy_async = "cuMemcpyAsync": fn(CuDevicePtr, CuDevicePtr, usize, CuStream);
        memcpy_htod_async = "cuMemcpyHtoDAsync_v2": fn(CuDevicePtr, *const c_void, usize, CuStream);
        memcpy_dtoh_async = "cuMemcpyDtoHAsync_v2": fn(*mut c_void, CuDevicePtr, usize, CuStream);
        memcpy_dtod_async = "cuMemcpyDtoDAsync_v2": fn(CuDevicePtr, CuDevicePtr, usize, CuStream);
        memcpy_peer_async = "cuMemcpyPeerAsync": fn(CuDevicePtr, CuContext, CuDevicePtr, CuContext, usize, CuStream);
        memcpy_2d_async = "cuMemcpy2DAsync_v2": fn(*const CuMemcpy2D, CuStream);
        memcpy_3d_async = "cuMemcpy3DAsync_v2": fn(*const CuMemcpy3D, CuStream);
        memset_d8_async = "cuMemsetD8Async": fn(CuDevicePtr, u8, usize, CuStream);
    }
}

group! {
    /// Streams, events, modules and launches. Every driver since CUDA 11 has them.
    ///
    /// ```no_run
    /// use freehold_device::cuda::{Context, Status, Work};
    ///
    /// let context = Context::of(0)?;
    /// let stream = context.new_stream()?;
    /// let (Work { stream_query, .. }, _entered) = (context.api().work, context.enter()?);
    /// // SAFETY: the stream lives for ever, and its context is current.
    /// assert_eq!(unsafe { stream_query(stream.raw()) }, Status::SUCCESS); // nothing was queued
    /// # Ok::<(), freehold_device::cuda::CudaError>(())
    /// ```
    Work {
        stream_create = "cuStreamCreate": fn(*mut CuStream, c_uint);
        stream_destroy = "cuStreamDestroy_v2": fn(CuStream);
        stream_query = "cuStreamQuery": fn(CuStream);
        stream_synchronize = "cuStreamSynchronize": fn(CuStream);
        stream_wait_event = "cuStreamWaitEvent": fn(CuStream, CuEvent, c_uint);
        stream_is_capturing = "cuStreamIsCapturing": fn(CuStream, *mut c_uint);
        stream_get_ctx = "cuStreamGetCtx": fn(CuStream, *mut CuContext);
        capture_mode = "cuThreadExchangeStreamCaptureMode": fn(*mut c_uint);
        event_create = "cuEventCreate": fn(*mut CuEvent, c_uint);
        event_destroy = "cuEventDestroy_v2": fn(CuEvent);
        event_record = "cuEventRecord": fn(CuEvent, CuStream);
        event_query = "cuEventQuery": fn(CuEvent);
        event_synchronize = "cuEventSynchronize": fn(CuEvent);
        event_elapsed = "cuEventElapsedTime": fn(*mut f32, CuEvent, CuEvent);
        launch_host_func = "cuLaunchHostFunc": fn(CuStream, CuHostFn, *mut c_void);
        module_load_data = "cuModuleLoadData": fn(*mut CuModule, *const c_void);
        module_unload = "cuModuleUnload": fn(CuModule);
        module_get_function = "cuModuleGetFunction": fn(*mut CuFunction, CuModule, *const c_char);
        launch_kernel = "cuLaunchKernel": fn(
            CuFunction, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, CuStream, *mut *mut c_void,
            *mut *mut c_void,
        );
    }
}

group! {
    /// Stream-ordered pools: CUDA 11.2.
    ///
    /// ```no_run
    /// use freehold_device::cuda::{Context, Pools};
    ///
    /// let context = Context::of(0)?;
    /// if let Some(Pools { default_pool, .. }) = context.api().pools {
    ///     let mut pool = std::ptr::null_mut();
    ///     // SAFETY: the place is ours, the device one of the driver's.
    ///     let status = unsafe { default_pool(&raw mut pool, context.device()) };
    ///     assert!(status.0 != 0 || !pool.is_null());
    /// }
    /// # Ok::<(), freehold_device::cuda::CudaError>(())
    /// ```
    Pools {
        default_pool = "cuDeviceGetDefaultMemPool": fn(*mut CuMemoryPool, CuDevice);
        create = "cuMemPoolCreate": fn(*mut CuMemoryPool, *const CuMemPoolProps);
        destroy = "cuMemPoolDestroy": fn(CuMemoryPool);
        set_attribute = "cuMemPoolSetAttribute": fn(CuMemoryPool, c_uint, *mut c_void);
        get_attribute = "cuMemPoolGetAttribute": fn(CuMemoryPool, c_uint, *mut c_void);
        trim_to = "cuMemPoolTrimTo": fn(CuMemoryPool, usize);
        set_access = "cuMemPoolSetAccess": fn(CuMemoryPool, *const CuMemAccessDesc, usize);
        alloc_async = "cuMemAllocAsync": fn(*mut CuDevicePtr, usize, CuStream);
        alloc_from_pool_async = "cuMemAllocFromPoolAsync": fn(*mut CuDevicePtr, usize, CuMemoryPool, CuStream);
        free_async = "cuMemFreeAsync": fn(CuDevicePtr, CuStream);
        export_handle = "cuMemPoolExportToShareableHandle": fn(*mut c_void, CuMemoryPool, c_uint, u64);
        import_handle = "cuMemPoolImportFromShareableHandle": fn(*mut CuMemoryPool, *mut c_void, c_uint, u64);
        export_pointer = "cuMemPoolExportPointer": fn(*mut CuMemPoolPtrExportData, CuDevicePtr);
        import_pointer = "cuMemPoolImportPointer": fn(*mut CuDevicePtr, CuMemoryPool, *mut CuMemPoolPtrExportData);
    }
}

group! {
    /// Many copies in one call: CUDA 12.8.
    ///
    /// What [`copy_many`](super::transfer::copy_many) calls.
    ///
    /// ```no_run
    /// use freehold_device::cuda::{Context, Version};
    ///
    /// let context = Context::of(0)?;
    /// let driver = context.driver();
    /// assert!(driver.api().batch.is_none() || driver.version >= Version(12080));
    /// # Ok::<(), freehold_device::cuda::CudaError>(())
    /// ```
    Batch {
        memcpy_batch_async = "cuMemcpyBatchAsync": fn(
            *mut CuDevicePtr, *mut CuDevicePtr, *mut usize, usize, *mut CuMemcpyAttributes, *mut usize, usize,
            *mut usize, CuStream,
        );
    }
}

group! {
    /// Ids of streams that are never used again: CUDA 12.
    ///
    /// ```no_run
    /// use freehold_device::cuda::{Context, StreamIds};
    ///
    /// let context = Context::of(0)?;
    /// let streams = [context.new_stream()?, context.new_stream()?];
    /// let (_entered, mut ids) = (context.enter()?, [0; 2]);
    /// if let Some(StreamIds { stream_get_id }) = context.api().stream_ids {
    ///     for (stream, id) in streams.iter().zip(&mut ids) {
    ///         // SAFETY: the stream lives for ever, and the place is ours.
    ///         assert_eq!(unsafe { stream_get_id(stream.raw(), id) }.0, 0);
    ///     }
    ///     assert_ne!(ids[0], ids[1]);
    /// }
    /// # Ok::<(), freehold_device::cuda::CudaError>(())
    /// ```
    StreamIds {
        stream_get_id = "cuStreamGetId": fn(CuStream, *mut u64);
    }
}

/// The driver's functions: the groups that must be there, and those that newer drivers have.
///
/// ```no_run
/// use freehold_device::cuda::{Context, Status};
///
/// let context = Context::of(0)?;
/// let api = context.api();
/// let mut version = 0;
/// // SAFETY: the place is an int of ours.
/// let status = unsafe { (api.core.driver_get_version)(&raw mut version) };
/// assert_eq!(status, Status::SUCCESS);
/// assert!(version < 11020 || api.pools.is_some());
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
#[derive(Copy, Clone)]
pub struct Api {
    /// Devices, contexts and questions.
    pub core: Core,
    /// Memory and copies.
    pub memory: Memory,
    /// Streams, events, modules and launches.
    pub work: Work,
    /// Stream-ordered pools.
    pub pools: Option<Pools>,
    /// Many copies in one call.
    pub batch: Option<Batch>,
    /// Ids of streams.
    pub stream_ids: Option<StreamIds>,
}

impl Api {
    /// Opens a library, for the life of the process, and resolves every function.
    ///
    /// # Safety
    ///
    /// * Running the library's initialisers is sound.
    /// * Where it has functions of these names, they have the signatures of `cuda.h`.
    pub(super) unsafe fn open(path: &OsStr) -> Result<Api, Unavailable> {
        // SAFETY: the caller vouches for the initialisers.
        let opened = unsafe { Library::new(path) };
        let library = opened.map_err(|error| Unavailable::NoLibrary(loader_text(path, &error)))?;
        // Never closed: the pointers must stay valid, and so must what the driver registered to run at exit. A foreign
        // library stays open too: it may have started threads.
        let library = std::mem::ManuallyDrop::new(library);
        // SAFETY: the caller vouches for the signatures.
        let needed = unsafe { (Core::resolve(&library), Memory::resolve(&library), Work::resolve(&library)) };
        match needed {
            (Ok(core), Ok(memory), Ok(work)) => {
                // SAFETY: as above.
                let (pools, batch, stream_ids) = unsafe {
                    (Pools::resolve(&library).ok(), Batch::resolve(&library).ok(), StreamIds::resolve(&library).ok())
                };
                Ok(Api { core, memory, work, pools, batch, stream_ids })
            }
            (core, memory, work) => {
                let missing = [core.err(), memory.err(), work.err()].into_iter().flatten().flatten().collect();
                Err(Unavailable::MissingSymbol { library: path.to_string_lossy().into_owned(), symbols: missing })
            }
        }
    }
}

/// What the system's loader said. `libloading` keeps it as the source of an error that says only "dlopen failed".
fn loader_text(path: &OsStr, error: &libloading::Error) -> String {
    let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    let path = path.to_string_lossy();
    // glibc begins with the path, other loaders do not say it at all.
    if text.contains(&*path) { text } else { format!("{path}: {text}") }
}
