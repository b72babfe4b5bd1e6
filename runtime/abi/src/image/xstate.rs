//! The extended state as ptrace and core files give it: XSAVE's standard format
//! (Intel SDM vol. 1, 13.4), with the components' places told by NT_X86_XSAVE_LAYOUT, for they differ among CPUs.

use super::core_notes::{half, long, word};
use crate::state::{CpuState, VecReg, X87State};

/// Component numbers (Intel SDM vol. 1, 13.1).
const AVX: u32 = 2;
const OPMASK: u32 = 5;
const ZMM_HI256: u32 = 6;
const HI16_ZMM: u32 = 7;

/// Length of the legacy region, which FXSAVE writes too.
const LEGACY: usize = 512;
/// Length of the legacy region and the header, which begins with XSTATE_BV.
const HEADED: usize = 576;
const LEGACY_COMPONENTS: u64 = 3;
/// What is loaded, and the protection keys' register.
const KNOWN: u64 = LEGACY_COMPONENTS | 1 << AVX | 1 << OPMASK | 1 << ZMM_HI256 | 1 << HI16_ZMM | 1 << 9;

/// Names of the other components (Intel SDM vol. 1, 13.1).
fn component_name(number: u32) -> String {
    let name = match number {
        3 | 4 => "MPX bounds",
        8 => "processor trace",
        11 | 12 => "shadow stacks",
        14 => "user interrupts",
        17 => "AMX tile configuration",
        18 => "AMX tile data",
        19 => "APX registers",
        _ => "unnamed",
    };
    format!("{name} (component {number})")
}

/// Where Linux puts XCR0 in the legacy region's bytes for software (`arch/x86/include/asm/user.h`).
const XCR0_AT: usize = 464;

/// Where a component lies: CPUID leaf 0xd, `struct x86_xfeat_component` in NT_X86_XSAVE_LAYOUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XsaveComponent {
    pub number: u32,
    pub size: u32,
    pub offset: u32,
    pub flags: u32,
}

/// The descriptor of NT_X86_XSAVE_LAYOUT.
pub fn encode_layout(layout: &[XsaveComponent]) -> Vec<u8> {
    layout.iter().flat_map(|c| [c.number, c.size, c.offset, c.flags]).flat_map(u32::to_le_bytes).collect()
}

/// Reads NT_X86_XSAVE_LAYOUT.
pub fn decode_layout(desc: &[u8]) -> Vec<XsaveComponent> {
    desc.chunks_exact(16)
        .map(|c| XsaveComponent { number: long(c, 0), size: long(c, 4), offset: long(c, 8), flags: long(c, 12) })
        .collect()
}

/// An XSAVE area, or an FXSAVE area alone.
pub struct Xsave<'a> {
    bytes: &'a [u8],
    layout: Vec<XsaveComponent>,
}

impl<'a> Xsave<'a> {
    /// `None` if it is shorter than FXSAVE's 512 bytes. Without a layout it is guessed as debuggers do it.
    pub fn new(bytes: &'a [u8], layout: Option<&[XsaveComponent]>) -> Option<Self> {
        if bytes.len() < LEGACY {
            return None;
        }
        let layout = match layout {
            Some(layout) => layout.to_vec(),
            None => guess_layout(bytes),
        };
        Some(Self { bytes, layout })
    }

    /// Where the components lie.
    pub fn layout(&self) -> &[XsaveComponent] {
        &self.layout
    }

    /// XCR0 of the processor it comes from; x87 and SSE state alone if it doesn't tell.
    pub fn enabled(&self) -> u64 {
        if self.bytes.len() < HEADED { LEGACY_COMPONENTS } else { word(self.bytes, XCR0_AT) }
    }

    /// The names of components that are in use (XSTATE_BV) and that [`Self::load`] doesn't know. The protection keys' register
    /// isn't among them: each process has it.
    pub fn unknown(&self) -> Vec<String> {
        if self.bytes.len() < HEADED {
            return Vec::new();
        }
        let unknown = word(self.bytes, LEGACY) & !KNOWN;
        (0..u64::BITS).filter(|n| unknown >> n & 1 == 1).map(component_name).collect()
    }

