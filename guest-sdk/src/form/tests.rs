//! Values that are written and read again, random ones and odd ones, and bytes that nobody has written.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use self::tree::{Chance, Tree};
use super::*;

mod tree;

#[test]
fn any_value_reads_back_to_the_same_bytes() {
    let mut chance = Chance(1);
    for _ in 0..20_000 {
        let tree = Tree::by_chance(&mut chance, 4);
        let bytes = write(&tree).unwrap();
        let back: Tree = read(&bytes).unwrap_or_else(|error| panic!("{error}: {tree:?}"));
        assert_eq!(write(&back).unwrap(), bytes, "{tree:?}, {back:?}");
        assert_eq!(digest(&back).unwrap(), digest(&tree).unwrap());
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f64),
    Nothing(()),
    Box(u8, u8),
    Named { side: i8, label: Option<String> },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
struct Id(u32, String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Newtype(u8);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Marker;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct State {
    integers: (u8, u16, u32, u64, u128, i8, i16, i32, i64, i128),
    floats: Vec<Option<f64>>,
    short: f32,
    nested: Vec<Option<Option<i64>>>,
    units: Vec<Option<()>>,
    letters: Vec<char>,
    bytes: Vec<u8>,
    fixed: [u8; 4],
    wrapped: Vec<Newtype>,
    shapes: Vec<Shape>,
    by_id: BTreeMap<Id, Shape>,
    by_number: HashMap<i64, String>,
    by_option: BTreeMap<Option<bool>, Vec<u8>>,
    set: HashSet<u8>,
    marker: Marker,
    result: Result<u8, String>,
}

fn state(chance: &mut Chance) -> State {
    let bits = chance.bits();
    let long = u128::from(bits) << 64 | u128::from(chance.bits());
    let shape = |chance: &mut Chance| match chance.below(5) {
        0 => Shape::Point,
        1 => Shape::Circle(chance.float()),
        2 => Shape::Nothing(()),
        3 => Shape::Box(chance.bits() as u8, 1),
        _ => Shape::Named {
            side: chance.bits() as i8,
            label: (chance.below(2) == 0).then(|| chance.text()),
        },
    };
    State {
        integers: (
            bits as u8,
            bits as u16,
            bits as u32,
            bits,
            long,
            bits as i8,
            bits as i16,
            bits as i32,
            bits as i64,
            long as i128,
        ),
        floats: (0..chance.below(4))
            .map(|_| (chance.below(3) > 0).then(|| chance.float()))
            .collect(),
        short: f32::from_bits(bits as u32),
        nested: vec![None, Some(None), Some(Some(bits as i64))],
        units: vec![None, Some(())],
        letters: chance.text().chars().collect(),
        bytes: chance.text().into_bytes(),
        fixed: (bits as u32).to_le_bytes(),
        wrapped: chance.text().bytes().map(Newtype).collect(),
        shapes: (0..chance.below(5)).map(|_| shape(chance)).collect(),
        by_id: (0..chance.below(4))
            .map(|_| (Id(chance.number() as u32, chance.text()), shape(chance)))
            .collect(),
        by_number: (0..chance.below(4))
            .map(|_| (chance.number() as i64, chance.text()))
            .collect(),
        by_option: [(None, vec![]), (Some(chance.below(2) == 0), vec![1, 2])].into(),
        set: (0..chance.below(9)).map(|_| chance.bits() as u8).collect(),
        marker: Marker,
        result: if bits.is_multiple_of(2) {
            Ok(1)
        } else {
            Err(chance.text())
        },
    }
}

#[test]
fn any_state_reads_back_as_it_was() {
    let mut chance = Chance(2);
    for _ in 0..2_000 {
        let before = state(&mut chance);
        let bytes = write(&before).unwrap();
        let back: State = read(&bytes).unwrap();
        // Of floats the text tells all but the bits of a NaN, which the digest knows.
        let sorted = |mut state: State| {
            let (numbers, set) = (std::mem::take(&mut state.by_number), std::mem::take(&mut state.set));
            (
                format!("{state:?}"),
                numbers.into_iter().collect::<BTreeMap<_, _>>(),
                set.into_iter().collect::<BTreeSet<_>>(),
            )
        };
        assert_eq!(digest(&back).unwrap(), digest(&before).unwrap());
        assert_eq!(sorted(back), sorted(before));
    }
}

#[test]
fn whatever_bytes_are_there_nothing_but_an_error_comes_of_it() {
    let mut chance = Chance(3);
    for _ in 0..20 {
        let bytes = write(&state(&mut chance)).unwrap();
        for end in 0..bytes.len() {
            read::<State>(&bytes[..end]).unwrap_err();
        }
        for at in 0..bytes.len() {
            for flip in [1, 0x10, 0x80, 0xff] {
                let mut other = bytes.clone();
                other[at] ^= flip;
                let _ = read::<State>(&other);
                let _ = read::<Tree>(&other);
                let _ = read::<serde::de::IgnoredAny>(&other);
            }
        }
    }
    let long = [&HEAD[..], &[tag::SEQ, 0xff, 0xff, 0xff, 0xff, 0x0f, tag::UNIT]].concat();
    assert_eq!(read::<Vec<()>>(&long).unwrap_err().to_string(), "it ends too early");
    let ints = [&HEAD[..], &[tag::UNIT, tag::UNIT]].concat();
    assert_eq!(read::<()>(&ints).unwrap_err().to_string(), "1 bytes follow it");
    assert_eq!(
        read::<()>(&[HEAD[0], 7, tag::UNIT]).unwrap_err().to_string(),
        "it's written in form 7, and this revision reads form 1"
    );
}

#[test]
fn no_json_text_is_taken_for_the_form() {
    for first in 0..=255 {
        let text = [first, b' '];
        assert!(!(is_form(&text) && std::str::from_utf8(&text).is_ok()));
    }
    assert!(is_form(&write(&1).unwrap()));
}

fn len<T: Serialize>(value: &T) -> usize {
    write(value).unwrap().len() - HEAD.len()
}

#[test]
fn bytes_take_a_byte_each_and_names_are_written_once() {
    let bytes: Vec<u8> = (0..100_000).map(|place| place as u8).collect();
    assert_eq!(len(&bytes), 100_000 + 4);
    assert_eq!(len(&[7_u8; 32]), 34);
    assert_eq!(len(&vec![Newtype(1), Newtype(2)]), 4);
    assert_eq!(len(&(1_u8, 2_u8, "a")), 2 + 2 + 2 + 3, "all or none");
    assert_eq!(len(&vec![vec![1_u8], vec![2]]), 2 + 3 + 3);
    assert_eq!(len(&Vec::<u8>::new()), 2);

    #[derive(Serialize)]
    struct Point {
        horizontal: u8,
        vertical: u8,
    }
    let points: Vec<Point> = (0..100)
        .map(|at| Point {
            horizontal: at,
            vertical: at,
        })
        .collect();
    assert_eq!(len(&points), 2 + 100 * (2 + 4 + 4) + 11 + 9);
}

#[test]
fn a_mixture_of_bytes_and_others_comes_back() {
    let mixed = (1_u8, vec![2_u8, 3], 4_u8, Some(5_u8), "6", [7_u8, 8]);
    type Mixed = (u8, Vec<u8>, u8, Option<u8>, String, [u8; 2]);
    assert_eq!(
        read::<Mixed>(&write(&mixed).unwrap()).unwrap(),
        (1, vec![2, 3], 4, Some(5), "6".to_owned(), [7, 8])
    );
    let late = vec![Tree::Byte(1), Tree::Byte(2), Tree::Text("3".to_owned()), Tree::Byte(4)];
    let back: Vec<Tree> = read(&write(&late).unwrap()).unwrap();
    assert_eq!(write(&back).unwrap().len(), 2 + 2 + 2 + 2 + 3 + 2);
}

/// What a later type makes of an earlier one's value is what it makes of its JSON.
fn as_json<Old: Serialize, New: DeserializeOwned + PartialEq + Debug>(old: &Old) -> Option<New> {
    let json = serde_json::from_slice::<New>(&serde_json::to_vec(old).unwrap()).ok();
    let own = read::<New>(&write(old).unwrap()).ok();
    assert_eq!(own, json);
    own
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Later {
    #[serde(default)]
    added: Vec<u8>,
    #[serde(alias = "value")]
    total: Option<i64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Earlier {
    value: i32,
    gone: Shape,
    also_gone: BTreeMap<String, Shape>,
}

#[test]
fn fields_go_by_name_as_in_json() {
    let gone = Shape::Named {
        side: 1,
        label: Some("value".to_owned()),
    };
    let earlier = Earlier {
        value: -5,
        also_gone: [("value".to_owned(), Shape::Point)].into(),
        gone,
    };
    assert_eq!(
        as_json::<_, Later>(&earlier),
        Some(Later {
            added: vec![],
            total: Some(-5)
        })
    );
    assert_eq!(
        as_json::<_, Earlier>(&Later {
            added: vec![1],
            total: None
        }),
        None
    );
    let map: BTreeMap<String, i64> = [("value".to_owned(), 1)].into();
    assert_eq!(
        as_json::<_, Later>(&map),
        Some(Later {
            added: vec![],
            total: Some(1)
        })
    );
    assert_eq!(
        as_json::<_, Later>(&(vec![1_u8], 2)),
        Some(Later {
            added: vec![1],
            total: Some(2)
        })
    );
    assert_eq!(as_json::<_, Later>(&(vec![1_u8], 2, 3)), None);
}

#[test]
fn a_changed_type_reads_what_it_reads_from_json() {
    assert_eq!(as_json::<_, Option<u8>>(&5_u8), Some(Some(5)));
    assert_eq!(as_json::<_, u8>(&Some(5_u64)), Some(5));
    assert_eq!(as_json::<_, u8>(&500_u64), None);
    assert_eq!(as_json::<_, f64>(&-5_i8), Some(-5.0));
    assert_eq!(as_json::<_, i64>(&5.5_f64), None);
    assert_eq!(as_json::<_, String>(&5_u8), None);
    assert_eq!(as_json::<_, u8>(&"5"), None);
    assert_eq!(as_json::<_, Vec<Option<u8>>>(&vec![1_u8]), Some(vec![Some(1)]));
    assert_eq!(as_json::<_, Vec<Newtype>>(&vec![1_u8]), Some(vec![Newtype(1)]));
    assert_eq!(as_json::<_, (u8, u8)>(&vec![1_u8, 2, 3]), None);
    assert_eq!(as_json::<_, String>(&'x'), Some("x".to_owned()));
    assert_eq!(as_json::<_, char>(&"x"), Some('x'));
    assert_eq!(as_json::<_, String>(&Shape::Point), Some("Point".to_owned()));
    assert_eq!(as_json::<_, Shape>(&"Point"), Some(Shape::Point));
    assert_eq!(as_json::<_, Shape>(&"Square"), None);
    assert_eq!(
        as_json::<_, BTreeMap<String, (u8, u8)>>(&Shape::Box(1, 2)),
        Some([("Box".to_owned(), (1, 2))].into())
    );
    assert_eq!(
        as_json::<_, Shape>(&BTreeMap::from([("Box", (1, 2))])),
        Some(Shape::Box(1, 2))
    );
    assert_eq!(as_json::<_, Option<u8>>(&()), Some(None));
    assert_eq!(as_json::<_, ()>(&Marker), Some(()));
    let numbers: BTreeMap<i64, u8> = [(-1, 1), (2, 3)].into();
    let texts: BTreeMap<String, u8> = [("-1".to_owned(), 1), ("2".to_owned(), 3)].into();
    assert_eq!(as_json(&numbers), Some(texts.clone()));
    assert_eq!(as_json(&texts), Some(numbers));
    assert_eq!(as_json::<_, BTreeMap<u8, u8>>(&texts), None);
    let values = (
        1_u8,
        "a",
        vec![1_u8],
        Some(Some(2)),
        (),
        Shape::Circle(1.5),
        BTreeMap::from([(1, 2)]),
    );
    as_json::<_, serde_json::Value>(&values).unwrap();
}

#[test]
fn types_that_read_any_value_first_lose_nothing() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        nested: Option<Option<u8>>,
        units: Option<()>,
        bytes: Vec<u8>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Outer {
        #[serde(flatten)]
        inner: Inner,
        #[serde(flatten)]
        rest: BTreeMap<String, Option<f64>>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        One { values: Vec<Option<Option<u8>>> },
        Two(Inner),
        Three,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Numbers(Vec<i64>),
        Text(String),
        Nested(Option<Option<bool>>),
    }
    let inner = || Inner {
        nested: Some(None),
        units: Some(()),
        bytes: vec![1, 2],
    };
    let outer = Outer {
        inner: inner(),
        rest: [("x".to_owned(), Some(f64::INFINITY)), ("y".to_owned(), None)].into(),
    };
    assert_eq!(read::<Outer>(&write(&outer).unwrap()).unwrap(), outer);
    let tagged = vec![
        Tagged::One {
            values: vec![Some(None), None],
        },
        Tagged::Two(inner()),
        Tagged::Three,
    ];
    assert_eq!(read::<Vec<Tagged>>(&write(&tagged).unwrap()).unwrap(), tagged);
    let untagged = vec![
        Untagged::Numbers(vec![-1, 500]),
        Untagged::Text("a".to_owned()),
        Untagged::Nested(Some(None)),
    ];
    assert_eq!(read::<Vec<Untagged>>(&write(&untagged).unwrap()).unwrap(), untagged);
}

#[test]
fn what_nests_too_deep_is_refused_on_both_ways() {
    #[derive(Debug, Serialize, Deserialize)]
    struct List(Vec<List>);
    let list = |depth| (1..depth).fold(List(vec![]), |list, _| List(vec![list]));
    let bytes = write(&list(MAX_DEPTH)).unwrap();
    read::<List>(&bytes).unwrap();
    assert_eq!(
        write(&list(MAX_DEPTH + 1)).unwrap_err().to_string(),
        "it nests deeper than 128 levels"
    );
    let deeper = [&HEAD[..], &[tag::SEQ, 1], &bytes[2..]].concat();
    assert_eq!(
        read::<List>(&deeper).unwrap_err().to_string(),
        "it nests deeper than 128 levels"
    );
}

#[test]
fn a_digest_knows_values_and_not_the_order_of_a_set() {
    let hashed = |order: &mut dyn Iterator<Item = u64>| {
        let mut map = HashMap::new();
        order.for_each(|number| drop(map.insert(number, HashSet::from([number as u8, 7, 9]))));
        map
    };
    let (there, back) = (hashed(&mut (0..50)), hashed(&mut (0..50).rev()));
    assert_eq!(digest(&there).unwrap(), digest(&back).unwrap());
    let differ = |one: &State, change: fn(&mut State), field: &str| {
        let mut other = one.clone();
        change(&mut other);
        let (one, other) = (digest(one).unwrap(), digest(&other).unwrap());
        assert_ne!(one, other);
        assert_eq!(one.difference(&other), Some(field));
    };
    let one = state(&mut Chance(4));
    differ(&one, |state| state.floats.push(None), "floats");
    differ(&one, |state| state.nested[1] = None, "nested");
    differ(&one, |state| state.units[1] = None, "units");
    differ(&one, |state| state.fixed.reverse(), "fixed");
    differ(
        &one,
        |state| state.short = f32::from_bits(state.short.to_bits() ^ 1),
        "short",
    );
    differ(
        &one,
        |state| state.set = state.set.iter().map(|byte| byte ^ 1).chain([1, 2]).collect(),
        "set",
    );
    assert_ne!(digest(&1_u8).unwrap(), digest(&1_u16).unwrap());
}
