//! Calls in which an argument's meaning depends on another one.

use super::{Call, MOST_BUFFERS, buffers, size};

/// How much is opened where a length isn't known.
const UNKNOWN: u64 = 1 << 20;

impl Call<'_> {
    /// `struct msghdr`: the parts that recvmsg(2) fills in, and what they point to.
    fn message(&mut self, header: u64) {
        let Some([name, name_len, vector, count, control, control_len, _]) = self.read::<[u64; 7]>(header) else {
            return;
        };
        self.add(header, size::MSGHDR);
        self.add(name, u64::from(name_len as u32));
        self.vector(vector, count);
        self.add(control, control_len);
    }

    /// What the words of a structure may point to.
    fn pointers(&mut self, start: u64, len: u64) {
        const MOST: u64 = 32;
        for n in 0..(len / 8).min(MOST) {
            let Some(word) = self.read::<u64>(start.wrapping_add(n * 8)) else { return };
            self.add(word, UNKNOWN);
        }
    }
}

/// recvmsg(2).
pub fn recvmsg(call: &mut Call<'_>) {
    call.message(call.args.0[1]);
}

/// recvmmsg(2).
pub fn recvmmsg(call: &mut Call<'_>) {
    let [_, messages, count, ..] = call.args.0;
    // A longer array is cut off (do_recvmmsg).
    for n in 0..u64::from(count as u32).min(MOST_BUFFERS) {
        let message = messages.wrapping_add(n * size::MMSGHDR);
        call.message(message);
        call.add(message, size::MMSGHDR);
    }
}

/// getsockopt(2). Some options' structures hold addresses (TCP_ZEROCOPY_RECEIVE, those of packet filters).
pub fn getsockopt(call: &mut Call<'_>) {
    let [.., value, len, _] = call.args.0;
    call.sized(value, len);
    if let Some(len) = call.read::<u32>(len) {
        call.pointers(value, len.into());
    }
}

/// fcntl(2).
pub fn fcntl(call: &mut Call<'_>) {
    const F_GETOWN_EX: i32 = 16;
    const F_GETOWNER_UIDS: i32 = 17;
    const F_GET_RW_HINT: i32 = 1035;
    const F_GET_FILE_RW_HINT: i32 = 1037;
    const FLOCK: u64 = 32;
    let len = match call.args.int(1) {
        libc::F_GETLK | libc::F_OFD_GETLK => FLOCK,
        F_GETOWN_EX | F_GETOWNER_UIDS => size::TWO_INTS,
        F_GET_RW_HINT | F_GET_FILE_RW_HINT => size::LONG,
        _ => return,
    };
    call.add(call.args.0[2], len);
}

/// ioctl(2). A request's number tells the size of what its argument points to (include/uapi/asm-generic/ioctl.h), unless it
/// is older than that; some have more after it, or addresses in it.
pub fn ioctl(call: &mut Call<'_>) {
    let argument = call.args.0[2];
    let request = call.args.0[1] as u32;
    if let Some(len) = known_ioctl(request) {
        return call.add(argument, len);
    }
    call.add(argument, UNKNOWN);
    let len = u64::from(request >> 16 & 0x3fff);
    call.pointers(argument, if len == 0 { UNKNOWN } else { len });
}

/// How much the requests write that programs make often.
fn known_ioctl(request: u32) -> Option<u64> {
    const TERMIOS: u64 = 36;
    const WINSIZE: u64 = 8;
    Some(match u64::from(request) {
        libc::TCGETS => TERMIOS,
        libc::TIOCGWINSZ => WINSIZE,
        libc::FIONREAD | libc::TIOCOUTQ | libc::TIOCGPGRP | libc::TIOCGSID => size::INT,
        libc::TCSETS | libc::TCSETSW | libc::TCSETSF | libc::TIOCSWINSZ | libc::TIOCSPGRP => 0,
        libc::FIONBIO | libc::FIOASYNC | libc::FIOCLEX | libc::FIONCLEX => 0,
        _ => return None,
    })
}

/// prctl(2), as far as the handler passes it on.
pub fn prctl(call: &mut Call<'_>) {
    const PR_GET_AUXV: i32 = 0x4155_5856;
    const NAME: u64 = 16;
    let len = match call.args.int(0) {
        PR_GET_AUXV => call.args.0[2],
        libc::PR_GET_NAME => NAME,
        libc::PR_GET_TID_ADDRESS => size::LONG,
        libc::PR_GET_PDEATHSIG | libc::PR_GET_CHILD_SUBREAPER | libc::PR_GET_TSC => size::INT,
        _ => return,
    };
    call.add(call.args.0[1], len);
}

/// arch_prctl(2): the address is a value where a base is set.
pub fn arch_prctl(call: &mut Call<'_>) {
    const ARCH_GET_FS: u64 = 0x1003;
    const ARCH_GET_GS: u64 = 0x1004;
    const ARCH_GET_XCOMP_SUPP: u64 = 0x1021;
    const ARCH_GET_XCOMP_PERM: u64 = 0x1022;
    let [code, place, ..] = call.args.0;
    if matches!(code, ARCH_GET_FS | ARCH_GET_GS | ARCH_GET_XCOMP_SUPP | ARCH_GET_XCOMP_PERM) {
        call.add(place, size::LONG);
    }
}

