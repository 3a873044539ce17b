//! By which mount a folder is reached, in which boot of the kernel.
//!
//! As long as a mount is there, its filesystem is, and all processes of the kernel see in it what was written last,
//! whether that is on the disk or not. When the power fails there is another boot; when a disk is pulled out, or is
//! mounted anew after it has failed, there is another mount. What had not got to the disk is gone then.
//!
//! The kernel numbers the mounts of a boot and uses no number twice (`STATX_MNT_ID_UNIQUE`, since Linux 6.8; the older
//! numbers come again). The mounts of several containers have several numbers also where they are of one filesystem, and
//! some containers have a boot id of their own: two that differ prove nothing, and two that are the same, everything.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, OwnedFd},
    sync::OnceLock,
};

use nix::sys::statfs::fstatfs;
use rustix::fs::{AtFlags, StatxFlags, statx};

use super::filesystem::Filesystem;

/// A random number that a kernel draws when it starts.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The length of that number as text.
const BOOT_ID_LENGTH: usize = 36;

/// Asks for the number of a mount that no other one of this boot gets.
const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// The mount by which a folder is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The boot of the kernel, where that can be known.
    pub(super) boot: Option<String>,
    /// No other mount of any boot is called so; none where that cannot be known.
    pub(super) mark: Option<String>,
    /// The filesystem is of this machine alone, so what is lost of it is lost with the kernel or the mount. Others lose
    /// what was not on the disk whenever their servers do.
    pub(super) is_of_one_machine: bool,
}

impl Mount {
    /// That of an open folder.
    pub(super) fn of(folder: &OwnedFd) -> io::Result<Self> {
        let filesystem = Filesystem::from(fstatfs(folder)?.filesystem_type());
        let boot = this_boot();
        let mark = boot.zip(number(folder)).map(|(boot, number)| format!("{boot}/{number}"));
        Ok(Self { boot: boot.map(ToOwned::to_owned), mark, is_of_one_machine: filesystem.is_of_one_machine() })
    }
}

/// The boot that this process lives in, which is one, once it could be read.
fn this_boot() -> Option<&'static str> {
    static BOOT: OnceLock<String> = OnceLock::new();
    if BOOT.get().is_none() {
        let _ = BOOT.set(File::open(BOOT_ID).ok().and_then(boot_id)?);
    }
    BOOT.get().map(String::as_str)
}

fn boot_id(file: impl io::Read) -> Option<String> {
    let mut text = String::new();
    file.take(BOOT_ID_LENGTH as u64 + 1).read_to_string(&mut text).ok()?;
    let id = text.trim_end();
    let is_one = id.len() == BOOT_ID_LENGTH && id.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
    is_one.then(|| id.to_owned())
}

fn number(folder: impl AsFd) -> Option<u64> {
    let found = statx(folder, "", AtFlags::EMPTY_PATH, UNIQUE).ok()?;
    (found.stx_mask & UNIQUE.bits() != 0).then_some(found.stx_mnt_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_has_an_id_and_anything_else_is_none() {
        let id = "c82f17b3-08c6-4543-82de-abb793113f45";
        assert_eq!(boot_id(format!("{id}\n").as_bytes()).as_deref(), Some(id));
        for text in ["", "\n", "c82f17b3\n", &format!("{id}0\n"), &id.replace('-', "_")] {
            assert_eq!(boot_id(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn the_folders_of_one_mount_have_one_mark_and_those_of_another_have_another() {
        let mount = |path: &str| Mount::of(&File::open(path).expect("it is there").into()).expect("it can be examined");
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of = |folder: &tempfile::TempDir| mount(folder.path().to_str().expect("a UTF-8 path"));
        assert_eq!(of(&one), of(&other));
        let (here, proc) = (of(&one), mount("/proc"));
        assert_eq!(here.boot, proc.boot);
        assert!(!proc.is_of_one_machine);
        // On a kernel that does not number them there is none.
        assert!(here.mark.is_none() && proc.mark.is_none() || here.mark != proc.mark, "{here:?} {proc:?}");
    }
}
