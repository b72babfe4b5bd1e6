use syscalls::x86_64::Sysno;

use super::*;
use crate::linux::table::{self, TABLE};

type Ranges = Vec<(u64, u64)>;

/// What a call's row finds. The test's own memory stands for the guest's.
fn found(number: Sysno, args: [u64; 6]) -> Ranges {
    crate::signal::catch_faults();
    let mut ranges = Vec::new();
    let row = table::row(number as u32).unwrap();
    Call::new(&Memory::new(), &Args(args), &mut |start, len| ranges.push((start, len))).find(row.writes);
    ranges
}

fn address<T>(value: &T) -> u64 {
    core::ptr::from_ref(value) as u64
}

/// Where nothing can be read.
const BAD: u64 = 8;
const PLACE: u64 = 0x1234_5000;

#[test]
fn arguments_that_are_named_exist() {
    for row in TABLE {
        for write in row.writes {
            let numbers = match *write {
                Write::Fixed { at, .. } => [at, at],
                Write::Bytes { at, len } | Write::Sized { at, len } => [at, len],
                Write::Array { at, count, .. } | Write::Bits { at, count } | Write::Vector { at, count } => [at, count],
                Write::Special(_) => continue,
            };
            assert!(numbers.iter().all(|n| *n < row.args.into()), "{}", row.number);
        }
    }
}

#[test]
fn plain_buffers() {
    assert_eq!(found(Sysno::read, [3, PLACE, 6, 0, 0, 0]), [(PLACE, 6)]);
    assert_eq!(found(Sysno::read, [3, PLACE, u64::MAX, 0, 0, 0]), [(PLACE, u64::MAX)]);
    assert_eq!(found(Sysno::read, [3, PLACE, 0, 0, 0, 0]), []);
    assert_eq!(found(Sysno::write, [3, PLACE, 6, 0, 0, 0]), []);
    assert_eq!(found(Sysno::wait4, [1, PLACE, 0, 0, 0, 0]), [(PLACE, 4)], "no usage is asked for");
    assert_eq!(found(Sysno::epoll_wait, [3, PLACE, 3, 0, 0, 0]), [(PLACE, 36)]);
    assert_eq!(found(Sysno::epoll_wait, [3, PLACE, u64::MAX, 0, 0, 0]), [(PLACE, u64::MAX)]);
    assert_eq!(found(Sysno::select, [65, PLACE, 0, 0, 0, 0]), [(PLACE, 16)]);
    assert_eq!(found(Sysno::select, [u64::MAX, PLACE, 0, 0, 0, 0])[0].0, PLACE);
    assert_eq!(found(Sysno::mincore, [PLACE, 4097, 2 * PLACE, 0, 0, 0]), [(2 * PLACE, 2)]);
    assert_eq!(found(Sysno::msgrcv, [1, PLACE, 10, 0, 0, 0]), [(PLACE, 18)]);
    assert_eq!(found(Sysno::msgrcv, [1, PLACE, u64::MAX, 0, 0, 0]), [(PLACE, u64::MAX)]);
}

#[test]
fn arrays_of_buffers() {
    let vector = [[PLACE, 3], [0, 5], [BAD, 0], [2 * PLACE, u64::MAX]];
    let at = address(&vector);
    assert_eq!(found(Sysno::readv, [3, at, 4, 0, 0, 0]), [(PLACE, 3), (2 * PLACE, u64::MAX)]);
    assert_eq!(found(Sysno::readv, [3, BAD, 4, 0, 0, 0]), []);
    assert_eq!(found(Sysno::readv, [3, at, MOST_BUFFERS + 1, 0, 0, 0]), [], "the call fails");
    assert_eq!(found(Sysno::readv, [3, at, u64::MAX, 0, 0, 0]), []);
    assert_eq!(found(Sysno::process_vm_writev, [1, BAD, 1, at, 1, 0]), [(PLACE, 3)]);
    assert_eq!(vector_len(&Memory::new(), at, 3), 8);
    assert_eq!(vector_len(&Memory::new(), at, 4), u64::MAX);
}

/// An array that ends with the mapping is found up to there.
#[test]
fn an_array_that_cannot_be_read_to_its_end() {
    let page = 4096;
    let mut map = memmap2::MmapOptions::new().len(2 * page).map_anon().unwrap();
    map[page - 16..page - 8].copy_from_slice(&PLACE.to_le_bytes());
    map[page - 8..page].copy_from_slice(&9u64.to_le_bytes());
    let start = map.as_ptr() as u64;
    // SAFETY: the second page is this test's own, and nothing refers to it.
    unsafe { libc::mprotect((start as usize + page) as *mut libc::c_void, page, libc::PROT_NONE) };
    assert_eq!(found(Sysno::readv, [3, start + page as u64 - 16, 2, 0, 0, 0]), [(PLACE, 9)]);
}

