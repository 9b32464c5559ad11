//! Capture of streams into graphs: what is refused meanwhile, and what is kept instead of done.

use std::collections::HashSet;

use crate::entry::{self, CAPTURE_MODE};
use crate::event::Recorded;
use crate::state::State;
use crate::status::{Outcome, Status};
use crate::stream::Op;

/// `CU_STREAM_CAPTURE_MODE_GLOBAL`.
pub const GLOBAL: u32 = 0;
/// `CU_STREAM_CAPTURE_MODE_RELAXED`.
pub const RELAXED: u32 = 2;

/// One node of a graph.
pub struct Node {
    /// What it does.
    pub op: Op,
    /// The nodes before it.
    pub after: Vec<usize>,
}

/// A capture that goes on.
pub struct Capture {
    mode: u32,
    thread: u64,
    origin: u64,
    nodes: Vec<Node>,
    streams: HashSet<u64>,
    broken: bool,
}

/// What a capture became.
pub struct Graph {
    /// What is done, in an order that its dependencies allow.
    pub nodes: Vec<Node>,
    /// The capture, for the memory that it allocated.
    pub capture: u64,
}

/// A graph that can be launched.
pub struct Executable {
    /// What a launch does, in an order that the dependencies allow: one after the other.
    pub ops: Vec<Op>,
    /// The capture, for the memory that it allocated.
    pub capture: u64,
}

impl State {
    /// Begins to capture a stream.
    pub fn begin_capture(&mut self, key: u64, mode: u32) -> Outcome {
        if mode > RELAXED {
            return Err(Status::INVALID_VALUE);
        }
        let stream = &self.streams[&key];
        if stream.legacy {
            return Err(Status::STREAM_CAPTURE_UNSUPPORTED);
        }
        if stream.capture.is_some() {
            return Err(Status::ILLEGAL_STATE);
        }
        let id = self.number();
        let (thread, streams) = (entry::thread(), HashSet::from([key]));
        self.captures.insert(id, Capture { mode, thread, origin: key, nodes: Vec::new(), streams, broken: false });
        let stream = self.streams.get_mut(&key).expect("looked up above");
        (stream.capture, stream.frontier) = (Some(id), Vec::new());
        Ok(())
    }

    /// Ends a capture. What failed on the way comes out here, and ends it as well.
    pub fn end_capture(&mut self, key: u64) -> Outcome<Graph> {
        let id = self.streams[&key].capture.ok_or(Status::ILLEGAL_STATE)?;
        let capture = &self.captures[&id];
        if capture.origin != key {
            self.break_capture(id);
            return Err(Status::STREAM_CAPTURE_UNMATCHED);
        }
        if capture.mode != RELAXED && capture.thread != entry::thread() {
            return Err(Status::STREAM_CAPTURE_WRONG_THREAD);
        }
        let capture = self.captures.remove(&id).expect("looked up above");
        // What leads to the end of the stream that began it.
        let mut joined = vec![false; capture.nodes.len()];
        let mut left = self.streams[&key].frontier.clone();
        while let Some(node) = left.pop() {
            if !std::mem::replace(&mut joined[node], true) {
                left.extend(&capture.nodes[node].after);
            }
        }
        for stream in &capture.streams {
            if let Some(stream) = self.streams.get_mut(stream) {
                (stream.capture, stream.frontier) = (None, Vec::new());
            }
        }
        let failure = if capture.broken {
            Some(Status::STREAM_CAPTURE_INVALIDATED)
        } else {
            joined.contains(&false).then_some(Status::STREAM_CAPTURE_UNJOINED)
        };
        if let Some(status) = failure {
            self.release_graph_memory(id);
            return Err(status);
        }
        Ok(Graph { nodes: capture.nodes, capture: id })
    }

    /// Queues what a graph does. On a stream that is captured it would be a node of a kind that there is not here.
    pub fn launch_graph(&mut self, exec: usize, key: u64) -> Outcome {
        let ops = self.execs.get(&exec).ok_or(Status::INVALID_VALUE)?.ops.clone();
        if self.streams[&key].capture.is_some() {
            return Err(Status::NOT_SUPPORTED);
        }
        ops.into_iter().try_for_each(|op| self.enqueue(key, op, Vec::new()).map(drop))
    }

    /// Frees what a capture allocated, once neither a graph nor an executable of it is left.
    pub fn release_graph_memory(&mut self, capture: u64) {
        let is_used = self.graphs.values().any(|graph| graph.capture == capture)
            || self.execs.values().any(|exec| exec.capture == capture);
        if is_used {
            return;
        }
        let starts: Vec<u64> =
            self.blocks.values().filter(|block| block.graph == Some(capture)).map(|block| block.start).collect();
        for start in starts {
            self.free_to_pool(start, (0, 0));
        }
    }

