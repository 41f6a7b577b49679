//! The table that finds a connection by its packet, and the hash under it.
//!
//! Open addressing with linear probing; a slot is eight bytes, 32 bits of the hash and a number. The key itself stands in
//! the record that the number leads to and is compared there, so a probe reads one cache line of slots and, nearly always,
//! one record. At most half of the slots are taken; removal moves what follows back, so there are no tombstones and the
//! cost of a look-up does not grow with the age of the table.
//!
//! The hash is a multiplication of 64 by 64 bits folded onto itself, per word, with two seeds drawn at random for each
//! process: a sender of packets can neither compute nor measure which of them share a slot.

use crate::soon::soon;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

/// Slots of a new table.
const SLOTS_MIN: usize = 1024;

/// A hash for tables whose keys come from the wire.
#[derive(Clone, Copy, Debug)]
pub struct Seeded([u64; 2]);

impl Seeded {
    /// Seeds of its own.
    #[must_use]
    pub fn random() -> Self {
        let random = RandomState::new();
        // Odd, so that no word is multiplied away.
        Self([random.hash_one(0), random.hash_one(1) | 1])
    }
}

impl Default for Seeded {
    /// The seeds of this process.
    fn default() -> Self {
        static SEEDS: LazyLock<Seeded> = LazyLock::new(Seeded::random);
        *SEEDS
    }
}

impl BuildHasher for Seeded {
    type Hasher = Folded;

    #[inline]
    fn build_hasher(&self) -> Folded {
        Folded { state: self.0[0], factor: self.0[1] }
    }
}

/// A map whose keys come from the wire.
pub type Map<K, V> = HashMap<K, V, Seeded>;

#[derive(Clone, Copy, Debug)]
pub struct Folded {
    state: u64,
    factor: u64,
}

#[inline]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let words = bytes.chunks_exact(8);
        let rest = words.remainder();
        for word in words {
            self.write_u64(word.first_chunk().map_or(0, |word| u64::from_le_bytes(*word)));
        }
        let last = rest.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        // The length keeps what ends in zeros apart from what does not; seven bytes leave it room.
        self.write_u64(last | ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.state = folded(self.state ^ word, self.factor).rotate_left(23);
    }

    fn write_u128(&mut self, word: u128) {
        self.write_u64(word as u64);
        self.write_u64((word >> 64) as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        folded(self.state, self.factor ^ 0x9e37_79b9_7f4a_7c15)
    }
}

/// Numbers by the hash of a key that stands elsewhere.
#[derive(Debug)]
pub struct Table {
    /// 0: free; else the hash's upper half, and the number plus one.
    slots: Vec<u64>,
    taken: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self { slots: vec![0; SLOTS_MIN], taken: 0 }
    }
}

