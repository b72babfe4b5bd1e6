//! These run in a process that isn't placed (see `layout`): its own mappings lie where guests live, which is
//! just what conflicts need.

use super::*;

const PAGE: u64 = GUEST_PAGE;
/// An address where the test process has nothing.
const AREA: u64 = 0x1000_0000_0000;

const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;

fn anonymous(addr: u64, len: u64, prot: i32, fixed: i32) -> MapRequest {
    MapRequest {
        addr,
        len,
        prot,
        flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | fixed,
        fd: -1,
        ..MapRequest::default()
    }
}

fn new() -> Memory {
    crate::signal::catch_faults();
    Memory::new()
}

/// Each test has its own stretch, for they run side by side.
fn area(index: u64) -> u64 {
    AREA + index * 0x1_0000_0000
}

fn extents(memory: &Memory) -> Vec<(u64, u64, i32)> {
    memory.regions().map(|r| (r.start, r.end, r.prot)).collect()
}

#[test]
fn mappings_without_address_come_from_the_guests_area() {
    let mut memory = new();
    let first = memory.mmap(&anonymous(0, 3 * PAGE, RW, 0)).unwrap();
    let second = memory.mmap(&anonymous(0, PAGE, RW, 0)).unwrap();
    assert!(first + 3 * PAGE <= MMAP_TOP);
    assert!(second < first, "top-down: {second:#x} {first:#x}");
    assert!(!crate::layout::own_area().contains(&first));
    memory.munmap(second, PAGE).unwrap();
    assert_eq!(memory.mmap(&anonymous(0, PAGE, RW, 0)).unwrap(), second, "a hole is used again");
}

#[test]
fn a_free_hint_is_taken_and_an_occupied_one_is_not() {
    let mut memory = new();
    let at = area(1);
    assert_eq!(memory.mmap(&anonymous(at, PAGE, RW, 0)).unwrap(), at);
    assert_ne!(memory.mmap(&anonymous(at, PAGE, RW, 0)).unwrap(), at);
}

#[test]
fn low_mappings_stay_below_two_gigabytes() {
    let mut memory = new();
    let request = MapRequest { low: true, ..anonymous(0, PAGE, RW, 0) };
    assert!(memory.mmap(&request).unwrap() < 0x8000_0000);
}

