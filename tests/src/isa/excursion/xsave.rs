//! The vector registers in a signal frame's XSAVE image: standard format, offsets by CPUID leaf 0xD (Intel SDM vol. 1,
//! 13.4).

use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::ops::Range;
use std::sync::OnceLock;

use xlate_runtime::xstate;

use super::super::super::case::{Extent, State};

/// Where the FXSAVE image has the XMM registers, where it ends, and where the header's XSTATE_BV is.
const XMM: usize = 160;
const HEADER: usize = 512;
const HEADER_LEN: usize = 64;

/// State components by number (Intel SDM vol. 1, 13.1).
const X87: usize = 0;
const SSE: usize = 1;
const AVX: usize = 2;
const OPMASK: usize = 5;
const ZMM_HI256: usize = 6;
const HI16_ZMM: usize = 7;

/// Offset and length of each component that the system has switched on; empty for the others.
#[derive(Debug, Default)]
struct Layout {
    places: [(usize, usize); 8],
}

fn layout() -> &'static Layout {
    static LAYOUT: OnceLock<Layout> = OnceLock::new();
    LAYOUT.get_or_init(Layout::of_this_machine)
}

/// Finds the layout out, before any handler needs it.
pub fn prepare() {
    layout();
}

impl Layout {
    fn of_this_machine() -> Self {
        const OSXSAVE: u32 = 1 << 27;
        let mut layout = Self::default();
        if __cpuid(1).ecx & OSXSAVE == 0 {
            return layout;
        }
        let leaf = __cpuid_count(0xd, 0);
        let enabled = enabled() & (u64::from(leaf.edx) << 32 | u64::from(leaf.eax));
        for n in [AVX, OPMASK, ZMM_HI256, HI16_ZMM].into_iter().filter(|n| enabled >> n & 1 != 0) {
            let component = __cpuid_count(0xd, n as u32);
            layout.places[n] = (component.ebx as usize, component.eax as usize);
        }
        layout
    }

    fn has(&self, component: usize) -> bool {
        self.places[component].1 != 0
    }

    /// The place of a component, if an image of this length has it.
    fn place(&self, component: usize, len: usize) -> Option<Range<usize>> {
        let (offset, size) = self.places[component];
        (size != 0 && offset + size <= len).then_some(offset..offset + size)
    }
}

/// XCR0.
fn enabled() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller has seen OSXSAVE; the instruction only reads.
    unsafe {
        core::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// The vector state of this machine.
pub fn extent() -> Extent {
    let layout = layout();
    let wide = layout.has(OPMASK) && layout.has(ZMM_HI256) && layout.has(HI16_ZMM);
    match (layout.has(AVX), wide) {
        (true, true) => Extent::FULL,
        (true, false) => Extent { registers: 16, words: 4, masks: false },
        (false, _) => Extent { registers: 16, words: 2, masks: false },
    }
}

/// Whether all of AVX-512's components are there, each at its place on Intel's processors.
pub fn has_intels_areas() -> bool {
    let (layout, intel) = (layout(), xstate::Layout::INTEL);
    let found = [OPMASK, ZMM_HI256, HI16_ZMM].map(|n| layout.places[n].0);
    found == [intel.opmask, intel.zmm_hi256, intel.hi16_zmm]
}

/// Each part of the vector registers with its component and place in an image of this length: the first register, the
/// words of each, and the bytes.
fn parts(len: usize) -> impl Iterator<Item = (usize, usize, Range<usize>, Range<usize>)> {
    let layout = layout();
    let sse = Some((SSE, 0, 0..2, XMM..XMM + 256));
    let part = move |component, first, words| layout.place(component, len).map(|at| (component, first, words, at));
    [sse, part(AVX, 0, 2..4), part(ZMM_HI256, 0, 4..8), part(HI16_ZMM, 16, 0..8)].into_iter().flatten()
}

/// Writes a state's vector and mask registers, and marks everything written as in use. Without `wide` only the XMM
/// registers: the wider parts are in their initial state then.
pub fn store(image: &mut [u8], state: &State, wide: bool) {
    let mut used = 1 << X87 | 1 << SSE;
    for (component, first, words, at) in parts(image.len()).filter(|p| wide || p.0 == SSE) {
        used |= 1 << component;
        let bytes = image[at].chunks_exact_mut(words.len() * 8);
        for (register, bytes) in state.vec[first..].iter().zip(bytes) {
            for (word, bytes) in register[words.clone()].iter().zip(bytes.chunks_exact_mut(8)) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        }
    }
    if let Some(at) = layout().place(OPMASK, image.len()).filter(|_| wide) {
        used |= 1 << OPMASK;
        for (k, bytes) in state.k.iter().zip(image[at].chunks_exact_mut(8)) {
            bytes.copy_from_slice(&k.to_le_bytes());
        }
    }
    if image.len() >= HEADER + HEADER_LEN {
        image[HEADER..HEADER + 8].copy_from_slice(&u64::to_le_bytes(used));
    }
}

/// Whether a component isn't in its initial state. Images without a header have x87 and SSE.
pub fn in_use(image: &[u8], component: usize) -> bool {
    match image.get(HEADER) {
        Some(used) => used >> component & 1 != 0,
        None => component <= SSE,
    }
}

/// Whether the x87 unit isn't in its initial state.
pub fn x87_in_use(image: &[u8]) -> bool {
    in_use(image, X87)
}

/// Reads the vector and mask registers; a component that isn't in use is zero.
pub fn load(image: &[u8], state: &mut State) {
    (state.vec, state.k) = ([[0; 8]; 32], [0; 8]);
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    for (_, first, words, at) in parts(image.len()).filter(|p| in_use(image, p.0)) {
        let bytes = image[at].chunks_exact(words.len() * 8);
        for (register, bytes) in state.vec[first..].iter_mut().zip(bytes) {
            for (target, bytes) in register[words.clone()].iter_mut().zip(bytes.chunks_exact(8)) {
                *target = word(bytes);
            }
        }
    }
    if let Some(at) = layout().place(OPMASK, image.len()).filter(|_| in_use(image, OPMASK)) {
        for (k, bytes) in state.k.iter_mut().zip(image[at].chunks_exact(8)) {
            *k = word(bytes);
        }
    }
}
