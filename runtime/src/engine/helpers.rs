//! The functions behind [`Helper`]: what translated code and the interpreter call through the CPU state.
//!
//! They run inside the guest's floating-point modes. Those that touch guest memory do so directly: `rip` in the
//! state is precise around them, so a fault leaves them as it leaves translated code.

use xlate_abi::state::{CpuState, HELPER_COUNT, Helper, MXCSR_DEFAULT, RAX, RBX, RCX, RDI, RDX, RSI, mxcsr, xsave};

use xlate_x86::interpreter::float;
use xlate_x86::x87::environment::{self, Form};

use super::fpmode;
use crate::processor::Processor;
use crate::xstate::{self, Places, component};
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
        Helper::Xsave => do_xsave as *const (),
        Helper::Xrstor => do_xrstor as *const (),
    };
    f as u64
}

extern "C" fn do_cpuid(state: &mut CpuState) -> u64 {
    let out = Processor::of(state).cpuid(state.gpr[RAX] as u32, state.gpr[RCX] as u32);
    for (reg, value) in [RAX, RBX, RCX, RDX].into_iter().zip(out) {
        state.gpr[reg] = u64::from(value);
    }
    0
}

/// XCR0 (register 0), or what of it is in use (1), as XSAVEC sees it.
extern "C" fn do_xgetbv(state: &mut CpuState) -> u64 {
    let xcr0 = Processor::of(state).xcr0();
    let value = match state.gpr[RCX] as u32 {
        0 => xcr0,
        1 => {
            state.mxcsr = fpmode::store(state.mxcsr);
            xcr0 & to_be_compacted(state)
        }
        _ => return NewMode::Refused as u64,
    };
    state.gpr[RAX] = value & 0xffff_ffff;
    state.gpr[RDX] = value >> 32;
    0
}

