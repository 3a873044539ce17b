//! A picture of a dashboard: its panels where they are, with what their queries have; light or dark as its reader's screen
//! is.

use std::fmt::Write as _;

use serde_json::Value;

use super::prometheus::Series;

/// The size of a cell of the dashboard's grid, and the space between panels.
const CELL: (f64, f64) = (50.0, 28.0);
const GAP: f64 = 8.0;

/// The colours of series, in their order.
const COLOURS: [&str; 8] = [
    "var(--green)",
    "var(--orange)",
    "var(--blue)",
    "var(--red)",
    "var(--purple)",
    "var(--teal)",
    "var(--olive)",
    "var(--pink)",
];

/// What they are, on paper and on a dark screen.
const STYLE: &str = "\
svg { color-scheme: light dark; --paper: #f4f5f7; --panel: #ffffff; --edge: #d5d8dd; --rule: #e6e8eb; --ink: #24292f; --faint: #59636e;
  --green: #2f7d3d; --orange: #a3640a; --blue: #2f6da8; --red: #b5443b; --purple: #7d5ba6; --teal: #1f7a7a; --olive: #746630;
  --pink: #9c4f7b }
@media (prefers-color-scheme: dark) {
  svg { --paper: #0d1117; --panel: #161b22; --edge: #3a424c; --rule: #262d36; --ink: #e6e9ed; --faint: #9aa4af;
    --green: #7ec77e; --orange: #ffab70; --blue: #79b8ff; --red: #ef7a7a; --purple: #d2a8ff; --teal: #6cc5d9; --olive: #e2c06c;
    --pink: #f2a0cf }
}
";

/// Series that a legend names.
const NAMED: usize = 4;

/// A rectangle: left, top, width and height.
#[derive(Clone, Copy)]
struct Area(f64, f64, f64, f64);

/// Draws a dashboard with what `ask` has for each query.
pub(crate) fn draw(dashboard: &Value, ask: impl Fn(&str) -> Vec<Series>) -> String {
    let panels: Vec<_> =
        dashboard["panels"].as_array().into_iter().flatten().map(|panel| (panel, area(panel))).collect();
    let titles: Vec<_> = panels.iter().map(|(panel, _)| panel["title"].as_str().unwrap_or_default()).collect();
    let height = panels.iter().map(|(_, Area(_, y, _, h))| y + h).fold(0.0, f64::max) + GAP;
    let width = 24.0 * CELL.0 + GAP;
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"title desc\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <title id=\"title\">The dashboard of the chart</title>\n<desc id=\"desc\">Its panels: {}</desc>\n<style>\n{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"var(--paper)\"/>\n",
        escaped(&titles.join("; "))
    );
    for (panel, area) in panels {
        let Area(x, y, w, h) = area;
        put(
            &mut picture,
            &format!(
                "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"4\" fill=\"var(--panel)\" stroke=\"var(--edge)\"/>"
            ),
        );
        words(
            &mut picture,
            (x + 8.0, y + 16.0),
            "var(--ink)",
            "font-weight=\"bold\"",
            panel["title"].as_str().unwrap_or_default(),
        );
        let found: Vec<_> = panel["targets"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|target| {
                let legend = target["legendFormat"].as_str().unwrap_or_default();
                let series = ask(target["expr"].as_str().unwrap_or_default());
                series.into_iter().map(|series| (named(legend, &series), series)).collect::<Vec<_>>()
            })
            .collect();
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
        let inner = Area(x + 8.0, y + 24.0, w - 16.0, h - 32.0);
        if panel["type"] == "stat" {
            figure(&mut picture, inner, panel, unit, &found);
        } else {
            lines(&mut picture, inner, unit, &found);
        }
    }
    picture + "</svg>\n"
}

fn area(panel: &Value) -> Area {
    let [x, y, w, h] = ["x", "y", "w", "h"].map(|field| panel["gridPos"][field].as_f64().unwrap_or(0.0));
    Area(x * CELL.0 + GAP, y * CELL.1 + GAP, w * CELL.0 - GAP, h * CELL.1 - GAP)
}

fn put(picture: &mut String, line: &str) {
    writeln!(picture, "{line}").expect("a string takes everything");
}

