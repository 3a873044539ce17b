//! What is on the screen: a function of the state, the time and the size. Readable in 80 columns and 24 lines; what does
//! not fit into fewer is cut on the right and below.

use jiff::Timestamp;
use konductor_api::ClaimPhase;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Cell, Clear, Paragraph, Row as TableRow, Table, TableState, Wrap},
};

use super::{
    limits::SAMPLES,
    state::{Id, Page, Place, Row, State, acquired, percent},
};
use crate::{
    output::{span, table::plain},
    why::{Claim, Kind},
};

/// Lines that are not the list's: the title, what does not work, the head of the list, and the keys.
const FRAME_LINES: u16 = 4;

/// Columns of a bar.
const BAR: usize = 10;

/// From this width on there is room for the pods of claims.
const WIDE: u16 = 100;

/// Eighths of a line.
const EIGHTHS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How many lines of a list or a text a screen of this height shows.
pub(crate) fn lines(height: u16) -> usize {
    height.saturating_sub(FRAME_LINES).into()
}

/// Draws the screen.
pub(crate) fn draw(frame: &mut Frame<'_>, state: &State, now: Timestamp, color: bool) {
    let paint = Paint { color };
    let parts = [Constraint::Length(1), Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)];
    let [head, trouble, body, foot] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(title(state, now, head.width, paint), head);
    if let Some(why) = state.trouble() {
        frame.render_widget(Line::styled(plain(&why), paint.bad()), trouble);
    } else if !state.is_complete() {
        frame.render_widget(Line::styled("reading what is there ...", Paint::dim()), trouble);
    }
    let mut page = &state.page;
    if let Page::Confirm { back, .. } = page {
        page = back;
    }
    match page {
        Page::List => list(frame, body, state, now, paint),
        Page::Parent { parent, claim } => claims(frame, body, state, parent, claim.as_deref(), now, paint),
        Page::Text { lines, top, .. } => text(frame, body, lines, *top),
        // A question about a question is never asked.
        Page::Confirm { .. } => {}
    }
    if let Page::Confirm { claim, holder, .. } = &state.page {
        confirm(frame, body, claim, holder, paint);
    }
    frame.render_widget(keys(state, paint), foot);
}

#[derive(Clone, Copy)]
struct Paint {
    color: bool,
}

impl Paint {
    fn of(self, color: Color) -> Style {
        if self.color { Style::new().fg(color) } else { Style::new() }
    }

    fn good(self) -> Style {
        self.of(Color::Green)
    }

    fn busy(self) -> Style {
        self.of(Color::Yellow)
    }

