//! x86-64's rt_sigframe: what a handler finds on its stack, and what rt_sigreturn takes back
//! (arch/x86/kernel/signal_64.c, arch/x86/include/uapi/asm/{sigcontext,ucontext}.h).
//!
//! Downwards from the interrupted stack pointer: the red zone (128 bytes), the floating-point area (aligned to 64),
//! then the frame itself at 8 modulo 16, as if its first word had been pushed by a call.

use xlate_abi::state::{CpuState, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, rflags};

use super::{Action, AltStack, Cause, Fault, LastException, SS_AUTODISARM, sa};
use crate::errno::Errno;
use crate::memory::Memory;
use crate::xstate::{self, HEADED_SIZE, HEADER, LEGACY_SIZE, Layout, MXCSR_MASK, component};

/// Offsets in the frame.
mod at {
    pub const RETURN: usize = 0;
    pub const UC_FLAGS: usize = 8;
    pub const UC_STACK: usize = 24;
    /// r8 to r15, then the others in an order of their own.
    pub const GREGS: usize = 48;
    pub const RIP: usize = 176;
    pub const RFLAGS: usize = 184;
    pub const SEGMENTS: usize = 192;
    pub const ERR: usize = 200;
    pub const TRAPNO: usize = 208;
    pub const OLDMASK: usize = 216;
    pub const CR2: usize = 224;
    pub const FPSTATE: usize = 232;
    pub const UC_SIGMASK: usize = 304;
    pub const SIGINFO: usize = 312;
    pub const SIZE: usize = 440;
}

/// Order of the general registers in the sigcontext.
const ORDER: [usize; 16] = [8, 9, 10, 11, 12, 13, 14, 15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP];

const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;

/// User-mode segment selectors (arch/x86/include/asm/segment.h): cs, gs, fs, ss.
const SEGMENTS: [u16; 4] = [0x33, 0, 0, 0x2b];

/// The bits of RFLAGS that come from a frame; the others stay as they are (FIX_EFLAGS).
const FROM_FRAME: u64 = rflags::STATUS | rflags::AC | rflags::DF | rflags::TF | rflags::RF;
/// The requested privilege level of user code: Linux sets it in the selectors of a frame.
const USER_LEVEL: u16 = 3;
/// In a selector: it is of the local descriptor table.
const LOCAL: u16 = 4;

/// The length of the XSAVE header: a word of the components that are there, then zeros.
const HEADER_SIZE: usize = HEADED_SIZE - HEADER;

/// Where the FXSAVE area tells that XSAVE state follows (struct _fpx_sw_bytes).
const SW_RESERVED: usize = 464;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
/// It stands behind the area.
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
const MAGIC2_SIZE: usize = 4;
/// Fields of struct _fpx_sw_bytes after the first magic: all bytes of the area with the second magic, the components that are
/// saved, the bytes of the area.
const EXTENDED_SIZE: usize = SW_RESERVED + 4;
const XFEATURES: usize = SW_RESERVED + 8;
const XSTATE_SIZE: usize = SW_RESERVED + 16;

const RED_ZONE: u64 = 128;

/// The floating-point area of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloatFormat {
    /// XSAVE components; zero for plain FXSAVE.
    pub components: u64,
    /// Where they lie.
    pub layout: Layout,
    /// Frames of before a checkpoint may have an area of so many bytes, with these components that aren't kept.
    pub largest: usize,
    pub tolerated: u64,
}

impl FloatFormat {
    /// FXSAVE's.
    pub const PLAIN: Self = Self { components: 0, layout: Layout::INTEL, largest: 0, tolerated: 0 };

    /// Bytes of the XSAVE area.
    fn size(&self) -> usize {
        self.layout.size(self.components)
    }

    /// An upper bound of what a signal's delivery needs on the stack (AT_MINSIGSTKSZ).
    pub fn frame_size_max(&self) -> u64 {
        let area = if self.components == 0 { LEGACY_SIZE } else { self.size() + MAGIC2_SIZE };
        (at::SIZE + area + 64 + 16) as u64
    }
}

/// A frame can't be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signal frame at {address:#x}: {errno}")]
pub struct FrameError {
    pub address: u64,
    pub errno: Errno,
}

/// All that goes into a frame.
pub struct Frame<'a> {
    pub fault: &'a Fault,
    pub action: &'a Action,
    /// The mask that rt_sigreturn brings back.
    pub mask: u64,
    pub altstack: &'a mut AltStack,
    pub float: FloatFormat,
    pub exception: LastException,
}

/// What rt_sigreturn brings back beyond the registers.
pub struct Restored {
    pub mask: u64,
    /// `None` leaves it as it is.
    pub altstack: Option<AltStack>,
    /// What the frame holds that can't be: the registers are restored, and then this is raised.
    pub refused: Option<Fault>,
}

struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn word(&mut self, offset: usize, value: u64) {
        self.put(offset, &value.to_le_bytes());
    }
}

impl Frame<'_> {
    /// Writes the frame and sets the registers to enter the handler.
    pub fn push(self, state: &mut CpuState, memory: &Memory) -> Result<(), FrameError> {
        let sp = state.gpr[RSP];
        let mut top = sp.wrapping_sub(RED_ZONE);
        let on_altstack = self.altstack.holds(sp);
        if self.action.flags & sa::ONSTACK != 0 && !on_altstack && self.altstack.size != 0 {
            top = self.altstack.sp.wrapping_add(self.altstack.size);
        }
        let area = self.float_area(state);
        let fp = top.wrapping_sub(area.len() as u64) & !63;
        let frame = (fp.wrapping_sub(at::SIZE as u64) & !15).wrapping_sub(8);
        let error = |errno| FrameError { address: frame, errno };
        if self.action.flags & sa::RESTORER == 0 {
            // x86-64 has no other way back (x64_setup_rt_frame).
            return Err(error(Errno(libc::EFAULT)));
        }
        if on_altstack && !self.altstack.holds(frame) {
            // The alternate stack overflows (get_sigframe).
            return Err(error(Errno(libc::EFAULT)));
        }
        memory.write_guest(fp, &area).map_err(error)?;
        let image = self.image(state, fp);
        memory.write_guest(frame, &image).map_err(error)?;
        self.enter(state, frame);
        Ok(())
    }

    fn float_area(&self, state: &CpuState) -> Vec<u8> {
        let FloatFormat { components, layout, .. } = self.float;
        if components == 0 {
            let mut area = [0; LEGACY_SIZE];
            xstate::write_fxsave(state, &mut area);
            return area.to_vec();
        }
        let size = self.float.size();
        let mut area = Writer(vec![0; size + MAGIC2_SIZE]);
        xstate::write_xsave(state, components, &layout, &mut area.0);
        // x87 and SSE state count as in use whatever they are (arch/x86/kernel/fpu/signal.c, save_xstate_epilog).
        area.0[HEADER] |= (component::X87 | component::SSE) as u8;
        area.put(SW_RESERVED, &FP_XSTATE_MAGIC1.to_le_bytes());
        area.put(EXTENDED_SIZE, &((size + MAGIC2_SIZE) as u32).to_le_bytes());
        area.put(XFEATURES, &components.to_le_bytes());
        area.put(XSTATE_SIZE, &(size as u32).to_le_bytes());
        area.put(size, &FP_XSTATE_MAGIC2.to_le_bytes());
        area.0
    }

    fn image(&self, state: &CpuState, fp: u64) -> Vec<u8> {
        let mut w = Writer(vec![0; at::SIZE]);
        w.word(at::RETURN, self.action.restorer);
        let xstate = if self.float.components != 0 { UC_FP_XSTATE } else { 0 };
        w.word(at::UC_FLAGS, xstate | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS);
        w.word(at::UC_STACK, self.altstack.sp);
        w.put(at::UC_STACK + 8, &self.altstack.flags.to_le_bytes());
        w.word(at::UC_STACK + 16, self.altstack.size);
        for (i, reg) in ORDER.into_iter().enumerate() {
            w.word(at::GREGS + 8 * i, state.gpr[reg]);
        }
        w.word(at::RIP, state.rip);
        let resume = if self.fault.cause == Cause::Fault { rflags::RF } else { 0 };
        w.word(at::RFLAGS, state.rflags() | resume);
        for (i, selector) in SEGMENTS.into_iter().enumerate() {
            w.put(at::SEGMENTS + 2 * i, &selector.to_le_bytes());
        }
        w.word(at::ERR, self.exception.err);
        w.word(at::TRAPNO, self.exception.trapno);
        w.word(at::OLDMASK, self.mask);
        w.word(at::CR2, self.exception.cr2);
        w.word(at::FPSTATE, fp);
        w.word(at::UC_SIGMASK, self.mask);
        w.put(at::SIGINFO, &self.fault.info.0);
        w.0
    }

    /// Sets the registers for `handler(signal, siginfo, ucontext)`.
    fn enter(self, state: &mut CpuState, frame: u64) {
        state.gpr[RDI] = self.fault.info.signal() as u64;
        state.gpr[RSI] = frame + at::SIGINFO as u64;
        state.gpr[RDX] = frame + at::UC_FLAGS as u64;
        state.gpr[RAX] = 0;
        state.gpr[RSP] = frame;
        state.rip = self.action.handler;
        state.set_rflags(state.rflags() & !(rflags::DF | rflags::TF));
        xstate::reset(state);
        if self.altstack.flags & SS_AUTODISARM != 0 {
            *self.altstack = AltStack::default();
        }
    }
}

