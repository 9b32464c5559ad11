//! The kernels that this driver can run, by name.

use crate::memory::Launch;
use crate::status::{Outcome, Status};
use crate::walk;

/// Runs a launch of a kernel.
pub type Kernel = fn(&Launch<'_>) -> Outcome;

/// The kernel of a name.
pub fn find(name: &str) -> Option<Kernel> {
    match name {
        "fake_add" => Some(add),
        "fake_copy" => Some(copy),
        _ if walk::knows(name) => Some(walk::run),
        _ => None,
    }
}

/// The bytes of each parameter of a kernel, for images that do not say them (PTX does).
pub fn parameter_sizes(name: &str) -> Option<&'static [usize]> {
    match name {
        "fake_add" => Some(&[8, 4, 8]),
        "fake_copy" => Some(&[8, 8, 8]),
        _ if walk::knows(name) => Some(walk::SIZES),
        _ => None,
    }
}

/// For tests of the driver itself: adds a number to `u32`s; one thread each.
fn add(launch: &Launch<'_>) -> Outcome {
    let (at, number) = (launch.params.get::<u64>(0)?, launch.params.get::<u32>(1)?);
    let count = launch.params.get::<u64>(2)?;
    let threads = u64::from(launch.grid[0]) * u64::from(launch.block[0]);
    if threads < count {
        return Err(Status::LAUNCH_FAILED);
    }
    for i in 0..count {
        let value: u32 = launch.memory.load(at + 4 * i)?;
        launch.memory.store(at + 4 * i, value.wrapping_add(number))?;
    }
    Ok(())
}

/// For tests of the driver itself: copies bytes.
fn copy(launch: &Launch<'_>) -> Outcome {
    let (to, from) = (launch.params.get::<u64>(0)?, launch.params.get::<u64>(1)?);
    let mut bytes = vec![0; launch.params.get::<u64>(2)? as usize];
    launch.memory.read(from, &mut bytes)?;
    launch.memory.write(to, &bytes)
}
