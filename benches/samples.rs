//! Guest code for the micro-benchmarks: `main` of programs in `tests/guests`, as Debian 12's gcc -O2 makes it. The
//! bytes are fixed so that figures stay comparable when the compiler changes.

use xlate_abi::protocol::{BlockProfile, CodeBytes};
use xlate_x86::decode::{MAX_BLOCK, SliceSource};
use xlate_x86::{Block, decode_block};

/// A function's code.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub name: &'static str,
    pub address: u64,
    hex: &'static str,
}

/// All samples.
pub const SAMPLES: [Sample; 4] = [
    Sample {
        name: "sha256",
        address: 0x1080,
        hex: "\
            4157b9801a060041564155415455534881ecb801000083ff017e12488b7e08ba0a00000031f6e8a5ffffff89c1894c241031ed41\
            bf020000004531ed41be01000000be01000000b9020000004183ff03763b660f1f44000031d24489f8f7f131c085d20f95c083c1\
            0121c689c80fafc14139c773e385f675144183c701be01000000b9020000004183ff0377cb4d89fc4589fa4531c931f649b80000\
            00001000000049c1e42031ffeb6a660f1f4400004889f14889fb4c01c14c11cb480facd90148d1eb4989db4889c848f7e14c0faf\
            d948895424084889da4d01db48890424488b04244c015c24084c8b5c2408480fafd04c0fafd94901d348f7e14c01da4939c54d89\
            e34919d30f82b50300004889ce4889df4c89c04c89ca4c89eb4829f04819fa4939c64819d372854863cd488d05cb2e0000893488\
            83fd070f8e8d03000083c50183fd400f852cffffff8b4c241085c90f8e1b030000488d8424f00000004531c0488d9c24b0010000\
            4889442448488d4424504989df4589c648890424488d442454488d7c247089cb48894424404c8da424b00000004d89e50f1f4000\
            66410f6ee6660f6f1de30d00004889f8660f60e4660f61e4660f70e400660f6f2deb0d0000660f6fd34883c010660ffe1dcb0d00\
            00660f6fc2660f6fca660ffeea660f61c5660f69cd660f6fe8660f61c1660f69e9660f6f0dc30d0000660f61c5660fdb05d70d00\
            00660ffeca660ffe15bb0d0000660f6fe9660f61ca660f69ea660f6fd1660f61cd660f69d5660f61ca660fdb0da70d0000660f67\
            c1660f6fc8660ffcc8660ffcc9660ffcc9660ff8c8660ffccc0f2948f04c39e80f855bffffff31c00f1f40008b14384883c0040f\
            ca42895428fc4883f84075ecf30f7e8424e8000000488b442448660f1f440000f30f7e50c44883c008660f6fca660f6fda660f6f\
            e2660f72d312660f72f10e660febcb660f72d407660f6fda660f72f319660f72d203660febdc660f6fe0660fefcb660f72d41166\
            0f6fd8660fefca660f72d313660f6fd0660f72f20d660febd3660f6fd8660f72f30f660f72d00a660febdc660fefd3660fefd0f3\
            0f7e40dc660ffecaf30f7e50b8660ffec2660ffec1660fd640f84939c70f8561ffffff488d05aa2c00004c897c24304531e4660f\
            6f308b05a82c000048897c2438488b7c2440448974242c4d89ee0f297424108b6c24100f29742450660f6f35802c0000895c2410\
            4189ed4c89e30f29742460904189c489c2488d0d742c0000488b3424c1ca0b41c1cc068b6c2454448b7c24584131d489c2c1c207\
            4131d4428b14330314194883c3040354246c4101d489c223442464f7d22354246831d0ba1c0000004101c4e808fcffff4489ea44\
            89ee4189e9c1ce0dc1ca024521f94889c731f24489ee8b442460c1c60a31f289ee4401e04431fe8944246089f14421e94131c944\
            01ca468d2c2244896c24504881fb000100000f8558ffffff488d05b12b00004d89f5448b74242c8b5c2410660f6f442450660ffe\
            004183c6014c8b7c2430488b7c24380f2900660f6f442460660ffe058c2b00000f2905852b00004439f30f852cfdffff488d1d65\
            2b0000488d2d020b00004c8d6320662e0f1f8400000000008b334889ef31c04883c304e820fbffff4c39e375ebbf0a000000e801\
            fbffff4881c4b801000031c05b5d415c415d415e415fc34989c84989d9e946fcffff892c244531c931f631ff49b8000000001000\
            00004531e44889cdeb41660f1f4400004889f14889fb4c01c14c11cb480facd90148d1eb4989db4889c84c0fafd948f7e14d01db\
            4c01da4531db4939c34d89d34919d3723e4889ce4889df4c89c0bb010000004c89ca4829f04819fa4839c34c89e34819d372a948\
            89e98b2c24488d058c2a00004183c70189348883c501e9dffaffff4989c84989d9ebc0",
    },
    Sample {
        name: "nbody",
        address: 0x1070,
        hex: "\
            415741564155415441bc20a1070055534883ec6883ff010f8fde0100004c8d6c2440488d742458660fefe431edf20f101da30f00\
            004c8d1d9c0f00004c8d150d3000004c8d0d862f0000660f1f440000896c2418488d15752f0000488d0dee2f0000b80100000044\
            8964241c488d3d450f00004989d04989cf4883c2184883c118488904244889cd4989fc4989d6488954240848894c241031db660f\
            efc9f2410f10041ff20f5c441d004883c308f2420f11442bf8f20f59c0f20f58c84883fb1875db660f2ee10f874b010000660f28\
            c1f20f51c0f20f59c8660f28ebf20f1077f84c89e9f2410f103c244c89f24c89c0f20f5ee9f20f1001f20f10084883c1084883c0\
            084883c208660f28d0f20f59d7f20f59c6f20f59d5f20f59c5f20f5ccaf20f1148f8f20f5842f8f20f1142f84839ce75c04983c4\
            084983c6184883c5184d39dc0f854effffff488b0424488b5424084883c708488b4c24104883c0014883f8050f8509ffffff8b6c\
            2418448b64241c0f1f440000488d43e8f2410f100401f20f59c3f2410f580402f2410f1104024883c0084839c375e14883c31848\
            81fb9000000075d083c5014439e50f8c9cfeffff488d1d952e0000488d2dd20d00004c8d6378f20f1003f20f1053104889ef4883\
            c318f20f104bf0b803000000e8dbfdffff4939dc75dc4883c46831c05b5d415c415d415e415fc3488b7e08ba0a00000031f6e8c5\
            fdffff4189c485c00f8f07feffffeb9c660f28c148897424384c8944243048897c2428f20f114c2420e8aafdffff488b059b0d00\
            00488b7424384c8d1d8f0d00004c8b442430488b7c24284c8d0d762d00004c8d15ef2d0000f20f104c242066480f6ed8660fefe4\
            e960feffff",
    },
    Sample {
        name: "crc",
        address: 0x1060,
        hex: "\
            4881ec0804000041b86400000083ff017e13488b7e08ba0a00000031f6e8beffffff4189c0660f6f35830f00004889e2660fefdb\
            660f6f2d940f0000660f6f259c0f0000660f6f3da40f0000488d8c24000400000f1f4000660f6fc6b808000000660ffef70f1f00\
            660f6fc8660fdbc5660f76c3660f72d101660f6fd1660fefd4660fdbc8660fdfc2660febc183e80175d60f29024883c2104839d1\
            75ba4c8d0d3b2f0000660f6f25130f000066440f6f254a0f000066440f6f1d510f0000498db1000008004c89c866440f6f154e0f\
            0000660f6f3d760f0000660f6f357e0f0000660f6f2d860f0000660f6f1d8e0f000066440f6f0d350f000066440f6f053c0f0000\
            660f6fd44883c01066410fd4e4660f6fca660f6fc266440f6fea66410fd4cb66450fd4e90fc6c188660f6fca66410fd4ca410fc6\
            cd8866440f6fe8660f61c166440f69e9660f6fc866410f69cd66410f61c566440f6fea660f61c1660f6fca66440fd4ef66410fd4\
            c8410fc6cd8866440f6fea660fd4d566440fd4ee440fc6ea88660f6fd166410f61cd66410f69d566440f6fe966440f69ea660f61\
            ca660f6fd066410f61cd660f71d208660fdbc366440f6fe9660fdbcb660fdbd3660f67c166410f71d508660f6fc866440fdbeb66\
            0ffcc866410f67d5660ffcc9660ffcc9660ffcc9660ffcc9660ff8c8660ffcd10f2950f04839c60f8503ffffff31ffb8ffffffff\
            4585c07e224c89ca0fb60a4883c20131c1c1e8080fb6c933048c4839d675e983c7014139f875def7d0488d3d6c0d000089c631c0\
            e88ffdffff31c04881c408040000c3",
    },
    Sample {
        name: "hashmap",
        address: 0x1060,
        hex: "\
            41574156415541545553bb809698004883ec0883ff010f8fed0000004531c04531db4531d2bf01000000488d35af2f20004c8d0d\
            a82f000049be2d7f954c2df4515849bd4f8167f77e7b051449bc2fb0b479093bb2df48bd157c4a7fb979379e490faffe4c01ef49\
            89ff49c1ef284c89f849f7e448c1ea114869d2f04902004929d74983c7014c89f8480fafc548c1e82e488b0cc689c289c04885c9\
            7516eb6083c20181e2ffff030089d0488b0cc64885c9744c4939cf75e789d04983c201498b14c14901d34831fa4983c001498914\
            c14439c37f8a4c89da4c89d6488d3dc10e000031c0e8e6feffff4883c40831c05b5d415c415d415e415fc30f1f4400004c893cc6\
            4c89c2ebc0488b7e08ba0a00000031f6e8c7feffff89c385c00f8ff9feffff4531db4531d2ebab",
    },
];