    /// Adds what a captured stream was told to do.
    pub fn add_node(&mut self, capture: u64, key: u64, op: Op) -> Outcome {
        let capture = self.captures.get_mut(&capture).ok_or(Status::STREAM_CAPTURE_INVALIDATED)?;
        if capture.broken {
            return Err(Status::STREAM_CAPTURE_INVALIDATED);
        }
        let stream = self.streams.get_mut(&key).ok_or(Status::INVALID_HANDLE)?;
        capture.nodes.push(Node { op, after: std::mem::take(&mut stream.frontier) });
        stream.frontier.push(capture.nodes.len() - 1);
        Ok(())
    }

    /// The capture cannot become a graph any more.
    pub fn break_capture(&mut self, id: u64) {
        if let Some(capture) = self.captures.get_mut(&id) {
            capture.broken = true;
        }
    }

    /// Whether a capture was broken.
    pub fn is_broken(&self, id: u64) -> bool {
        self.captures.get(&id).is_none_or(|capture| capture.broken)
    }

    /// Refuses what cannot be done with a stream that is captured, and breaks the capture.
    pub fn not_captured(&mut self, key: u64) -> Outcome {
        let Some(id) = self.streams[&key].capture else { return self.legacy_is_free(key) };
        let was_broken = self.is_broken(id);
        self.break_capture(id);
        Err(if was_broken { Status::STREAM_CAPTURE_INVALIDATED } else { Status::STREAM_CAPTURE_UNSUPPORTED })
    }

    /// Captures of blocking streams that the legacy stream would have to wait for.
    pub fn in_the_way_of_legacy(&self, key: u64) -> Vec<u64> {
        let stream = &self.streams[&key];
        if !stream.legacy {
            return Vec::new();
        }
        let blocking = self.streams.values().filter(|other| other.blocking && other.device == stream.device);
        blocking.filter_map(|other| other.capture).collect()
    }

    /// Refuses the legacy stream while a blocking stream of its context is captured, and breaks that capture.
    pub fn legacy_is_free(&mut self, key: u64) -> Outcome {
        let captures = self.in_the_way_of_legacy(key);
        captures.iter().for_each(|&id| self.break_capture(id));
        if captures.is_empty() { Ok(()) } else { Err(Status::STREAM_CAPTURE_IMPLICIT) }
    }

    /// Refuses a call that `cuda.h` names potentially unsafe while a capture goes on that forbids it to this thread, and
    /// breaks that capture.
    pub fn potentially_unsafe(&mut self) -> Outcome {
        let (thread, mode) = (entry::thread(), CAPTURE_MODE.get());
        if mode == RELAXED {
            return Ok(());
        }
        let forbids = |capture: &Capture| {
            let own = capture.thread == thread && capture.mode != RELAXED;
            own || (mode == GLOBAL && capture.mode == GLOBAL)
        };
        let forbidding: Vec<u64> =
            self.captures.iter().filter(|(_, capture)| forbids(capture)).map(|(&id, _)| id).collect();
        forbidding.iter().for_each(|&id| self.break_capture(id));
        if forbidding.is_empty() { Ok(()) } else { Err(Status::STREAM_CAPTURE_UNSUPPORTED) }
    }

    /// Makes a stream wait for what an event recorded.
    pub fn wait_for(&mut self, key: u64, recorded: Recorded) -> Outcome {
        let own = self.streams[&key].capture;
        match recorded {
            Recorded::Nothing => Ok(()),
            Recorded::Point(point, _) => {
                if let Some(id) = own {
                    self.break_capture(id);
                    return Err(Status::STREAM_CAPTURE_ISOLATION);
                }
                self.enqueue(key, Op::Nothing, vec![point]).map(drop)
            }
            Recorded::Captured(id, nodes) => {
                if !self.captures.contains_key(&id) || self.is_broken(id) {
                    return Err(Status::STREAM_CAPTURE_INVALIDATED);
                }
                if self.streams[&key].legacy {
                    self.break_capture(id);
                    return Err(Status::STREAM_CAPTURE_IMPLICIT);
                }
                if own.is_some_and(|own| own != id) {
                    self.break_capture(id);
                    return Err(Status::STREAM_CAPTURE_MERGE);
                }
                // A stream that was not captured joins.
                self.captures.get_mut(&id).expect("looked up above").streams.insert(key);
                let stream = self.streams.get_mut(&key).ok_or(Status::INVALID_HANDLE)?;
                stream.capture = Some(id);
                for node in nodes {
                    if !stream.frontier.contains(&node) {
                        stream.frontier.push(node);
                    }
                }
                Ok(())
            }
        }
    }
}
