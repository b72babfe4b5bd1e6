//! Ciphers, hashes and carry-less products. Those of AArch64's cut the same functions in other places.

use inkwell::types::BasicTypeEnum;
use inkwell::values::{InstructionOpcode, IntValue, VectorValue};
use xlate_abi::protocol::Arch;
use xlate_x86::emitter::{Lane, Ty, VTy};
use xlate_x86::wide::crypto::Op;

use super::bytes;
use crate::emitter::Llvm;
use crate::ir::quads;

const WORDS: VTy = VTy { lane: Lane::I32, bits: 128 };

impl<'c> Llvm<'c> {
    pub(super) fn wide_crypto(
        &self,
        op: Op,
        bits: u32,
        operands: &[VectorValue<'c>],
        immediate: u8,
    ) -> Option<VectorValue<'c>> {
        let by_instruction = match self.arch {
            Arch::X86_64 => self.x86_crypto(op, bits, operands, immediate),
            Arch::Aarch64 => self.arm_crypto(op, bits, operands, immediate),
        };
        by_instruction.or_else(|| match op {
            Op::Sha1NextE => Some(self.sha1_next_e(operands[0], operands[1])),
            Op::Sha1Schedule1 => Some(self.sha1_schedule1(operands[0], operands[1])),
            Op::Sha256Rounds => Some(self.sha256_rounds(operands)),
            _ => None,
        })
    }

