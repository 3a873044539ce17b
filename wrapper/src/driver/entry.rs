//! The way into this program and out of it, in the place of what std does around `main`.
//!
//! That is made for programs with stacks to be guarded and output to be kept: it reads the memory map in /proc, sets up
//! another stack and two handlers, and takes them down again. An init overflows no stack, keeps no output, and handles
//! no signal; its whole start takes hardly longer than these.
#![expect(unsafe_code, reason = "the C library's way to hand over a command line, and to end")]

use std::{
    ffi::{CStr, OsStr, OsString, c_char, c_int},
    os::unix::ffi::OsStrExt as _,
};

use konductor::Choice;
use nix::libc;

/// The whole of `konductor-run`, as the C library calls a program.
///
/// # Safety
///
/// `words` is what the C library hands to `main`: that many texts, which live as long as the process.
pub unsafe fn main(count: c_int, words: *const *const c_char) -> ! {
    let word = |at| {
        // SAFETY: there are that many, each of which ends with a zero.
        let word = unsafe { CStr::from_ptr(*words.add(at)) };
        OsStr::from_bytes(word.to_bytes()).to_owned()
    };
    let words: Vec<OsString> = (0..usize::try_from(count).unwrap_or_default()).map(word).collect();
    let code = crate::code_of(words, Choice::default());
    // SAFETY: ends this process at once. All that was said is written, and nothing else is to be done at an end.
    unsafe { libc::_exit(code.into()) }
}
