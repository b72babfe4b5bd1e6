//! The functions behind [`Helper`]: what translated code and the interpreter call through the CPU state.
//!
//! They run inside the guest's floating-point modes. Those that touch guest memory do so directly: `rip` in the
//! state is precise around them, so a fault leaves them as it leaves translated code.

use xlate_abi::state::{CpuState, HELPER_COUNT, Helper, RAX, RBX, RCX, RDI, RDX, RSI, X87State, mxcsr};

use xlate_x86::interpreter::float;
use xlate_x86::x87::environment::{self, Form};

use super::{cpuid, fpmode};
use core::sync::atomic::{AtomicU8, Ordering};

/// Entry points in the order of [`Helper`].
pub fn table() -> &'static [u64; HELPER_COUNT] {
    static TABLE: std::sync::OnceLock<[u64; HELPER_COUNT]> = std::sync::OnceLock::new();
    TABLE.get_or_init(|| Helper::ALL.map(entry))
}

fn entry(helper: Helper) -> u64 {
    let f: *const () = match helper {
        Helper::Cpuid => do_cpuid as *const (),
        Helper::Xgetbv => do_xgetbv as *const (),
        Helper::Rdtsc => do_rdtsc as *const (),
        Helper::LoadMxcsr => do_load_mxcsr as *const (),
        Helper::StoreMxcsr => do_store_mxcsr as *const (),
        Helper::Fxsave => do_fxsave as *const (),
        Helper::Fxrstor => do_fxrstor as *const (),
        Helper::UdivWide => do_udiv_wide as *const (),
        Helper::UremWide => do_urem_wide as *const (),
        Helper::SdivWide => do_sdiv_wide as *const (),
        Helper::SremWide => do_srem_wide as *const (),
        Helper::Float => do_float as *const (),
        Helper::Crc32c => do_crc32c as *const (),
        Helper::RepMovs => do_rep_movs as *const (),
        Helper::RepStos => do_rep_stos as *const (),
        Helper::Random => do_random as *const (),
        Helper::ProcessorId => do_processor_id as *const (),
        Helper::StringCompare => xlate_x86::string_compare::string_compare as *const (),
        Helper::X87 => xlate_x86::x87::unit::execute as *const (),
        Helper::SettleFlags => do_settle_flags as *const (),
        Helper::StatusBits => do_status_bits as *const (),
        Helper::Segment => do_segment as *const (),
        Helper::X87Store => do_x87_store as *const (),
        Helper::X87Load => do_x87_load as *const (),
        Helper::Wide => xlate_x86::wide::execute as *const (),
        Helper::LoadMasked => xlate_x86::vector::memory::load_masked as *const (),
        Helper::StoreMasked => xlate_x86::vector::memory::store_masked as *const (),
        Helper::Gather => xlate_x86::vector::gather::gather as *const (),
        Helper::Scatter => xlate_x86::vector::gather::scatter as *const (),
        Helper::BeginStaticRounding => do_begin_static_rounding as *const (),
        Helper::EndStaticRounding => do_end_static_rounding as *const (),
    };
    f as u64
}

extern "C" fn do_cpuid(state: &mut CpuState) -> u64 {
    let out = cpuid::leaf(state.gpr[RAX] as u32, state.gpr[RCX] as u32);
    for (reg, value) in [RAX, RBX, RCX, RDX].into_iter().zip(out) {
        state.gpr[reg] = u64::from(value);
    }
    0
}

/// XCR0: x87 and SSE state. Not announced (no OSXSAVE), but what a processor without AVX would say.
extern "C" fn do_xgetbv(state: &mut CpuState) -> u64 {
    state.gpr[RAX] = 3;
    state.gpr[RDX] = 0;
    0
}

#[cfg(target_arch = "x86_64")]
fn timestamp() -> u64 {
    // SAFETY: RDTSC is part of x86-64.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds: a processor of 1 GHz.
#[cfg(target_arch = "aarch64")]
fn timestamp() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

extern "C" fn do_rdtsc(state: &mut CpuState) -> u64 {
    let t = timestamp();
    state.gpr[RAX] = t & 0xffff_ffff;
    state.gpr[RDX] = t >> 32;
    0
}

/// What became of a new MXCSR, as LDMXCSR's helper returns it.
#[repr(u64)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum NewMode {
    Taken = 0,
    /// Reserved bits are set.
    Refused = 1,
    /// Taken, and it is for the dispatcher to find the code that goes on in it.
    OtherCode = 2,
}

