//! The curve as a picture: calls a second above, latencies below, both over the calls that are offered.

use std::fmt::Write;

use super::Point;

const WIDTH: f64 = 760.0;
const PANEL: f64 = 230.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const GAP: f64 = 50.0;
const TOP: f64 = 30.0;

/// One line of a panel: its name, its colour, its value at a point.
type Line = (&'static str, &'static str, fn(&Point) -> f64);

const RATES: &[Line] = &[
    ("accepted", "#1b7837", |point| point.accepted),
    ("refused", "#b2182b", |point| point.refused),
];
const LATENCIES: &[Line] = &[
    ("accepted, p99", "#1b7837", |point| point.accepted_p99),
    ("accepted, p50", "#7fbf7b", |point| point.accepted_p50),
    ("refused, p99", "#b2182b", |point| point.refused_p99),
];

/// The picture of these points, which come in the order of what was offered, as SVG.
pub(super) fn draw(points: &[Point]) -> String {
    let height = TOP + 2.0 * PANEL + 2.0 * GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let offered = top(points.iter().map(|point| point.offered));
    panel(&mut svg, TOP, "calls a second", offered, points, RATES);
    panel(&mut svg, TOP + PANEL + GAP, "latency in ms", offered, points, LATENCIES);
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">calls offered a second</text>\n</svg>",
        LEFT + (WIDTH - LEFT - RIGHT) / 2.0,
        height - 12.0
    );
    svg
}

fn panel(svg: &mut String, above: f64, title: &str, offered: f64, points: &[Point], lines: &[Line]) {
    let (right, below) = (WIDTH - RIGHT, above + PANEL);
    let highest = top(lines.iter().flat_map(|line| points.iter().map(line.2)));
    let x = |value: f64| LEFT + value / offered * (right - LEFT);
    let y = |value: f64| below - value / highest * PANEL;
    // Writing to a string can't fail.
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{title}</text>",
        above - 8.0
    );
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let (at_x, at_y) = (x(offered * share), y(highest * share));
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at_y:.1}H{right}M{at_x:.1} {above}V{below}\" stroke=\"#ddd\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
             <text x=\"{at_x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            LEFT - 6.0,
            at_y + 4.0,
            highest * share,
            below + 16.0,
            offered * share
        );
    }
    for (number, (name, colour, value)) in lines.iter().enumerate() {
        let path: Vec<String> = points
            .iter()
            .map(|point| format!("{:.1},{:.1}", x(point.offered), y(value(point))))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}</text>",
            path.join(" "),
            right + 10.0,
            above + 20.0 + 18.0 * number as f64
        );
    }
}

/// A round number at or above all of these, as an axis' end: four times a 1, 2, 2.5 or 5 with zeros.
fn top(values: impl Iterator<Item = f64>) -> f64 {
    let highest = values.fold(0.0, f64::max).max(1e-3);
    let power = 10_f64.powf((highest / 4.0).log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| 4.0 * step * power);
    steps.into_iter().find(|step| *step >= highest).unwrap_or(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number() {
        assert_eq!(
            [0.9, 4.0, 4.1, 37.0, 41_000.0].map(|value| top([value].into_iter())),
            [1.0, 4.0, 8.0, 40.0, 80_000.0]
        );
    }

    #[test]
    fn every_line_has_all_points() {
        let point = |offered: f64| Point {
            offered,
            accepted: offered.min(100.0),
            refused: (offered - 100.0).max(0.0),
            accepted_p50: 1.0,
            accepted_p99: 4.0,
            refused_p99: 2.0,
        };
        let svg = draw(&[point(50.0), point(100.0), point(150.0)]);
        assert_eq!(svg.matches("<polyline").count(), 5);
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
        for line in svg.lines().filter(|line| line.contains("<polyline")) {
            assert_eq!(line.matches(',').count(), 3, "{line}");
        }
    }
}
