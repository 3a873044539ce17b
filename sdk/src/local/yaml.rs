//! From YAML to a tree that knows its lines. Whatever the text is, it is read or refused, in time and memory that grow
//! with its length only: nesting is bounded, and there are no aliases to multiply anything.

use std::collections::HashSet;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::limits;

/// One value and the line on which it begins, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The line on which it begins.
    pub line: usize,
    /// What it is.
    pub value: Value,
}

/// What a [`Node`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text, and whether it stands there without quotes, so that YAML could take it for something else.
    Scalar {
        /// What stands there, without quotes.
        text: String,
        /// Whether it stands there without quotes.
        plain: bool,
    },
    /// Values in their order.
    List(Vec<Node>),
    /// Keys are unique.
    Map(Vec<Field>),
}

/// A name in a mapping, and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The line of the name.
    pub line: usize,
    /// The name.
    pub name: String,
    /// What it stands for.
    pub node: Node,
}

/// What is wrong, and on which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl Mistake {
    /// This is wrong on that line.
    pub fn new(line: usize, what: impl Into<String>) -> Self {
        Self { line, what: what.into() }
    }
}

/// All documents of a text that are not empty.
///
/// # Errors
///
/// If it is no YAML, or has something that is not read here: aliases, tags, a name that is there twice, deep nesting.
pub fn documents(text: &str) -> Result<Vec<Node>, Mistake> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let mut all = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd, _) => {}
            (Event::StreamEnd, _) => return Ok(all),
            (event, line) => {
                let node = reader.node(event, line, 0)?;
                if !node.is_empty() {
                    all.push(node);
                }
            }
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), Mistake> {
        loop {
            match self.parser.next_event() {
                None => return Ok((Event::StreamEnd, 0)),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok((event, Span { start, .. }))) => return Ok((event, start.line())),
                Some(Err(error)) => return Err(Mistake::new(error.marker().line(), error.info())),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, line: usize, depth: usize) -> Result<Node, Mistake> {
        if depth > limits::DEPTH {
            return Err(Mistake::new(line, "nested too deeply"));
        }
        let value = match event {
            Event::Scalar(text, style, _, tag) => {
                if tag.is_some() {
                    return Err(Mistake::new(line, "tags are not understood here: write the value without one"));
                }
                Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => {
                let mut all = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, line) => all.push(self.node(event, line, depth + 1)?),
                    }
                }
                Value::List(all)
            }
            Event::MappingStart(..) => Value::Map(self.fields(depth)?),
            Event::Alias(_) => return Err(Mistake::new(line, "aliases are not understood here: write the value out")),
            _ => return Err(Mistake::new(line, "a value is missing")),
        };
        Ok(Node { line, value })
    }

    fn fields(&mut self, depth: usize) -> Result<Vec<Field>, Mistake> {
        let (mut fields, mut names) = (Vec::new(), HashSet::new());
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(fields);
            }
            let Value::Scalar { text: name, .. } = self.node(event, line, depth + 1)?.value else {
                return Err(Mistake::new(line, "a field's name must be a text"));
            };
            if !names.insert(name.clone()) {
                return Err(Mistake::new(line, format!("field {name} is there twice")));
            }
            let (event, value_line) = self.next()?;
            let node = self.node(event, value_line, depth + 1)?;
            fields.push(Field { line, name, node });
        }
    }
}

impl Node {
    /// Nothing, or what YAML calls null.
    pub fn is_empty(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if ["", "~", "null", "Null", "NULL"].contains(&text.as_str()))
    }

    /// A text: in quotes, or not to be mistaken for anything else by any reader of YAML.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, plain } if !plain || !is_special(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number in decimal digits, which all readers of YAML take for the same one; also where a fraction of zero
    /// or an exponent of ten is written out, as in `3.0`, which is the same number in JSON.
    pub fn number(&self) -> Option<u64> {
        match &self.value {
            Value::Scalar { text, plain: true } => whole(text),
            _ => None,
        }
    }

    /// As shown to people.
    pub fn shown(&self) -> String {
        match &self.value {
            Value::Scalar { text, .. } => format!("{:?}", text.chars().take(60).collect::<String>()),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// The largest number below which a floating-point number is one whole number and no other.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn whole(text: &str) -> Option<u64> {
    let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let bytes = text.as_bytes();
    // To some readers, digits after a zero are octal.
    if !is_digit(bytes.first()) || (bytes[0] == b'0' && is_digit(bytes.get(1))) {
        return None;
    }
    text.parse().ok().or_else(|| {
        let is_plain = bytes.iter().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(byte));
        let number = text.parse::<f64>().ok().filter(|_| is_plain)?;
        (number.fract() == 0.0 && (0.0..EXACT).contains(&number)).then_some(number as u64)
    })
}

/// Whether some reader of YAML 1.1 or 1.2 takes this, unquoted, for something else than a text.
fn is_special(text: &str) -> bool {
    let words = ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && (text.parse::<f64>().is_ok() || text.starts_with("0x") || text.starts_with("0o"));
    number || words.contains(&text.to_ascii_lowercase().as_str())
}