#[test]
fn the_translators_own_is_never_replaced_and_is_named() {
    let mut memory = new();
    let own = Box::new([0u8; 64]);
    let at = (&raw const *own) as u64 & !(PAGE - 1);
    let error = memory.mmap(&anonymous(at, PAGE, RW, libc::MAP_FIXED)).unwrap_err();
    let MapError::Conflict(conflict) = error else {
        panic!("not a conflict: {error}");
    };
    assert!(conflict.own_start <= at && at < conflict.own_end, "{conflict}");
    assert_eq!(own[0], 0);
    assert_eq!(extents(&memory), []);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_translators_area_is_refused() {
    let mut memory = new();
    let request = anonymous(crate::layout::own_area().start, PAGE, RW, libc::MAP_FIXED);
    assert!(matches!(memory.mmap(&request), Err(MapError::Conflict(_))));
}

#[test]
fn fixed_mappings_replace_the_guests_own() {
    let mut memory = new();
    let at = area(2);
    memory.mmap(&anonymous(at, 4 * PAGE, RW, libc::MAP_FIXED)).unwrap();
    memory.write(at + PAGE, &7u64).unwrap();
    memory.mmap(&anonymous(at + PAGE, PAGE, libc::PROT_READ, libc::MAP_FIXED)).unwrap();
    assert_eq!(memory.read::<u64>(at + PAGE), Ok(0));
    assert_eq!(
        extents(&memory),
        [(at, at + PAGE, RW), (at + PAGE, at + 2 * PAGE, libc::PROT_READ), (at + 2 * PAGE, at + 4 * PAGE, RW)]
    );
    let error = memory.mmap(&anonymous(at, PAGE, RW, libc::MAP_FIXED_NOREPLACE)).unwrap_err();
    assert_eq!(Errno::from(error), Errno(libc::EEXIST));
}

#[test]
fn unmapping_splits_and_protecting_joins() {
    let mut memory = new();
    let at = area(3);
    memory.mmap(&anonymous(at, 4 * PAGE, RW, libc::MAP_FIXED)).unwrap();
    memory.mprotect(at + PAGE, PAGE, libc::PROT_READ).unwrap();
    assert_eq!(memory.regions().count(), 3);
    assert_eq!(memory.write(at + PAGE, &1u8), Err(Errno(libc::EFAULT)));
    memory.mprotect(at + PAGE, PAGE, RW).unwrap();
    assert_eq!(extents(&memory), [(at, at + 4 * PAGE, RW)]);
    memory.munmap(at + PAGE, PAGE).unwrap();
    assert_eq!(extents(&memory), [(at, at + PAGE, RW), (at + 2 * PAGE, at + 4 * PAGE, RW)]);
    assert_eq!(memory.read::<u8>(at + PAGE), Err(Errno(libc::EFAULT)));
    assert_eq!(memory.mprotect(at, 4 * PAGE, RW), Err(Errno(libc::ENOMEM)), "there is a hole");
    assert!(memory.is_mapped(at + 2 * PAGE, 2 * PAGE) && !memory.is_mapped(at, 2 * PAGE));
}

#[test]
fn code_is_fetched_only_where_it_may_be_executed() {
    let mut memory = new();
    let at = area(4);
    memory.mmap(&anonymous(at, 2 * PAGE, RW, libc::MAP_FIXED)).unwrap();
    memory.write_guest(at + PAGE - 2, &[1, 2, 3, 4]).unwrap();
    let mut code = [0; 4];
    assert_eq!(memory.fetch(at + PAGE - 2, &mut code), 0);
    memory.mprotect(at, PAGE, libc::PROT_READ | libc::PROT_EXEC).unwrap();
    assert_eq!(memory.fetch(at + PAGE - 2, &mut code), 2);
    assert_eq!(code[..2], [1, 2]);
    memory.mprotect(at + PAGE, PAGE, libc::PROT_EXEC).unwrap();
    assert_eq!(memory.fetch(at + PAGE - 2, &mut code), 4);
}

#[test]
fn constants_are_what_the_guest_can_read_and_not_write() {
    let mut memory = new();
    let at = area(10);
    memory.mmap(&anonymous(at, 2 * PAGE, RW, libc::MAP_FIXED)).unwrap();
    memory.write_guest(at + PAGE - 2, &[1, 2, 3, 4]).unwrap();
    let mut bytes = [0; 4];
    assert_eq!(memory.constants(at + PAGE - 2, &mut bytes), 0);
    memory.mprotect(at, PAGE, libc::PROT_READ).unwrap();
    assert_eq!((memory.constants(at + PAGE - 2, &mut bytes), bytes[..2].to_vec()), (2, vec![1, 2]));
    memory.mprotect(at + PAGE, PAGE, libc::PROT_READ | libc::PROT_EXEC).unwrap();
    assert_eq!((memory.constants(at + PAGE - 2, &mut bytes), bytes), (4, [1, 2, 3, 4]));
    memory.mprotect(at, PAGE, libc::PROT_NONE).unwrap();
    assert_eq!(memory.constants(at + PAGE - 2, &mut bytes), 0);
}

#[test]
fn watched_pages_are_writable_again_after_the_watch() {
    let mut memory = new();
    let at = area(5);
    let all = RW | libc::PROT_EXEC;
    memory.mmap(&anonymous(at, 2 * PAGE, all, libc::MAP_FIXED)).unwrap();
    memory.watch_code(at + 8, 16);
    assert_eq!(memory.watched_pages(), [at]);
    assert!(!is_writable(at));
    assert!(is_writable(at + PAGE));
    assert_eq!(memory.protection(at), Some(all), "to the guest it is writable all the time");
    assert!(memory.unwatch_code(at + 100));
    assert!(!memory.unwatch_code(at + 100));
    assert!(is_writable(at));
    memory.watch_code(at, 1);
    memory.munmap(at, PAGE).unwrap();
    assert!(memory.watched_pages().is_empty());
}

/// Whether a byte can be written, by whoever doesn't ask.
fn is_writable(addr: u64) -> bool {
    // SAFETY: the page is a test's own; a fault ends the copy.
    unsafe { crate::guarded::copy(addr as *mut u8, &1, 1) == 0 }
}

#[test]
fn pages_are_opened_where_something_will_be_written() {
    let mut memory = new();
    let at = area(15);
    memory.mmap(&anonymous(at, 4 * PAGE, RW | libc::PROT_EXEC, libc::MAP_FIXED)).unwrap();
    assert!(!memory.is_watching());
    memory.watch_code(at, 3 * PAGE);
    assert!(memory.is_watching());
    memory.open(at + PAGE, 0);
    memory.open(at + 3 * PAGE, u64::MAX);
    assert!(memory.take_opened().is_empty());
    memory.open(at + PAGE - 1, 2);
    assert_eq!(memory.take_opened(), [at, at + PAGE]);
    assert!(is_writable(at) && is_writable(at + PAGE) && !is_writable(at + 2 * PAGE));
    assert_eq!(memory.write(at + 3 * PAGE - 2, &[1u8; 4]), Ok(()));
    assert_eq!(memory.take_opened(), [at + 2 * PAGE]);
    assert!(memory.take_opened().is_empty() && !memory.is_watching());
    memory.watch_code(at, PAGE);
    memory.open(0, u64::MAX);
    assert_eq!(memory.take_opened(), [at]);
}

#[test]
fn more_pages_are_opened_than_can_be_noted() {
    let mut memory = new();
    let at = area(16);
    let pages = 100;
    memory.mmap(&anonymous(at, pages * PAGE, RW | libc::PROT_EXEC, libc::MAP_FIXED)).unwrap();
    assert!(memory.watch_code(at, pages * PAGE));
    assert!(!memory.has_opened() && !memory.open_code(at + pages * PAGE));
    for page in 1..pages {
        assert!(memory.open_code(at + page * PAGE + 5));
    }
    assert!(memory.has_opened());
    let opened = memory.take_opened();
    assert_eq!(opened, (0..pages).map(|page| at + page * PAGE).collect::<Vec<_>>(), "all that were watched");
    assert!((0..pages).all(|page| is_writable(at + page * PAGE)) && !memory.has_opened());
}

#[test]
fn who_may_change_code_decides_how_that_is_noticed() {
    let mut memory = new();
    let at = area(17);
    let code = RW | libc::PROT_EXEC;
    memory.mmap(&anonymous(at, 2 * PAGE, code, libc::MAP_FIXED)).unwrap();
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    memory.mmap(&MapRequest { flags, ..anonymous(at + 2 * PAGE, PAGE, code, 0) }).unwrap();
    memory.mprotect(at, PAGE, libc::PROT_READ | libc::PROT_EXEC).unwrap();
    let of = |page: u64| memory.mutability(at + page * PAGE, at + page * PAGE + 1);
    assert_eq!([0, 1, 2].map(of), [Mutability::Fixed, Mutability::Watchable, Mutability::Shared]);
    assert_eq!(memory.mutability(at + 4, at + PAGE + 1), Mutability::Watchable);
    let fetched = |from: u64| memory.fetch_fixed(at + from, &mut [0; 16]);
    assert_eq!([PAGE - 4, PAGE, 2 * PAGE].map(fetched), [4, 0, 0]);
    assert!(memory.watch_code(at, 2 * PAGE) && !memory.watch_code(at + 2 * PAGE, 1));
    assert_eq!(memory.watched_pages(), [at + PAGE]);
}

#[test]
fn remapping_grows_in_place_moves_and_shrinks() {
    let mut memory = new();
    let at = area(6);
    memory.mmap(&anonymous(at, 2 * PAGE, RW, libc::MAP_FIXED)).unwrap();
    memory.write(at, &42u32).unwrap();
    assert_eq!(memory.mremap(at, 2 * PAGE, 3 * PAGE, 0, 0), Ok(at));
    memory.mmap(&anonymous(at + 3 * PAGE, PAGE, libc::PROT_READ, libc::MAP_FIXED)).unwrap();
    assert_eq!(memory.mremap(at, 3 * PAGE, 4 * PAGE, 0, 0), Err(Errno(libc::ENOMEM)));
    let moved = memory.mremap(at, 3 * PAGE, 4 * PAGE, libc::MREMAP_MAYMOVE, 0).unwrap();
    assert_ne!(moved, at);
    assert_eq!(memory.read::<u32>(moved), Ok(42));
    assert!(memory.region_at(at).is_none());
    let target = at + 0x100_0000;
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    assert_eq!(memory.mremap(moved, 4 * PAGE, PAGE, flags, target), Ok(target));
    assert_eq!(memory.read::<u32>(target), Ok(42));
    assert_eq!(memory.region_at(target).map(|r| r.end), Some(target + PAGE));
    assert_eq!(memory.mremap(at, PAGE, 2 * PAGE, libc::MREMAP_MAYMOVE, 0), Err(Errno(libc::EFAULT)));
}

#[test]
fn the_heap_grows_shrinks_and_stops_at_a_mapping() {
    let mut memory = new();
    let start = area(7) + 0x123;
    memory.set_brk(start, start);
    assert_eq!(memory.brk(0), start);
    assert_eq!(memory.brk(start + 3 * PAGE), start + 3 * PAGE);
    memory.write(start + 2 * PAGE, &5u8).unwrap();
    assert_eq!(memory.region_at(start + PAGE).map(|r| r.backing.clone()), Some(Backing::Named("[heap]")));
    assert_eq!(memory.brk(start + PAGE), start + PAGE);
    let blocker = area(7) + 10 * PAGE;
    memory.mmap(&anonymous(blocker, PAGE, RW, libc::MAP_FIXED)).unwrap();
    assert_eq!(memory.brk(start + 20 * PAGE), start + PAGE, "refused");
    assert_eq!(memory.brk(start), start);
}

#[test]
fn strings_end_at_their_zero_or_fault() {
    let mut memory = new();
    let at = area(8);
    memory.mmap(&anonymous(at, PAGE, RW, libc::MAP_FIXED)).unwrap();
    memory.write_guest(at + PAGE - 4, b"abc\0").unwrap();
    assert_eq!(memory.read_cstr(at + PAGE - 4, 100), Ok(b"abc".to_vec()));
    assert_eq!(memory.read_cstr(at + PAGE - 4, 2), Err(Errno(libc::ENAMETOOLONG)));
    memory.write_guest(at + PAGE - 4, b"abcd").unwrap();
    assert_eq!(memory.read_cstr(at + PAGE - 4, 100), Err(Errno(libc::EFAULT)));
}

#[test]
fn file_mappings_know_their_file() {
    let mut memory = new();
    let at = area(9);
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let request = MapRequest {
        addr: at,
        len: 2 * PAGE,
        prot: libc::PROT_READ,
        flags: libc::MAP_PRIVATE | libc::MAP_FIXED,
        fd: std::os::fd::AsRawFd::as_raw_fd(&file),
        offset: 0,
        low: false,
    };
    memory.mmap(&request).unwrap();
    assert_eq!(memory.read::<[u8; 4]>(at), Ok([0x7f, b'E', b'L', b'F']));
    memory.munmap(at, PAGE).unwrap();
    let region = memory.region_at(at + PAGE).unwrap();
    let Backing::File { path, offset, .. } = &region.backing else {
        panic!("{region:?}");
    };
    assert_eq!(*offset, PAGE);
    assert_eq!(path.as_ref(), std::env::current_exe().unwrap().as_path());
}

#[test]
fn what_the_host_does_not_list_is_found_and_passed_over() {
    let mut memory = new();
    let (start, len, hidden) = (area(40), 64 << 20, area(40) + (40 << 20));
    reserve(hidden, hidden + PAGE).unwrap();
    memory.look_for_hidden(start, start + len);
    let (found, name) = memory.foreign_in(start, start + len).unwrap();
    assert!(found.contains(&hidden) && found.end - found.start <= HIDDEN_GRAIN, "{found:x?}");
    assert_eq!(name, HIDDEN);
    assert_eq!(memory.hidden.len(), 1);
    assert_eq!(memory.gap_below(start + len, start, 30 << 20), Some(found.start - (30 << 20)));
    // What was only looked at is free again.
    assert_eq!(memory.mmap(&anonymous(start, PAGE, RW, libc::MAP_FIXED_NOREPLACE)).unwrap(), start);
}
