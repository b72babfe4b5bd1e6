//! The file that the guest executes.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::busy;
use super::descriptors::Own;

/// The guest's executable file (the interpreter's, for a script): what /proc/self/exe leads to.
#[derive(Debug)]
pub enum Executable {
    /// Open for as long as the program runs, so that it is found whatever becomes of its name.
    Open {
        file: Own<File>,
        /// Its path at the start, for the case that the descriptor had to be given up.
        path: PathBuf,
    },
    /// A resumed process's, by the path it had when the process was captured.
    Named(PathBuf),
}

impl Executable {
    /// The file of a program that begins to run, which is opened again: a mapping keeps the open file that it was made
    /// from, and that file's locks, alive in every forked process.
    pub fn running(file: &File) -> io::Result<Self> {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let (file, path) = (File::open(&link)?, std::fs::read_link(&link)?);
        busy::mark(&file);
        Ok(Self::Open { file: Own::new(file)?, path })
    }

    /// A path under which the host opens the file.
    pub fn host_path(&self) -> PathBuf {
        match self {
            Self::Open { file, .. } if file.as_raw_fd() >= 0 => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
            Self::Open { path, .. } | Self::Named(path) => path.clone(),
        }
    }

    /// What reading the link /proc/self/exe gives: the file's path now, with ` (deleted)` after it if it is gone.
    pub fn shown(&self) -> io::Result<PathBuf> {
        match self {
            Self::Open { file, .. } if file.as_raw_fd() >= 0 => std::fs::read_link(self.host_path()),
            Self::Open { path, .. } | Self::Named(path) => Ok(path.clone()),
        }
    }
}
