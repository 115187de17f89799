//! Line charts as SVG: stacked panels with a common time axis, for light and dark pages.

use std::fmt::Write as _;

// Sizes in pixels: the chart's width and margins, a panel's height, and the gap between panels.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const PANEL: f64 = 130.0;
const GAP: f64 = 62.0;
/// The colors of the series in order, distinguishable for the color-blind and on both backgrounds.
const COLORS: [&str; 4] = ["#d95f02", "#1b7fbd", "#7a7a7a", "#8e5cc4"];

/// A line chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// The title.
    pub title: String,
    /// The length of the time axis, in seconds.
    pub seconds: f64,
    /// The panels, from top to bottom.
    pub panels: Vec<Panel>,
}

/// A panel with its own vertical axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    /// The title, which names the vertical axis.
    pub title: String,
    /// The lines.
    pub series: Vec<Series>,
    /// Shaded time intervals, in seconds, with their labels.
    pub shaded: Vec<(f64, f64, &'static str)>,
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// Pairs of seconds and values, in order of time.
    pub points: Vec<(f64, f64)>,
}

impl Chart {
    /// Renders the chart as an SVG document.
    pub fn svg(&self) -> String {
        let panels = self.panels.len() as f64;
        let height = TOP + panels * (PANEL + GAP);
        let mut svg = Svg(String::new());
        svg.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"{}\">\n<style>text{{font:12px sans-serif;fill:#333}}.title{{font-size:14px;font-weight:bold}}\
             .grid{{stroke:#8884;fill:none}}.shade{{fill:#8883}}.line{{fill:none;stroke-width:2}}\
             @media(prefers-color-scheme:dark){{text{{fill:#ddd}}}}</style>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"20\">{}</text>\n",
            escaped(&self.title),
            escaped(&self.title),
        ));
        for (index, panel) in self.panels.iter().enumerate() {
            self.panel(panel, TOP + 24.0 + index as f64 * (PANEL + GAP), &mut svg);
        }
        svg.add(format_args!("</svg>\n"));
        svg.0
    }

    fn panel(&self, panel: &Panel, top: f64, svg: &mut Svg) {
        let values = panel.series.iter().flat_map(|series| series.points.iter().map(|(_, value)| *value));
        let step = nice_step(values.fold(0.0, f64::max) / 4.0);
        let most = step * 4.0;
        let seconds = self.seconds.max(f64::MIN_POSITIVE);
        let x = |at: f64| LEFT + (at / seconds).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| top + PANEL - (value / most).clamp(0.0, 1.0) * PANEL;
        svg.add(format_args!("<text x=\"{LEFT}\" y=\"{:.0}\">{}</text>\n", top - 8.0, escaped(&panel.title)));
        for (from, until, what) in &panel.shaded {
            let (left, right) = (x(*from), x(*until));
            let (width, middle, text_at) = (right - left, f64::midpoint(left, right), top + 12.0);
            svg.add(format_args!(
                "<rect class=\"shade\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{PANEL}\"/>\
                 <text x=\"{middle:.1}\" y=\"{text_at:.1}\" text-anchor=\"middle\">{what}</text>\n",
            ));
        }
        for line in 0..=4 {
            let value = step * f64::from(line);
            let at = y(value);
            svg.add(format_args!(
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                number(value)
            ));
        }
        let apart = nice_step(seconds / 8.0);
        let mut at = 0.0;
        while at <= seconds * 1.0001 {
            let (place, below) = (x(at), top + PANEL + 16.0);
            svg.add(format_args!(
                "<text x=\"{place:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{}</text>\n",
                span(at)
            ));
            at += apart;
        }
        let mut legend = WIDTH - RIGHT;
        for (index, series) in panel.series.iter().enumerate().rev() {
            let color = COLORS[index % COLORS.len()];
            let mut path = String::new();
            for (place, (at, value)) in series.points.iter().enumerate() {
                let command = if place == 0 { 'M' } else { 'L' };
                // Writing to a string cannot fail.
                write!(path, "{command}{:.1} {:.1}", x(*at), y(*value)).ok();
            }
            let baseline = top - 8.0;
            svg.add(format_args!(
                "<path class=\"line\" stroke=\"{color}\" d=\"{path}\"/><text x=\"{legend:.1}\" y=\"{baseline:.1}\" \
                 text-anchor=\"end\" style=\"fill:{color}\">{}</text>\n",
                escaped(&series.name)
            ));
            legend -= 18.0 + 7.0 * series.name.chars().count() as f64;
        }
    }
}

struct Svg(String);

impl Svg {
    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        self.0.write_fmt(text).ok();
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is at least `least`.
fn nice_step(least: f64) -> f64 {
    if !(least.is_finite() && least > 0.0) {
        return 1.0;
    }
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= least * 0.9999)
        .unwrap_or(least)
}

fn number(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", value / 1e6)
    } else if value >= 1e4 {
        format!("{}k", value / 1e3)
    } else if value >= 1.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value}")
    }
}

/// Formats a time since the start: `12 s`, `4 min`, `1.5 h`.
fn span(seconds: f64) -> String {
    match seconds {
        _ if seconds >= 7_200.0 => format!("{} h", (seconds / 360.0).round() / 10.0),
        _ if seconds >= 300.0 => format!("{} min", (seconds / 6.0).round() / 10.0),
        _ => format!("{} s", (seconds * 10.0).round() / 10.0),
    }
}

/// Escapes text for XML, because a caller's name may contain any character.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            other if other.is_control() => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_numbers() {
        for (least, step) in
            [(0.3, 0.5), (1.0, 1.0), (1.1, 2.0), (26.0, 50.0), (700.0, 1_000.0), (0.0, 1.0), (f64::NAN, 1.0)]
        {
            assert!((nice_step(least) - step).abs() < 1e-9, "{least}: {}", nice_step(least));
        }
    }

    #[test]
    fn a_picture_stays_within_its_frame_and_its_names_are_text() {
        let series =
            Series { name: "<b>&".to_owned(), points: vec![(0.0, 0.0), (5.0, 90.0), (99.0, f64::INFINITY)] };
        let panel =
            Panel { title: "waiting".to_owned(), series: vec![series], shaded: vec![(1.0, 2.0, "API down")] };
        let svg = Chart { title: "t".to_owned(), seconds: 10.0, panels: vec![panel.clone(), panel] }.svg();
        assert!(svg.contains("&lt;b&gt;&amp;") && !svg.contains("<b>"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<path class=\"line\"").count(), 2);
        assert!(Chart::default().svg().ends_with("</svg>\n"));
    }
}
