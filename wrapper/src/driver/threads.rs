//! Threads by clone(2) alone.
//!
//! The C library asks for a thread by clone3(2), and by clone(2) only where that is not implemented (ENOSYS). Filters
//! of container runtimes that are older than the call refuse it as not permitted (EPERM), and then no program has
//! threads. A static binary has its C library in it, so its clone3 can be this one, which is never implemented.
//! (Otherwise the library is the system's, and the refusal is named.)
#![expect(unsafe_code, reason = "stands in for a function of the C library")]

use nix::libc::{c_int, c_void, size_t};

/// What glibc calls to make a thread.
#[unsafe(no_mangle)]
extern "C" fn __clone3(_: *mut c_void, _: size_t, _: *mut c_void, _: *mut c_void) -> c_int {
    nix::errno::Errno::ENOSYS.set();
    -1
}
