use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn fact(n: u8) -> Selector {
    Selector::new("unix", "uid", &n.to_string()).unwrap()
}

fn facts(of: &[u8]) -> Vec<Selector> {
    of.iter().copied().map(fact).collect()
}

fn sorted(mut keys: Vec<u32>) -> Vec<u32> {
    keys.sort_unstable();
    keys
}

#[test]
fn a_key_matches_when_all_its_selectors_hold() {
    let mut index = SelectorIndex::new();
    index.insert(1, &facts(&[1]));
    index.insert(2, &facts(&[1, 2]));
    index.insert(3, &facts(&[3]));
    assert_eq!(sorted(index.matches(&facts(&[1]))), [1]);
    assert_eq!(sorted(index.matches(&facts(&[2, 1, 9, 1]))), [1, 2]);
    assert_eq!(index.matches(&facts(&[])), [0_u32; 0]);
}

#[test]
fn a_key_without_selectors_matches_nothing() {
    let mut index = SelectorIndex::new();
    index.insert(1_u32, &[]);
    assert_eq!(index.len(), 1);
    assert!(index.matches(&facts(&[1])).is_empty());
    assert!(index.remove(&1) && index.is_empty());
}

#[test]
fn keys_that_share_a_selector_wait_under_their_own_ones() {
    let mut index = SelectorIndex::new();
    for n in 0..200_u8 {
        index.insert(u32::from(n), &facts(&[255, n]));
    }
    let crowded = index.places.iter().map(|place| place.waiting.len()).max();
    assert!(crowded <= Some(2), "{crowded:?} keys wait under one selector");
    assert_eq!(index.matches(&facts(&[255, 7])), [7]);
}

#[test]
fn an_emptied_index_holds_nothing() {
    let mut index = SelectorIndex::new();
    for n in 0..50_u8 {
        index.insert(u32::from(n), &facts(&[n, n + 1]));
    }
    for n in 0..50_u8 {
        assert!(index.remove(&u32::from(n)));
    }
    assert!(index.is_empty() && index.ids.is_empty());
    assert_eq!(index.free.len(), index.places.len());
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u32, BTreeSet<u8>),
    Remove(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u32..12, prop::collection::btree_set(0_u8..8, 0..4)).prop_map(|(key, set)| Step::Insert(key, set)),
        1 => (0_u32..12).prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn the_index_answers_as_looking_at_every_key_would(steps in steps(), held in prop::collection::btree_set(0_u8..8, 0..6)) {
        let mut index = SelectorIndex::new();
        let mut plain = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(key, set) => {
                    index.insert(key, &facts(&set.iter().copied().collect::<Vec<_>>()));
                    plain.insert(key, set);
                }
                Step::Remove(key) => prop_assert_eq!(index.remove(&key), plain.remove(&key).is_some()),
            }
        }
        let expected: Vec<u32> =
            plain.iter().filter(|(_, set)| !set.is_empty() && set.is_subset(&held)).map(|(key, _)| *key).collect();
        let held = facts(&held.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(sorted(index.matches(&held)), expected);
        prop_assert_eq!(index.len(), plain.len());
    }
}
