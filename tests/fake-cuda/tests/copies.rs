//! Copies of rows and slices, of many pieces, and between devices.

#![cfg(all(target_os = "linux", not(miri)))]

mod common;

use std::ffi::c_void;
use std::ptr;

use common::{Cuda, LEGACY, PER_THREAD, start};
use freehold_fake_cuda::abi::{Copy2D, Copy3D, CopyAttributes, DevicePtr, Handle, Location, memory_type};

fn no_copy_2d() -> Copy2D {
    // SAFETY: numbers and pointers, of which zeroes are ones.
    unsafe { std::mem::zeroed() }
}

fn no_copy_3d() -> Copy3D {
    // SAFETY: as above.
    unsafe { std::mem::zeroed() }
}

fn counted(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| i as u8).collect()
}

#[test]
fn rows_are_copied_with_their_pitches_and_offsets() {
    let (control, cuda, _) = start();
    let stream = cuda.stream();
    let device = cuda.alloc(8 * 16);
    ok!(cuda, cuMemsetD8Async(device, 0xEE, 8 * 16, stream));
    let host = counted(5 * 10);
    // Rows 1 to 3, columns 2 to 6 of a host matrix of 5 x 10, to row 2, column 4 of a device matrix of 8 x 16.
    let mut copy = Copy2D {
        src_x: 2,
        src_y: 1,
        src_type: memory_type::HOST,
        src_host: host.as_ptr().cast(),
        src_pitch: 10,
        dst_x: 4,
        dst_y: 2,
        dst_type: memory_type::DEVICE,
        dst_device: device,
        dst_pitch: 16,
        width: 5,
        height: 3,
        ..no_copy_2d()
    };
    ok!(cuda, cuMemcpy2DAsync_v2(&raw const copy, stream));
    let found = cuda.download(device, 8 * 16, stream);
    let mut expected = vec![0xEE; 8 * 16];
    for y in 0..3 {
        for x in 0..5 {
            expected[(y + 2) * 16 + x + 4] = host[(y + 1) * 10 + x + 2];
        }
    }
    assert_eq!(found, expected);
    // The last row of the matrix fits exactly, one more does not.
    copy.dst_y = 5;
    copy.dst_x = 11;
    ok!(cuda, cuMemcpy2DAsync_v2(&raw const copy, stream));
    copy.dst_x = 12;
    assert_eq!(status!(cuda, cuMemcpy2DAsync_v2(&raw const copy, stream)), 1, "wider than the pitch");
    (copy.dst_x, copy.dst_y) = (11, 6);
    assert_eq!(status!(cuda, cuMemcpy2DAsync_v2(&raw const copy, stream)), 1, "behind the end");
    copy.dst_type = 3;
    assert_eq!(status!(cuda, cuMemcpy2DAsync_v2(&raw const copy, stream)), 1, "an array");
    assert_eq!(status!(cuda, cuMemcpy2DAsync_v2(ptr::null(), stream)), 1);
    control.drain();
}

#[test]
fn slices_are_copied_with_their_pitches_and_offsets() {
    let (_, cuda, _) = start();
    let stream = cuda.stream();
    let (from, to) = (cuda.alloc(4 * 5 * 6), cuda.alloc(3 * 7 * 8));
    let bytes = counted(4 * 5 * 6);
    cuda.upload(from, &bytes, stream);
    ok!(cuda, cuMemsetD8Async(to, 0xEE, 3 * 7 * 8, stream));
    let mut copy = Copy3D {
        src_x: 1,
        src_y: 2,
        src_z: 1,
        src_type: memory_type::UNIFIED,
        src_device: from,
        src_pitch: 6,
        src_height: 5,
        dst_x: 3,
        dst_y: 4,
        dst_z: 1,
        dst_type: memory_type::DEVICE,
        dst_device: to,
        dst_pitch: 8,
        dst_height: 7,
        width: 4,
        height: 3,
        depth: 2,
        ..no_copy_3d()
    };
    ok!(cuda, cuMemcpy3DAsync_v2(&raw const copy, stream));
    let mut expected = vec![0xEE; 3 * 7 * 8];
    for (z, y, x) in (0..2).flat_map(|z| (0..3).flat_map(move |y| (0..4).map(move |x| (z, y, x)))) {
        expected[((z + 1) * 7 + y + 4) * 8 + x + 3] = bytes[((z + 1) * 5 + y + 2) * 6 + x + 1];
    }
    assert_eq!(cuda.download(to, 3 * 7 * 8, stream), expected);
    copy.dst_y = 5;
    assert_eq!(status!(cuda, cuMemcpy3DAsync_v2(&raw const copy, stream)), 1, "higher than the slice");
    // Into ordinary memory of the host, which is there when the call returns.
    let mut host = vec![0_u8; 4 * 3 * 2];
    copy.dst_type = memory_type::HOST;
    copy.dst_host = host.as_mut_ptr().cast();
    (copy.dst_x, copy.dst_y, copy.dst_z, copy.dst_pitch, copy.dst_height) = (0, 0, 0, 4, 3);
    ok!(cuda, cuMemcpy3DAsync_v2(&raw const copy, stream));
    assert_eq!((host[0], host[23]), (bytes[(5 + 2) * 6 + 1], bytes[((2 * 5) + 4) * 6 + 4]));
}

