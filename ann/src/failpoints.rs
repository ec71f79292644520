//! Places in the shim that throw when they are told to, for tests: the feature `failpoints`.

use std::ffi::c_int;

unsafe extern "C" {
    fn pagoda_ann_fail(place: c_int, after: c_int);
}

/// A place that can throw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Place {
    /// Before an index is trained.
    Build = 1,
    /// Before Faiss reads a graph or a fast scan.
    Read = 2,
    /// Before an index is written.
    Write = 3,
    /// Before Faiss searches a graph or a fast scan.
    Search = 4,
    /// In the middle of a masked search of a graph.
    WithinSearch = 5,
    /// Before the exact search of many queries.
    Exact = 6,
}

/// Has a place throw, in every thread, once it was passed so many times; none: nothing throws any more.
pub fn fail(place: Option<Place>, after: u16) {
    // SAFETY: sets two atomic numbers.
    unsafe { pagoda_ann_fail(place.map_or(0, |place| place as c_int), c_int::from(after)) }
}
