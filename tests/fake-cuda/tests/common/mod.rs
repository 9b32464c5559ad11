//! The driver, loaded as a program loads it, with its functions by name.

#![allow(dead_code, reason = "each test uses some of it")]

use std::ffi::{c_char, c_void};
use std::ptr;

use freehold_fake_cuda::abi::{
    AccessDesc, Copy2D, Copy3D, CopyAttributes, DevicePtr, Handle, HostFn, PointerExport, PoolProps,
};
pub use freehold_fake_cuda::control::Control;

pub const LEGACY: Handle = ptr::without_provenance_mut(1);
pub const PER_THREAD: Handle = ptr::without_provenance_mut(2);

macro_rules! driver {
    ($($name:ident: fn($($arg:ty),* $(,)?);)*) => {
        /// The functions of the driver.
        #[allow(non_snake_case, reason = "the driver's names")]
        pub struct Cuda {
            $(pub $name: extern "C" fn($($arg),*) -> i32,)*
        }

        impl Cuda {
            pub fn of(control: &Control) -> Cuda {
                // SAFETY: the functions have these signatures in cuda.h. They are called by tests only, which give places of their
                // own and handles and addresses of the driver.
                unsafe { Cuda { $($name: *control.library().get(concat!(stringify!($name), "\0")).expect("there"),)* } }
            }
        }
    };
}

driver! {
    cuInit: fn(u32);
    cuDriverGetVersion: fn(*mut i32);
    cuDeviceGetCount: fn(*mut i32);
    cuDeviceGet: fn(*mut i32, i32);
    cuDeviceGetName: fn(*mut c_char, i32, i32);
    cuDeviceTotalMem_v2: fn(*mut usize, i32);
    cuDeviceGetAttribute: fn(*mut i32, i32, i32);
    cuDeviceGetUuid_v2: fn(*mut [u8; 16], i32);
    cuDeviceCanAccessPeer: fn(*mut i32, i32, i32);
    cuDevicePrimaryCtxRetain: fn(*mut Handle, i32);
    cuDevicePrimaryCtxRelease_v2: fn(i32);
    cuDevicePrimaryCtxGetState: fn(i32, *mut u32, *mut i32);
    cuCtxGetCurrent: fn(*mut Handle);
    cuCtxSetCurrent: fn(Handle);
    cuCtxPushCurrent_v2: fn(Handle);
    cuCtxPopCurrent_v2: fn(*mut Handle);
    cuCtxGetDevice: fn(*mut i32);
    cuCtxSynchronize: fn();
    cuCtxEnablePeerAccess: fn(Handle, u32);
    cuThreadExchangeStreamCaptureMode: fn(*mut u32);
    cuMemAlloc_v2: fn(*mut DevicePtr, usize);
    cuMemFree_v2: fn(DevicePtr);
    cuMemAllocManaged: fn(*mut DevicePtr, usize, u32);
    cuMemHostAlloc: fn(*mut *mut c_void, usize, u32);
    cuMemFreeHost: fn(*mut c_void);
    cuMemHostGetDevicePointer_v2: fn(*mut DevicePtr, *mut c_void, u32);
    cuMemGetInfo_v2: fn(*mut usize, *mut usize);
    cuPointerGetAttribute: fn(*mut c_void, u32, DevicePtr);
    cuPointerGetAttributes: fn(u32, *const u32, *const *mut c_void, DevicePtr);
    cuMemcpyAsync: fn(DevicePtr, DevicePtr, usize, Handle);
    cuMemcpyHtoDAsync_v2: fn(DevicePtr, *const c_void, usize, Handle);
    cuMemcpyDtoHAsync_v2: fn(*mut c_void, DevicePtr, usize, Handle);
    cuMemcpyDtoDAsync_v2: fn(DevicePtr, DevicePtr, usize, Handle);
    cuMemcpyPeerAsync: fn(DevicePtr, Handle, DevicePtr, Handle, usize, Handle);
    cuMemcpy2DAsync_v2: fn(*const Copy2D, Handle);
    cuMemcpy3DAsync_v2: fn(*const Copy3D, Handle);
    cuMemsetD8Async: fn(DevicePtr, u8, usize, Handle);
    cuMemcpyBatchAsync: fn(
        *mut DevicePtr, *mut DevicePtr, *mut usize, usize, *mut CopyAttributes, *mut usize, usize, *mut usize, Handle,
    );
    cuStreamCreate: fn(*mut Handle, u32);
    cuStreamDestroy_v2: fn(Handle);
    cuStreamQuery: fn(Handle);
    cuStreamSynchronize: fn(Handle);
    cuStreamWaitEvent: fn(Handle, Handle, u32);
    cuStreamIsCapturing: fn(Handle, *mut u32);
    cuStreamGetId: fn(Handle, *mut u64);
    cuStreamGetCtx: fn(Handle, *mut Handle);
    cuLaunchHostFunc: fn(Handle, Option<HostFn>, *mut c_void);
    cuEventCreate: fn(*mut Handle, u32);
    cuEventDestroy_v2: fn(Handle);
    cuEventRecord: fn(Handle, Handle);
    cuEventQuery: fn(Handle);
    cuEventSynchronize: fn(Handle);
    cuEventElapsedTime: fn(*mut f32, Handle, Handle);
    cuModuleLoadData: fn(*mut Handle, *const c_void);
    cuModuleUnload: fn(Handle);
    cuModuleGetFunction: fn(*mut Handle, Handle, *const c_char);
    cuFuncGetAttribute: fn(*mut i32, i32, Handle);
    cuLaunchKernel: fn(
        Handle, u32, u32, u32, u32, u32, u32, u32, Handle, *mut *mut c_void, *mut *mut c_void,
    );
    cuDeviceGetDefaultMemPool: fn(*mut Handle, i32);
    cuMemPoolCreate: fn(*mut Handle, *const PoolProps);
    cuMemPoolDestroy: fn(Handle);
    cuMemPoolSetAttribute: fn(Handle, u32, *mut c_void);
    cuMemPoolGetAttribute: fn(Handle, u32, *mut c_void);
    cuMemPoolTrimTo: fn(Handle, usize);
    cuMemPoolSetAccess: fn(Handle, *const AccessDesc, usize);
    cuMemAllocAsync: fn(*mut DevicePtr, usize, Handle);
    cuMemAllocFromPoolAsync: fn(*mut DevicePtr, usize, Handle, Handle);
    cuMemFreeAsync: fn(DevicePtr, Handle);
    cuMemPoolExportToShareableHandle: fn(*mut c_void, Handle, u32, u64);
    cuMemPoolImportFromShareableHandle: fn(*mut Handle, Handle, u32, u64);
    cuMemPoolExportPointer: fn(*mut PointerExport, DevicePtr);
    cuMemPoolImportPointer: fn(*mut DevicePtr, Handle, *mut PointerExport);
    cuStreamBeginCapture_v2: fn(Handle, u32);
    cuStreamEndCapture: fn(Handle, *mut Handle);
    cuGraphDestroy: fn(Handle);
    cuGraphInstantiateWithFlags: fn(*mut Handle, Handle, u64);
    cuGraphLaunch: fn(Handle, Handle);
    cuGraphExecDestroy: fn(Handle);
    cuGetErrorName: fn(i32, *mut *const c_char);
    cuGetErrorString: fn(i32, *mut *const c_char);
}