impl Table {
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// The number under `hash` for which `is_it` holds.
    #[must_use]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(usize) -> bool) -> Option<usize> {
        let mask = self.slots.len() - 1;
        let upper = hash >> 32;
        let mut place = upper as usize & mask;
        loop {
            let slot = *self.slots.get(place)?;
            if slot == 0 {
                return None;
            }
            if slot >> 32 == upper {
                let number = number_of(slot);
                if is_it(number) {
                    return Some(number);
                }
            }
            place = (place + 1) & mask;
        }
    }

    /// Asks for what [`Table::find`] is going to look at.
    #[inline]
    pub fn soon(&self, hash: u64) {
        if let Some(slot) = self.slots.get((hash >> 32) as usize & (self.slots.len() - 1)) {
            soon(slot);
        }
    }

    /// The first number whose hash looks like `hash`, unasked: nearly always the one that [`Table::find`] gives.
    #[inline]
    #[must_use]
    pub fn guess(&self, hash: u64) -> Option<usize> {
        let mask = self.slots.len() - 1;
        let upper = hash >> 32;
        let mut place = upper as usize & mask;
        loop {
            let slot = *self.slots.get(place)?;
            if slot == 0 {
                return None;
            }
            if slot >> 32 == upper {
                return Some(number_of(slot));
            }
            place = (place + 1) & mask;
        }
    }

    /// Adds a number that is not there yet.
    ///
    /// # Panics
    /// If the number is above 2³² - 2.
    pub fn insert(&mut self, hash: u64, number: usize) {
        if (self.taken + 1) * 2 > self.slots.len() {
            let larger = vec![0; self.slots.len() * 2];
            for slot in std::mem::replace(&mut self.slots, larger) {
                self.put(slot);
            }
        }
        let number = u32::try_from(number + 1).expect("connections are bounded far below");
        self.put(((hash >> 32) << 32) | u64::from(number));
        self.taken += 1;
    }

    fn put(&mut self, slot: u64) {
        if slot == 0 {
            return;
        }
        let mask = self.slots.len() - 1;
        let mut place = (slot >> 32) as usize & mask;
        // At most half of the slots are taken, so one is free.
        while let Some(held) = self.slots.get_mut(place) {
            if *held == 0 {
                *held = slot;
                return;
            }
            place = (place + 1) & mask;
        }
    }

    /// Takes a number out; false if it is not there.
    pub fn remove(&mut self, hash: u64, number: usize) -> bool {
        let mask = self.slots.len() - 1;
        let mut place = (hash >> 32) as usize & mask;
        loop {
            match self.slots.get(place) {
                None | Some(0) => return false,
                Some(&slot) if number_of(slot) == number && slot >> 32 == hash >> 32 => break,
                Some(_) => place = (place + 1) & mask,
            }
        }
        self.taken -= 1;
        // What stands behind moves into the hole unless it would come before its own place (Knuth, 6.4, algorithm R).
        let mut hole = place;
        loop {
            place = (place + 1) & mask;
            let slot = self.slots.get(place).copied().unwrap_or(0);
            if slot == 0 {
                break;
            }
            let home = (slot >> 32) as usize & mask;
            if place.wrapping_sub(home) & mask >= place.wrapping_sub(hole) & mask {
                if let Some(free) = self.slots.get_mut(hole) {
                    *free = slot;
                }
                hole = place;
            }
        }
        if let Some(free) = self.slots.get_mut(hole) {
            *free = 0;
        }
        true
    }
}

fn number_of(slot: u64) -> usize {
    (slot as u32 as usize).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::testing::Random;

    #[test]
    fn it_finds_what_a_map_of_the_standard_library_finds() {
        let mut random = Random(7);
        let (mut table, mut keys, mut free) = (Table::default(), Vec::<u64>::new(), Vec::<usize>::new());
        let mut model: HashMap<u64, usize> = HashMap::new();
        for _ in 0..60_000 {
            let key = random.below(6000) as u64;
            // Few upper halves, so that probes are long and hashes collide wholly.
            let hash = (key % 701) << 32;
            let known = table.find(hash, |number| keys[number] == key);
            assert_eq!(known, model.get(&key).copied());
            match known {
                Some(number) if random.below(3) == 0 => {
                    assert!(table.remove(hash, number));
                    assert!(!table.remove(hash, number));
                    model.remove(&key);
                    free.push(number);
                }
                Some(_) => {}
                None => {
                    let number = free.pop().unwrap_or(keys.len());
                    keys.resize(keys.len().max(number + 1), 0);
                    keys[number] = key;
                    table.insert(hash, number);
                    model.insert(key, number);
                }
            }
            assert_eq!(table.len(), model.len());
        }
    }

    #[test]
    fn neighbouring_words_and_lengths_hash_apart() {
        let hash = Seeded::default();
        let mut seen = std::collections::HashSet::new();
        for word in 0..10_000_u64 {
            assert!(seen.insert(hash.hash_one(word)));
        }
        assert_ne!(hash.hash_one([0_u8; 7].as_slice()), hash.hash_one([0_u8; 8].as_slice()));
        assert_ne!(hash.hash_one(b"ab\0".as_slice()), hash.hash_one(b"ab".as_slice()));
    }

    #[test]
    fn the_upper_half_fills_a_table_evenly() {
        let hash = Seeded::default();
        let mut buckets = [0_u32; 256];
        for word in 0..65_536_u64 {
            // The addresses and ports of a plant differ in few bits.
            let place = (hash.hash_one((word << 16) | 0x0a14) >> 32) as usize & 255;
            buckets[place] += 1;
        }
        assert!(buckets.iter().all(|&count| (150..370).contains(&count)), "{buckets:?}");
    }
}
