//! What every fuzz target does beside calling its function: it counts memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fuzz_targets::{BYTES_FREE, target};

pub use libfuzzer_sys::fuzz_target;

/// The system's allocator with a count of what is taken.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Takes note of bytes that are taken.
fn took(bytes: usize) {
    let now = NOW.fetch_add(bytes, Relaxed) + bytes;
    MOST.fetch_max(now, Relaxed);
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: see above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: see above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: see above.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: see above.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Runs a target, and asserts that it took no more memory than it may for so many bytes.
///
/// # Panics
/// When the target does, or took more.
pub fn run(name: &str, bytes: &[u8]) {
    let target = target(name).expect("a target of this name");
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    (target.run)(bytes);
    let took = MOST.load(Relaxed) - before;
    let may = BYTES_FREE + bytes.len() * target.bytes_factor;
    assert!(took <= may, "{took} bytes of memory for {} bytes, limit is {may}", bytes.len());
}