    fn bad(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn dim() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn head(self) -> Style {
        self.of(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    fn chosen() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

fn title(state: &State, now: Timestamp, width: u16, paint: Paint) -> Line<'static> {
    let place = match &state.place {
        Place::Cluster(Some(namespace)) => format!("namespace {namespace}"),
        Place::Cluster(None) => "all namespaces".into(),
        Place::Folder(folder) => format!("folder {}", plain(folder)),
    };
    let what = match &state.page {
        Page::List => format!("sorted by {}", state.sort.name()),
        Page::Parent { parent, .. } => parent_title(state, parent),
        Page::Text { title, .. } => title.clone(),
        Page::Confirm { claim, .. } => format!("{}/{}", claim.kind.name(), claim.name),
    };
    let left = format!("koncli top · {place} · {what}");
    let at = now.strftime("%H:%M:%SZ").to_string();
    // What is too long gives way to the time.
    let room = usize::from(width).saturating_sub(at.len() + 1);
    let left: String = plain(&left).chars().take(room).collect();
    let gap = " ".repeat(room + 1 - left.chars().count());
    Line::styled(format!("{left}{gap}{at}"), paint.head())
}

fn parent_title(state: &State, parent: &Id) -> String {
    let Row { used, of, waiting, state: word, .. } = state.row(parent);
    format!("{}/{} {word}, {used} of {of} in use, {waiting} waiting", parent.kind.name(), parent.name)
}

fn keys(state: &State, paint: Paint) -> Line<'static> {
    if let Some((notice, _)) = &state.notice {
        return Line::styled(plain(notice), paint.busy());
    }
    if state.typing {
        return Line::from(format!("filter: {}█  (Enter keeps it, Esc drops it)", state.filter));
    }
    let text = match &state.page {
        Page::List if !state.filter.is_empty() => {
            return Line::from(format!("filter: {}  (/ changes it, Esc drops it)", state.filter));
        }
        Page::List => "↑↓ choose  Enter look into it  w why  / filter  s sort  q quit",
        Page::Parent { .. } => "↑↓ choose  Enter why this claim  w why all  r revoke  Esc back  q quit",
        Page::Text { .. } => "↑↓ PgUp PgDn scroll  Esc back  q quit",
        Page::Confirm { .. } => "y revoke  any other key: no",
    };
    Line::styled(text, Paint::dim())
}

/// A bar of [`BAR`] columns.
fn bar(used: u64, of: u64) -> String {
    let full = usize::from(percent(used, of)) * BAR / 100;
    // Something is never nothing.
    let full = if used > 0 { full.max(1) } else { 0 };
    format!("{}{}", "█".repeat(full), "░".repeat(BAR - full))
}

/// The last samples, as many as fit.
pub(super) fn sparkline(samples: impl Iterator<Item = u8>, width: usize) -> String {
    let samples: Vec<_> = samples.collect();
    let shown = &samples[samples.len().saturating_sub(width)..];
    shown.iter().map(|percent| EIGHTHS[usize::from(*percent) * (EIGHTHS.len() - 1) / 100]).collect()
}

fn age(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map(|at| span(now.duration_since(at).as_secs())).unwrap_or_default()
}

fn list(frame: &mut Frame<'_>, area: Rect, state: &State, now: Timestamp, paint: Paint) {
    let rows = state.rows();
    if rows.is_empty() && state.is_complete() {
        let nothing = if state.trouble().is_some() {
            "Nothing is known of what there is."
        } else if state.filter.is_empty() {
            "There are no semaphores, leases, barriers or gates here: koncli semaphore create NAME --permits N makes one."
        } else {
            "Nothing here has that in its name, state or holders."
        };
        frame.render_widget(Paragraph::new(nothing).wrap(Wrap { trim: true }), area);
        return;
    }
    let chosen = state.chosen(&rows);
    // What 80 columns leave is for the last minutes, and half of what there is beyond; names take the other half.
    let history = usize::from(11 + area.width.saturating_sub(80) / 2).min(SAMPLES);
    let one = |row: &Row| {
        let name = match &state.place {
            Place::Cluster(Some(_)) | Place::Folder(_) => row.id.name.clone(),
            Place::Cluster(None) => format!("{}/{}", row.id.namespace, row.id.name),
        };
        let style = if row.is_odd {
            paint.bad()
        } else if row.of > 0 && row.used >= row.of && matches!(row.id.kind, Kind::Semaphore | Kind::Lease) {
            paint.busy()
        } else {
            paint.good()
        };
        let waiting = if row.waiting > 0 { row.waiting.to_string() } else { String::new() };
        let stands = match &row.holder {
            Some(holder) if row.id.kind == Kind::Lease => plain(holder),
            _ => row.state.to_owned(),
        };
        TableRow::new([
            Cell::from(row.id.kind.name()),
            Cell::from(name),
            Cell::from(Line::from(vec![
                Span::styled(bar(row.used, row.of), style),
                Span::from(format!(" {}/{}", row.used, row.of)),
            ])),
            Cell::from(Line::from(waiting).right_aligned()),
            Cell::styled_from(stands, style),
            Cell::from(age(row.since, now)),
            Cell::from(sparkline(state.history(&row.id), history)),
        ])
    };
    let widths = [
        Constraint::Length(9),
        Constraint::Fill(1),
        Constraint::Length(18),
        Constraint::Length(5),
        Constraint::Length(10),
        Constraint::Length(6),
        Constraint::Length(history as u16),
    ];
    let head = TableRow::new(["KIND", "NAME", "USE", " WAIT", "STATE", "FOR", "LAST 5m"]).style(paint.head());
    let table = Table::new(rows.iter().map(one), widths).header(head).row_highlight_style(Paint::chosen());
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(Some(chosen)));
}

fn claims(
    frame: &mut Frame<'_>,
    area: Rect,
    state: &State,
    parent: &Id,
    chosen: Option<&str>,
    now: Timestamp,
    paint: Paint,
) {
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let width = usize::from(area.width.saturating_sub(10));
    let history = sparkline(state.history(parent), width);
    frame.render_widget(Line::from(format!("last 5m   {history}")), head);
    let claims = state.claims(parent);
    if claims.is_empty() {
        frame.render_widget(Paragraph::new("Nobody holds it, and nobody waits."), body);
        return;
    }
    let at = claims.iter().position(|claim| Some(claim.metadata.name.as_str()) == chosen).unwrap_or(0);
    let holders = claims.iter().filter(|claim| claim.holds()).count();
    let wide = area.width >= WIDE;
    let one = |(index, claim): (usize, &&Claim)| {
        let (stands, style) = match claim.status.phase {
            Some(ClaimPhase::Granted) => ("holds".to_owned(), paint.good()),
            Some(ClaimPhase::Revoking) => ("ends".to_owned(), paint.bad()),
            _ => (format!("waits {}", index + 1 - holders), paint.busy()),
        };
        let since = if claim.holds() { acquired(claim) } else { created(claim) };
        let renewed = claim.renewed().filter(|_| claim.holds());
        let cells = vec![
            Cell::styled_from(stands, style),
            Cell::from(plain(&claim.spec.holder)),
            Cell::from(Line::from(claim.permits.to_string()).right_aligned()),
            Cell::from(age(since, now)),
            Cell::from(age(renewed, now)),
            Cell::from(expires(claim, now)),
            Cell::from(Line::from(claim.spec.priority.to_string()).right_aligned()),
        ];
        let pod = claim
            .spec
            .pod
            .as_ref()
            .map(|pod| if pod.is_whole() { pod.name.clone() } else { format!("{}/{}", pod.name, pod.container) });
        let pod = wide.then(|| Cell::from(plain(&pod.unwrap_or_default())));
        TableRow::new(cells.into_iter().chain(pod))
    };
    let mut widths = vec![
        Constraint::Length(10),
        Constraint::Fill(1),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(8),
    ];
    let mut names = vec!["STATE", "HOLDER", "PERMITS", "FOR", "RENEWED", "EXPIRES IN", "PRIORITY"];
    if wide {
        widths.push(Constraint::Fill(1));
        names.push("POD");
    }
    let head = TableRow::new(names).style(paint.head());
    let table =
        Table::new(claims.iter().enumerate().map(one), widths).header(head).row_highlight_style(Paint::chosen());
    frame.render_stateful_widget(table, body, &mut TableState::new().with_selected(Some(at)));
}

fn created(claim: &Claim) -> Option<Timestamp> {
    Timestamp::from_second(claim.metadata.created).ok()
}

/// How long until it would expire were it not renewed.
fn expires(claim: &Claim, now: Timestamp) -> String {
    let ends = claim.renewed().max(acquired(claim)).zip(claim.status.ttl).filter(|_| claim.holds());
    let ends = ends.and_then(|(at, ttl)| at.checked_add(ttl.0).ok());
    ends.map(|ends| span(ends.duration_since(now).as_secs())).unwrap_or_default()
}

fn text(frame: &mut Frame<'_>, area: Rect, lines: &[String], top: usize) {
    if lines.is_empty() {
        frame.render_widget(Paragraph::new("reading what bears on it ..."), area);
        return;
    }
    let lines: Vec<_> = lines.iter().skip(top).map(|line| Line::from(line.as_str())).collect();
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

fn confirm(frame: &mut Frame<'_>, area: Rect, claim: &Id, holder: &str, paint: Paint) {
    let question = format!(
        "Revoke {}/{} of {}? Its holder is asked to end; until it has, or its TTL has passed, it still counts as held. \
         One that waits is refused.",
        claim.kind.name(),
        claim.name,
        plain(holder)
    );
    let width = area.width.min(64);
    let height = area.height.min(7);
    let at = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, at);
    let block = ratatui::widgets::Block::bordered().title(" Are you sure? ").style(paint.busy());
    let lines = vec![Line::from(question), Line::from(""), Line::from("y: revoke    any other key: no")];
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: true }).block(block), at);
}

/// A cell in a style.
trait Styled {
    fn styled_from(text: String, style: Style) -> Self;
}

impl Styled for Cell<'static> {
    fn styled_from(text: String, style: Style) -> Self {
        Self::from(Span::styled(text, style))
    }
}
