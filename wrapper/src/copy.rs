//! `--copy-to`: this program as a file, for an init container that feeds a volume. An image from scratch has no `cp`.
//!
//! The file appears complete or not at all: it is written beside its place and then renamed, so that whoever starts it
//! meanwhile gets the old one or the new one, also when two init containers feed one volume.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use konductor::Exit;

/// The name of this program where only a folder is named.
const NAME: &str = "konductor-run";
/// This program as the kernel knows it, also when its file has another name by now, or none.
const SELF: &str = "/proc/self/exe";
/// Names that are tried for the file beside; one is taken only by another copy under way, or one that was killed.
const ATTEMPTS: u32 = 100;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// This program cannot be read.
    #[error("cannot copy this program: cannot read {SELF}: {0}")]
    Read(io::Error),
    /// What is to hold the file is not a folder.
    #[error("cannot copy this program to {}: there is no folder {}", .path.display(), .folder.display())]
    NoFolder {
        /// Where this program was to be copied to.
        path: PathBuf,
        /// The folder that is not there.
        folder: PathBuf,
    },
    /// The file cannot be written.
    #[error("cannot copy this program to {}: {source}", .path.display())]
    Write {
        /// The file that cannot be written.
        path: PathBuf,
        /// Why it cannot be written: read-only, full, not permitted.
        source: io::Error,
    },
}

impl CopyError {
    /// A path that is wrong, or a system that refuses.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::NoFolder { .. } => Exit::Usage,
            Self::Read(_) | Self::Write { .. } => Exit::Internal,
        }
    }
}

/// Copies this program to `path`, or into it if it is a folder, and says which file it is now.
pub(crate) fn copy_to(path: &Path) -> Result<PathBuf, CopyError> {
    let path = if path.is_dir() { path.join(NAME) } else { path.to_owned() };
    // Of `new/` the file's name would be `new`, which is not what was meant.
    let no_name = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    let folder = match path.parent() {
        Some(_) if no_name => &path,
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => &path,
    };
    if !folder.is_dir() {
        return Err(CopyError::NoFolder { folder: folder.to_owned(), path });
    }
    let mut program = File::open(SELF).map_err(CopyError::Read)?;
    let written = create_beside(&path, folder).and_then(|(file, beside)| {
        let outcome = fill(&mut program, file).and_then(|()| fs::rename(&beside, &path));
        if outcome.is_err() {
            // What matters is why it could not be filled.
            let _ = fs::remove_file(&beside);
        }
        outcome
    });
    match written {
        Ok(()) => Ok(path),
        Err(source) => Err(CopyError::Write { path, source }),
    }
}

/// A new file with a name of its own: process ids are not enough, as every container has a process 1.
fn create_beside(path: &Path, folder: &Path) -> io::Result<(File, PathBuf)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut last = None;
    for attempt in 0..ATTEMPTS {
        let beside = folder.join(format!(".{name}.{}-{attempt}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o700).open(&beside) {
            Ok(file) => return Ok((file, beside)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into()))
}

/// Closes it, too: nobody could execute what is still open for writing.
fn fill(program: &mut File, mut file: File) -> io::Result<()> {
    io::copy(program, &mut file)?;
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(0o755))?;
    // Some file systems say only now that they are full.
    file.sync_all()
}
