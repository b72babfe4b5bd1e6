//! A perfect hash over a few addresses: some of their bits, or the high bits of a product, distinct for each.

/// Most low bits that are left out before a hash of plain bits begins.
const SHIFTS: u32 = 16;
/// Multipliers that are tried for each size.
const TRIES: u64 = 512;
/// Bits beyond the fewest that could do.
const SPARE: u32 = 3;

/// What an address is hashed by. The shorter way is worth its larger table: the jump waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// The bits above this one.
    Shift(u32),
    /// The high bits of the product with this.
    Product(u64),
}

pub struct PerfectHash {
    pub mix: Mix,
    /// Bits of the hash; at least 1.
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
        let shifts = sizes.clone().flat_map(|bits| (0..SHIFTS).map(move |n| (bits, Mix::Shift(n))));
        let products = sizes.flat_map(|bits| (0..TRIES).map(move |n| (bits, Mix::Product(factor(n)))));
        shifts.chain(products).find_map(|(bits, mix)| {
            let mut table = vec![None; 1 << bits];
            for &key in keys {
                let place = &mut table[hash(key, mix, bits)];
                if place.is_some_and(|other| other != key) {
                    return None;
                }
                *place = Some(key);
            }
            Some(Self { mix, bits, keys: table })
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

fn hash(key: u64, mix: Mix, bits: u32) -> usize {
    let hash = match mix {
        Mix::Shift(low) => key >> low & ((1 << bits) - 1),
        Mix::Product(factor) => key.wrapping_mul(factor) >> (64 - bits),
    };
    hash as usize
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
                assert_eq!(hash.key(super::hash(key, hash.mix, hash.bits) as u64), Some(key));
            }
        }
    }

    #[test]
    fn plain_bits_do_where_they_tell_the_keys_apart() {
        let keys = [0x1000, 0x1010, 0x1020, 0x1030];
        assert_eq!(PerfectHash::of(&keys).map(|h| (h.mix, h.bits)), Some((Mix::Shift(4), 2)));
        let far = [0x1000, 0x1_0000_1000, 0x2_0000_1000];
        assert!(matches!(PerfectHash::of(&far).map(|h| h.mix), Some(Mix::Product(_))));
    }

    #[test]
    fn no_keys_have_no_hash() {
        assert!(PerfectHash::of(&[]).is_none());
    }
}
