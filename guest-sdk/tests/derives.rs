//! The prelude's derives are serde's and schemars': the same JSON, the same schemas, whatever the attributes.

#![cfg(not(target_arch = "wasm32"))]

use granary_sdk::prelude::*;
use granary_sdk::schemars::schema_for;
use granary_sdk::serde::de::DeserializeOwned;
use granary_sdk::serde_json::{from_str, json, to_string, to_value};

fn round<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T, json: &str) {
    assert_eq!(to_string(&value).ok().as_deref(), Some(json));
    assert_eq!(from_str::<T>(json).ok(), Some(value));
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
struct Named {
    /// How many.
    how_many: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip)]
    cached: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Unit;

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Newtype(i64);

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Pair<A, B>(A, B);

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Colour {
    #[default]
    LightBlue,
    Red = 7,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind")]
enum Shape {
    Circle { radius: f64 },
    Square { side: f64 },
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
struct Tagged {
    n: u8,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Tree {
    value: i64,
    children: Vec<Tree>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Borrowed<'a> {
    text: &'a str,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
struct Even(i64);

impl TryFrom<i64> for Even {
    type Error = &'static str;

    fn try_from(n: i64) -> Result<Self, Self::Error> {
        (n % 2 == 0).then_some(Self(n)).ok_or("not even")
    }
}

impl From<Even> for i64 {
    fn from(even: Even) -> Self {
        even.0
    }
}

#[test]
fn json_is_as_serde_writes_it() {
    round(
        Named {
            how_many: 2,
            note: None,
            cached: 0,
        },
        r#"{"howMany":2}"#,
    );
    assert_eq!(from_str::<Named>("{}").unwrap(), Named::default());
    round(Unit, "null");
    round(Newtype(5), "5");
    round(Pair(1_u8, "x".to_owned()), r#"[1,"x"]"#);
    round(Colour::LightBlue, r#""light_blue""#);
    round(vec![Colour::Red], r#"["red"]"#);
    round(Shape::Circle { radius: 1.5 }, r#"{"kind":"Circle","radius":1.5}"#);
    round(Shape::Square { side: 2.0 }, r#"{"kind":"Square","side":2.0}"#);
    round(Tagged { n: 1 }, r#"{"type":"Tagged","n":1}"#);
    round(Even(4), "4");
    assert!(from_str::<Even>("3").is_err());
    let leaf = |value| Tree {
        value,
        children: Vec::new(),
    };
    round(
        Tree {
            value: 1,
            children: vec![leaf(2)],
        },
        r#"{"value":1,"children":[{"value":2,"children":[]}]}"#,
    );
    let borrowed: Borrowed<'_> = from_str(r#"{"text":"a"}"#).unwrap();
    assert_eq!(to_string(&borrowed).unwrap(), r#"{"text":"a"}"#);
}

#[test]
fn messages_name_the_type_itself() {
    let error = from_str::<Tree>("5").unwrap_err().to_string();
    assert!(error.contains("expected struct Tree"), "{error}");
}

#[test]
fn schemas_are_as_schemars_writes_them() {
    let named = to_value(schema_for!(Named)).unwrap();
    assert_eq!(named["title"], "Named");
    assert_eq!(named["properties"]["howMany"]["description"], "How many.");
    assert_eq!(named["properties"]["cached"], json!(null));
    let tree = to_value(schema_for!(Tree)).unwrap();
    assert_eq!(tree["properties"]["children"]["items"], json!({"$ref": "#"}));
    let colour = to_value(schema_for!(Colour)).unwrap();
    assert_eq!(colour["enum"], json!(["light_blue", "red"]));
    let pair = to_value(schema_for!(Pair<u8, String>)).unwrap();
    assert_eq!(pair["prefixItems"].as_array().unwrap().len(), 2);
}

#[test]
fn a_type_inside_of_a_function_derives_too() {
    #[derive(Serialize, Deserialize, JsonSchema, PartialEq, Debug)]
    struct Local {
        n: i64,
    }
    round(Local { n: 1 }, r#"{"n":1}"#);
    assert_eq!(to_value(schema_for!(Local)).unwrap()["title"], "Local");
}
