//! What a file is that can be executed, and that the kernel does not execute: it says only that something is not there,
//! or is not permitted, or is of no format that it knows.
//!
//! A text is a script for `/bin/sh`: so say POSIX, shells, and execvp(3) with all that is built on it (tini,
//! dumb-init, `env`, `nohup`). A program for another machine is none, though execvp would hand it to the shell as well,
//! which then finds a syntax error or worse in it; like most shells we say what it is.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

/// How much of a file is looked at, as shells do.
const LOOKED_AT: u64 = 256;

/// What the kernel cannot execute.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A text: a script for `/bin/sh`.
    Script,
    /// A program for another machine, where it is known which.
    Program(Option<&'static str>),
    /// Nothing that can be read.
    Unreadable(String),
}

/// Looks into the file.
pub(super) fn of(path: &Path) -> Format {
    let mut start = Vec::new();
    match File::open(path).and_then(|file| file.take(LOOKED_AT).read_to_end(&mut start)) {
        Ok(_) => of_start(&start),
        Err(error) => Format::Unreadable(error.to_string()),
    }
}

/// Why a file that is there cannot be executed: what it needs, or what that needs in turn.
pub(super) fn missing_interpreter(path: &Path) -> Option<String> {
    let (mut needs, mut at) = ("", path.to_owned());
    // As deep as the kernel goes.
    for _ in 0..5 {
        let Ok(Some((kind, interpreter))) = interpreter(&at) else { break };
        (needs, at) = (kind, interpreter);
        if access(&at, AccessFlags::X_OK).is_err() {
            break;
        }
    }
    let there = if at.exists() { "cannot be executed" } else { "is not there" };
    let windows = if at.as_os_str().as_bytes().ends_with(b"\r") { " (the line has a Windows line ending)" } else { "" };
    (!needs.is_empty()).then(|| format!("{needs}, {}, {there}{windows}", at.display()))
}

/// What executes this file, and what that is called.
fn interpreter(path: &Path) -> io::Result<Option<(&'static str, PathBuf)>> {
    let mut file = File::open(path)?;
    let mut start = Vec::new();
    file.by_ref().take(LOOKED_AT).read_to_end(&mut start)?;
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let mut words = line.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
        return Ok(words
            .next()
            .map(|word| ("the interpreter that its first line names", OsStr::from_bytes(word).into())));
    }
    Ok(loader(&file, &start)?.map(|loader| ("the loader that it needs", loader)))
}

/// The loader that a program of 64 bits names, in this machine's own order of bytes.
fn loader(file: &File, start: &[u8]) -> io::Result<Option<PathBuf>> {
    const PT_INTERP: u32 = 3;
    const LONGEST_PATH: u64 = 4096;
    let number = |bytes: &[u8]| {
        let mut number = [0; 8];
        let from = if cfg!(target_endian = "little") { 0 } else { 8 - bytes.len() };
        number[from..from + bytes.len()].copy_from_slice(bytes);
        u64::from_ne_bytes(number)
    };
    if !start.starts_with(b"\x7fELF\x02") || start.len() < 64 {
        return Ok(None);
    }
    let (headers, size, count) = (number(&start[32..40]), number(&start[54..56]), number(&start[56..58]));
    let mut header = [0; 56];
    for index in 0..count {
        file.read_exact_at(&mut header, headers.saturating_add(index * size))?;
        if number(&header[..4]) == u64::from(PT_INTERP) {
            let (at, length) = (number(&header[8..16]), number(&header[32..40]).min(LONGEST_PATH));
            let mut path = vec![0; length as usize];
            file.read_exact_at(&mut path, at)?;
            let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
            return Ok(Some(OsStr::from_bytes(path).into()));
        }
    }
    Ok(None)
}

fn of_start(start: &[u8]) -> Format {
    if start.starts_with(b"\x7fELF") {
        return Format::Program(machine(start));
    }
    // An encoding of Unicode that has zero bytes is no script either.
    let first_line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if first_line.contains(&0) { Format::Program(None) } else { Format::Script }
}

/// The machine that an ELF file is for: the number that follows its type, in the file's own order of bytes.
fn machine(elf: &[u8]) -> Option<&'static str> {
    let number = [*elf.get(18)?, *elf.get(19)?];
    let number = if elf.get(5) == Some(&2) { u16::from_be_bytes(number) } else { u16::from_le_bytes(number) };
    Some(match number {
        3 => "x86",
        8 => "mips",
        21 => "ppc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_needs_is_found() {
        let own = std::env::current_exe().unwrap();
        let (kind, loader) = interpreter(&own).unwrap().expect("this program is not static");
        assert!(kind.contains("loader") && loader.exists(), "{loader:?}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        for (text, expected) in [
            ("#!/bin/sh\n", Some("/bin/sh")),
            ("#! \t/bin/sh -e\n", Some("/bin/sh")),
            ("#!/bin/sh\r\n", Some("/bin/sh\r")),
            ("#!", None),
            ("echo", None),
            ("", None),
            ("\x7fELF\x02", None),
        ] {
            std::fs::write(&file, text).unwrap();
            let found = interpreter(&file).unwrap().map(|(_, path)| path);
            assert_eq!(found.as_deref(), expected.map(Path::new), "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_program_is_read_or_refused(rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), [b"\x7fELF\x02", &rest[..]].concat()).unwrap();
            let _ = missing_interpreter(file.path());
        }
    }

    #[test]
    fn a_text_is_a_script_and_nothing_else_is() {
        let elf =
            |order: u8, machine: [u8; 2]| [b"\x7fELF\x02".as_slice(), &[order], &[1; 12], &machine, b"rest"].concat();
        for (start, expected) in [
            (b"echo hello\nexit 3\n".to_vec(), Format::Script),
            (Vec::new(), Format::Script),
            ("# gr\u{fc}\u{df}e\n".into(), Format::Script),
            // An archive behind its own script.
            (b"exec tail -n +2 \"$0\"\n\0\0\0".to_vec(), Format::Script),
            (b"\0asm\x01\0\0\0".to_vec(), Format::Program(None)),
            (b"MZ\x90\0\x03".to_vec(), Format::Program(None)),
            (b"e\0c\0h\0o\0".to_vec(), Format::Program(None)),
            (elf(1, [183, 0]), Format::Program(Some("aarch64"))),
            (elf(2, [0, 22]), Format::Program(Some("s390x"))),
            (elf(1, [0xff, 0xff]), Format::Program(None)),
            (b"\x7fELF\x02".to_vec(), Format::Program(None)),
        ] {
            assert_eq!(of_start(&start), expected, "{start:?}");
        }
        assert!(matches!(of(Path::new("/nowhere")), Format::Unreadable(_)));
    }
}
