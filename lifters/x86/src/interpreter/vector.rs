//! Vector values of the interpreter, lane by lane.

use crate::emitter::{Lane, Ty, VBin, VShift, VTy};

/// A vector of up to 512 bits, little-endian; bytes above the operation's width are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct V(pub [u8; 64]);

impl V {
    pub const ZERO: V = V([0; 64]);

    /// From its low bytes.
    pub fn from_bytes(bytes: &[u8]) -> V {
        let mut v = V::ZERO;
        v.0[..bytes.len()].copy_from_slice(bytes);
        v
    }

    /// Lane by lane; each value is cut to the lane's width.
    pub fn from_lanes(ty: VTy, mut f: impl FnMut(u32) -> u64) -> V {
        let mut v = V::ZERO;
        for i in 0..ty.lanes() {
            v.set_lane(ty, i, f(i));
        }
        v
    }

    /// A lane's bits.
    pub fn lane(&self, ty: VTy, i: u32) -> u64 {
        let n = ty.lane.ty().bytes() as usize;
        let mut bytes = [0; 8];
        bytes[..n].copy_from_slice(&self.0[i as usize * n..][..n]);
        u64::from_le_bytes(bytes)
    }

    pub fn set_lane(&mut self, ty: VTy, i: u32, x: u64) {
        let n = ty.lane.ty().bytes() as usize;
        self.0[i as usize * n..][..n].copy_from_slice(&x.to_le_bytes()[..n]);
    }
}

fn sign(ty: Ty, v: u64) -> i64 {
    super::signed(ty, v)
}

/// [`crate::Emitter::vbin`]. A loop for each operation and width: the C library's string functions are made of them.
pub fn bin(op: VBin, ty: VTy, a: &V, b: &V) -> V {
    macro_rules! loops {
        ($($op:ident)*) => {
            match op {
                $(VBin::$op => match ty.lane.ty() {
                    Ty::I8 => lanes::<1>(ty, a, b, |x, y| lane_op(VBin::$op, Ty::I8, x, y)),
                    Ty::I16 => lanes::<2>(ty, a, b, |x, y| lane_op(VBin::$op, Ty::I16, x, y)),
                    Ty::I32 => lanes::<4>(ty, a, b, |x, y| lane_op(VBin::$op, Ty::I32, x, y)),
                    Ty::I64 => lanes::<8>(ty, a, b, |x, y| lane_op(VBin::$op, Ty::I64, x, y)),
                },)*
            }
        };
    }
    loops! {
        Add Sub Mul MulHiS MulHiU And Or Xor AndNot MinS MinU MaxS MaxU AddSatS AddSatU SubSatS SubSatU AvgU CmpEq CmpGtS
    }
}

/// Lane by lane of `BYTES` each.
#[inline(always)]
fn lanes<const BYTES: usize>(ty: VTy, a: &V, b: &V, f: impl Fn(u64, u64) -> u64) -> V {
    let word = |lane: &[u8; BYTES]| {
        let mut bytes = [0; 8];
        bytes[..BYTES].copy_from_slice(lane);
        u64::from_le_bytes(bytes)
    };
    let mut v = V::ZERO;
    let (to, _) = v.0[..ty.bits as usize / 8].as_chunks_mut::<BYTES>();
    let ((a, _), (b, _)) = (a.0.as_chunks(), b.0.as_chunks());
    for ((to, x), y) in to.iter_mut().zip(a).zip(b) {
        to.copy_from_slice(&f(word(x), word(y)).to_le_bytes()[..BYTES]);
    }
    v
}