/// futex(2): waiting only reads. But a futex between processes isn't found in a page that can't be written to
/// (get_futex_key).
pub fn futex(call: &mut Call<'_>) {
    let [first, _, _, _, second, _] = call.args.0;
    let operation = call.args.int(1);
    if operation & libc::FUTEX_PRIVATE_FLAG == 0 {
        call.add(first, size::INT);
        call.add(second, size::INT);
        return;
    }
    let word = match operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) {
        libc::FUTEX_LOCK_PI | libc::FUTEX_LOCK_PI2 | libc::FUTEX_TRYLOCK_PI | libc::FUTEX_UNLOCK_PI => first,
        libc::FUTEX_WAKE_OP | libc::FUTEX_WAIT_REQUEUE_PI | libc::FUTEX_CMP_REQUEUE_PI => second,
        _ => return,
    };
    call.add(word, size::INT);
}

/// futex_waitv(2): as for [`futex`].
pub fn futex_waitv(call: &mut Call<'_>) {
    /// `struct futex_waitv`: value, address, flags.
    const WAITER: u64 = 24;
    /// FUTEX_WAITV_MAX.
    const MOST: u64 = 128;
    let [waiters, count, ..] = call.args.0;
    for n in 0..u64::from(count as u32).min(MOST) {
        let Some([_, word, flags]) = call.read::<[u64; 3]>(waiters.wrapping_add(n * WAITER)) else { return };
        if flags as i32 & libc::FUTEX_PRIVATE_FLAG == 0 {
            call.add(word, size::INT);
        }
    }
}

/// clone3(2): places in `struct clone_args`.
pub fn clone3(call: &mut Call<'_>) {
    if let Some([_, pidfd, child_tid, parent_tid]) = call.read::<[u64; 4]>(call.args.0[0]) {
        for place in [pidfd, child_tid, parent_tid] {
            call.add(place, size::INT);
        }
    }
}

/// madvise(2): these advices are refused for pages that can't be written to.
pub fn madvise(call: &mut Call<'_>) {
    if matches!(call.args.int(2), libc::MADV_REMOVE | libc::MADV_POPULATE_WRITE) {
        call.add(call.args.0[0], call.args.0[1]);
    }
}

/// mincore(2): a byte a page.
pub fn mincore(call: &mut Call<'_>) {
    let [_, len, residence, ..] = call.args.0;
    call.add(residence, len.div_ceil(call.memory.page_size()));
}

/// msgrcv(2): the message's type comes before its text.
pub fn msgrcv(call: &mut Call<'_>) {
    let [_, message, len, ..] = call.args.0;
    call.add(message, len.saturating_add(size::LONG));
}

/// semctl(2).
pub fn semctl(call: &mut Call<'_>) {
    const GETALL: i32 = 13;
    /// Most semaphores of a set (SEMMSL), two bytes each.
    const VALUES: u64 = 2 * 32000;
    let len = if call.args.int(2) & 0xff == GETALL { VALUES } else { size::IPC };
    call.add(call.args.0[3], len);
}

/// keyctl(2).
pub fn keyctl(call: &mut Call<'_>) {
    const DESCRIBE: i32 = 6;
    const READ: i32 = 11;
    const GET_SECURITY: i32 = 17;
    const DH_COMPUTE: i32 = 23;
    const PKEY_QUERY: i32 = 24;
    const PKEY_ENCRYPT: i32 = 25;
    const PKEY_DECRYPT: i32 = 26;
    const PKEY_SIGN: i32 = 27;
    const CAPABILITIES: i32 = 31;
    /// `struct keyctl_pkey_query`.
    const QUERY: u64 = 48;
    let [_, first, second, third, fourth, _] = call.args.0;
    match call.args.int(0) {
        DESCRIBE | READ | GET_SECURITY | DH_COMPUTE => call.add(second, third),
        PKEY_QUERY => call.add(fourth, QUERY),
        PKEY_ENCRYPT | PKEY_DECRYPT | PKEY_SIGN => {
            // `struct keyctl_pkey_params`: the key, the input's length, the output's.
            if let Some([_, _, len]) = call.read::<[u32; 3]>(first) {
                call.add(fourth, len.into());
            }
        }
        CAPABILITIES => call.add(first, second),
        _ => {}
    }
}

/// getxattrat(2): `struct xattr_args` has the value's address and size.
pub fn getxattrat(call: &mut Call<'_>) {
    if let Some([value, len]) = call.read::<[u64; 2]>(call.args.0[4]) {
        call.add(value, u64::from(len as u32));
    }
}

/// io_submit(2): a key in each request, and the buffers of those that read.
pub fn io_submit(call: &mut Call<'_>) {
    let [_, count, list, ..] = call.args.0;
    for request in requests(call.memory, count, list) {
        const KEY: u64 = 8;
        call.add(request.wrapping_add(KEY), size::INT);
    }
    for [start, len] in submitted(call.memory, count, list) {
        call.add(start, len);
    }
}

/// The addresses of the requests in an io_submit(2). Nobody submits so many at once as could be named.
fn requests(memory: &crate::memory::Memory, count: u64, list: u64) -> Vec<u64> {
    const MOST: u64 = 1 << 16;
    (0..count.min(MOST)).map_while(|n| memory.read(list.wrapping_add(n * 8)).ok()).collect()
}

/// The buffers that the requests of an io_submit(2) read into, at a time of the kernel's choice.
pub fn submitted(memory: &crate::memory::Memory, count: u64, list: u64) -> Vec<[u64; 2]> {
    const PREAD: u16 = 0;
    const PREADV: u16 = 7;
    let mut found = Vec::new();
    for request in requests(memory, count, list) {
        // `struct iocb`: the operation at 16, the buffer at 24, its length at 32.
        let (Ok(operation), Ok([buffer, len])) =
            (memory.read(request.wrapping_add(16)), memory.read::<[u64; 2]>(request.wrapping_add(24)))
        else {
            continue;
        };
        match operation {
            PREAD => found.push([buffer, len]),
            PREADV => found.extend(buffers(memory, buffer, len)),
            _ => {}
        }
    }
    found
}