/// Restores the registers from the frame below the stack pointer (the handler's `ret` has taken its first word).
pub fn pop(state: &mut CpuState, memory: &Memory, format: &FloatFormat) -> Result<Restored, FrameError> {
    let frame = state.gpr[RSP].wrapping_sub(8);
    let error = |errno| FrameError { address: frame, errno };
    let mut image = [0u8; at::SIZE];
    memory.read_guest(frame, &mut image).map_err(error)?;
    let word = |offset: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&image[offset..offset + 8]);
        u64::from_le_bytes(bytes)
    };
    for (i, reg) in ORDER.into_iter().enumerate() {
        state.gpr[reg] = word(at::GREGS + 8 * i);
    }
    state.rip = word(at::RIP);
    state.set_rflags(state.rflags() & !FROM_FRAME | word(at::RFLAGS) & FROM_FRAME);
    let float = restore_float(state, memory, word(at::FPSTATE), format);
    let altstack = float.is_ok().then(|| AltStack {
        sp: word(at::UC_STACK),
        flags: word(at::UC_STACK + 8) as i32,
        _pad: 0,
        size: word(at::UC_STACK + 16),
    });
    let refused = match float {
        Ok(()) => bad_selector(word(at::SEGMENTS), word(at::UC_FLAGS)).map(Fault::of_selector),
        Err(_) => Some(Fault::forced()),
    };
    Ok(Restored { mask: word(at::UC_SIGMASK), altstack, refused })
}

/// A selector with which the CPU doesn't return to the program (Intel SDM vol. 2, IRET). Linux puts a stack segment right where
/// the frame doesn't ask for exactly that one.
fn bad_selector(segments: u64, flags: u64) -> Option<u16> {
    let [code, stack] = [0, 48].map(|place| (segments >> place) as u16 | USER_LEVEL);
    let [good_code, .., good_stack] = SEGMENTS;
    // The error code of one in the local table is lost on Linux's way (arch/x86/kernel/traps.c, espfix64).
    let told = if stack & LOCAL == 0 { stack } else { 0 };
    let bad_stack = || (flags & UC_STRICT_RESTORE_SS != 0 && stack != good_stack).then_some(told);
    if code == good_code { bad_stack() } else { Some(code) }
}

fn half(area: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes([area[offset], area[offset + 1], area[offset + 2], area[offset + 3]])
}

fn long(area: &[u8], offset: usize) -> u64 {
    u64::from(half(area, offset)) | u64::from(half(area, offset + 4)) << 32
}

/// The length of a frame's XSAVE area; `None` if it tells of none (arch/x86/kernel/fpu/signal.c, check_xstate_in_sigframe).
fn extended_size(memory: &Memory, fp: u64, legacy: &[u8; LEGACY_SIZE], format: &FloatFormat) -> Option<usize> {
    let [size, with_magic] = [XSTATE_SIZE, EXTENDED_SIZE].map(|at| half(legacy, at) as usize);
    let largest = format.size().max(format.largest);
    let is_sound = format.components != 0
        && half(legacy, SW_RESERVED) == FP_XSTATE_MAGIC1
        && (HEADED_SIZE..=largest).contains(&size)
        && size <= with_magic
        && memory.read::<u32>(fp + size as u64) == Ok(FP_XSTATE_MAGIC2);
    is_sound.then_some(size)
}

fn restore_float(state: &mut CpuState, memory: &Memory, fp: u64, format: &FloatFormat) -> Result<(), Errno> {
    if fp == 0 {
        xstate::reset(state);
        return Ok(());
    }
    let mut legacy = [0u8; LEGACY_SIZE];
    memory.read_guest(fp, &mut legacy)?;
    let refused = Errno(libc::EFAULT);
    let misaligned = |alignment: u64| fp & (alignment - 1) != 0;
    if misaligned(16) || xstate::mxcsr(&legacy) & !MXCSR_MASK != 0 {
        return Err(refused);
    }
    let Some(size) = extended_size(memory, fp, &legacy, format) else {
        // The frame holds x87 and SSE state only; the rest becomes initial.
        xstate::reset(state);
        xstate::read_fxsave(state, &legacy);
        return Ok(());
    };
    // What the area is too short for is never there; a frame that says otherwise reads zeros.
    let mut area = vec![0; size.max(format.size())];
    memory.read_guest(fp, &mut area[..size])?;
    let there = long(&area, HEADER);
    let unknown = there & !(format.components | format.tolerated) != 0;
    let reserved = &area[HEADER + 8..HEADER + HEADER_SIZE];
    if misaligned(64) || unknown || reserved.iter().any(|byte| *byte != 0) {
        return Err(refused);
    }
    // Components that the frame doesn't name become initial, as in __restore_fpregs_from_user.
    let named = long(&legacy, XFEATURES) & format.components;
    xstate::reset(state);
    xstate::read_xsave(state, named, &format.layout, &area);
    Ok(())
}