fn set_mxcsr(state: &mut CpuState, value: u32) -> NewMode {
    if value & !fpmode::MASK != 0 {
        return NewMode::Refused;
    }
    let other_code = fpmode::wants_care(state.mxcsr) != fpmode::wants_care(value);
    state.mxcsr = value;
    fpmode::load(value);
    if other_code { NewMode::OtherCode } else { NewMode::Taken }
}

extern "C" fn do_load_mxcsr(state: &mut CpuState, value: u64) -> u64 {
    set_mxcsr(state, value as u32) as u64
}

extern "C" fn do_store_mxcsr(state: &mut CpuState) -> u64 {
    state.mxcsr = fpmode::store(state.mxcsr);
    u64::from(state.mxcsr)
}

/// From here on code rounds as an instruction says; without exceptions, because what raises none has them masked and their
/// flags are forgotten.
extern "C" fn do_begin_static_rounding(state: &mut CpuState, rounding: u64) -> u64 {
    const ROUNDING_FROM: u32 = 13;
    (state.suspended_mxcsr, state.suspended_host) = (state.mxcsr, fpmode::suspend());
    state.mxcsr = state.mxcsr & !mxcsr::FLAGS | mxcsr::MASKS;
    if rounding < 4 {
        state.mxcsr = state.mxcsr & !(3 << ROUNDING_FROM) | (rounding as u32) << ROUNDING_FROM;
    }
    fpmode::load(state.mxcsr);
    0
}

extern "C" fn do_end_static_rounding(state: &mut CpuState) -> u64 {
    state.mxcsr = state.suspended_mxcsr;
    fpmode::resume(state.suspended_host);
    0
}

extern "C" fn do_segment(state: &mut CpuState, request: u64, selector: u64) -> u64 {
    xlate_x86::segments::answer(state, request, selector as u16, processor_and_node)
}

/// Byte offsets in the FXSAVE image (Intel SDM vol. 1, table 10-2).
mod fx {
    pub const FIP: usize = 8;
    pub const FDP: usize = 16;
    pub const MXCSR: usize = 24;
    pub const MXCSR_MASK: usize = 28;
    pub const ST: usize = 32;
    pub const XMM: usize = 160;
    /// What FXSAVE writes; the rest stays.
    pub const WRITTEN: usize = 416;
    /// The operand's size; what lies behind the part that means something must be accessible, too.
    pub const AREA: u64 = 512;
}

fn physical(state: &CpuState, st: usize) -> usize {
    (usize::from(state.x87.fsw >> 11 & 7) + st) % 8
}

/// The FXSAVE image of the state, as far as the instruction writes it.
pub fn fxsave_image(state: &CpuState, mxcsr: u32, rex_w: bool) -> [u8; fx::WRITTEN] {
    let mut m = [0; fx::WRITTEN];
    let x = &state.x87;
    m[0..2].copy_from_slice(&x.fcw.to_le_bytes());
    m[2..4].copy_from_slice(&x.fsw.to_le_bytes());
    m[4] = x.ftw;
    m[6..8].copy_from_slice(&x.fop.to_le_bytes());
    // Without REX.W the pointers have 32 bits and their selectors (zero here) follow.
    let n = if rex_w { 8 } else { 4 };
    m[fx::FIP..][..n].copy_from_slice(&x.fip.to_le_bytes()[..n]);
    m[fx::FDP..][..n].copy_from_slice(&x.fdp.to_le_bytes()[..n]);
    m[fx::MXCSR..][..4].copy_from_slice(&mxcsr.to_le_bytes());
    m[fx::MXCSR_MASK..][..4].copy_from_slice(&fpmode::MASK.to_le_bytes());
    for st in 0..8 {
        let reg = x.reg[physical(state, st)];
        m[fx::ST + 16 * st..][..10].copy_from_slice(&reg[..10]);
    }
    for n in 0..16 {
        m[fx::XMM + 16 * n..][..16].copy_from_slice(&state.vec[n][..16]);
    }
    m
}

