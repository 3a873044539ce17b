//! What a file is that can be executed, and that the kernel does not know how to.
//!
//! A text is a script for `/bin/sh`: so say POSIX, shells, and execvp(3) with all that is built on it (tini,
//! dumb-init, `env`, `nohup`). A program for another machine is none, though execvp would hand it to the shell as well,
//! which then finds a syntax error or worse in it; like most shells we say what it is.

use std::{fs::File, io::Read as _, path::Path};

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
