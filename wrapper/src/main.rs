//! The binary `konductor-run`.
#![no_main]
#![expect(unsafe_code, reason = "a program without std's start is called by its name, with what the system hands over")]

use std::ffi::{c_char, c_int};

#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    // SAFETY: handed on as it is.
    unsafe { konductor_run::main(count, words) }
}