extern "C" fn do_fxsave(state: &mut CpuState, addr: u64, rex_w: u64) -> u64 {
    state.mxcsr = fpmode::store(state.mxcsr);
    let image = fxsave_image(state, state.mxcsr, rex_w != 0);
    // SAFETY: guest accesses; faults are the guest's (see the module). The last byte first, because nothing may be written
    // if the operand's second page can't be.
    unsafe {
        let last = addr.wrapping_add(fx::AREA - 1) as *mut u8;
        AtomicU8::from_ptr(last).fetch_or(state.zero as u8, Ordering::SeqCst);
        core::ptr::copy_nonoverlapping(image.as_ptr(), addr as *mut u8, image.len());
    }
    0
}

fn u16_at(m: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([m[at], m[at + 1]])
}

fn u64_at(m: &[u8], at: usize, n: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes[..n].copy_from_slice(&m[at..at + n]);
    u64::from_le_bytes(bytes)
}

extern "C" fn do_fxrstor(state: &mut CpuState, addr: u64, rex_w: u64) -> u64 {
    let mut m = [0; fx::WRITTEN];
    // SAFETY: guest accesses; faults are the guest's (see the module).
    unsafe {
        core::ptr::read_volatile(addr.wrapping_add(fx::AREA - 1) as *const u8);
        core::ptr::copy_nonoverlapping(addr as *const u8, m.as_mut_ptr(), m.len());
    }
    let mode = set_mxcsr(state, u64_at(&m, fx::MXCSR, 4) as u32);
    if mode == NewMode::Refused {
        return mode as u64;
    }
    let n = if rex_w != 0 { 8 } else { 4 };
    state.x87.fsw = u16_at(&m, 2);
    state.x87.set_control(u16_at(&m, 0));
    state.x87.ftw = m[4];
    state.x87.fop = u16_at(&m, 6) & X87State::OPCODE;
    // It is an address: processors extend the sign of the longest ones that there are (57 bits). FDP they take as it is.
    const UNUSED: u32 = 64 - 57;
    state.x87.fip = ((u64_at(&m, fx::FIP, n) as i64) << UNUSED >> UNUSED) as u64;
    state.x87.fdp = u64_at(&m, fx::FDP, n);
    for st in 0..8 {
        let reg = &mut state.x87.reg[physical(state, st)];
        *reg = [0; 16];
        reg[..10].copy_from_slice(&m[fx::ST + 16 * st..][..10]);
    }
    for n in 0..16 {
        state.vec[n][..16].copy_from_slice(&m[fx::XMM + 16 * n..][..16]);
    }
    mode as u64
}

extern "C" fn do_x87_store(state: &mut CpuState, addr: u64, form: u64) -> u64 {
    let form = Form::decode(form);
    let image = environment::image(&state.x87, form);
    // SAFETY: guest accesses; faults are the guest's (see the module).
    unsafe { core::ptr::copy_nonoverlapping(image.as_ptr(), addr as *mut u8, form.size()) };
    environment::stored(&mut state.x87, form);
    0
}

extern "C" fn do_x87_load(state: &mut CpuState, addr: u64, form: u64) -> u64 {
    let form = Form::decode(form);
    let mut image = [0; environment::MOST];
    // SAFETY: as above.
    unsafe { core::ptr::copy_nonoverlapping(addr as *const u8, image.as_mut_ptr(), form.size()) };
    environment::load(&mut state.x87, &image, form);
    0
}

fn wide(low: u64, high: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

extern "C" fn do_udiv_wide(_: &CpuState, low: u64, high: u64, by: u64) -> u64 {
    (wide(low, high) / u128::from(by)) as u64
}

extern "C" fn do_urem_wide(_: &CpuState, low: u64, high: u64, by: u64) -> u64 {
    (wide(low, high) % u128::from(by)) as u64
}

extern "C" fn do_sdiv_wide(_: &CpuState, low: u64, high: u64, by: u64) -> u64 {
    (wide(low, high) as i128).wrapping_div(i128::from(by as i64)) as u64
}

extern "C" fn do_srem_wide(_: &CpuState, low: u64, high: u64, by: u64) -> u64 {
    (wide(low, high) as i128).wrapping_rem(i128::from(by as i64)) as u64
}

extern "C" fn do_float(state: &CpuState, request: u64, a: u64, b: u64) -> u64 {
    let operation = float::Operation::of_request(request).expect("translated code makes its requests by Operation");
    operation.perform(state.mxcsr, a, b)
}

/// The Castagnoli polynomial, bit-reversed (Intel SDM vol. 2, CRC32).
const CRC32C: u32 = 0x82f6_3b78;

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ CRC32C } else { crc >> 1 };
            bit += 1;
        }
        table[n] = crc;
        n += 1;
    }
    table
}

