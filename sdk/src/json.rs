//! JSON read strictly: one member a name, in every object, at every depth.
//!
//! `serde_json` keeps the last of two members with one name, other readers keep the first; whoever can make two readers
//! see two documents can make them decide differently (rows J-21, BM-2).

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A JSON object.
pub type Object = Map<String, Value>;

/// The members of an object, and of those in it, in the order of their names. Without it that order depends on who else is in
/// the program: any crate can have `serde_json` keep the order in which members were written, for everybody.
#[must_use]
pub fn sorted(object: Object) -> Object {
    let mut value = Value::Object(object);
    value.sort_all_objects();
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

/// The text of an object, [`sorted`]: one object has one text.
#[must_use]
pub fn canonical(object: Object) -> String {
    Value::Object(sorted(object)).to_string()
}

/// The bytes are not one JSON object, or one of its objects has two members with one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object with each member once")]
pub struct NotAnObject;

/// Reads exactly one JSON object. Integers keep 64 bits; a larger one becomes a float, which no caller takes for an
/// integer. Nesting is bounded by `serde_json` (128), size by the caller.
///
/// # Errors
/// [`NotAnObject`].
pub fn object(bytes: &[u8]) -> Result<Object, NotAnObject> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut deserializer).ok().ok_or(NotAnObject)?;
    deserializer.end().ok().ok_or(NotAnObject)?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(NotAnObject),
    }
}

/// A JSON object of a document that somebody else reads: deserialised as strictly as [`object`] does.
#[derive(Debug, Clone, PartialEq)]
pub struct StrictObject(pub Object);

impl<'de> Deserialize<'de> for StrictObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Strict.deserialize(deserializer)? {
            Value::Object(object) => Ok(Self(object)),
            _ => Err(D::Error::custom("not an object")),
        }
    }
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(Strict)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Strict)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("two members with one name"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_object_has_one_text_in_whatever_order_it_was_made() {
        let made = object(br#"{"b":{"z":1,"a":[{"y":2,"x":3}]},"a":null}"#).unwrap();
        assert_eq!(canonical(made), r#"{"a":null,"b":{"a":[{"x":3,"y":2}],"z":1}}"#);
    }

    #[test]
    fn duplicate_members_are_refused_at_every_depth() {
        assert!(object(br#"{"a":1,"b":[{"c":1,"d":null}]}"#).is_ok());
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"b":2}]}"#,
            r#"{"a":1,"\u0061":2}"#,
            "[]",
            "1",
            "{} {}",
            "{}x",
            "",
            "{\"a\":NaN}",
        ] {
            assert_eq!(object(bad.as_bytes()), Err(NotAnObject), "{bad}");
        }
    }

    #[test]
    fn every_kind_of_value_is_read_as_what_it_is() {
        let text = r#"{"t":true,"f":false,"n":null,"i":-7,"u":7,"d":-1.5,"s":"x","a":[1,"y",null],"o":{"p":{}}}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(Value::Object(object(text.as_bytes()).unwrap()), expected);
        let StrictObject(read) = serde_json::from_str(text).unwrap();
        assert_eq!(Value::Object(read), expected);
        // From a value too, whose texts are owned.
        let StrictObject(read) = serde_json::from_value(expected.clone()).unwrap();
        assert_eq!(Value::Object(read), expected);
        for no_object in ["[]", "1", "null", r#"{"a":1,"a":1}"#] {
            assert!(serde_json::from_str::<StrictObject>(no_object).is_err(), "{no_object}");
        }
    }

    #[test]
    fn integers_of_64_bits_stay_exact() {
        let read = object(br#"{"a":9007199254740993,"b":18446744073709551615,"c":18446744073709551616}"#).unwrap();
        assert_eq!(read["a"].as_u64(), Some(9_007_199_254_740_993));
        assert_eq!(read["b"].as_u64(), Some(u64::MAX));
        assert_eq!(read["c"].as_u64(), None);
    }

    proptest! {
        #[test]
        fn an_accepted_document_is_what_serde_json_reads(text in r#"\{("[ab]":([0-9]{1,3}|"x"|\[\]|\{\}|null),?){0,3}\}|\PC*"#) {
            if let Ok(read) = object(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), Value::Object(read));
            }
        }
    }
}
