//! The numbers that a schema allows, as far as bounds and formats say it.

use serde_json::Value;

/// What an integer may be: formats are bounds, too.
pub(super) fn of_integers(schema: &Value) -> (i128, i128) {
    let (mut low, mut high) = schema["format"]
        .as_str()
        .and_then(integer_format)
        .unwrap_or((i128::MIN, i128::MAX));
    if let Some(minimum) = schema.get("minimum").and_then(up) {
        low = low.max(minimum);
    }
    if let Some(minimum) = schema.get("exclusiveMinimum").and_then(down) {
        low = low.max(minimum.saturating_add(1));
    }
    if let Some(maximum) = schema.get("maximum").and_then(down) {
        high = high.min(maximum);
    }
    if let Some(maximum) = schema.get("exclusiveMaximum").and_then(up) {
        high = high.min(maximum.saturating_sub(1));
    }
    (low, high)
}

/// What any number may be, both ends included.
pub(super) fn of_numbers(schema: &Value) -> (f64, f64) {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    (
        bound("minimum").unwrap_or(f64::NEG_INFINITY),
        bound("maximum").unwrap_or(f64::INFINITY),
    )
}

/// The range of a format that is one.
pub(super) fn integer_format(format: &str) -> Option<(i128, i128)> {
    Some(match format {
        "int8" => (i8::MIN.into(), i8::MAX.into()),
        "int16" => (i16::MIN.into(), i16::MAX.into()),
        "int32" => (i32::MIN.into(), i32::MAX.into()),
        // `int` and `uint` are a guest's pointers' size at least; as values they go to 64 bits.
        "int64" | "int" => (i64::MIN.into(), i64::MAX.into()),
        "uint8" => (0, u8::MAX.into()),
        "uint16" => (0, u16::MAX.into()),
        "uint32" => (0, u32::MAX.into()),
        "uint64" | "uint" => (0, u64::MAX.into()),
        _ => return None,
    })
}

fn up(number: &Value) -> Option<i128> {
    whole(number).or_else(|| number.as_f64().map(|number| number.ceil() as i128))
}

fn down(number: &Value) -> Option<i128> {
    whole(number).or_else(|| number.as_f64().map(|number| number.floor() as i128))
}

fn whole(number: &Value) -> Option<i128> {
    number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
}