impl Sample {
    /// The code, as a request carries it.
    pub fn code(&self) -> CodeBytes {
        let digit = |c: u8| char::from(c).to_digit(16).expect("samples are hexadecimal") as u8;
        let bytes = self.hex.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        CodeBytes { address: self.address, bytes }
    }

    /// The basic blocks that are reached from the entry without leaving the function; calls are taken to return.
    pub fn blocks(&self) -> Vec<Block> {
        let code = self.code();
        let source = SliceSource { address: code.address, bytes: &code.bytes };
        let inside = |pc: &u64| pc.wrapping_sub(code.address) < code.bytes.len() as u64;
        let mut blocks: Vec<Block> = Vec::new();
        let mut waiting = vec![self.address];
        while let Some(pc) = waiting.pop() {
            if blocks.iter().any(|b| b.pc == pc) {
                continue;
            }
            let block = decode_block(&source, pc, MAX_BLOCK, false);
            waiting.extend(block.successors().into_iter().chain([block.end()]).filter(inside));
            blocks.push(block);
        }
        blocks.retain(|b| !b.is_empty());
        blocks.sort_by_key(|b| b.pc);
        blocks
    }

    /// A profile in which every block is equally hot.
    pub fn profile(&self) -> Vec<BlockProfile> {
        self.blocks().iter().map(|b| BlockProfile { pc: b.pc, count: 10_000 }).collect()
    }

    /// Instructions in all blocks.
    pub fn instructions(&self) -> u64 {
        self.blocks().iter().map(|b| b.insns.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_code_with_a_loop() {
        for sample in SAMPLES {
            let blocks = sample.blocks();
            assert!(sample.instructions() > 40, "{}", sample.name);
            let back = |b: &Block| b.successors().iter().any(|&s| s <= b.pc && s >= sample.address);
            assert!(blocks.iter().any(back), "{}", sample.name);
        }
    }
}