#[inline(always)]
fn lane_op(op: VBin, t: Ty, a: u64, b: u64) -> u64 {
    let (sa, sb) = (sign(t, a), sign(t, b));
    let max = (t.mask() >> 1) as i64;
    let clamp = |v: i64| v.clamp(-max - 1, max) as u64;
    match op {
        VBin::Add => a.wrapping_add(b),
        VBin::Sub => a.wrapping_sub(b),
        VBin::Mul => a.wrapping_mul(b),
        VBin::MulHiS => (sa.wrapping_mul(sb) >> t.bits()) as u64,
        VBin::MulHiU => a.wrapping_mul(b) >> t.bits(),
        VBin::And => a & b,
        VBin::Or => a | b,
        VBin::Xor => a ^ b,
        VBin::AndNot => !a & b,
        VBin::MinS => sa.min(sb) as u64,
        VBin::MinU => a.min(b),
        VBin::MaxS => sa.max(sb) as u64,
        VBin::MaxU => a.max(b),
        VBin::AddSatS => clamp(sa + sb),
        VBin::AddSatU => (a + b).min(t.mask()),
        VBin::SubSatS => clamp(sa - sb),
        VBin::SubSatU => a.saturating_sub(b),
        VBin::AvgU => (a + b + 1) >> 1,
        VBin::CmpEq => mask(a == b),
        VBin::CmpGtS => mask(sa > sb),
    }
}

fn mask(c: bool) -> u64 {
    if c { u64::MAX } else { 0 }
}

/// [`crate::Emitter::vshift`].
pub fn shift(op: VShift, ty: VTy, a: &V, count: u64) -> V {
    let t = ty.lane.ty();
    let width = u64::from(t.bits());
    V::from_lanes(ty, |i| {
        let x = a.lane(ty, i);
        match op {
            VShift::Shl | VShift::Lshr if count >= width => 0,
            VShift::Shl => x << count,
            VShift::Lshr => x >> count,
            VShift::Ashr => (sign(t, x) >> count.min(width - 1)) as u64,
        }
    })
}

/// [`crate::Emitter::vselect`].
pub fn select(ty: VTy, m: u64, a: &V, b: &V) -> V {
    V::from_lanes(ty, |n| if m >> n & 1 == 1 { a.lane(ty, n) } else { b.lane(ty, n) })
}

/// [`crate::Emitter::shuffle`].
pub fn shuffle(ty: VTy, a: &V, b: &V, indices: &[u8]) -> V {
    let n = ty.lanes();
    V::from_lanes(ty, |i| {
        let from = u32::from(indices[i as usize]);
        if from < n { a.lane(ty, from) } else { b.lane(ty, from - n) }
    })
}

/// [`crate::Emitter::byte_shuffle`].
pub fn byte_shuffle(bits: u32, table: &V, index: &V) -> V {
    V::from_lanes(VTy { lane: Lane::I8, bits }, |n| {
        let which = index.0[n as usize];
        if which & 0x80 != 0 { 0 } else { table.0[(n as usize & !15) + usize::from(which & 15)].into() }
    })
}

/// [`crate::Emitter::pack`].
pub fn pack(from: VTy, to_signed: bool, a: &V, b: &V) -> V {
    let (narrow, half) = match from.lane.ty() {
        Ty::I16 => (Lane::I8, Ty::I8),
        Ty::I32 => (Lane::I16, Ty::I16),
        other => panic!("no pack from {other:?}"),
    };
    let to = VTy { lane: narrow, bits: from.bits };
    let (low, high) = if to_signed {
        let max = (half.mask() >> 1) as i64;
        (-max - 1, max)
    } else {
        (0, half.mask() as i64)
    };
    let per_block = from.bits.min(128) / from.lane.ty().bits();
    V::from_lanes(to, |i| {
        let (block, j) = (i / (2 * per_block), i % (2 * per_block));
        let at = block * per_block + j % per_block;
        let x = if j < per_block { a.lane(from, at) } else { b.lane(from, at) };
        sign(from.lane.ty(), x).clamp(low, high) as u64
    })
}

/// [`crate::Emitter::mul_even`].
pub fn mul_even(signed: bool, bits: u32, a: &V, b: &V) -> V {
    let wide = VTy { lane: Lane::I64, bits };
    let narrow = VTy { lane: Lane::I32, bits };
    V::from_lanes(wide, |i| {
        let (x, y) = (a.lane(narrow, 2 * i), b.lane(narrow, 2 * i));
        if signed { (sign(Ty::I32, x) * sign(Ty::I32, y)) as u64 } else { x * y }
    })
}

