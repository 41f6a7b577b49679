//! A map that nearly always holds a handful of things: a list while it is short, a hash table beyond.
//!
//! A connection has many tables and uses few of them; what an empty one costs is paid a hundred thousand times.

use crate::soon::soon_first;
use crate::table::Map;
use std::borrow::Borrow;
use std::hash::Hash;

/// Entries of the list; with more, they move to a table.
const LISTED: usize = 8;

pub(super) struct Few<K, V> {
    list: Vec<(K, V)>,
    /// Holds all of them, once there were too many to list.
    table: Option<Box<Map<K, V>>>,
}

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self { list: Vec::new(), table: None }
    }
}

impl<K: Eq + Hash, V> Few<K, V> {
    /// Asks for the memory of the first of them.
    pub(super) fn soon(&self) {
        soon_first(self.list.as_slice());
    }

    #[inline]
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match &self.table {
            None => self.list.iter().find(|(known, _)| known.borrow() == key).map(|(_, value)| value),
            Some(table) => table.get(key),
        }
    }

    pub(super) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        match &mut self.table {
            None => self.list.iter_mut().find(|(known, _)| (*known).borrow() == key).map(|(_, value)| value),
            Some(table) => table.get_mut(key),
        }
    }

    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(table) = &mut self.table {
            return table.insert(key, value);
        }
        if let Some((_, known)) = self.list.iter_mut().find(|(known, _)| *known == key) {
            return Some(std::mem::replace(known, value));
        }
        if self.list.len() < LISTED {
            self.list.reserve_exact(usize::from(self.list.len() < 2));
            self.list.push((key, value));
            return None;
        }
        let mut table: Map<K, V> = std::mem::take(&mut self.list).into_iter().collect();
        table.insert(key, value);
        self.table = Some(Box::new(table));
        None
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if let Some(table) = &mut self.table {
            return table.remove(key);
        }
        let at = self.list.iter().position(|(known, _)| known.borrow() == key)?;
        Some(self.list.swap_remove(at).1)
    }

    pub(super) fn len(&self) -> usize {
        self.table.as_ref().map_or(self.list.len(), |table| table.len())
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let listed = self.list.iter().map(|(key, value)| (key, value));
        listed.chain(self.table.iter().flat_map(|table| table.iter()))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let listed = self.list.iter_mut().map(|(_, value)| value);
        listed.chain(self.table.iter_mut().flat_map(|table| table.values_mut()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::testing::Random;
    use std::collections::HashMap;

    #[test]
    fn it_is_a_map_whether_short_or_long() {
        for seed in 1..40 {
            let mut random = Random(seed);
            let keys = 3 + random.below(30);
            let (mut few, mut model) = (Few::<Vec<u8>, usize>::default(), HashMap::<Vec<u8>, usize>::new());
            for step in 0..400 {
                let key = vec![b'k'; random.below(keys)];
                match random.below(5) {
                    0 => assert_eq!(few.remove(key.as_slice()), model.remove(&key), "seed {seed}"),
                    1 => assert_eq!(few.get(key.as_slice()), model.get(&key), "seed {seed}"),
                    _ => assert_eq!(few.insert(key.clone(), step), model.insert(key, step), "seed {seed}"),
                }
                assert_eq!(few.len(), model.len(), "seed {seed}");
            }
            few.values_mut().for_each(|value| *value += 1);
            let mut held: Vec<_> = few.iter().map(|(key, value)| (key.clone(), *value)).collect();
            let mut wanted: Vec<_> = model.into_iter().map(|(key, value)| (key, value + 1)).collect();
            held.sort();
            wanted.sort();
            assert_eq!(held, wanted, "seed {seed}");
            few.clear();
            assert_eq!(few.len(), 0);
        }
    }
}
