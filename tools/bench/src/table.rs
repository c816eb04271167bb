//! The table that a run prints: a row for each bar.

/// One row.
#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) ours: String,
    /// The limit's figure in the same run, or what else ours is held against.
    pub(crate) against: String,
    pub(crate) ratio: String,
    pub(crate) bar: String,
    /// `None` where there is no bar.
    pub(crate) holds: Option<bool>,
}

const HEADS: [&str; 6] = ["case", "ours", "against, same run", "ratio", "bar", "holds"];

/// The rows in Markdown, in columns.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut lines: Vec<[String; 6]> = vec![HEADS.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    lines.insert(1, widths.map(|width| "-".repeat(width)));
    let mut text = String::new();
    for line in lines {
        for (cell, width) in line.iter().zip(widths) {
            text.push_str(&format!("| {cell:width$} "));
        }
        text.push_str("|\n");
    }
    text
}

fn cells(row: &Row) -> [String; 6] {
    let holds = match row.holds {
        None => "-",
        Some(true) => "yes",
        Some(false) => "NO",
    };
    [row.case.as_str(), &row.ours, &row.against, &row.ratio, &row.bar, holds].map(|cell| match cell {
        "" => "-".to_owned(),
        cell => cell.to_owned(),
    })
}

/// 28,312
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The middle one, by size.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_columns() {
        let row = Row {
            case: "one".into(),
            bar: ">= 50 %".into(),
            holds: Some(false),
            ..Row::default()
        };
        let text = text(&[row]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "| case | ours | against, same run | ratio | bar     | holds |"
        );
        assert_eq!(
            lines[2],
            "| one  | -    | -                 | -     | >= 50 % | NO    |"
        );
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(
            [0.4, 999.0, 1000.0, 1234567.0].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
    }
}