#[test]
fn lengths_in_memory() {
    let length = 16u32;
    let at = address(&length);
    assert_eq!(found(Sysno::accept, [3, PLACE, at, 0, 0, 0]), [(PLACE, 16), (at, 4)]);
    assert_eq!(found(Sysno::accept, [3, PLACE, BAD, 0, 0, 0]), []);
    assert_eq!(found(Sysno::accept, [3, 0, 0, 0, 0, 0]), []);
    assert_eq!(found(Sysno::recvfrom, [3, PLACE, 7, 0, 0, 0]), [(PLACE, 7)]);
}

#[test]
fn messages() {
    let vector = [[PLACE, 3], [2 * PLACE, 4]];
    let header = |name: u64| [name, 0xffff_ffff_0000_0010, address(&vector), 2, 4 * PLACE, 24, 0, 0];
    let all = |at| vec![(at, 56), (3 * PLACE, 16), (PLACE, 3), (2 * PLACE, 4), (4 * PLACE, 24)];
    let one = header(3 * PLACE);
    assert_eq!(found(Sysno::recvmsg, [3, address(&one), 0, 0, 0, 0]), all(address(&one)));
    assert_eq!(found(Sysno::recvmsg, [3, BAD, 0, 0, 0, 0]), []);
    let two = [header(3 * PLACE), header(0)];
    let ranges = found(Sysno::recvmmsg, [3, address(&two), 2, 0, 5 * PLACE, 0]);
    assert_eq!(ranges[..6], [all(address(&two)), vec![(address(&two), 64)]].concat());
    assert_eq!(ranges[6..].len(), 6, "without a name, and with the timeout: {ranges:?}");
    assert_eq!(ranges.last(), Some(&(5 * PLACE, 16)));
}

#[test]
fn requests_by_number() {
    let ioctl = |request: u64, argument| found(Sysno::ioctl, [0, request, argument, 0, 0, 0]);
    assert_eq!(ioctl(libc::TIOCGWINSZ, PLACE), [(PLACE, 8)]);
    assert_eq!(ioctl(libc::FIONBIO, PLACE), []);
    // SIOCGIFCONF: a length and an address.
    let configuration = [64, PLACE];
    let ranges = ioctl(0x8912, address(&configuration));
    assert!(ranges.iter().any(|(start, len)| *start == PLACE && *len >= 64), "{ranges:?}");
    assert_eq!(ranges[0].0, address(&configuration));
    let fcntl = |command: i32| found(Sysno::fcntl, [0, command as u64, PLACE, 0, 0, 0]);
    assert_eq!(fcntl(libc::F_GETLK), [(PLACE, 32)]);
    assert_eq!(fcntl(libc::F_SETLK), []);
    let futex = |operation: i32| found(Sysno::futex, [PLACE, operation as u64, 0, 0, 2 * PLACE, 0]);
    assert_eq!(futex(libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG), []);
    assert_eq!(futex(libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG), [(2 * PLACE, 4)]);
    assert_eq!(futex(libc::FUTEX_LOCK_PI | libc::FUTEX_PRIVATE_FLAG), [(PLACE, 4)]);
    assert_eq!(futex(libc::FUTEX_WAIT), [(PLACE, 4), (2 * PLACE, 4)], "between processes");
    assert_eq!(found(Sysno::arch_prctl, [0x1002, PLACE, 0, 0, 0, 0]), [], "FS is set");
    assert_eq!(found(Sysno::arch_prctl, [0x1003, PLACE, 0, 0, 0, 0]), [(PLACE, 8)]);
}

#[test]
fn asynchronous_reads() {
    // `struct iocb`: data, key, operation and descriptor, buffer, length.
    let request = |operation: u64, buffer, len| [0u64, 0, operation, buffer, len, 0, 0, 0];
    let vector = [[3 * PLACE, 9]];
    let requests = [request(0, PLACE, 5), request(1, 2 * PLACE, 5), request(7, address(&vector), 1)];
    let list = [address(&requests[0]), address(&requests[1]), BAD, address(&requests[2])];
    let ranges = found(Sysno::io_submit, [1, 4, address(&list), 0, 0, 0]);
    assert_eq!(ranges[0], (address(&requests[0]) + 8, 4));
    assert_eq!(ranges[4..], [(PLACE, 5), (3 * PLACE, 9)], "a write's buffer isn't among them");
    assert_eq!(found(Sysno::io_submit, [1, u64::MAX, BAD, 0, 0, 0]), []);
}
