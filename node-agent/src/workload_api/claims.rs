use mayfly_sdk::jwt::JwtSvid;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

/// The claims of a token that was verified. `aud` is a list also where it has one value (row WA-47); numbers are doubles, so that integers
/// above 2^53 lose precision (row WA-48).
pub(super) fn to_struct(svid: &JwtSvid) -> Struct {
    let mut fields: std::collections::BTreeMap<_, _> =
        svid.claims().iter().map(|(name, value)| (name.clone(), to_value(value))).collect();
    let audience = svid.audience().iter().map(|one| value(Kind::StringValue(one.clone()))).collect();
    fields.insert("aud".to_owned(), value(Kind::ListValue(ListValue { values: audience })));
    Struct { fields }
}

fn to_value(json: &serde_json::Value) -> Value {
    value(match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(boolean) => Kind::BoolValue(*boolean),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(values) => {
            Kind::ListValue(ListValue { values: values.iter().map(to_value).collect() })
        }
        serde_json::Value::Object(members) => Kind::StructValue(Struct {
            fields: members.iter().map(|(name, value)| (name.clone(), to_value(value))).collect(),
        }),
    })
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}
