//! Kernels: loaded when first needed, once for each context, and launched.

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use super::error::{CudaError, check};
use super::launch::{Launch, THREADS};
use super::memory::Relaxed;
use super::sys::{CuFunction, CuModule};
use super::{Context, Status, StreamRef};

/// The files that kernels are in.
///
/// ```
/// use freehold_device::cuda::launch::Module;
///
/// let ptx = Module::Fill.ptx()?;
/// let text = String::from_utf8_lossy(&ptx);
/// assert!(text.contains(".entry fh_fill_run(") && text.ends_with('\0'));
/// # Ok::<(), freehold_device::cuda::CudaError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Module {
    /// kernels/contiguous.cu
    Contiguous,
    /// kernels/strided.cu
    Strided,
    /// kernels/turn.cu
    Turn,
    /// kernels/fill.cu
    Fill,
}

impl Module {
    /// The module's PTX, as build.rs packed it. Of compute capability 7.5, which every newer device takes too.
    fn packed(self) -> &'static [u8] {
        match self {
            Module::Contiguous => include_bytes!(concat!(env!("OUT_DIR"), "/contiguous.ptx.z")),
            Module::Strided => include_bytes!(concat!(env!("OUT_DIR"), "/strided.ptx.z")),
            Module::Turn => include_bytes!(concat!(env!("OUT_DIR"), "/turn.ptx.z")),
            Module::Fill => include_bytes!(concat!(env!("OUT_DIR"), "/fill.ptx.z")),
        }
    }

    /// The module's PTX: text that ends with a NUL, as the driver wants it.
    pub fn ptx(self) -> Result<Vec<u8>, CudaError> {
        // Packed by us, so this does not fail; a damaged library must not crash its host.
        let unpacked = miniz_oxide::inflate::decompress_to_vec(self.packed());
        let mut text =
            unpacked.map_err(|_| CudaError::Failed { function: "inflate", status: Status::INVALID_VALUE })?;
        text.push(0);
        Ok(text)
    }
}

/// What a context has loaded: modules by number, functions by name, both as addresses.
#[derive(Default)]
struct Loaded(Mutex<(HashMap<u8, usize>, HashMap<String, usize>)>);

/// The function of a kernel in a context. The driver compiles a module for its device when it is first loaded.
fn function(context: &'static Context, launch: &Launch) -> Result<CuFunction, CudaError> {
    let loaded = context.room(Loaded::default);
    let mut loaded = loaded.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (modules, functions) = &mut *loaded;
    if let Some(&address) = functions.get(&launch.kernel) {
        return Ok(ptr::with_exposed_provenance_mut(address));
    }
    let _relaxed = Relaxed::begin(context);
    let work = &context.api().work;
    let module: CuModule = match modules.get(&(launch.module as u8)) {
        Some(&address) => ptr::with_exposed_provenance_mut(address),
        None => {
            let text = launch.module.ptx()?;
            let mut module: CuModule = ptr::null_mut();
            // SAFETY: the image is PTX that ends with a NUL; the context is current.
            let status = unsafe { (work.module_load_data)(&raw mut module, text.as_ptr().cast::<c_void>()) };
            check("cuModuleLoadData", status)?;
            modules.insert(launch.module as u8, module.expose_provenance());
            module
        }
    };
    let none = || CudaError::Failed { function: "cuModuleGetFunction", status: Status::NOT_FOUND };
    let name = CString::new(launch.kernel.as_str()).map_err(|_| none())?;
    let mut function: CuFunction = ptr::null_mut();
    // SAFETY: the module is loaded and the name ends with a NUL.
    let status = unsafe { (work.module_get_function)(&raw mut function, module, name.as_ptr()) };
    check("cuModuleGetFunction", status)?;
    functions.insert(launch.kernel.clone(), function.expose_provenance());
    Ok(function)
}

/// Queues a kernel on a stream of the context.
///
/// ```no_run
/// use freehold_device::cuda::launch::plan_fill;
/// use freehold_device::cuda::memory::resource;
/// use freehold_device::cuda::{Context, launch};
/// use freehold_device::{Buffer, Stream};
/// use freehold_tensor::copy::{Lazy, Operand};
/// use freehold_tensor::{DType, Layout, StrideUnit};
///
/// let context = Context::of(0)?;
/// let stream = context.new_stream()?;
/// let buffer = Buffer::new(resource(0)?, 400, 256, stream.number())?;
/// let (data, layout) = (buffer.as_ptr(), Layout::new(&[100], &[1]));
/// let dst = Operand { data, dtype: DType::F32, layout, unit: StrideUnit::Elements, traits: Lazy::empty() };
/// let fill = plan_fill(&dst, &1.5_f32.to_ne_bytes())?.expect("there are elements");
/// assert_eq!(fill.walk.dst, data.addr() as u64);
/// // SAFETY: the buffer is as long as the layout reaches, used on this stream alone, and freed after it.
/// unsafe { launch(context, &fill, stream) }?;
/// context.synchronize(stream)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`Context::enter`]; what the driver says of the module or the launch.
///
/// # Safety
///
/// * The walk's addresses are memory that the device reaches until the kernel is done: all that its axes reach of the source
///   is readable, of the destination writable, and the two do not overlap; `lost` is 0 or a writable `u32`. Of a fill, the
///   source and `lost` are a value, and no addresses.
/// * Other work that touches the memory is ordered with the stream.
pub unsafe fn launch(context: &'static Context, launch: &Launch, stream: StreamRef) -> Result<(), CudaError> {
    let _entered = context.enter()?;
    let function = function(context, launch)?;
    let mut walk = launch.walk;
    let mut params: [*mut c_void; 1] = [(&raw mut walk).cast()];
    // SAFETY: every kernel takes one `Walk` by value, which the driver copies now; the function belongs to the current
    // context; the caller vouches for the addresses.
    let status = unsafe {
        (context.api().work.launch_kernel)(
            function,
            launch.blocks,
            1,
            1,
            THREADS,
            1,
            1,
            0,
            stream.raw(),
            params.as_mut_ptr(),
            ptr::null_mut(),
        )
    };
    check("cuLaunchKernel", status)
}