/// [`crate::Emitter::madd_i16`].
pub fn madd_i16(bits: u32, a: &V, b: &V) -> V {
    let wide = VTy { lane: Lane::I32, bits };
    let narrow = VTy { lane: Lane::I16, bits };
    let product = |i| sign(Ty::I16, a.lane(narrow, i)) * sign(Ty::I16, b.lane(narrow, i));
    V::from_lanes(wide, |i| (product(2 * i) + product(2 * i + 1)) as u64)
}

/// [`crate::Emitter::sad_u8`].
pub fn sad_u8(bits: u32, a: &V, b: &V) -> V {
    let wide = VTy { lane: Lane::I64, bits };
    let bytes = VTy { lane: Lane::I8, bits };
    V::from_lanes(wide, |i| (8 * i..8 * i + 8).map(|j| a.lane(bytes, j).abs_diff(b.lane(bytes, j))).sum())
}

/// Stores 16 bytes by one access.
///
/// # Safety
/// `p` is valid for writes, or faults are handled.
pub unsafe fn store16(p: *mut u8, v: &[u8; 16]) {
    // SAFETY: the caller's contract.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!("movups {x}, [{v}]", "movups [{p}], {x}",
            x = out(xmm_reg) _, v = in(reg) v.as_ptr(), p = in(reg) p, options(nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!("ldr {x:q}, [{v}]", "str {x:q}, [{p}]",
            x = out(vreg) _, v = in(reg) v.as_ptr(), p = in(reg) p, options(nostack, preserves_flags));
    }
}

/// Compare-and-exchange of 16 bytes, as [low, high].
///
/// # Safety
/// `p` is 16-byte aligned and valid for reads and writes, or faults are handled.
#[cfg(target_arch = "x86_64")]
pub unsafe fn cmpxchg16(p: *mut u64, expected: [u64; 2], new: [u64; 2]) -> [u64; 2] {
    let (mut low, mut high) = (expected[0], expected[1]);
    // SAFETY: the caller's contract. rbx is LLVM's and has to be saved around the instruction.
    unsafe {
        core::arch::asm!(
            "xchg {tmp}, rbx", "lock cmpxchg16b [{p}]", "mov rbx, {tmp}",
            tmp = inout(reg) new[0] => _, p = in(reg) p,
            inout("rax") low, inout("rdx") high, in("rcx") new[1],
        );
    }
    [low, high]
}

/// Compare-and-exchange of 16 bytes, as [low, high].
///
/// # Safety
/// `p` is 16-byte aligned and valid for reads and writes, or faults are handled.
#[cfg(target_arch = "aarch64")]
pub unsafe fn cmpxchg16(p: *mut u64, expected: [u64; 2], new: [u64; 2]) -> [u64; 2] {
    let (mut low, mut high): (u64, u64);
    // SAFETY: the caller's contract. Load- and store-exclusive pairs exist in every ARMv8.0; storing back the
    // old value where they differ makes the pair of loads single-copy atomic (Arm ARM, B2.2.1).
    unsafe {
        core::arch::asm!(
            "2: ldaxp {low}, {high}, [{p}]",
            "cmp {low}, {e0}", "ccmp {high}, {e1}, #0, eq", "b.ne 3f",
            "stlxp {s:w}, {n0}, {n1}, [{p}]", "cbnz {s:w}, 2b", "b 4f",
            "3: stlxp {s:w}, {low}, {high}, [{p}]", "cbnz {s:w}, 2b", "4:",
            low = out(reg) low, high = out(reg) high, p = in(reg) p, s = out(reg) _,
            e0 = in(reg) expected[0], e1 = in(reg) expected[1], n0 = in(reg) new[0], n1 = in(reg) new[1],
        );
    }
    [low, high]
}