static CRC_TABLE: [u32; 256] = crc_table();

extern "C" fn do_crc32c(_: &CpuState, accumulator: u64, data: u64, size: u64) -> u64 {
    let bytes = data.to_le_bytes();
    let crc = bytes[..size as usize]
        .iter()
        .fold(accumulator as u32, |crc, byte| crc >> 8 ^ CRC_TABLE[usize::from(crc as u8 ^ byte)]);
    u64::from(crc)
}

/// Accesses of one chunk of a bulk operation stay inside one page, so that a fault happens at its first element.
const PAGE: u64 = 4096;

/// Elements that fit between an address and the end of its page.
fn elements_to_page_end(addr: u64, size: u64) -> u64 {
    (PAGE - addr % PAGE) / size
}

/// Copies one element.
///
/// # Safety
/// A guest access: faults are the guest's.
unsafe fn copy_element(from: u64, to: u64, size: u64) {
    // SAFETY: the caller's contract; unaligned accesses of the element's own width.
    unsafe {
        match size {
            1 => (to as *mut u8).write_volatile((from as *const u8).read_volatile()),
            2 => (to as *mut u16).write_unaligned((from as *const u16).read_unaligned()),
            4 => (to as *mut u32).write_unaligned((from as *const u32).read_unaligned()),
            _ => (to as *mut u64).write_unaligned((from as *const u64).read_unaligned()),
        }
    }
}

/// How many elements the next chunk of a forward copy may have: within both pages, and no longer than the distance
/// to a destination ahead of the source, whose elements would be read again.
fn movs_chunk(from: u64, to: u64, count: u64, size: u64) -> u64 {
    let ahead = to.wrapping_sub(from);
    count.min(elements_to_page_end(from, size)).min(elements_to_page_end(to, size)).min(ahead / size)
}

extern "C" fn do_rep_movs(state: &mut CpuState, size: u64) -> u64 {
    if state.flags.df != 0 || state.flags.are_watched() {
        return 0;
    }
    while state.gpr[RCX] != 0 && pending(state) == 0 {
        let (from, to) = (state.gpr[RSI], state.gpr[RDI]);
        let n = movs_chunk(from, to, state.gpr[RCX], size);
        if n == 0 {
            return 0;
        }
        let bytes = n * size;
        // SAFETY: guest accesses (see the module); the first element faults if the chunk does, so nothing of a
        // chunk is done before its fault; source and destination don't overlap behind the first element that
        // is read again (`movs_chunk`).
        unsafe {
            copy_element(from, to, size);
            core::ptr::copy(from as *const u8, to as *mut u8, bytes as usize);
        }
        state.gpr[RSI] = from + bytes;
        state.gpr[RDI] = to + bytes;
        state.gpr[RCX] -= n;
    }
    0
}

extern "C" fn do_rep_stos(state: &mut CpuState, size: u64) -> u64 {
    if state.flags.df != 0 || state.flags.are_watched() {
        return 0;
    }
    while state.gpr[RCX] != 0 && pending(state) == 0 {
        let to = state.gpr[RDI];
        let n = state.gpr[RCX].min(elements_to_page_end(to, size));
        if n == 0 {
            return 0;
        }
        // SAFETY: guest accesses (see the module), all in one page.
        unsafe { fill(to, state.gpr[RAX], n, size) };
        state.gpr[RDI] = to + n * size;
        state.gpr[RCX] -= n;
    }
    0
}

/// Stores `n` elements of `size` bytes.
///
/// # Safety
/// A guest access: faults are the guest's.
unsafe fn fill(to: u64, value: u64, n: u64, size: u64) {
    // SAFETY: the caller's contract.
    unsafe {
        match size {
            1 => {
                (to as *mut u8).write_volatile(value as u8);
                core::ptr::write_bytes(to as *mut u8, value as u8, n as usize);
            }
            2 => (0..n).for_each(|k| (to as *mut u16).add(k as usize).write_unaligned(value as u16)),
            4 => (0..n).for_each(|k| (to as *mut u32).add(k as usize).write_unaligned(value as u32)),
            _ => (0..n).for_each(|k| (to as *mut u64).add(k as usize).write_unaligned(value)),
        }
    }
}

