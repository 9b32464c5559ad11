//! What a kernel sees: its arguments, and memory at device addresses.

use std::cell::{Cell, RefCell};
use std::ptr;

use crate::arena;
use crate::order::{Ranges, Touch};
use crate::state::{Kind, lock};
use crate::status::{Outcome, Status};

/// One launch.
pub struct Launch<'a> {
    /// The kernel.
    pub name: &'a str,
    /// Blocks in each dimension.
    pub grid: [u32; 3],
    /// Threads of a block in each dimension.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// The arguments.
    pub params: &'a Params,
    /// Memory.
    pub memory: &'a Memory,
}

/// The arguments of a launch, copied when it was asked for.
pub struct Params(pub(crate) Vec<Vec<u8>>);

/// A value of which any bytes are one.
pub trait Plain: Copy {
    /// From its bytes, as many as it has.
    fn from_bytes(bytes: &[u8]) -> Self;
    /// Its bytes, at the beginning of 16.
    fn to_bytes(self) -> [u8; 16];
}

macro_rules! plain {
    ($($type:ty),*) => {
        $(impl Plain for $type {
            fn from_bytes(bytes: &[u8]) -> $type {
                <$type>::from_ne_bytes(bytes.try_into().expect("as many bytes as the type has"))
            }

            fn to_bytes(self) -> [u8; 16] {
                let mut all = [0; 16];
                all[..size_of::<$type>()].copy_from_slice(&self.to_ne_bytes());
                all
            }
        })*
    };
}
plain!(u8, i8, u16, i16, u32, i32, u64, i64, u128, f32, f64);

impl Params {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of one: a struct is read from these.
    ///
    /// # Errors
    ///
    /// `LAUNCH_FAILED`: there is no such argument.
    pub fn bytes(&self, index: usize) -> Outcome<&[u8]> {
        self.0.get(index).map(Vec::as_slice).ok_or(Status::LAUNCH_FAILED)
    }

    /// The value of one.
    ///
    /// # Errors
    ///
    /// `LAUNCH_FAILED`: there is no such argument, or it has another size.
    pub fn get<T: Plain>(&self, index: usize) -> Outcome<T> {
        let bytes = self.bytes(index)?;
        if bytes.len() == size_of::<T>() { Ok(T::from_bytes(bytes)) } else { Err(Status::LAUNCH_FAILED) }
    }
}

/// Memory, as the kernels of one device see it.
pub struct Memory {
    device: usize,
    /// The allocations that were used last: start, length, and where the driver has them.
    known: [Cell<(u64, u64, usize)>; 4],
    next: Cell<usize>,
    read: RefCell<Ranges>,
    written: RefCell<Ranges>,
}

impl Memory {
    /// For kernels of a device.
    pub(crate) fn of(device: usize) -> Memory {
        Memory {
            device,
            known: Default::default(),
            next: Cell::new(0),
            read: RefCell::default(),
            written: RefCell::default(),
        }
    }

    /// What was touched so far.
    pub(crate) fn touches(&self) -> Vec<Touch> {
        let (mut read, mut written) = (self.read.borrow_mut(), self.written.borrow_mut());
        read.touches(false).chain(written.touches(true)).collect()
    }

    /// Reads bytes at a device address.
    ///
    /// # Errors
    ///
    /// `ILLEGAL_ADDRESS`: not all of it is in one allocation that a kernel of this device may use.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Outcome {
        let at = self.find(address, out.len())?;
        self.read.borrow_mut().add(address, out.len() as u64);
        // SAFETY: in the driver's mapping, which is never unmapped. Another stream may write there at the same time, as on a
        // GPU, where a race gives any bytes; nothing but bytes is made of them.
        unsafe { ptr::copy_nonoverlapping(at, out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    /// Writes bytes at a device address.
    ///
    /// # Errors
    ///
    /// As [`Memory::read`].
    pub fn write(&self, address: u64, bytes: &[u8]) -> Outcome {
        let at = self.find(address, bytes.len())?;
        self.written.borrow_mut().add(address, bytes.len() as u64);
        // SAFETY: as in `read`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
        Ok(())
    }

    /// Loads a value as one instruction of a kernel does: its address must be a multiple of its size.
    ///
    /// # Errors
    ///
    /// `MISALIGNED_ADDRESS`, and as [`Memory::read`].
    pub fn load<T: Plain>(&self, address: u64) -> Outcome<T> {
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..size_of::<T>()];
        if !address.is_multiple_of(bytes.len() as u64) {
            return Err(Status::MISALIGNED_ADDRESS);
        }
        self.read(address, bytes)?;
        Ok(T::from_bytes(bytes))
    }

    /// Stores a value as one instruction of a kernel does.
    ///
    /// # Errors
    ///
    /// As [`Memory::load`].
    pub fn store<T: Plain>(&self, address: u64, value: T) -> Outcome {
        if !address.is_multiple_of(size_of::<T>() as u64) {
            return Err(Status::MISALIGNED_ADDRESS);
        }
        self.write(address, &value.to_bytes()[..size_of::<T>()])
    }

    /// Where the driver has the bytes.
    fn find(&self, address: u64, len: usize) -> Outcome<*mut u8> {
        let len = len as u64;
        let inside = |start: u64, size: u64| address >= start && len <= size && address - start <= size - len;
        let place = |start: u64, at: usize| ptr::with_exposed_provenance_mut(at + (address - start) as usize);
        for (start, size, at) in self.known.iter().map(Cell::get) {
            if inside(start, size) {
                return Ok(place(start, at));
            }
        }
        let (start, size) = self.look_up(address).ok_or(Status::ILLEGAL_ADDRESS)?;
        if !inside(start, size) {
            return Err(Status::ILLEGAL_ADDRESS);
        }
        let at = arena::alias(start, size).ok_or(Status::ILLEGAL_ADDRESS)?.expose_provenance();
        let next = self.next.get();
        self.known[next].set((start, size, at));
        self.next.set((next + 1) % self.known.len());
        Ok(place(start, at))
    }

    /// The allocation at an address, if kernels of this device may use it. Memory that a pool keeps is mapped too: what was
    /// freed too early is found by its poison.
    fn look_up(&self, address: u64) -> Option<(u64, u64)> {
        let state = lock();
        let Some(block) = state.block(address) else {
            let (start, len, pool) = state.is_kept(address)?;
            return state.pools[&pool].is_open_to(self.device).then_some((start, len));
        };
        let may = match (block.kind, block.pool) {
            (Kind::Device, Some(pool)) => state.pools.get(&pool).is_some_and(|pool| pool.is_open_to(self.device)),
            (Kind::Device, None) => {
                block.device == self.device
                    || state.devices.get(self.device).is_some_and(|device| device.peers.contains(&block.device))
            }
            _ => true,
        };
        may.then_some((block.start, block.len))
    }
}