    /// A register of `size` bytes in a component; `None` where this CPU had none.
    fn part(&self, component: u32, index: usize, size: usize) -> Option<&'a [u8]> {
        let c = self.layout.iter().find(|c| c.number == component)?;
        let at = c.offset as usize + index * size;
        if (index + 1) * size > c.size as usize {
            return None;
        }
        self.bytes.get(at..at + size)
    }

    /// Sets the x87, SSE, AVX and AVX-512 state.
    pub fn load(&self, cpu: &mut CpuState) {
        cpu.x87 = self.x87();
        cpu.mxcsr = long(self.bytes, 24);
        for (i, reg) in cpu.vec.iter_mut().enumerate() {
            *reg = self.vector(i);
        }
        for (i, k) in cpu.k.iter_mut().enumerate() {
            *k = self.part(OPMASK, i, 8).map_or(0, |b| word(b, 0));
        }
    }

    /// FXSAVE keeps the registers in stack order, the CPU state in physical order
    /// (Intel SDM vol. 2, FXSAVE, table 3-43).
    fn x87(&self) -> X87State {
        let b = self.bytes;
        let fsw = half(b, 2);
        let top = usize::from(fsw >> 11) & 7;
        let mut x87 = X87State {
            fsw,
            ftw: b[4],
            fop: half(b, 6) & X87State::OPCODE,
            fip: word(b, 8),
            fdp: word(b, 16),
            ..X87State::default()
        };
        x87.set_control(half(b, 0));
        for i in 0..8 {
            // Bytes 10 to 15 are reserved and may hold anything.
            let at = 32 + i * 16;
            x87.reg[(top + i) & 7][..10].copy_from_slice(&b[at..at + 10]);
        }
        x87
    }

    fn vector(&self, i: usize) -> VecReg {
        let mut reg = [0; 64];
        if i >= 16 {
            if let Some(all) = self.part(HI16_ZMM, i - 16, 64) {
                reg.copy_from_slice(all);
            }
            return reg;
        }
        let xmm = 160 + i * 16;
        reg[..16].copy_from_slice(&self.bytes[xmm..xmm + 16]);
        if let Some(high) = self.part(AVX, i, 16) {
            reg[16..32].copy_from_slice(high);
        }
        if let Some(high) = self.part(ZMM_HI256, i, 32) {
            reg[32..].copy_from_slice(high);
        }
        reg
    }
}

/// Intel's layout, with room for MPX, or AMD's, without; told apart by XCR0 and the size, as gdb does
/// (`i387_guess_xsave_layout`).
fn guess_layout(bytes: &[u8]) -> Vec<XsaveComponent> {
    const MPX: u64 = 3 << 3;
    let xcr0 = word(bytes, XCR0_AT);
    let (opmask, zmm, hi16) =
        if xcr0 & MPX != 0 || bytes.len() >= 2688 { (1088, 1152, 1664) } else { (832, 896, 1408) };
    [(AVX, 256, 576), (OPMASK, 64, opmask), (ZMM_HI256, 512, zmm), (HI16_ZMM, 1024, hi16)]
        .into_iter()
        .filter(|(number, ..)| xcr0 >> number & 1 != 0)
        .map(|(number, size, offset)| XsaveComponent { number, size, offset, flags: 0 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(len: usize, xcr0: u64) -> Vec<u8> {
        let mut b: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        b[XCR0_AT..XCR0_AT + 8].copy_from_slice(&xcr0.to_le_bytes());
        b
    }

    #[test]
    fn vectors_are_put_together_from_their_parts() {
        let bytes = area(2440, 0x2e7);
        let mut cpu = CpuState::default();
        Xsave::new(&bytes, None).unwrap().load(&mut cpu);
        assert_eq!(cpu.vec[3][..16], bytes[160 + 48..160 + 64]);
        assert_eq!(cpu.vec[3][16..32], bytes[576 + 48..576 + 64]);
        assert_eq!(cpu.vec[3][32..], bytes[896 + 96..896 + 128]);
        assert_eq!(cpu.vec[17][..], bytes[1408 + 64..1408 + 128]);
        assert_eq!(cpu.k[1], word(&bytes, 840));
        assert_eq!(cpu.mxcsr, long(&bytes, 24));
    }

    #[test]
    fn the_layout_note_wins() {
        let bytes = area(2696, 0xe7);
        let layout = [XsaveComponent { number: AVX, size: 256, offset: 1000, flags: 0 }];
        assert_eq!(decode_layout(&encode_layout(&layout)), layout);
        let mut cpu = CpuState::default();
        Xsave::new(&bytes, Some(&layout)).unwrap().load(&mut cpu);
        assert_eq!(cpu.vec[1][16..32], bytes[1016..1032]);
        assert_eq!(cpu.vec[1][32..], [0; 32]);
        assert_eq!(cpu.k, [0; 8]);
    }

    #[test]
    fn components_in_use_have_names() {
        let mut bytes = area(11_008, 0x602e7);
        let mut used = |there: u64| {
            bytes[LEGACY..LEGACY + 8].copy_from_slice(&there.to_le_bytes());
            Xsave::new(&bytes, None).unwrap().unknown()
        };
        assert!(used(0x2e7).is_empty(), "tiles that are enabled and not used");
        assert_eq!(used(0x602e7), ["AMX tile configuration (component 17)", "AMX tile data (component 18)"]);
        assert_eq!(used(1 << 19 | 1 << 40), ["APX registers (component 19)", "unnamed (component 40)"]);
        let short = area(512, 0);
        assert!(Xsave::new(&short, None).unwrap().unknown().is_empty());
    }

    #[test]
    fn x87_registers_come_in_physical_order() {
        let mut bytes = area(512, 0);
        bytes[2..4].copy_from_slice(&(6u16 << 11).to_le_bytes());
        let mut cpu = CpuState::default();
        Xsave::new(&bytes, None).unwrap().load(&mut cpu);
        assert_eq!(cpu.x87.reg[6][..10], bytes[32..42]);
        assert_eq!(cpu.x87.reg[0][..10], bytes[64..74]);
        assert!(Xsave::new(&bytes[..511], None).is_none());
    }
}