/// `pending` as a signal handler may have changed it.
fn pending(state: &CpuState) -> u32 {
    // SAFETY: a valid reference; volatile because the handler writes behind the compiler's back.
    unsafe { core::ptr::from_ref(&state.pending).read_volatile() }
}

/// Random bits from the kernel. It can't fail for so few bytes once the pool is initialised (getrandom(2)).
extern "C" fn do_random(_: &CpuState) -> u64 {
    let mut bits = 0u64;
    loop {
        // SAFETY: writes eight bytes to the variable.
        let n = unsafe { libc::getrandom((&raw mut bits).cast(), 8, 0) };
        if n == 8 {
            return bits;
        }
    }
}

extern "C" fn do_settle_flags(state: &mut CpuState) -> u64 {
    state.settle_flags();
    0
}

extern "C" fn do_status_bits(state: &CpuState) -> u64 {
    state.status_bits()
}

/// Linux's number for programs: the processor's, and its node's from bit 12 on (arch/x86/include/asm/segment.h:
/// `vdso_encode_cpunode`).
fn processor_and_node() -> u32 {
    let (mut processor, mut node) = (0u32, 0u32);
    // SAFETY: writes the two numbers it is given.
    unsafe { libc::syscall(libc::SYS_getcpu, &raw mut processor, &raw mut node, 0) };
    node << 12 | processor
}

extern "C" fn do_processor_id(_: &CpuState) -> u64 {
    processor_and_node().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Box<CpuState> {
        Box::default()
    }

    #[test]
    fn crc32c_of_the_check_string() {
        // "123456789" has the CRC-32C 0xe3069283 (RFC 3720, B.4 uses the same polynomial), with inversions.
        let s = state();
        let mut crc = 0xffff_ffff;
        crc = do_crc32c(&s, crc, u64::from_le_bytes(*b"12345678"), 8);
        crc = do_crc32c(&s, crc, u64::from(b'9'), 1);
        assert_eq!(crc as u32 ^ 0xffff_ffff, 0xe306_9283);
    }

    #[test]
    fn overlapping_forward_copy_repeats_the_pattern() {
        let mut s = state();
        let mut buffer = vec![0u8; 10_000];
        buffer[..3].copy_from_slice(b"abc");
        let base = buffer.as_mut_ptr() as u64;
        s.gpr[RSI] = base;
        s.gpr[RDI] = base + 3;
        s.gpr[RCX] = 9000;
        while s.gpr[RCX] != 0 {
            do_rep_movs(&mut s, 1);
        }
        assert!(buffer[..9003].chunks(3).all(|c| c == b"abc"));
        assert_eq!(buffer[9003], 0);
        assert_eq!((s.gpr[RSI], s.gpr[RDI]), (base + 9000, base + 9003));
    }

    #[test]
    fn stos_fills_words() {
        let mut s = state();
        let mut buffer = vec![0u16; 5000];
        s.gpr[RDI] = buffer.as_mut_ptr() as u64;
        s.gpr[RAX] = 0x1_beef;
        s.gpr[RCX] = 4999;
        do_rep_stos(&mut s, 2);
        assert_eq!(s.gpr[RCX], 0);
        assert!(buffer[..4999].iter().all(|&w| w == 0xbeef) && buffer[4999] == 0);
    }

    #[test]
    fn fxsave_and_fxrstor_are_inverse() {
        #[repr(align(16))]
        struct Image([u8; 512]);
        let mut s = state();
        s.x87.fsw = 3 << 11;
        for n in 0..8 {
            s.x87.reg[n][..10].fill(n as u8 + 1);
        }
        for n in 0..16 {
            s.vec[n][..16].fill(n as u8 + 0x40);
        }
        let mut image = Image([0; 512]);
        do_fxsave(&mut s, image.0.as_mut_ptr() as u64, 1);
        assert_eq!(image.0[fx::ST], 4, "ST0 is physical register 3");
        let mut t = state();
        assert_eq!(do_fxrstor(&mut t, image.0.as_ptr() as u64, 1), 0);
        assert_eq!((t.x87, t.vec[5]), (s.x87, s.vec[5]));
        image.0[fx::MXCSR + 2] = 1;
        assert_eq!(do_fxrstor(&mut t, image.0.as_ptr() as u64, 1), 1);
    }
}
