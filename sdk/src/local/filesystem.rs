//! Which filesystems are of one machine. On any other this machine's kernel cannot say whether a holder lives, so
//! what is not known to be of one machine is not taken to be.

use std::fmt;

use nix::sys::statfs::FsType;

/// Those that one kernel at a time writes to: on a disk of its own, in its memory, or over one of these.
const OF_ONE_MACHINE: [u32; 19] = [
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683E, // Btrfs
    0x2FC1_2FC1, // ZFS
    0xF2F5_2010, // F2FS
    0xCA45_1A4E, // bcachefs
    0x3153_464A, // JFS
    0x5265_4973, // ReiserFS
    0x3434,      // NILFS2
    0x0001_1954, // UFS
    0x482B,      // HFS+
    0x7366_746E, // NTFS, by the kernel's own driver
    0x4D44,      // FAT
    0x2011_BAB0, // exFAT
    0x72B6,      // JFFS2
    0x2405_1905, // UBIFS
    0x0102_1994, // tmpfs
    0x8584_58F6, // ramfs
    0x794C_7630, // overlayfs, whose upper folder cannot be on a network
];

/// Names for those that people meet and that are not, or need not be, of one machine.
const NAMES: [(u32, &str); 29] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2 or SMB3"),
    (0x564C, "NCP"),
    (0x0102_1997, "9P"),
    (0x6573_5546, "FUSE or virtiofs"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x2003_0528, "OrangeFS"),
    (0xAAD7_AAEA, "PanFS"),
    (0x6163_6673, "ACFS"),
    (0xA501_FCF5, "VxFS"),
    (0xBEEF_DEAD, "StorNext"),
    (0x0131_11A8, "IBRIX"),
    (0x786F_4256, "a VirtualBox shared folder"),
    (0xBACB_ACBC, "a VMware shared folder"),
    (0x7C7C_6673, "a Parallels shared folder"),
    (0x6175_6673, "aufs"),
    (0xF15F, "eCryptfs"),
    (0x9FA0, "proc"),
    (0x6265_6572, "sysfs"),
];

/// A kind of filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filesystem(u32);

impl Filesystem {
    pub(super) fn is_of_one_machine(self) -> bool {
        OF_ONE_MACHINE.contains(&self.0)
    }
}

impl From<FsType> for Filesystem {
    fn from(kind: FsType) -> Self {
        // The numbers have 32 bits, whatever the C library keeps them in.
        Self(kind.0 as u32)
    }
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "a filesystem of an unknown kind ({:#x})", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nix::sys::statfs;

    use super::*;

    #[test]
    fn what_is_of_one_machine_is_a_list_and_all_else_is_not() {
        for kind in
            [statfs::EXT4_SUPER_MAGIC, statfs::XFS_SUPER_MAGIC, statfs::TMPFS_MAGIC, statfs::OVERLAYFS_SUPER_MAGIC]
        {
            assert!(Filesystem::from(kind).is_of_one_machine(), "{kind:?}");
        }
        for (kind, name) in [
            (statfs::NFS_SUPER_MAGIC, "NFS"),
            (statfs::SMB_SUPER_MAGIC, "SMB"),
            (statfs::FUSE_SUPER_MAGIC, "FUSE or virtiofs"),
            (statfs::AFS_SUPER_MAGIC, "AFS"),
            (statfs::CODA_SUPER_MAGIC, "Coda"),
            (statfs::OCFS2_SUPER_MAGIC, "OCFS2"),
            (statfs::FsType(0xFE53_4D42), "SMB2 or SMB3"),
            (statfs::FsType(0x1234_5678), "a filesystem of an unknown kind (0x12345678)"),
        ] {
            let kind = Filesystem::from(kind);
            assert_eq!((kind.is_of_one_machine(), kind.to_string()), (false, name.to_owned()));
        }
        let numbers: BTreeSet<_> = OF_ONE_MACHINE.into_iter().chain(NAMES.map(|(number, _)| number)).collect();
        assert_eq!(numbers.len(), OF_ONE_MACHINE.len() + NAMES.len(), "one is there twice");
    }
}
