//! A map that nearly always holds a handful of things: a list while it is short, a hash table beyond.
//!
//! A connection has many tables and uses few of them; what an empty one costs is paid a hundred thousand times.

use crate::soon::soon_first;
use crate::table::Map;
use std::borrow::Borrow;
use std::hash::Hash;

/// Entries of the list; with more, they move to a table.
const LISTED: usize = 8;

/// Either takes two words.
pub(super) enum Few<K, V> {
    List(Box<[(K, V)]>),
    /// Once there were too many to list.
    Table(Box<Map<K, V>>),
}

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self::List(Box::default())
    }
}

impl<K: Eq + Hash, V> Few<K, V> {
    /// Asks for the memory of the first of them.
    pub(super) fn soon(&self) {
        if let Self::List(list) = self {
            soon_first(&**list);
        }
    }

    #[inline]
    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::List(list) => list.iter().find(|(known, _)| known.borrow() == key).map(|(_, value)| value),
            Self::Table(table) => table.get(key),
        }
    }

    pub(super) fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::List(list) => list.iter_mut().find(|(known, _)| (*known).borrow() == key).map(|(_, value)| value),
            Self::Table(table) => table.get_mut(key),
        }
    }

    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            Self::Table(table) => table.insert(key, value),
            Self::List(list) => {
                if let Some((_, known)) = list.iter_mut().find(|(known, _)| *known == key) {
                    return Some(std::mem::replace(known, value));
                }
                let mut more = std::mem::take(list).into_vec();
                if more.len() < LISTED {
                    more.reserve_exact(1);
                    more.push((key, value));
                    *list = more.into();
                } else {
                    *self = Self::Table(Box::new(more.into_iter().chain([(key, value)]).collect()));
                }
                None
            }
        }
    }

    pub(super) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        match self {
            Self::Table(table) => table.remove(key),
            Self::List(list) => {
                let at = list.iter().position(|(known, _)| known.borrow() == key)?;
                let mut fewer = std::mem::take(list).into_vec();
                let (_, value) = fewer.swap_remove(at);
                *list = fewer.into();
                Some(value)
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Table(table) => table.len(),
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (list, table) = match self {
            Self::List(list) => (&**list, None),
            Self::Table(table) => (&[][..], Some(&**table)),
        };
        list.iter().map(|(key, value)| (key, value)).chain(table.into_iter().flatten())
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        let (list, table) = match self {
            Self::List(list) => (&mut **list, None),
            Self::Table(table) => (&mut [][..], Some(table)),
        };
        list.iter_mut().map(|(_, value)| value).chain(table.into_iter().flat_map(|table| table.values_mut()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::testing::Random;
    use std::collections::HashMap;

    #[test]
    fn it_takes_two_words_however_many_it_holds() {
        assert_eq!(size_of::<Few<[u64; 2], u64>>(), 2 * size_of::<usize>());
    }

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
