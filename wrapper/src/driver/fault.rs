//! A defect, or memory that the system refuses, on the side that talks to the API server.
//!
//! Either would end the whole process, and with it the one that ends the command in order. So a thread other than the
//! first that panics, or is refused memory, says so and stands still for ever; the first thread then ends the command
//! and exits. Standing still is all that is always possible: unwinding is not built into what is shipped, and takes
//! memory. What is said goes by a place that was there before and a descriptor: no lock, no memory. Only the first
//! fault is told, as after it nobody renews any more.
//!
//! The first thread itself has nobody to tell. It ends the process, and the watchdog and the signal of the parent's
//! death then end the command at once.
#![expect(unsafe_code, reason = "an allocator can only be written with it")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fmt::{self, Write as _},
    panic,
    sync::{Arc, OnceLock},
};

use nix::{
    sys::eventfd::EventFd,
    unistd::{getpid, gettid, pause},
};

/// What is kept of a message: a place in the source and a sentence.
const KEPT: usize = 400;

/// How to wake the first thread.
static WAKE: OnceLock<Arc<EventFd>> = OnceLock::new();

/// What went wrong first, in any thread.
static SAID: OnceLock<Said> = OnceLock::new();

struct Said {
    text: [u8; KEPT],
    length: usize,
}

impl fmt::Write for Said {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let kept = text.floor_char_boundary(KEPT - self.length);
        self.text[self.length..self.length + kept].copy_from_slice(&text.as_bytes()[..kept]);
        self.length += kept;
        if kept == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

/// From now on, a fault of another thread raises `wake`.
pub(super) fn watch(wake: Arc<EventFd>) {
    // A second call would be one of a second client, of which there is none.
    let _ = WAKE.set(wake);
    let of_the_first = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or("an unknown place", |place| place.file());
        let line = panic.location().map_or(0, panic::Location::line);
        let message = panic.payload_as_str().unwrap_or("it does not say which");
        stand_still(format_args!("a defect at {place}:{line}: {message}"));
        of_the_first(panic);
    }));
}

/// What went wrong, if anything did.
pub(super) fn said() -> Option<String> {
    SAID.get().map(|said| String::from_utf8_lossy(&said.text[..said.length]).into_owned())
}

/// Never returns on a thread other than the first, once there is somebody to tell.
fn stand_still(what: fmt::Arguments) {
    let Some(wake) = WAKE.get().filter(|_| gettid() != getpid()) else { return };
    let mut said = Said { text: [0; KEPT], length: 0 };
    // A message that is cut says enough; and of two faults the first is told.
    let _ = said.write_fmt(what);
    let _ = SAID.set(said);
    // It can only be full, which wakes as well.
    let _ = wake.write(1);
    loop {
        pause();
    }
}

/// The system's memory, and what happens when it is refused.
struct Memory;

#[global_allocator]
static MEMORY: Memory = Memory;

impl Memory {
    fn check(at: *mut u8, size: usize) -> *mut u8 {
        if at.is_null() {
            stand_still(format_args!("no memory for {size} bytes more"));
        }
        at
    }
}

// SAFETY: every call is handed to the system's allocator as it is, and what it answers is handed back; what is done
// when it has refused does not allocate and does not unwind.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        Self::check(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        Self::check(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps to the same contract.
        Self::check(unsafe { System.realloc(at, layout, size) }, size)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.dealloc(at, layout) }
    }
}
