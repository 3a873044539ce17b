//! A screen as a picture: its text and colors as SVG, for the documentation.

use std::fmt::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};

/// Width and height of a character, in pixels.
const CELL: (u32, u32) = (9, 18);

/// Around the screen.
const MARGIN: u32 = 12;

/// The screen as SVG.
pub(super) fn svg(buffer: &Buffer) -> String {
    let (columns, lines) = (u32::from(buffer.area.width), u32::from(buffer.area.height));
    let (width, height) = (columns * CELL.0 + 2 * MARGIN, lines * CELL.1 + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"monospace\" font-size=\"15\">\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#1b1f27\"/>\n"
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

fn alike(one: &Cell, other: &Cell) -> bool {
    (one.fg, one.modifier) == (other.fg, other.modifier)
}

/// Characters of one style.
fn run(svg: &mut String, style: &Cell, text: &str, column: u16, line: u16) {
    let is_chosen = style.modifier.contains(Modifier::REVERSED);
    let color = match style.fg {
        Color::Green => "#7ec77e",
        Color::Yellow => "#e2c06c",
        Color::Red => "#ef7a7a",
        Color::Cyan => "#6cc5d9",
        _ if style.modifier.contains(Modifier::DIM) => "#8b93a1",
        _ => "#d8dde6",
    };
    let (x, y) = (MARGIN + u32::from(column) * CELL.0, MARGIN + u32::from(line) * CELL.1);
    let length = text.chars().count() as u32 * CELL.0;
    let fill = if is_chosen {
        // A string takes everything.
        let _ = writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{length}\" height=\"{}\" fill=\"{color}\"/>", CELL.1);
        "#1b1f27"
    } else {
        color
    };
    if text.trim().is_empty() {
        return;
    }
    let bold = if style.modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{}\" textLength=\"{length}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{fill}\"{bold} \
         xml:space=\"preserve\">{text}</text>",
        y + CELL.1 - 4
    );
}
