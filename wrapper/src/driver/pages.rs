//! Gives back what of this program was needed only to start.
//!
//! Code and constants are mapped from the program's file, and whatever was looked at once counts as this process's
//! memory, though it mostly sleeps from then on. What is needed again is mapped again, from the page cache.

#![expect(unsafe_code, reason = "asks the C library where this program is mapped, and the kernel to unmap pages of it")]

use std::{ptr::null_mut, slice};

use nix::libc;

/// Lets go of all pages of this program's file that are only read.
pub(super) fn let_go() {
    // SAFETY: the callback has the type that is asked for, and only reads what it is given.
    unsafe { libc::dl_iterate_phdr(Some(let_go_of), null_mut()) };
}

/// Called with the program itself first; ends the walk, as nothing else is to be looked at.
unsafe extern "C" fn let_go_of(program: *mut libc::dl_phdr_info, _: usize, _: *mut libc::c_void) -> libc::c_int {
    // SAFETY: what is handed over lives as long as the call.
    let program = unsafe { &*program };
    // SAFETY: asks for a constant.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let Ok(page) = u64::try_from(page) else { return 1 };
    if program.dlpi_phdr.is_null() {
        return 1;
    }
    // SAFETY: there are that many headers, which are part of the program.
    let headers = unsafe { slice::from_raw_parts(program.dlpi_phdr, usize::from(program.dlpi_phnum)) };
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0) {
        // Whole pages only: nothing else can be in one.
        let start = (program.dlpi_addr + header.p_vaddr).next_multiple_of(page);
        let end = (program.dlpi_addr + header.p_vaddr + header.p_memsz) / page * page;
        if start < end {
            // SAFETY: a mapping of the program's file that nobody can write to: what is read there afterwards is what
            // was there before. A refusal changes nothing.
            unsafe { libc::madvise(start as *mut libc::c_void, (end - start) as usize, libc::MADV_DONTNEED) };
        }
    }
    1
}