    fn x86_crypto(&self, op: Op, bits: u32, operands: &[VectorValue<'c>], immediate: u8) -> Option<VectorValue<'c>> {
        // The extension for 128 bits, that for more, and whether the name has the width of 128 bits in it.
        let (extension, wider, name) = match op {
            Op::AesEncrypt => ("aes", "vaes", "aesni.aesenc"),
            Op::AesEncryptLast => ("aes", "vaes", "aesni.aesenclast"),
            Op::AesDecrypt => ("aes", "vaes", "aesni.aesdec"),
            Op::AesDecryptLast => ("aes", "vaes", "aesni.aesdeclast"),
            Op::AesInverseMixColumns => ("aes", "aes", "aesni.aesimc"),
            Op::AesKeyAssist => ("aes", "aes", "aesni.aeskeygenassist"),
            Op::CarrylessMultiply => ("pclmul", "vpclmulqdq", "pclmulqdq"),
            Op::Sha1NextE => ("sha", "sha", "sha1nexte"),
            Op::Sha1Schedule1 => ("sha", "sha", "sha1msg1"),
            Op::Sha1Schedule2 => ("sha", "sha", "sha1msg2"),
            Op::Sha1Rounds => ("sha", "sha", "sha1rnds4"),
            Op::Sha256Schedule1 => ("sha", "sha", "sha256msg1"),
            Op::Sha256Schedule2 => ("sha", "sha", "sha256msg2"),
            Op::Sha256Rounds => ("sha", "sha", "sha256rnds2"),
            Op::GaloisMultiply => ("gfni", "gfni", "vgf2p8mulb"),
            Op::GaloisAffine => ("gfni", "gfni", "vgf2p8affineqb"),
            Op::GaloisAffineInverse => ("gfni", "gfni", "vgf2p8affineinvqb"),
        };
        let has = match bits {
            128 => self.has(extension),
            256 => self.has(wider) && self.has("avx2"),
            _ => self.has(wider) && self.has("avx512f"),
        };
        if !has {
            // The same by blocks, if it is an operation of blocks.
            let by_blocks = bits > 128 && self.has(extension) && wider != extension;
            return by_blocks.then(|| {
                self.by_blocks(bits, operands, |block| {
                    self.ir.intrinsic_on_bits(&format!("llvm.x86.{name}"), &[], block, immediate)
                })
            });
        }
        let width = if bits > 128 || extension == "gfni" { format!(".{bits}") } else { String::new() };
        Some(self.ir.intrinsic_on_bits(&format!("llvm.x86.{name}{width}"), &[], operands, immediate))
    }

    fn arm_crypto(&self, op: Op, bits: u32, v: &[VectorValue<'c>], immediate: u8) -> Option<VectorValue<'c>> {
        let (aes, sha2) = (self.has("aes"), self.has("sha2"));
        let mixed = |name, mix, block: &[VectorValue<'c>]| {
            let r = self.arm_cipher(name, block[0]);
            self.xored(self.ir.intrinsic_on_bits(mix, &[], &[r], 0), block[1])
        };
        let last = |name, block: &[VectorValue<'c>]| self.xored(self.arm_cipher(name, block[0]), block[1]);
        const MIX: &str = "llvm.aarch64.crypto.aesmc";
        const INVERSE_MIX: &str = "llvm.aarch64.crypto.aesimc";
        match op {
            Op::AesEncrypt if aes => Some(self.by_blocks(bits, v, |block| mixed("aese", MIX, block))),
            Op::AesEncryptLast if aes => Some(self.by_blocks(bits, v, |block| last("aese", block))),
            Op::AesDecrypt if aes => Some(self.by_blocks(bits, v, |block| mixed("aesd", INVERSE_MIX, block))),
            Op::AesDecryptLast if aes => Some(self.by_blocks(bits, v, |block| last("aesd", block))),
            Op::AesInverseMixColumns if aes => Some(self.ir.intrinsic_on_bits(INVERSE_MIX, &[], v, 0)),
            Op::CarrylessMultiply if aes => Some(self.by_blocks(bits, v, |block| self.arm_product(block, immediate))),
            // LLVM has one name for both of AArch64's extensions.
            Op::Sha1Rounds if sha2 => Some(self.arm_sha1_rounds(v[0], v[1], immediate)),
            Op::Sha256Schedule1 if sha2 => Some(self.ir.intrinsic_on_bits("llvm.aarch64.crypto.sha256su0", &[], v, 0)),
            Op::Sha256Schedule2 if sha2 => {
                // What SHA256SU1 adds beside is zero: all of its second operand and the third's first word.
                let words = self.as_lanes(WORDS, v[1]);
                let words = self.ir.insert(words, 0, self.ir.int(Ty::I32, 0));
                let zero = words.get_type().const_zero();
                Some(self.ir.intrinsic_on_bits("llvm.aarch64.crypto.sha256su1", &[], &[v[0], zero, words], 0))
            }
            _ => None,
        }
    }

    /// AESE and AESD add the key before the other steps, x86's after them (Arm ARM, AESE).
    fn arm_cipher(&self, name: &str, v: VectorValue<'c>) -> VectorValue<'c> {
        let zero = self.ir.int_vec_type(bytes(128)).const_zero();
        self.ir.intrinsic_on_bits(&format!("llvm.aarch64.crypto.{name}"), &[], &[v, zero], 0)
    }

    fn xored(&self, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let [a, b] = [a, b].map(|v| self.as_lanes(quads(128), v));
        self.ir.vop(InstructionOpcode::Xor, a, b)
    }

    fn arm_product(&self, v: &[VectorValue<'c>], immediate: u8) -> VectorValue<'c> {
        let half = |v, upper: bool| self.ir.extract(self.as_lanes(quads(128), v), upper.into());
        let (a, b) = (half(v[0], immediate & 1 != 0), half(v[1], immediate & 16 != 0));
        super::vector(self.ir.intrinsic("llvm.aarch64.neon.pmull64", &[], &[a.into(), b.into()]))
    }

    // ---- hashes (FIPS 180-4) -------------------------------------------------------------------------

    fn reversed(&self, v: VectorValue<'c>) -> VectorValue<'c> {
        let v = self.as_lanes(WORDS, v);
        self.ir.shuffle(v, v, (0..4).rev())
    }

    fn word(&self, v: VectorValue<'c>, lane: u32) -> IntValue<'c> {
        self.ir.extract(self.as_lanes(WORDS, v), lane).into_int_value()
    }

    /// x86 has added E to the first word, AArch64 has it beside.
    fn arm_sha1_rounds(&self, state: VectorValue<'c>, words: VectorValue<'c>, which: u8) -> VectorValue<'c> {
        let (name, constant) = match which & 3 {
            0 => ("sha1c", 0x5a82_7999),
            1 => ("sha1p", 0x6ed9_eba1),
            2 => ("sha1m", 0x8f1b_bcdc),
            _ => ("sha1p", 0xca62_c1d6),
        };
        let words = self.ir.vop(InstructionOpcode::Add, self.reversed(words), self.ir.splat_const(WORDS, constant));
        let e = self.ir.int(Ty::I32, 0);
        let name = format!("llvm.aarch64.crypto.{name}");
        let r = self.ir.intrinsic(&name, &[], &[self.reversed(state).into(), e.into(), words.into()]);
        self.reversed(super::vector(r))
    }

    fn sha1_next_e(&self, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let e = self.rotated(self.word(a, 3), 2);
        let sum = self.ir.op(InstructionOpcode::Add, self.word(b, 3), e);
        self.ir.insert(self.as_lanes(WORDS, b), 3, sum)
    }

    fn sha1_schedule1(&self, a: VectorValue<'c>, b: VectorValue<'c>) -> VectorValue<'c> {
        let [a, b] = [a, b].map(|v| self.as_lanes(WORDS, v));
        let later = self.ir.shuffle(b, a, [2, 3, 4, 5]);
        self.ir.vop(InstructionOpcode::Xor, a, later)
    }

    /// To the right.
    fn rotated(&self, v: IntValue<'c>, by: u64) -> IntValue<'c> {
        let by = self.ir.int(Ty::I32, by);
        let r = self.ir.intrinsic("llvm.fshr", &[BasicTypeEnum::from(v.get_type())], &[v.into(), v.into(), by.into()]);
        r.expect("it gives an integer").into_int_value()
    }

    /// Two rounds: AArch64's SHA256H makes four at once. The first operand is C, D, G and H, the second A, B, E and F.
    fn sha256_rounds(&self, v: &[VectorValue<'c>]) -> VectorValue<'c> {
        use InstructionOpcode::{Add, And, Xor};
        let op = |op, a, b| self.ir.op(op, a, b);
        let rotations = |x, by: [u64; 3]| by.map(|n| self.rotated(x, n)).into_iter().reduce(|a, b| op(Xor, a, b));
        let [mut c, mut d, mut g, mut h] = [3, 2, 1, 0].map(|lane| self.word(v[0], lane));
        let [mut a, mut b, mut e, mut f] = [3, 2, 1, 0].map(|lane| self.word(v[1], lane));
        for lane in [0, 1] {
            let choice = op(Xor, op(And, op(Xor, f, g), e), g);
            let majority = op(Xor, op(And, op(Xor, a, b), op(Xor, b, c)), b);
            let sums = [rotations(e, [6, 11, 25]), rotations(a, [2, 13, 22])].map(|sum| sum.expect("of three"));
            let first = [choice, sums[0], self.word(v[2], lane), h].into_iter().reduce(|a, b| op(Add, a, b));
            let first = first.expect("of four");
            let second = op(Add, sums[1], majority);
            (h, g, f, e) = (g, f, e, op(Add, first, d));
            (d, c, b, a) = (c, b, a, op(Add, first, second));
        }
        let r = self.ir.int_vec_type(WORDS).get_poison();
        [f, e, b, a].into_iter().zip(0..).fold(r, |r, (word, lane)| self.ir.insert(r, lane, word))
    }
}
