//! A perfect hash over a few addresses: the high bits of a product, distinct for each.

/// Multipliers that are tried for each size.
const TRIES: u64 = 512;
/// Bits beyond the fewest that could do.
const SPARE: u32 = 3;

pub struct PerfectHash {
    /// What addresses are multiplied by.
    pub factor: u64,
    /// High bits of the product that are the hash; at least 1.
    pub bits: u32,
    keys: Vec<Option<u64>>,
}

impl PerfectHash {
    /// A hash that tells these addresses apart; `None` if there are none, or none was found.
    pub fn of(keys: &[u64]) -> Option<Self> {
        if keys.is_empty() {
            return None;
        }
        let fewest = keys.len().next_power_of_two().trailing_zeros().max(1);
        let sizes = fewest..=fewest + SPARE;
        sizes.flat_map(|bits| (0..TRIES).map(move |n| (bits, factor(n)))).find_map(|(bits, factor)| {
            let mut table = vec![None; 1 << bits];
            for &key in keys {
                let place = &mut table[hash(key, factor, bits)];
                if place.is_some_and(|other| other != key) {
                    return None;
                }
                *place = Some(key);
            }
            Some(Self { factor, bits, keys: table })
        })
    }

    /// Values the hash takes.
    pub fn size(&self) -> u64 {
        1 << self.bits
    }

    /// The address with this hash.
    pub fn key(&self, hash: u64) -> Option<u64> {
        self.keys[hash as usize]
    }
}

fn hash(key: u64, factor: u64, bits: u32) -> usize {
    (key.wrapping_mul(factor) >> (64 - bits)) as usize
}

/// Odd, so that no bit of the address is lost; steps of the golden ratio spread them.
fn factor(n: u64) -> u64 {
    (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_place_of_its_own() {
        for n in [1, 2, 3, 11, 40, 96] {
            let keys: Vec<u64> = (0..n).map(|i| 0x5555_5555_1000 + i * i * 3 + i * 7).collect();
            let hash = PerfectHash::of(&keys).expect("found");
            assert_eq!((0..hash.size()).filter_map(|h| hash.key(h)).count(), keys.len());
            for key in keys {
                assert_eq!(hash.key(super::hash(key, hash.factor, hash.bits) as u64), Some(key));
            }
        }
    }

    #[test]
    fn no_keys_have_no_hash() {
        assert!(PerfectHash::of(&[]).is_none());
    }
}
