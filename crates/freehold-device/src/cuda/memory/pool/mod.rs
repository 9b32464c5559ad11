//! A pool of our own over any other resource, ordered on streams.

mod blocks;
mod recent;
mod state;
mod streams;

use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freehold_tensor::{Device, DeviceKind};

use self::blocks::GRANULE;
use self::state::{CLEAN, State};
use self::streams::{Key, Order, Owner, Place, Unordered};
use super::refused;
use crate::cuda::{Context, CudaError, Event, is_exiting};
use crate::resource::{dangling, layout_for};
use crate::{AllocError, AllocReason, MemoryResource, Stream};

/// More than any machine has; the lists count in 32 bits.
const TOO_MUCH: u64 = 1 << 40;

/// How a [`PoolMemory`] grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolOptions {
    /// The smallest region that is asked for upstream, in bytes. A pool doubles with each region.
    pub smallest_region: u64,
    /// The largest one, save for a request that is larger.
    pub largest_region: u64,
    /// The most bytes that the pool takes from upstream.
    pub maximum: u64,
}

impl Default for PoolOptions {
    fn default() -> PoolOptions {
        PoolOptions { smallest_region: 8 << 20, largest_region: 1 << 30, maximum: u64::MAX }
    }
}

/// What a [`PoolMemory`] holds and did. Bytes in use are rounded up to 256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatistics {
    /// Bytes from upstream.
    pub reserved: u64,
    /// Bytes in use.
    pub in_use: u64,
    /// Allocations in use.
    pub live: u64,
    /// Requests that were met without a call of anybody.
    pub hits: u64,
    /// Regions that were asked for upstream.
    pub regions: u64,
    /// How often one stream was made to wait for another.
    pub waits: u64,
    /// Bytes given back while their stream was captured ([`PoolMemory::release_captured`]).
    pub captured: u64,
    /// Bytes that are never used again, because the stream that they were given back on was destroyed without
    /// [`PoolMemory::retire`].
    pub lost: u64,
}

/// A pool over another resource: regions from there, cut into blocks with lists of constant time. A hit takes one lock and
/// makes no call under it; giving back records no event.
///
/// # Streams
///
/// Memory that was given back on a stream is used again on the same stream at once. Another stream gets it when the first
/// one is idle; else the pool grows; and where it cannot, the second stream waits (on the device) for an event that is
/// recorded on the first one then. Without a stream ([`Stream::NONE`]) memory is given out only when nobody uses it.
///
/// * A stream that memory was taken for or given back on must be [retired](PoolMemory::retire) before it is destroyed. Where that
///   is forgotten, and the driver numbers streams (CUDA 12), the memory is put aside for ever and counted. An older driver
///   cannot tell a stream from an earlier one with the same handle.
/// * Memory that is given back while its stream is captured is kept out of use, because the graph uses it whenever it runs:
///   [`PoolMemory::release_captured`].
/// * On a stream that is being captured only memory that nobody uses is given out.
pub struct PoolMemory {
    upstream: Arc<dyn MemoryResource>,
    device: Device,
    order: Order,
    options: PoolOptions,
    state: Mutex<State>,
}

impl PoolMemory {
    /// A pool over memory of the host, or of a device whose streams nobody here can order: there, memory stays with the
    /// stream that it was given back on.
    pub fn new(upstream: Arc<dyn MemoryResource>, options: PoolOptions) -> PoolMemory {
        let order = if upstream.device().kind == DeviceKind::CPU { Order::Host } else { Order::Apart };
        PoolMemory::with_order(upstream, order, options)
    }

    /// A pool over memory that a CUDA device uses: its own, managed, or page-locked.
    pub fn on(context: &'static Context, upstream: Arc<dyn MemoryResource>, options: PoolOptions) -> PoolMemory {
        PoolMemory::with_order(upstream, Order::Cuda(context), options)
    }

