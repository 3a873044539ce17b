//! What pictures are drawn with: boxes, lines and words in an SVG that is light or dark as its reader's screen is.

use std::fmt::Write as _;

/// Whose doing something is; each has a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The client: konductor-run, koncli or the library.
    Client,
    /// The operator.
    Operator,
    /// A person.
    Person,
    /// What happens by itself.
    Nature,
}

impl By {
    /// Each.
    pub const ALL: [Self; 4] = [Self::Client, Self::Operator, Self::Person, Self::Nature];

    /// The class of what it does.
    pub fn class(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Operator => "operator",
            Self::Person => "person",
            Self::Nature => "nature",
        }
    }
}

/// The look of all pictures.
const STYLE: &str = "\
:root { color-scheme: light dark }
text { font: 14px system-ui, sans-serif; fill: var(--ink) }
.small { font-size: 12px }
.strong { font-weight: 600 }
.faint { fill: var(--faint) }
.paper { fill: var(--paper) }
.box { fill: var(--box); stroke: var(--line) }
.good { fill: var(--good); stroke: var(--line) }
.rule { stroke: var(--line); fill: none }
.faintly { stroke: var(--box); fill: none }
.dashed { stroke: var(--line); fill: none; stroke-dasharray: 4 4 }
.client { --own: var(--blue) } .operator { --own: var(--orange) } .person { --own: var(--purple) } .nature { --own: var(--faint) }
path.client, path.operator, path.person, path.nature { stroke: var(--own); fill: none; stroke-width: 1.6 }
polygon.client, polygon.operator, polygon.person, polygon.nature, rect.client, rect.operator, rect.person, rect.nature { fill: var(--own) }
text.client, text.operator, text.person, text.nature { fill: var(--own) }
svg { --ink: #1c2128; --faint: #59636e; --paper: #ffffff; --box: #eef1f4; --good: #d4ecd9; --line: #8b949e;
  --blue: #0b5cad; --orange: #a04100; --purple: #7a3eb1 }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e6e9ed; --faint: #9aa4af; --paper: #161b22; --box: #262d36; --good: #1d4429; --line: #6b7580;
    --blue: #79b8ff; --orange: #ffab70; --purple: #d2a8ff }
}
";

/// A picture that is being drawn.
#[derive(Debug)]
pub struct Drawing {
    size: (i32, i32),
    title: String,
    body: String,
}

/// How long an arrow's head is, and half as wide.
const HEAD: f64 = 9.0;

impl Drawing {
    /// An empty picture of this size; the title says what it shows to who does not see it.
    pub fn new(width: i32, height: i32, title: &str) -> Self {
        Self { size: (width, height), title: title.to_owned(), body: String::new() }
    }

    fn add(&mut self, element: &str) {
        self.body += element;
        self.body.push('\n');
    }

    /// Words, beginning at a point.
    pub fn text(&mut self, (x, y): (i32, i32), class: &str, words: &str) {
        self.add(&format!("<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{}</text>", escaped(words)));
    }

    /// Lines of words, centred at a point.
    pub fn centred(&mut self, (x, y): (i32, i32), class: &str, words: &str) {
        let lines: Vec<_> = words.lines().collect();
        let height = 16;
        let first = y - height * (lines.len() as i32 - 1) / 2 + 5;
        for (index, line) in lines.iter().enumerate() {
            let y = first + height * index as i32;
            let line = escaped(line);
            self.add(&format!("<text x=\"{x}\" y=\"{y}\" class=\"{class}\" text-anchor=\"middle\">{line}</text>"));
        }
    }

    /// A rectangle.
    pub fn rect(&mut self, (x, y): (i32, i32), (width, height): (i32, i32), class: &str) {
        let corner = 6.min(height / 3);
        self.add(&format!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{corner}\" class=\"{class}\"/>"
        ));
    }

    /// A line through points.
    pub fn line(&mut self, points: &[(i32, i32)], class: &str) {
        self.add(&format!("<path d=\"{}\" class=\"{class}\"/>", path(points)));
    }

    /// A line through points with a head at its end.
    pub fn arrow(&mut self, points: &[(i32, i32)], by: By) {
        let class = by.class();
        self.line(points, class);
        let [.., from, to] = points else { panic!("an arrow has two ends") };
        let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
        let length = dx.hypot(dy);
        let (dx, dy) = (dx / length * HEAD, dy / length * HEAD);
        let (x, y) = (f64::from(to.0), f64::from(to.1));
        let corners = [(x, y), (x - dx - dy / 2.0, y - dy + dx / 2.0), (x - dx + dy / 2.0, y - dy - dx / 2.0)];
        let corners: Vec<_> = corners.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.add(&format!("<polygon points=\"{}\" class=\"{class}\"/>", corners.join(" ")));
    }

    /// What the colours mean, from left to right.
    pub fn legend(&mut self, (x, y): (i32, i32), what: &[(By, &str)]) {
        let mut at = x;
        for (by, words) in what {
            self.line(&[(at, y - 5), (at + 24, y - 5)], by.class());
            self.text((at + 30, y), "small", words);
            at += 54 + 7 * words.chars().count() as i32;
        }
    }

    /// The whole.
    pub fn svg(&self) -> String {
        let (width, height) = self.size;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             role=\"img\" aria-labelledby=\"title\">\n<title id=\"title\">{}</title>\n<style>\n{STYLE}</style>\n",
            escaped(&self.title)
        );
        writeln!(svg, "<rect width=\"{width}\" height=\"{height}\" rx=\"8\" class=\"paper\"/>")
            .expect("write to a string");
        svg + &self.body + "</svg>\n"
    }
}

fn path(points: &[(i32, i32)]) -> String {
    let points: Vec<_> = points.iter().map(|(x, y)| format!("{x} {y}")).collect();
    format!("M{}", points.join(" L"))
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
