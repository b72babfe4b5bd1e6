//! Descriptors of an image: files are opened again at the offset they had; what was standard input, output or
//! error and isn't a file becomes what this process was started with.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use xlate_abi::image::notes::{Descriptor, DescriptorKind};

use super::{Restore, RestoreError, process_path};
use crate::errno::Errno;
use crate::linux::{convert, descriptors};

/// Numbers of the standard streams.
const STANDARD: std::ops::RangeInclusive<RawFd> = 0..=2;
/// Flags that act when a file is opened and must not act again: O_CREAT, O_EXCL, O_TRUNC (the same on both hosts).
const ONCE: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC;

impl Restore<'_> {
    /// Makes the descriptors those of the image. A plain core tells none: then they stay as they are.
    pub fn reopen_files(&mut self) -> Result<(), RestoreError> {
        let Some(noted) = self.image.descriptors.clone() else {
            return Ok(());
        };
        self.hide_image()?;
        let kept = |number: RawFd| STANDARD.contains(&number) && noted.open.iter().any(|d| d.number == number);
        close_others(kept);
        for descriptor in &noted.open {
            self.reopen(descriptor, &noted.open)?;
        }
        Ok(())
    }

    /// The image's own descriptor must not be in the way of the guest's.
    fn hide_image(&mut self) -> Result<(), RestoreError> {
        let twin = self.file.try_clone().map_err(|e| self.failed("opening the image again", e.into()))?;
        let hidden = descriptors::hide(twin.into_raw_fd()).map_err(|e| self.failed("moving a descriptor", e))?;
        // SAFETY: `hide` returns a descriptor that is ours alone.
        self.file = unsafe { File::from_raw_fd(hidden) };
        Ok(())
    }

    fn failed(&self, what: &'static str, errno: Errno) -> RestoreError {
        RestoreError::System { image: self.name.clone(), what, errno }
    }

    fn reopen(&self, d: &Descriptor, all: &[Descriptor]) -> Result<(), RestoreError> {
        if descriptors::is_own(d.number) {
            return Err(RestoreError::OwnDescriptor { image: self.name.clone(), number: d.number });
        }
        if let Some(first) = d.same_as {
            return self.duplicate(first, d);
        }
        match d.kind {
            DescriptorKind::Regular => self.open_regular(d),
            DescriptorKind::Directory | DescriptorKind::Device => {
                let file = self.open(d, &d.path.0)?;
                seek(&file, d.offset);
                self.place(file, d)
            }
            _ if STANDARD.contains(&d.number) => Ok(()),
            DescriptorKind::Terminal => self.open_terminal(d, all),
            DescriptorKind::Pipe | DescriptorKind::Socket | DescriptorKind::Other => {
                eprintln!(
                    "xlate: warning: {}: descriptor {} ({}) couldn't be carried and is closed",
                    self.name,
                    d.number,
                    d.path.text()
                );
                Ok(())
            }
        }
    }

    fn open_regular(&self, d: &Descriptor) -> Result<(), RestoreError> {
        let file = self.open(d, &d.path.0)?;
        let now = file.metadata().map_err(|e| self.open_failed(d, e))?.len();
        if now != d.size {
            let changed = RestoreError::ChangedFile {
                image: self.name.clone(),
                number: d.number,
                path: d.path.text().into_owned(),
                then: d.size,
                now,
            };
            // What others write to as well (a log on standard error) is no reason to give up.
            if !STANDARD.contains(&d.number) || now < d.offset {
                return Err(changed);
            }
            eprintln!("xlate: warning: {changed}");
        }
        seek(&file, d.offset);
        self.place(file, d)
    }

    /// A terminal elsewhere than on the standard streams: the stream on the same terminal, or the controlling one.
    fn open_terminal(&self, d: &Descriptor, all: &[Descriptor]) -> Result<(), RestoreError> {
        let twin = all.iter().find(|o| STANDARD.contains(&o.number) && o.path == d.path);
        match twin {
            Some(stream) => self.duplicate(stream.number, d),
            None => {
                let file = self.open(d, b"/dev/tty")?;
                self.place(file, d)
            }
        }
    }

    fn open(&self, d: &Descriptor, path: &[u8]) -> Result<File, RestoreError> {
        let flags = convert::open_flags_to_host(u64::from(d.flags)) as i32 & !ONCE;
        let mut text = path.to_vec();
        text.push(0);
        // SAFETY: a C string, and flags without O_CREAT, so without a mode.
        let fd = unsafe { libc::open(text.as_ptr().cast(), flags | libc::O_CLOEXEC | libc::O_NOCTTY) };
        if fd < 0 {
            return Err(self.open_failed(d, io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just opened and is ours alone.
        Ok(unsafe { File::from_raw_fd(fd) })
    }

    fn open_failed(&self, d: &Descriptor, error: io::Error) -> RestoreError {
        let path = process_path(&d.path.0).display().to_string();
        RestoreError::OpenFile { image: self.name.clone(), number: d.number, path, error }
    }

    /// Gives an open file the guest's number.
    fn place(&self, file: File, d: &Descriptor) -> Result<(), RestoreError> {
        let fd = file.into_raw_fd();
        if fd != d.number {
            let moved = self.duplicate(fd, d);
            // SAFETY: it was ours, and the guest has its own now.
            unsafe { libc::close(fd) };
            return moved;
        }
        let flags = if d.close_on_exec { libc::FD_CLOEXEC } else { 0 };
        // SAFETY: sets the flags of a descriptor that is open.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, flags) } < 0 {
            return Err(self.failed("fcntl", Errno::last()));
        }
        Ok(())
    }

    fn duplicate(&self, from: RawFd, d: &Descriptor) -> Result<(), RestoreError> {
        let flags = if d.close_on_exec { libc::O_CLOEXEC } else { 0 };
        // SAFETY: the guest's number is free, or a standard stream that gives way.
        if unsafe { libc::dup3(from, d.number, flags) } < 0 {
            return Err(self.open_failed(d, io::Error::last_os_error()));
        }
        Ok(())
    }
}

/// Puts the file to its offset; what can't be positioned has none.
fn seek(file: &File, offset: u64) {
    // SAFETY: positions a descriptor that is open.
    let at = unsafe { libc::lseek(file.as_raw_fd(), offset as libc::off_t, libc::SEEK_SET) };
    if at < 0 {
        tracing::debug!(errno = %Errno::last(), "lseek");
    }
}

/// Closes what was inherited from whoever started the translator: the image says what is open.
fn close_others(kept: impl Fn(RawFd) -> bool) {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let number = |name: &std::ffi::OsStr| std::str::from_utf8(name.as_bytes()).ok()?.parse::<RawFd>().ok();
    let open: Vec<RawFd> = entries.flatten().filter_map(|e| number(&e.file_name())).collect();
    for fd in open {
        if !kept(fd) && !descriptors::is_own(fd) {
            // SAFETY: nothing of the translator's has a number that isn't hidden. (The directory's own is closed
            // already: that fails, harmlessly.)
            unsafe { libc::close(fd) };
        }
    }
}