    fn with_order(upstream: Arc<dyn MemoryResource>, order: Order, options: PoolOptions) -> PoolMemory {
        let device = upstream.device();
        PoolMemory { upstream, device, order, options, state: Mutex::new(State::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unpin(&self, shelf: u32) {
        self.lock().owners[shelf as usize].pinned -= 1;
    }

    /// The counters.
    pub fn statistics(&self) -> PoolStatistics {
        let state = self.lock();
        PoolStatistics { live: state.blocks.live() as u64, ..state.statistics }
    }

    /// Where regions come from.
    pub fn upstream(&self) -> &Arc<dyn MemoryResource> {
        &self.upstream
    }

    /// Says that a stream is about to be destroyed: what was given back on it may then be used by others, once the work
    /// that was queued on it is done.
    ///
    /// # Errors
    ///
    /// What the driver says; [`CudaError::Capturing`].
    pub fn retire(&self, stream: Stream) -> Result<(), CudaError> {
        let Order::Cuda(context) = self.order else { return Ok(()) };
        let place = self.order.place(stream)?;
        if place.capturing {
            return Err(CudaError::Capturing { what: "retiring the stream" });
        }
        let Some(shelf) = self.lock().find(place.key).filter(|&shelf| shelf != CLEAN) else { return Ok(()) };
        let event = Arc::new(Event::recorded(context, super::plain::stream_of(context, stream)?)?);
        let mut state = self.lock();
        if state.by_key.get(&place.key.0) == Some(&shelf) {
            state.by_key.remove(&place.key.0);
            state.owners[shelf as usize].owner.retired = Some(event);
        }
        Ok(())
    }

    /// Says that no graph is launched any more that was captured so far, and that every launch was queued before what is
    /// queued on `stream` next: memory that was given back while captured is used again.
    ///
    /// # Errors
    ///
    /// As [`PoolMemory::retire`].
    pub fn release_captured(&self, stream: Stream) -> Result<(), CudaError> {
        let place = self.order.place(stream)?;
        if place.capturing {
            return Err(CudaError::Capturing { what: "giving back what graphs used" });
        }
        let mut state = self.lock();
        let shelf = state.find_or_add(place.key, stream);
        for (block, bytes) in std::mem::take(&mut state.captured) {
            state.statistics.captured -= bytes;
            state.free(block, shelf);
        }
        Ok(())
    }

    /// Gives regions back upstream that nobody uses and no stream has work on.
    pub fn trim(&self) {
        if self.order.check_alive().is_err() {
            return;
        }
        self.reclaim(None);
        let regions = {
            let mut state = self.lock();
            let regions = state.blocks.remove_regions(CLEAN);
            state.statistics.reserved -= regions.iter().map(|region| region.1).sum::<u64>();
            regions
        };
        for (start, bytes) in regions {
            self.give_upstream(start, bytes);
        }
    }

    fn give_upstream(&self, start: u64, bytes: u64) {
        if let Some(region) = pointer(start) {
            // SAFETY: `grow` allocated the region with this size and alignment, and nothing of it is in use or queued.
            unsafe { self.upstream.deallocate(region, bytes as usize, GRANULE as usize, Stream::NONE) };
        }
    }

    /// Frees for everybody what idle streams had. Each block is moved once, so that the cost is that of giving it back.
    fn reclaim(&self, own: Option<u32>) {
        let others = self.lock().pin_others(own);
        for (shelf, owner, stamp) in others {
            let idle = self.order.is_idle(&owner);
            let mut state = self.lock();
            // What was given back after the question may have work before it.
            if idle && state.owners[shelf as usize].stamp == stamp {
                state.blocks.move_all(shelf, CLEAN);
            }
            state.owners[shelf as usize].pinned -= 1;
        }
    }

    /// Takes a region from upstream, and of it the block.
    fn grow(&self, bytes: u64, align: u64, place: Place, stream: Stream) -> Result<u64, AllocReason> {
        let needed = bytes + align.saturating_sub(GRANULE);
        let needed = needed.next_multiple_of(GRANULE);
        let mut region = {
            let mut state = self.lock();
            let reserved = state.statistics.reserved;
            let left = self.options.maximum.saturating_sub(reserved) / GRANULE * GRANULE;
            if needed > left {
                return Err(AllocReason::Limit { in_use: reserved });
            }
            let wanted = reserved
                .clamp(self.options.smallest_region.min(self.options.largest_region), self.options.largest_region);
            let region = wanted.next_multiple_of(GRANULE).max(needed).min(left);
            state.statistics.reserved += region;
            region
        };
        let start = loop {
            let error = match self.upstream.allocate(region as usize, GRANULE as usize, stream) {
                Ok(start) => break start.expose_provenance().get() as u64,
                Err(error) => error,
            };
            let smaller = if error.is_out_of_memory() { (region / 2 / GRANULE * GRANULE).max(needed) } else { region };
            self.lock().statistics.reserved -= region - if smaller < region { smaller } else { 0 };
            if smaller == region {
                return Err(error.reason);
            }
            region = smaller;
        };
        if place.key == Key::CLEAN
            && let Err(error) = self.order.settle()
        {
            self.lock().statistics.reserved -= region;
            self.give_upstream(start, region);
            return Err(refused(&error, 0, 1, self.device).reason);
        }
        let mut state = self.lock();
        state.statistics.regions += 1;
        // On a captured stream the region is as good as any to others: nothing is queued that uses it.
        let shelf = if place.capturing { CLEAN } else { state.find_or_add(place.key, stream) };
        state.blocks.add_region(start, region, shelf);
        state.owners[shelf as usize].stamp = state.stamp();
        state.take(shelf, bytes, align, shelf).ok_or(AllocReason::Refused)
    }

    /// Takes a block of another stream, which is waited for.
    fn borrow(&self, bytes: u64, align: u64, place: Place, stream: Stream) -> Result<Option<u64>, CudaError> {
        let (own, others) = {
            let mut state = self.lock();
            let own = state.find_or_add(place.key, stream);
            state.owners[own as usize].pinned += 1;
            (own, state.pin_others(Some(own)))
        };
        let found = self.borrow_of(&others, own, bytes, align, stream);
        others.iter().for_each(|(shelf, ..)| self.unpin(*shelf));
        self.unpin(own);
        found
    }

    fn borrow_of(
        &self,
        others: &[(u32, Owner, u64)],
        own: u32,
        bytes: u64,
        align: u64,
        stream: Stream,
    ) -> Result<Option<u64>, CudaError> {
        for (shelf, owner, _) in others {
            let Some(start) = self.lock().take(*shelf, bytes, align, own) else { continue };
            // After the block was taken: everything that was given back with it was queued before.
            let ordered = self.order.order(owner, stream);
            let mut state = self.lock();
            match ordered {
                Ok(()) => {
                    state.statistics.waits += 1;
                    return Ok(Some(start));
                }
                Err(why) => {
                    state.put_back(start, *shelf);
                    match why {
                        Unordered::Gone => state.lose(*shelf),
                        Unordered::Later => {}
                        Unordered::Failed(error) => return Err(error),
                    }
                }
            }
        }
        // No stream has one: what lies beside each other on several shelves may be.
        for (shelf, owner, _) in others {
            let stamp = self.lock().owners[*shelf as usize].stamp;
            if self.order.order(owner, stream).is_ok() {
                let mut state = self.lock();
                state.statistics.waits += 1;
                if state.owners[*shelf as usize].stamp == stamp {
                    state.move_all(*shelf, own);
                }
            }
        }
        let mut state = self.lock();
        if own != CLEAN {
            state.move_all(CLEAN, own);
        }
        Ok(state.take(own, bytes, align, own))
    }

    /// No shelf has a block that may be used at once.
    #[cold]
    fn miss(&self, bytes: u64, align: u64, place: Place, stream: Stream) -> Result<u64, AllocReason> {
        let own = if place.capturing { None } else { self.lock().find(place.key) };
        self.reclaim(own);
        if let Some(start) = self.lock().hit(place, bytes, align) {
            return Ok(start);
        }
        let reason = match self.grow(bytes, align, place, stream) {
            Ok(start) => return Ok(start),
            Err(reason) => reason,
        };
        if !place.capturing {
            match self.borrow(bytes, align, place, stream) {
                Ok(Some(start)) => return Ok(start),
                Ok(None) => {}
                Err(error) => return Err(refused(&error, 0, 1, self.device).reason),
            }
        }
        // Regions that are too small for it make room upstream for one that is not.
        self.trim();
        self.grow(bytes, align, place, stream).map_err(|_| reason)
    }
}

fn pointer(address: u64) -> Option<NonNull<u8>> {
    NonNull::new(ptr::with_exposed_provenance_mut(address as usize))
}

impl std::fmt::Debug for PoolMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = f.debug_struct("PoolMemory");
        text.field("upstream", &self.upstream.name()).field("device", &self.device);
        text.field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}

impl Drop for PoolMemory {
    fn drop(&mut self) {
        if is_exiting() || self.order.check_alive().is_err() {
            return;
        }
        // Buffers hold their resource: none is left. What streams still do is waited for, and what cannot be is never freed.
        let others = self.lock().pin_others(None);
        for (shelf, owner, _) in others {
            let done = matches!(self.order, Order::Apart) || self.order.order(&owner, Stream::NONE).is_ok();
            if done {
                self.lock().blocks.move_all(shelf, CLEAN);
            }
        }
        let regions = self.lock().blocks.remove_regions(CLEAN);
        for (start, bytes) in regions {
            self.give_upstream(start, bytes);
        }
    }
}

// SAFETY: blocks do not overlap (`blocks`), lie in regions that upstream gave for exclusive use until they are given back whole,
// and are aligned as asked; what was queued on a stream that gave one back comes before what another stream does with it
// (`streams`); the lists are behind a lock, so that any thread may give back; zero bytes give a dangling pointer.
unsafe impl MemoryResource for PoolMemory {
    fn device(&self) -> Device {
        self.device
    }

    fn allocate(&self, bytes: usize, align: usize, stream: Stream) -> Result<NonNull<u8>, AllocError> {
        let layout = layout_for(bytes, align, self.device)?;
        if bytes == 0 {
            return Ok(dangling(layout));
        }
        let failed = |error: CudaError| refused(&error, bytes, align, self.device);
        let because = |reason| {
            let limit = matches!(reason, AllocReason::Limit { .. }).then_some(self.options.maximum);
            AllocError { limit, ..AllocError::new(bytes, align, self.device, reason) }
        };
        self.order.check_alive().map_err(failed)?;
        let place = self.order.place(stream).map_err(failed)?;
        let size = (bytes as u64).next_multiple_of(GRANULE);
        let wide = (align as u64).max(GRANULE);
        if size >= TOO_MUCH || wide >= TOO_MUCH {
            return Err(because(AllocReason::Refused));
        }
        // The lock is let go of before the slow way, which calls upstream and the driver.
        let hit = self.lock().hit(place, size, wide);
        let start = hit.map_or_else(|| self.miss(size, wide, place, stream), Ok).map_err(because)?;
        pointer(start).ok_or_else(|| because(AllocReason::Refused))
    }

    unsafe fn deallocate(&self, ptr: NonNull<u8>, bytes: usize, _align: usize, stream: Stream) {
        if bytes == 0 || is_exiting() || self.order.check_alive().is_err() {
            return;
        }
        let capturing = self.order.is_capturing(stream);
        let mut state = self.lock();
        let Some((block, size)) = state.blocks.give(ptr.addr().get() as u64) else {
            drop(state);
            #[cfg(feature = "tracing")]
            tracing::error!(address = ptr.addr().get(), "given back to a pool that does not have it");
            return;
        };
        state.statistics.in_use -= size;
        if capturing == Ok(true) {
            state.statistics.captured += size;
            state.captured.push((block, size));
            return;
        }
        if let (Ok(_), Some(shelf)) = (&capturing, state.shelf_of_taker(block, stream)) {
            return state.free(block, shelf);
        }
        // The driver is asked without the lock.
        drop(state);
        let key = capturing.and_then(|_| self.order.key(stream));
        let mut state = self.lock();
        match key {
            Ok(key) => {
                let shelf = state.find_or_add(key, stream);
                state.free(block, shelf);
            }
            // The stream cannot be asked any more: uses that are queued cannot be waited for.
            Err(_) => state.statistics.lost += size,
        }
    }

    fn name(&self) -> &str {
        "cuda-pool"
    }
}