/// Calls a function of the driver and gives its status.
#[macro_export]
macro_rules! status {
    ($cuda:expr, $name:ident($($arg:expr),* $(,)?)) => {
        ($cuda.$name)($($arg),*)
    };
}

/// Calls a function of the driver, which must succeed.
#[macro_export]
macro_rules! ok {
    ($cuda:expr, $name:ident($($arg:expr),* $(,)?)) => {
        assert_eq!($crate::status!($cuda, $name($($arg),*)), 0, stringify!($name))
    };
}

/// Calls a function that writes one result first of all, and gives that.
#[macro_export]
macro_rules! get {
    ($cuda:expr, $name:ident($place:ty $(, $arg:expr)* $(,)?)) => {{
        // SAFETY: every type that is asked for here is a number or a pointer.
        let mut place: $place = unsafe { std::mem::zeroed() };
        assert_eq!($crate::status!($cuda, $name(&raw mut place $(, $arg)*)), 0, stringify!($name));
        place
    }};
}

/// A driver that is initialised, with the context of device 0 current.
pub fn start() -> (&'static Control, Cuda, Handle) {
    let control = Control::built();
    let cuda = Cuda::of(control);
    ok!(cuda, cuInit(0));
    let context = get!(cuda, cuDevicePrimaryCtxRetain(Handle, 0));
    ok!(cuda, cuCtxSetCurrent(context));
    (control, cuda, context)
}

impl Cuda {
    pub fn alloc(&self, bytes: usize) -> DevicePtr {
        get!(self, cuMemAlloc_v2(DevicePtr, bytes))
    }

    /// Page-locked memory, as a slice that lives as long as the test.
    pub fn pinned(&self, bytes: usize) -> &'static mut [u8] {
        let address = get!(self, cuMemHostAlloc(*mut c_void, bytes, 0));
        // SAFETY: the driver gives so many bytes, which nobody else has.
        unsafe { std::slice::from_raw_parts_mut(address.cast(), bytes) }
    }

    /// A stream that does not wait for the legacy default stream.
    pub fn stream(&self) -> Handle {
        get!(self, cuStreamCreate(Handle, 1))
    }

    pub fn event(&self) -> Handle {
        get!(self, cuEventCreate(Handle, 0))
    }

    pub fn upload(&self, to: DevicePtr, bytes: &[u8], stream: Handle) {
        ok!(self, cuMemcpyHtoDAsync_v2(to, bytes.as_ptr().cast(), bytes.len(), stream));
    }

    pub fn download(&self, from: DevicePtr, bytes: usize, stream: Handle) -> Vec<u8> {
        let mut found = vec![0; bytes];
        ok!(self, cuMemcpyDtoHAsync_v2(found.as_mut_ptr().cast(), from, bytes, stream));
        found
    }
}
