//! Captures and the graphs that come of them.

use crate::abi::Handle;
use crate::capture::Executable;
use crate::entry::{driver, give};
use crate::state::lock;
use crate::status::Status;

driver! {
    /// Begins to capture a stream.
    fn cuStreamBeginCapture_v2(stream: Handle, mode: u32) {
        let mut state = lock();
        let key = state.stream_key(stream.addr())?;
        state.begin_capture(key, mode)
    }

    /// Ends the capture of a stream.
    fn cuStreamEndCapture(stream: Handle, place: *mut Handle) {
        if place.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let mut state = lock();
        let key = state.stream_key(stream.addr())?;
        let ended = state.end_capture(key);
        let handle = match &ended {
            Ok(_) => state.handles.graphs.take(),
            Err(_) => 0,
        };
        // SAFETY: as the caller vouches; a capture that failed gives null.
        unsafe { give(place, std::ptr::without_provenance_mut(handle)) }?;
        state.graphs.insert(handle, ended?);
        Ok(())
    }

    /// Destroys a graph.
    fn cuGraphDestroy(graph: Handle) {
        let mut state = lock();
        let gone = state.graphs.remove(&graph.addr()).ok_or(Status::INVALID_VALUE)?;
        state.handles.graphs.give(graph.addr());
        state.release_graph_memory(gone.capture);
        Ok(())
    }

    /// The nodes of a graph: how many there are. Nodes have no handles here.
    fn cuGraphGetNodes(graph: Handle, nodes: *mut Handle, count: *mut usize) {
        let state = lock();
        let graph = state.graphs.get(&graph.addr()).ok_or(Status::INVALID_VALUE)?;
        if !nodes.is_null() {
            return Err(Status::NOT_SUPPORTED);
        }
        // SAFETY: as the caller vouches.
        unsafe { give(count, graph.nodes.len()) }
    }

    /// A graph as it can be launched.
    fn cuGraphInstantiateWithFlags(place: *mut Handle, graph: Handle, flags: u64) {
        let mut state = lock();
        // 1 is CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH; the others are for launches from a device.
        if place.is_null() || flags > 1 {
            return Err(Status::INVALID_VALUE);
        }
        let graph = state.graphs.get(&graph.addr()).ok_or(Status::INVALID_VALUE)?;
        let exec = Executable { ops: graph.nodes.iter().map(|node| node.op.clone()).collect(), capture: graph.capture };
        let handle = state.handles.execs.take();
        state.execs.insert(handle, exec);
        // SAFETY: as the caller vouches.
        unsafe { give(place, std::ptr::without_provenance_mut(handle)) }
    }

    /// Queues what a graph does.
    fn cuGraphLaunch(exec: Handle, stream: Handle) {
        let mut state = lock();
        let key = state.stream_key(stream.addr())?;
        state.launch_graph(exec.addr(), key)
    }

    /// Destroys what could be launched.
    fn cuGraphExecDestroy(exec: Handle) {
        let mut state = lock();
        let gone = state.execs.remove(&exec.addr()).ok_or(Status::INVALID_VALUE)?;
        state.handles.execs.give(exec.addr());
        state.release_graph_memory(gone.capture);
        Ok(())
    }
}