/// The host's time stamp.
#[cfg(target_arch = "x86_64")]
pub fn timestamp() -> u64 {
    // SAFETY: RDTSC is part of x86-64.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds: a processor of 1 GHz.
#[cfg(target_arch = "aarch64")]
pub fn timestamp() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

extern "C" fn do_rdtsc(state: &mut CpuState) -> u64 {
    let t = timestamp().wrapping_add(state.timestamp_offset);
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

/// What FXSAVE and FXRSTOR access; what lies after the part that means something must be accessible, too.
const FXSAVE_AREA: u64 = xstate::LEGACY_SIZE as u64;

/// Bytes to the guest's memory.
///
/// # Safety
/// A guest access: faults are the guest's (see the module).
unsafe fn put_guest(addr: u64, bytes: &[u8]) {
    // SAFETY: the caller's contract.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), addr as *mut u8, bytes.len()) };
}

/// Bytes from the guest's memory.
///
/// # Safety
/// As for [`put_guest`].
unsafe fn take_guest(addr: u64, bytes: &mut [u8]) {
    // SAFETY: the caller's contract.
    unsafe { core::ptr::copy_nonoverlapping(addr as *const u8, bytes.as_mut_ptr(), bytes.len()) };
}

/// Faults if a byte can't be written, and changes nothing.
///
/// # Safety
/// As for [`put_guest`].
unsafe fn probe_write(state: &CpuState, addr: u64) {
    // SAFETY: the caller's contract.
    unsafe { AtomicU8::from_ptr(addr as *mut u8).fetch_or(state.zero as u8, Ordering::SeqCst) };
}

/// Faults if a byte can't be read.
///
/// # Safety
/// As for [`put_guest`].
unsafe fn probe_read(addr: u64) {
    // SAFETY: the caller's contract.
    unsafe { (addr as *const u8).read_volatile() };
}

extern "C" fn do_fxsave(state: &mut CpuState, addr: u64, rex_w: u64) -> u64 {
    state.mxcsr = fpmode::store(state.mxcsr);
    // SAFETY: guest accesses; faults are the guest's (see the module). The last byte first, because nothing may be written
    // if the operand's second page can't be; then the first one, which a fault in the first page names.
    unsafe {
        probe_write(state, addr.wrapping_add(FXSAVE_AREA - 1));
        probe_write(state, addr);
    }
    // SAFETY: as above.
    let put = |at: usize, bytes: &[u8]| unsafe { put_guest(addr.wrapping_add(at as u64), bytes) };
    xstate::write(state, LEGACY, Places::Compacted(0), rex_w != 0, put);
    xstate::write_mxcsr(state.mxcsr, put);
    0
}

/// The components that FXSAVE has, with MXCSR.
const LEGACY: u64 = component::X87 | component::SSE;

extern "C" fn do_fxrstor(state: &mut CpuState, addr: u64, rex_w: u64) -> u64 {
    let mut area = [0; xstate::LEGACY_SIZE];
    // SAFETY: guest accesses; faults are the guest's (see the module).
    unsafe { take_guest(addr, &mut area) };
    let mode = set_mxcsr(state, xstate::mxcsr(&area));
    if mode != NewMode::Refused {
        xstate::read(state, LEGACY, LEGACY, Places::Compacted(0), rex_w != 0, &area);
    }
    mode as u64
}

/// The components that XSAVE and XRSTOR are asked for.
fn requested(state: &CpuState) -> u64 {
    (state.gpr[RDX] << 32 | state.gpr[RAX] & 0xffff_ffff) & Processor::of(state).xcr0()
}

/// The components that XSAVEC doesn't leave out: MXCSR counts for SSE's (SDM vol. 1, 13.10).
fn to_be_compacted(state: &CpuState) -> u64 {
    xstate::in_use(state) | if xstate::changed_mxcsr(state) { component::SSE } else { 0 }
}

extern "C" fn do_xsave(state: &mut CpuState, addr: u64, form: u64) -> u64 {
    state.mxcsr = fpmode::store(state.mxcsr);
    let requested = requested(state);
    let wide = form & xsave::WIDE != 0;
    let layout = *Processor::of(state).layout();
    let compacted = form & xsave::COMPACTED != 0;
    let places = if compacted { Places::Compacted(requested) } else { Places::Standard(&layout) };
    let written = match form & (xsave::COMPACTED | xsave::OPTIMISED) {
        0 => requested,
        xsave::OPTIMISED => requested & xstate::in_use(state),
        _ => requested & to_be_compacted(state),
    };
    let header = addr.wrapping_add(xstate::HEADER as u64);
    // SAFETY: guest accesses; faults are the guest's (see the module). Both ends first: nothing may be written if one of the
    // pages can't be.
    unsafe {
        probe_write(state, header);
        probe_write(state, addr.wrapping_add(places.size(written) as u64 - 1));
    }
    // SAFETY: as above.
    let put = |at: usize, bytes: &[u8]| unsafe { put_guest(addr.wrapping_add(at as u64), bytes) };
    xstate::write(state, written, places, wide, put);
    let with_mxcsr = if compacted { written & component::SSE } else { requested & (component::SSE | component::AVX) };
    if with_mxcsr != 0 {
        xstate::write_mxcsr(state.mxcsr, put);
    }
    if compacted {
        put(xstate::HEADER, &written.to_le_bytes());
        put(xstate::HEADER + 8, &(requested | xstate::COMPACTED).to_le_bytes());
        return 0;
    }
    let mut old = [0; 8];
    // SAFETY: as above.
    unsafe { take_guest(header, &mut old) };
    let there = u64::from_le_bytes(old) & !requested | xstate::in_use(state) & requested;
    put(xstate::HEADER, &there.to_le_bytes());
    0
}

/// An area's header: XSTATE_BV, XCOMP_BV and what is reserved (SDM vol. 1, 13.4.2).
struct Header([u64; 8]);

impl Header {
    /// Of the area at an address.
    ///
    /// # Safety
    /// As for [`put_guest`].
    unsafe fn load(area: u64) -> Self {
        let mut bytes = [0; 64];
        // SAFETY: the caller's contract.
        unsafe { take_guest(area.wrapping_add(xstate::HEADER as u64), &mut bytes) };
        Self(core::array::from_fn(|n| u64::from_le_bytes(core::array::from_fn(|i| bytes[8 * n + i]))))
    }

    /// The components whose bytes are there.
    fn there(&self) -> u64 {
        self.0[0]
    }

    /// The components of a compacted area.
    fn compacted(&self) -> Option<u64> {
        let word = self.0[1];
        (word & xstate::COMPACTED != 0).then_some(word & !xstate::COMPACTED)
    }

    /// Whether XRSTOR takes it (SDM vol. 1, 13.8.1 and 13.8.2).
    fn is_sound(&self, xcr0: u64) -> bool {
        let [there, compaction, rest @ ..] = self.0;
        match self.compacted() {
            None => there & !xcr0 == 0 && compaction == 0 && rest[0] == 0,
            Some(components) => components & !xcr0 == 0 && there & !components == 0 && rest == [0; 6],
        }
    }
}

extern "C" fn do_xrstor(state: &mut CpuState, addr: u64, form: u64) -> u64 {
    let processor = Processor::of(state);
    let (xcr0, layout) = (processor.xcr0(), *processor.layout());
    let requested = requested(state);
    // SAFETY: a guest access; faults are the guest's (see the module).
    let header = unsafe { Header::load(addr) };
    let (there, compacted) = (header.there(), header.compacted());
    let places = compacted.map_or(Places::Standard(&layout), Places::Compacted);
    // Processors look at the end of what is asked for first, whether it is there or not.
    let end = places.size(requested & compacted.unwrap_or(requested));
    // SAFETY: as above.
    unsafe { probe_read(addr.wrapping_add(end as u64 - 1)) };
    if !header.is_sound(xcr0) {
        return NewMode::Refused as u64;
    }
    let mut area = [0; LARGEST_AREA];
    let size = places.size(requested & there);
    // SAFETY: as above. All is read before anything changes.
    unsafe { take_guest(addr, &mut area[..size]) };
    // In the standard format MXCSR belongs to SSE and AVX both, and is there whatever XSTATE_BV says; in the other one to SSE
    // (13.8.1 and 13.8.2).
    let mxcsr = match compacted {
        None if requested & (component::SSE | component::AVX) != 0 => xstate::mxcsr(&area),
        Some(_) if requested & there & component::SSE != 0 => xstate::mxcsr(&area),
        Some(_) if requested & component::SSE != 0 => MXCSR_DEFAULT,
        _ => fpmode::store(state.mxcsr),
    };
    let mode = set_mxcsr(state, mxcsr);
    if mode != NewMode::Refused {
        xstate::read(state, requested, there, places, form & xsave::WIDE != 0, &area);
    }
    mode as u64
}

/// No area is larger ([`xstate::Layout::is_sound`]).
const LARGEST_AREA: usize = 4096;

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
        assert_eq!(image.0[32], 4, "ST0 is physical register 3");
        let mut t = state();
        assert_eq!(do_fxrstor(&mut t, image.0.as_ptr() as u64, 1), 0);
        assert_eq!((t.x87, t.vec[5]), (s.x87, s.vec[5]));
        image.0[24 + 2] = 1;
        assert_eq!(do_fxrstor(&mut t, image.0.as_ptr() as u64, 1), 1);
    }

    #[test]
    fn timestamps_go_on_from_where_they_were() {
        let mut s = state();
        s.timestamp_offset = 1 << 60;
        do_rdtsc(&mut s);
        assert!(s.gpr[RDX] << 32 | s.gpr[RAX] >= 1 << 60);
    }

    #[test]
    fn xgetbv_knows_two_registers() {
        let mut s = state();
        for (register, answer) in [(0, 0), (1, 0), (2, 1), (1 << 32, 0)] {
            s.gpr[RCX] = register;
            assert_eq!(do_xgetbv(&mut s), answer);
        }
        assert_eq!((s.gpr[RAX], s.gpr[RDX]), (Processor::new(None).xcr0(), 0));
    }

    /// Against the CPU, with all components, whatever the guests' processor has of them.
    #[cfg(target_arch = "x86_64")]
    mod native {
        use super::*;

        #[repr(align(64))]
        #[derive(Clone, PartialEq)]
        struct Area([u8; 4096]);

        impl Area {
            fn new() -> Box<Self> {
                let mut area = Box::new(Self([0x55; 4096]));
                area.0[xstate::HEADER + 8..xstate::HEADED_SIZE].fill(0);
                area
            }
        }

        /// Restores `from` whole, and then saves by a mask.
        fn save(form: u64, from: &Area, mask: u64, to: &mut Area) {
            let mut own = Box::new(Area([0; 4096]));
            macro_rules! run {
                ($instruction:literal) => {
                    // SAFETY: the areas are long and aligned enough, and the test's own state is put back.
                    unsafe {
                        core::arch::asm!(
                            "mov eax, {all:e}", "xor edx, edx", "xsave64 [{own}]", "xrstor64 [{from}]",
                            "mov eax, {mask:e}", concat!($instruction, " [{to}]"),
                            "mov eax, {all:e}", "xrstor64 [{own}]",
                            own = in(reg) own.0.as_mut_ptr(), from = in(reg) from.0.as_ptr(), to = in(reg) to.0.as_mut_ptr(),
                            mask = in(reg) mask, all = in(reg) component::ALL, out("rax") _, out("rdx") _,
                        )
                    }
                };
            }
            match form {
                0 => run!("xsave"),
                xsave::WIDE => run!("xsave64"),
                xsave::OPTIMISED => run!("xsaveopt"),
                xsave::COMPACTED => run!("xsavec"),
                _ => run!("xsavec64"),
            }
        }

        fn has_the_state() -> bool {
            use std::arch::is_x86_feature_detected as has;
            has!("avx512f") && has!("xsavec")
        }

        /// Some state with these components in use.
        fn sample(used: u64, seed: &mut u64) -> Box<CpuState> {
            let mut next = || {
                *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (*seed >> 33) as u8
            };
            let mut bytes = [0; 4096];
            bytes.fill_with(&mut next);
            // Control, status, tags, opcode; pointers that are addresses.
            bytes[..8].copy_from_slice(&[0x7f, 3, 0, 0x28, 0xa5, 0, 1, 2]);
            [8, 16].into_iter().for_each(|at| bytes[at + 5..at + 8].fill(0));
            let mut s = state();
            xstate::read(&mut s, component::ALL, used, Places::Standard(&xstate::Layout::INTEL), true, &bytes);
            s.mxcsr = if next() & 1 == 0 { MXCSR_DEFAULT } else { 0x3fa0 };
            s
        }

        #[test]
        fn areas_are_the_processors() {
            if !has_the_state() {
                return eprintln!("skipped: this CPU has no AVX-512");
            }
            let processor = Processor::with_state(component::ALL);
            let mut seed = 1;
            let sets = [component::ALL, 0, 1, 2, 3, 4, 6, 7, 0xe0, 0xe4, 0x20, 0x47, 0xa3, 0x40, 0x80];
            for (used, mask) in sets.into_iter().flat_map(|used| sets.map(|mask| (used, mask))) {
                let mut s = sample(used, &mut seed);
                s.processor = &raw const processor as u64;
                let mut from = Area::new();
                xstate::write_xsave(&s, component::ALL, processor.layout(), &mut from.0);
                for form in [0, xsave::WIDE, xsave::OPTIMISED, xsave::COMPACTED, xsave::COMPACTED | xsave::WIDE] {
                    let (mut native, mut ours) = (Area::new(), Area::new());
                    save(form, &from, mask, &mut native);
                    (s.gpr[RAX], s.gpr[RDX]) = (mask, 0);
                    fpmode::load(s.mxcsr);
                    do_xsave(&mut s, ours.0.as_mut_ptr() as u64, form);
                    fpmode::load(MXCSR_DEFAULT);
                    let differing = (0..4096).find(|at| native.0[*at] != ours.0[*at]);
                    assert_eq!(differing, None, "form {form}, used {used:#x}, mask {mask:#x}");
                    comes_back(&s, &native, mask, form);
                }
            }
        }

        /// The area that XSAVE has written, restored by the CPU and by the helper into another state.
        fn comes_back(saved: &CpuState, area: &Area, mask: u64, form: u64) {
            // SAFETY: the area is the test's own.
            let header = unsafe { Header::load(area.0.as_ptr() as u64) };
            if !header.is_sound(component::ALL) {
                return;
            }
            let there = header.there();
            let mut s = sample(component::ALL, &mut 7);
            s.processor = saved.processor;
            let before = s.clone();
            (s.gpr[RAX], s.gpr[RDX]) = (mask, 0);
            fpmode::load(s.mxcsr);
            let answer = do_xrstor(&mut s, area.0.as_ptr() as u64, form);
            fpmode::load(MXCSR_DEFAULT);
            assert_ne!(answer, NewMode::Refused as u64, "there {there:#x}, mask {mask:#x}");
            for bit in [1, 2, 4, 0x20, 0x40, 0x80] {
                let expected = if mask & bit != 0 { saved } else { &before };
                let image = |s: &CpuState| {
                    let mut image = Area::new();
                    let put = |at: usize, bytes: &[u8]| image.0[at..at + bytes.len()].copy_from_slice(bytes);
                    xstate::write(s, bit, Places::Standard(&xstate::Layout::INTEL), form & xsave::WIDE != 0, put);
                    image
                };
                assert!(image(&s) == image(expected), "component {bit:#x}, form {form}, mask {mask:#x}");
            }
        }
    }
}
