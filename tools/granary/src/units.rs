//! Durations and sizes as people write them.

use std::time::Duration;

/// `250ms`, `2s`, `5m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let millis_each = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => {
            return Err(format!(
                "`{text}` is no duration: write a number and ms, s, m or h, for example 250ms"
            ));
        }
    };
    let millis = number.and_then(|number| number.checked_mul(millis_each));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is no duration: its number can't be read"))
}

/// `4096`, `64KiB`, `64MiB`, `2GiB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let bytes_each = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => {
            return Err(format!(
                "`{text}` is no size: write a number of bytes, or one with KiB, MiB or GiB"
            ));
        }
    };
    let bytes = number.and_then(|number| number.checked_mul(bytes_each));
    bytes.ok_or_else(|| format!("`{text}` is no size: its number can't be read"))
}

/// A duration for people: `12 s`, `5 min`, `3 h 20 min`, `2 d 5 h`.
pub(crate) fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        seconds => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Bytes for people: `512 B`, `64.0 KiB`, `1.2 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, shift)| bytes >> shift > 0);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(unit, shift)| format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64),
    )
}

fn split(text: &str) -> (Option<u64>, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number.parse().ok(), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_people() {
        let shown = [59, 60, 12_000, 200_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(shown, ["59 s", "1 min", "3 h 20 min", "2 d 7 h"]);
        assert_eq!(
            [0, 1023, 65_536, 1 << 30].map(size),
            ["0 B", "1023 B", "64.0 KiB", "1.0 GiB"]
        );
    }

    #[test]
    fn durations() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "1d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes("4096"), Ok(4096));
        assert_eq!(bytes("64MiB"), Ok(64 << 20));
        for bad in ["", "MiB", "1MB", "-1", "99999999999999999999GiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
