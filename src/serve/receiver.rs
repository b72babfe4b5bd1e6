//! A client's stream, with the descriptors that come along with its messages (SCM_RIGHTS, unix(7)).

use std::collections::VecDeque;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Descriptors that are taken with one piece of a message; there should be one.
const AT_ONCE: usize = 4;

pub struct Receiver {
    stream: UnixStream,
    descriptors: VecDeque<OwnedFd>,
}

impl Receiver {
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, descriptors: VecDeque::new() }
    }

    /// The first descriptor that has come and wasn't taken.
    pub fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }
}

impl Read for Receiver {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut parts = [IoSliceMut::new(buffer)];
        let mut space = nix::cmsg_space!([RawFd; AT_ONCE]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(self.stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                // SAFETY: the kernel made them for this process just now.
                let own = descriptors.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
                self.descriptors.extend(own);
            }
        }
        Ok(message.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{ControlMessage, sendmsg};
    use std::io::{IoSlice, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_descriptor_comes_with_its_message() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        ours.write_all(b"one").unwrap();
        let rights = [file.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&rights)];
        sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(b"two")], &rights, MsgFlags::empty(), None).unwrap();
        drop(ours);
        let mut receiver = Receiver::new(theirs);
        let mut all = [0; 6];
        receiver.read_exact(&mut all).unwrap();
        assert_eq!(&all, b"onetwo");
        let descriptor = receiver.descriptor().unwrap();
        let inode = |fd: std::os::fd::BorrowedFd<'_>| nix::sys::stat::fstat(fd).unwrap().st_ino;
        assert_eq!(inode(descriptor.as_fd()), inode(file.as_fd()));
        assert!(receiver.descriptor().is_none());
    }
}
