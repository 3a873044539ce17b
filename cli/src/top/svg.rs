//! A screen as a picture: its text and colors as SVG, for the documentation; light or dark as its reader's screen is.

use std::fmt::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};

/// Width and height of a character, in pixels.
const CELL: (u32, u32) = (9, 18);

/// Around the screen.
const MARGIN: u32 = 12;

/// The colors, on paper and on a dark screen.
const STYLE: &str = "\
svg { color-scheme: light dark; --paper: #ffffff; --edge: #8b949e; --ink: #1c2128; --dim: #59636e; --green: #1a7f37;
  --yellow: #8a5a00; --red: #b3261e; --cyan: #0b6477 }
@media (prefers-color-scheme: dark) {
  svg { --paper: #1b1f27; --edge: #1b1f27; --ink: #d8dde6; --dim: #8b93a1; --green: #7ec77e; --yellow: #e2c06c; --red: #ef7a7a;
    --cyan: #6cc5d9 }
}
";

/// The screen as SVG. Who does not see it is told its name, and its words.
pub(super) fn svg(buffer: &Buffer, title: &str) -> String {
    let (columns, lines) = (u32::from(buffer.area.width), u32::from(buffer.area.height));
    let (width, height) = (columns * CELL.0 + 2 * MARGIN, lines * CELL.1 + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"title desc\" font-family=\"monospace\" font-size=\"15\">\n\
         <title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n<style>\n{STYLE}</style>\n\
         <rect x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"var(--paper)\" stroke=\"var(--edge)\"/>\n",
        escaped(title),
        escaped(&words(buffer)),
        width - 1,
        height - 1
    );
    for line in 0..buffer.area.height {
        let mut column = 0;
        while column < buffer.area.width {
            let first = &buffer[(column, line)];
            let mut text = String::new();
            let begin = column;
            while column < buffer.area.width && alike(first, &buffer[(column, line)]) {
                text.push_str(buffer[(column, line)].symbol());
                column += 1;
            }
            run(&mut svg, first, &text, begin, line);
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// What is on the screen, line by line, without what is drawn.
fn words(buffer: &Buffer) -> String {
    let line = |line: u16| {
        let text: String = (0..buffer.area.width).map(|column| buffer[(column, line)].symbol()).collect();
        let words: Vec<_> =
            text.split_whitespace().filter(|word| word.is_ascii() || word.chars().any(char::is_alphanumeric)).collect();
        words.join(" ")
    };
    let lines: Vec<_> = (0..buffer.area.height).map(line).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn alike(one: &Cell, other: &Cell) -> bool {
    (one.fg, one.modifier) == (other.fg, other.modifier)
}

/// Characters of one style.
fn run(svg: &mut String, style: &Cell, text: &str, column: u16, line: u16) {
    let is_chosen = style.modifier.contains(Modifier::REVERSED);
    let color = match style.fg {
        Color::Green => "var(--green)",
        Color::Yellow => "var(--yellow)",
        Color::Red => "var(--red)",
        Color::Cyan => "var(--cyan)",
        _ if style.modifier.contains(Modifier::DIM) => "var(--dim)",
        _ => "var(--ink)",
    };
    let (x, y) = (MARGIN + u32::from(column) * CELL.0, MARGIN + u32::from(line) * CELL.1);
    let length = text.chars().count() as u32 * CELL.0;
    let fill = if is_chosen {
        // A string takes everything.
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{length}\" height=\"{}\" fill=\"{color}\"/>", CELL.1);
        "var(--paper)"
    } else {
        color
    };
    if text.trim().is_empty() {
        return;
    }
    let bold = if style.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let text = escaped(text);
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{}\" textLength=\"{length}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{fill}\"{bold} \
         xml:space=\"preserve\">{text}</text>",
        y + CELL.1 - 4
    );
}