#[test]
fn the_direction_is_told_from_the_addresses() {
    let (control, cuda, _) = start();
    let stream = cuda.stream();
    let device = cuda.alloc(32);
    let pinned = cuda.pinned(16);
    let (source, mut target) = (counted(16), [0_u8; 16]);
    let address = |bytes: &[u8]| bytes.as_ptr().addr() as u64;
    ok!(cuda, cuMemcpyAsync(device, address(&source), 16, stream));
    ok!(cuda, cuMemcpyAsync(device + 16, device, 16, stream));
    ok!(cuda, cuMemcpyAsync(pinned.as_ptr().addr() as u64, device + 16, 16, stream));
    let at = target.as_mut_ptr().expose_provenance() as u64;
    ok!(cuda, cuMemcpyAsync(at, pinned.as_ptr().addr() as u64, 16, stream));
    assert_eq!((&target[..], &pinned[..]), (&source[..], &source[..]));
    control.drain();
}

/// The attributes of a batch whose copies all have one order of access.
fn attributes(order: u32) -> CopyAttributes {
    let nowhere = Location { kind: 0, id: 0 };
    CopyAttributes { src_access_order: order, src_hint: nowhere, dst_hint: nowhere, flags: 0 }
}

/// One batch; gives the status and the index that failed.
fn batch(
    cuda: &Cuda,
    pieces: &[(DevicePtr, DevicePtr, usize)],
    kinds: &[(usize, u32)],
    stream: Handle,
) -> (i32, usize) {
    let mut to: Vec<_> = pieces.iter().map(|piece| piece.0).collect();
    let mut from: Vec<_> = pieces.iter().map(|piece| piece.1).collect();
    let mut bytes: Vec<_> = pieces.iter().map(|piece| piece.2).collect();
    let mut first: Vec<_> = kinds.iter().map(|kind| kind.0).collect();
    let mut attributes: Vec<_> = kinds.iter().map(|kind| attributes(kind.1)).collect();
    let mut failed = 77;
    let status = status!(
        cuda,
        cuMemcpyBatchAsync(
            to.as_mut_ptr(),
            from.as_mut_ptr(),
            bytes.as_mut_ptr(),
            pieces.len(),
            attributes.as_mut_ptr(),
            first.as_mut_ptr(),
            kinds.len(),
            &raw mut failed,
            stream,
        )
    );
    (status, failed)
}

#[test]
fn a_batch_reads_ordinary_memory_when_its_attributes_say() {
    let (control, cuda, _) = start();
    let (stream, device) = (cuda.stream(), cuda.alloc(32));
    let (mut late, mut now) = ([1_u8; 16], [1_u8; 16]);
    let address = |bytes: &mut [u8; 16]| bytes.as_mut_ptr().expose_provenance() as u64;
    control.hold(true);
    let pieces = [(device, address(&mut late), 16), (device + 16, address(&mut now), 16)];
    assert_eq!(batch(&cuda, &pieces, &[(0, 1), (1, 2)], stream), (0, usize::MAX));
    late.fill(2);
    now.fill(2);
    control.hold(false);
    let found = cuda.download(device, 32, stream);
    assert_eq!((&found[..16], &found[16..]), (&[2; 16][..], &[1; 16][..]));
}

#[test]
fn a_batch_that_is_not_right_copies_nothing_and_names_the_piece() {
    let (_, cuda, _) = start();
    let (stream, device) = (cuda.stream(), cuda.alloc(64));
    ok!(cuda, cuMemsetD8Async(device, 3, 64, stream));
    let good = (device + 32, device, 16);
    assert_eq!(batch(&cuda, &[good, (device + 32, device + 60, 16)], &[(0, 1)], stream), (1, 1));
    assert_eq!(batch(&cuda, &[good], &[(0, 0)], stream), (1, usize::MAX), "no order of access");
    assert_eq!(batch(&cuda, &[good], &[(1, 1)], stream), (1, usize::MAX), "the first begins at 0");
    assert_eq!(batch(&cuda, &[good, good], &[(0, 1), (0, 1)], stream), (1, usize::MAX), "ascending");
    assert_eq!(batch(&cuda, &[], &[(0, 1)], stream), (1, usize::MAX));
    for legacy in [ptr::null_mut(), LEGACY] {
        assert_eq!(batch(&cuda, &[good], &[(0, 1)], legacy), (1, usize::MAX), "not on the legacy stream");
    }
    assert_eq!(batch(&cuda, &[good], &[(0, 1)], PER_THREAD), (0, usize::MAX));
    ok!(cuda, cuStreamSynchronize(PER_THREAD));
    ok!(cuda, cuStreamBeginCapture_v2(stream, 2));
    assert_eq!(batch(&cuda, &[good], &[(0, 1)], stream).0, 900, "there is no node for it");
    let mut graph = ptr::null_mut();
    assert_eq!(status!(cuda, cuStreamEndCapture(stream, &raw mut graph)), 901);
}

#[test]
fn copies_go_to_streams_of_other_devices() {
    let (_, cuda, first) = start();
    let here = cuda.alloc(16);
    let second = get!(cuda, cuDevicePrimaryCtxRetain(Handle, 1));
    ok!(cuda, cuCtxPushCurrent_v2(second));
    let (there, far) = (cuda.alloc(16), cuda.stream());
    let mut popped = ptr::null_mut();
    ok!(cuda, cuCtxPopCurrent_v2(&raw mut popped));
    cuda.upload(there, &counted(16), far);
    ok!(cuda, cuMemcpyDtoDAsync_v2(here, there, 16, far));
    assert_eq!(cuda.download(here, 16, far), counted(16));
    let mut ordinal = -1_i32;
    ok!(cuda, cuPointerGetAttribute((&raw mut ordinal).cast::<c_void>(), 9, there));
    assert_eq!(ordinal, 1);
    assert_eq!(status!(cuda, cuMemcpyPeerAsync(here, first, there, ptr::null_mut(), 16, far)), 201);
}
