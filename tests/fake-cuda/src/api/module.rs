//! Modules, functions and launches.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

use crate::abi::Handle;
use crate::entry::{self, driver, give};
use crate::kernels;
use crate::memory::Params;
use crate::module::{self, Function, LaunchJob, Module};
use crate::state::lock;
use crate::status::{Outcome, Status};
use crate::stream::Op;

/// The most threads of a block.
const THREADS: u64 = 1024;
/// The most bytes of dynamic shared memory that a kernel gets without asking for more.
const SHARED: u32 = 49_152;

/// Copies the arguments of a launch.
///
/// # Safety
///
/// * `params` points to as many arguments, of the given sizes.
unsafe fn arguments(sizes: &[usize], params: *const *mut c_void) -> Outcome<Params> {
    if sizes.is_empty() {
        return Ok(Params(Vec::new()));
    }
    if params.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    let copy = |(i, &size): (usize, &usize)| {
        // SAFETY: the caller vouches for as many.
        let argument = unsafe { params.add(i).read() };
        if argument.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: and for their sizes.
        Ok(unsafe { std::slice::from_raw_parts(argument.cast::<u8>(), size) }.to_vec())
    };
    sizes.iter().enumerate().map(copy).collect::<Outcome<_>>().map(Params)
}

driver! {
    /// Loads an image into the current context.
    fn cuModuleLoadData(place: *mut Handle, image: *const c_void) {
        let mut state = lock();
        let device = state.current()?;
        if place.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        state.potentially_unsafe()?;
        // SAFETY: as the caller vouches.
        let entries = unsafe { module::entries(&state, device, image.cast()) }?;
        let handle = state.handles.modules.take();
        state.modules.insert(handle, Module { device, entries });
        // SAFETY: as the caller vouches.
        unsafe { give(place, std::ptr::without_provenance_mut(handle)) }
    }

    /// Unloads a module of the current context.
    fn cuModuleUnload(module: Handle) {
        let mut state = lock();
        let device = state.current()?;
        let handle = module.addr();
        if state.modules.get(&handle).is_none_or(|module| module.device != device) {
            return Err(Status::INVALID_HANDLE);
        }
        state.modules.remove(&handle);
        state.handles.modules.give(handle);
        let gone: Vec<usize> =
            state.functions.iter().filter(|(_, function)| function.module == handle).map(|(&handle, _)| handle).collect();
        for function in gone {
            state.functions.remove(&function);
            state.handles.functions.give(function);
        }
        Ok(())
    }

    /// A kernel of a module.
    fn cuModuleGetFunction(place: *mut Handle, module: Handle, name: *const c_char) {
        if place.is_null() || name.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: the caller gives a C string.
        let name = unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| Status::NOT_FOUND)?;
        let mut state = lock();
        let found = state.modules.get(&module.addr()).ok_or(Status::INVALID_HANDLE)?;
        let entry = found.entries.iter().find(|entry| entry.name == name).cloned().ok_or(Status::NOT_FOUND)?;
        let function = Function { module: module.addr(), device: found.device, entry };
        let known = state.functions.iter().find(|(_, known)| {
            known.module == function.module && known.entry.name == function.entry.name
        });
        let handle = match known {
            Some((&handle, _)) => handle,
            None => {
                let handle = state.handles.functions.take();
                state.functions.insert(handle, function);
                handle
            }
        };
        // SAFETY: as the caller vouches.
        unsafe { give(place, std::ptr::without_provenance_mut(handle)) }
    }

    /// An attribute of a kernel: those that follow from limits of the device; 0 for what only a compiler knows.
    fn cuFuncGetAttribute(place: *mut i32, which: i32, function: Handle) {
        let state = lock();
        let function = state.functions.get(&function.addr()).ok_or(Status::INVALID_HANDLE)?;
        let value = match which {
            0 => THREADS as i32,
            5 | 6 => state.attribute(function.device, 75)? * 10 + state.attribute(function.device, 76)?,
            8 => SHARED as i32,
            1..=9 => 0,
            _ => return Err(Status::INVALID_VALUE),
        };
        // SAFETY: as the caller vouches.
        unsafe { give(place, value) }
    }

    /// Launches a kernel. Its arguments are copied before this returns.
    fn cuLaunchKernel(
        function: Handle,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        shared: u32,
        stream: Handle,
        params: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        let mut state = lock();
        let device = state.current()?;
        let key = state.own_stream(stream.addr())?;
        let function = state.functions.get(&function.addr()).ok_or(Status::INVALID_HANDLE)?.clone();
        if function.device != device {
            return Err(Status::INVALID_HANDLE);
        }
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let threads: u64 = block.iter().map(|&n| u64::from(n)).product();
        let bad = grid.contains(&0) || block.contains(&0) || threads > THREADS || block_z > 64;
        let bad = bad || grid_x > i32::MAX as u32 || grid_y > 65_535 || grid_z > 65_535;
        if bad || shared > SHARED || !extra.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let name = function.entry.name;
        let Some(kernel) = kernels::find(&name) else {
            entry::note(format!("this driver has no kernel {name}"));
            return Err(Status::NOT_SUPPORTED);
        };
        let sizes = function.entry.params.as_deref().or_else(|| kernels::parameter_sizes(&name));
        // SAFETY: as the caller vouches: the sizes are those that the image says.
        let params = unsafe { arguments(sizes.ok_or(Status::NOT_SUPPORTED)?, params) }?;
        let job = LaunchJob { name, kernel, grid, block, shared, params, device };
        state.enqueue(key, Op::Launch(Arc::new(job)), Vec::new()).map(drop)
    }
}
