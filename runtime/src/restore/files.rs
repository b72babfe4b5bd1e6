//! Descriptors of an image: files are opened again at the offset they had; what was standard input, output or
//! error and isn't a file becomes what this process was started with.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use xlate_abi::image::notes::{Descriptor, DescriptorKind};

use super::{Restore, RestoreError, process_path};
use crate::errno::Errno;
use crate::linux::descriptors::RaisedLimit;
use crate::linux::{convert, descriptors};

/// Numbers of the standard streams.
const STANDARD: std::ops::RangeInclusive<RawFd> = 0..=2;
/// More descriptors than the translator has of its own.
const MOST_OWN: RawFd = 24;
/// Flags that act when a file is opened and must not act again: O_CREAT, O_EXCL, O_TRUNC (the same on both hosts).
const ONCE: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC;

/// What becomes of a descriptor; everything that can fail for want of a file is done by then.
enum Plan {
    /// This open file, kept at a number out of the way.
    Open(File),
    /// Another descriptor's open file description.
    Same(RawFd),
    /// The standard stream that this process was started with.
    Keep,
    /// Not carried.
    Closed,
}

impl Restore<'_> {
    /// Makes the descriptors those of the image. A plain core tells none: then they stay as they are.
    pub fn reopen_files(&mut self) -> Result<(), RestoreError> {
        let Some(noted) = self.image.descriptors.clone() else {
            return Ok(());
        };
        // Files are opened first, at numbers above all of the guest's: messages still go to our own standard error.
        let highest = noted.open.iter().map(|d| d.number).max().unwrap_or(0);
        let aside = (descriptors::OWN_BASE + MOST_OWN).max(highest + 1);
        descriptors::keep_above(aside + noted.open.len() as RawFd);
        let _limit = RaisedLimit::to(aside + noted.open.len() as RawFd);
        let plans = noted
            .open
            .iter()
            .map(|d| Ok((d, self.plan(d, &noted.open, aside)?)))
            .collect::<Result<Vec<_>, RestoreError>>()?;
        let kept = |fd: RawFd| plans.iter().any(|(d, plan)| d.number == fd && matches!(plan, Plan::Keep));
        close_others(|fd| fd >= aside || kept(fd));
        for (d, plan) in &plans {
            match plan {
                Plan::Open(file) => self.duplicate(file.as_raw_fd(), d)?,
                Plan::Same(first) => self.duplicate(*first, d)?,
                Plan::Keep | Plan::Closed => {}
            }
        }
        Ok(())
    }

    fn plan(&self, d: &Descriptor, all: &[Descriptor], aside: RawFd) -> Result<Plan, RestoreError> {
        if let Some(first) = d.same_as {
            return Ok(Plan::Same(first));
        }
        let file = match d.kind {
            DescriptorKind::Regular => self.open_regular(d, aside)?,
            DescriptorKind::Directory | DescriptorKind::Device => self.open(d, &d.path.0, aside)?,
            _ if STANDARD.contains(&d.number) => return Ok(Plan::Keep),
            DescriptorKind::Terminal => {
                // The stream on the same terminal, or the controlling one.
                match all.iter().find(|o| STANDARD.contains(&o.number) && o.path == d.path) {
                    Some(stream) => return Ok(Plan::Same(stream.number)),
                    None => self.open(d, b"/dev/tty", aside)?,
                }
            }
            DescriptorKind::Pipe | DescriptorKind::Socket | DescriptorKind::Other => {
                eprintln!(
                    "xlate: warning: {}: descriptor {} ({}) couldn't be carried and is closed",
                    self.name,
                    d.number,
                    d.path.text()
                );
                return Ok(Plan::Closed);
            }
        };
        seek(&file, d.offset);
        Ok(Plan::Open(file))
    }

    fn open_regular(&self, d: &Descriptor, aside: RawFd) -> Result<File, RestoreError> {
        let file = self.open(d, &d.path.0, aside)?;
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
        Ok(file)
    }

    /// Opens a file with the descriptor's flags, at a number from `aside` on.
    fn open(&self, d: &Descriptor, path: &[u8], aside: RawFd) -> Result<File, RestoreError> {
        let flags = convert::open_flags_to_host(u64::from(d.flags)) as i32 & !ONCE;
        let mut text = path.to_vec();
        text.push(0);
        // SAFETY: a C string, and flags without O_CREAT, so without a mode.
        let fd = unsafe { libc::open(text.as_ptr().cast(), flags | libc::O_CLOEXEC | libc::O_NOCTTY) };
        if fd < 0 {
            return Err(self.open_failed(d, io::Error::last_os_error()));
        }
        // SAFETY: the descriptor was just opened and is ours alone.
        let file = unsafe { File::from_raw_fd(fd) };
        // SAFETY: as above; the duplicate is a new descriptor.
        let moved = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, aside) };
        if moved < 0 {
            return Err(self.open_failed(d, io::Error::last_os_error()));
        }
        // SAFETY: the duplicate is ours alone.
        Ok(unsafe { File::from_raw_fd(moved) })
    }

    fn open_failed(&self, d: &Descriptor, error: io::Error) -> RestoreError {
        let path = process_path(&d.path.0).display().to_string();
        RestoreError::OpenFile { image: self.name.clone(), number: d.number, path, error }
    }

    /// Gives an open file the guest's number.
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