fn words(picture: &mut String, (x, y): (f64, f64), colour: &str, style: &str, text: &str) {
    let text = escaped(text);
    put(picture, &format!("<text x=\"{x:.0}\" y=\"{y:.0}\" fill=\"{colour}\" {style}>{text}</text>"));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// What a legend makes of a series' labels.
fn named(legend: &str, series: &Series) -> String {
    let empty = Value::from("");
    let labels = series.labels.keys().map(String::as_str).chain(["pod", "instance"]);
    labels.fold(legend.to_owned(), |name, label| {
        let value = series.labels.get(label).unwrap_or(&empty).as_str().unwrap_or_default();
        name.replace(&format!("{{{{{label}}}}}"), value)
    })
}

/// A value for people.
fn shown(value: f64, unit: &str) -> String {
    let scaled = |steps: &[(f64, &str)]| {
        let (factor, name) = steps.iter().rev().find(|(factor, _)| value.abs() >= *factor).unwrap_or(&steps[0]);
        let scaled = value / factor;
        let digits = usize::from(scaled.fract().abs() >= 0.05 && scaled.abs() < 100.0);
        format!("{scaled:.digits$}{name}")
    };
    match unit {
        _ if value == 0.0 => "0".to_owned(),
        "s" => scaled(&[(1e-6, " µs"), (1e-3, " ms"), (1.0, " s"), (60.0, " min"), (3600.0, " h")]),
        "bytes" => scaled(&[(1.0, " B"), (1024.0, " KiB"), (1_048_576.0, " MiB")]),
        "percentunit" => format!("{:.0} %", value * 100.0),
        "ops" => format!("{value:.2} /s"),
        _ => scaled(&[(1.0, "")]),
    }
}

/// The last value, in the colour of the highest threshold that it has reached.
fn figure(picture: &mut String, Area(x, y, w, h): Area, panel: &Value, unit: &str, found: &[(String, Series)]) {
    let last = found.first().and_then(|(_, series)| series.values.last()).map_or(f64::NAN, |(_, value)| *value);
    let mut steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array().into_iter().flatten();
    let reached = steps.rfind(|step| step["value"].as_f64().is_none_or(|from| last >= from));
    let colour = match reached.and_then(|step| step["color"].as_str()) {
        Some("green") => COLOURS[0],
        Some("orange") => COLOURS[1],
        Some("red") => COLOURS[3],
        _ => "var(--ink)",
    };
    let text = if last.is_nan() { "no data".to_owned() } else { shown(last, unit) };
    words(picture, (x + w / 2.0, y + h / 2.0 + 10.0), colour, "font-size=\"28\" text-anchor=\"middle\"", &text);
}

/// A line for each series, between nothing and what is most.
fn lines(picture: &mut String, Area(x, y, w, h): Area, unit: &str, found: &[(String, Series)]) {
    let (left, bottom) = (x + 44.0, y + h - 12.0 - 13.0 * found.len().min(NAMED) as f64);
    let (width, height) = (x + w - left, bottom - y);
    let values = || found.iter().flat_map(|(_, series)| &series.values).filter(|(_, value)| value.is_finite());
    let most = values().map(|(_, value)| *value).fold(0.0, f64::max);
    let most = if most > 0.0 { most } else { 1.0 };
    let (from, to) = super::night::TIMES;
    for part in [0.0, 0.5, 1.0] {
        let at = bottom - height * part;
        put(picture, &format!("<path d=\"M{left:.0} {at:.0}h{width:.0}\" stroke=\"var(--rule)\"/>"));
        let text = shown(most * part, unit);
        words(picture, (left - 5.0, at + 4.0), "var(--faint)", "font-size=\"9\" text-anchor=\"end\"", &text);
    }
    for hour in 0..=6 {
        let at = left + width * f64::from(hour) / 6.0;
        let text = format!("{hour:02}:00");
        words(picture, (at, bottom + 11.0), "var(--faint)", "font-size=\"9\" text-anchor=\"middle\"", &text);
    }
    for (index, (name, series)) in found.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let mut path = String::new();
        let mut pen = 'M';
        for (time, value) in &series.values {
            if !value.is_finite() {
                pen = 'M';
                continue;
            }
            let at = (left + width * (time - from) / (to - from), bottom - height * value / most);
            write!(path, "{pen}{:.0} {:.0}", at.0, at.1).expect("a string takes everything");
            pen = 'L';
        }
        put(picture, &format!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"));
        if index < NAMED {
            let at = (x, bottom + 24.0 + 13.0 * index as f64);
            let more = if index + 1 == NAMED && found.len() > NAMED {
                format!(" and {} more", found.len() - NAMED)
            } else {
                String::new()
            };
            words(picture, at, colour, "font-size=\"10\"", &format!("— {name}{more}"));
        }
    }
}
