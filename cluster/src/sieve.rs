//! Keeps of an API server's answer what is read, while it comes in.
//!
//! What others store in their objects is theirs to choose: a page of a list can have hundreds of megabytes. So answers
//! are never held as a whole. This takes them apart byte by byte: into objects, without managed fields and annotations
//! that nobody reads, and what stands around them. An object that is too long all the same is kept up to a limit.
//!
//! It looks for the structure of JSON only as far as that takes. Whether a text is JSON is for its reader to tell.

use crate::object::ANNOTATIONS;

/// Bytes of one object that are kept. More than etcd stores of one (1.5 MB); only specs and statuses that are written
/// out longer than they are stored can exceed it.
const OBJECT: usize = 4 << 20;

/// Bytes that are kept of what stands around the objects, or instead of them: a version, a token, or an error and its
/// reason.
const FRAME: usize = 256 << 10;

/// Levels of nesting at which names of members matter: those of a list, its items, and an object's metadata and
/// annotations.
const LEVELS: usize = 6;

/// Bytes of a member's name that are looked at: more than the longest that is looked for.
const NAME: usize = 64;

/// The member of metadata that nobody reads.
const UNREAD: &[u8] = b"managedFields";

/// Where the objects are in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The answer is one.
    Single,
    /// In its member `items`.
    List,
    /// In the member `object` of each of many answers, one after another.
    Events,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An object.
    Object(Text),
    /// What stood around the objects: they are left out of it.
    Frame(Text),
}

/// A piece of JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    /// What was kept.
    pub(crate) json: String,
    /// Whether that is not all.
    pub(crate) is_cut: bool,
}

/// Where the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    Frame,
    Object,
}

#[derive(Debug)]
enum State {
    /// Between tokens, or in a number or word.
    Open,
    /// In a string; whether the next byte is escaped.
    String { escaped: bool },
}

/// Takes answers apart.
#[derive(Debug)]
pub(crate) struct Sieve {
    layout: Layout,
    state: State,
    /// Containers that are open.
    depth: usize,
    levels: [Level; LEVELS],
    /// Whether the next string is the name of a member.
    name_next: bool,
    /// The depth at which a value is being left out.
    skipping: Option<usize>,
    sink: Sink,
    frame: Buffer,
    object: Buffer,
}

/// An open container.
#[derive(Clone, Debug, Default)]
struct Level {
    is_object: bool,
    /// The name of the member that was begun last.
    name: Vec<u8>,
}

#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    limit: usize,
    is_cut: bool,
}

impl Buffer {
    fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, is_cut: false }
    }

    fn push(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(self.limit - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.is_cut |= kept < bytes.len();
    }

    fn take(&mut self) -> Text {
        let bytes = std::mem::take(&mut self.bytes);
        let json = String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into());
        Text { json, is_cut: std::mem::take(&mut self.is_cut) }
    }
}

impl Sieve {
    /// For answers of this layout.
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            state: State::Open,
            depth: 0,
            levels: Default::default(),
            name_next: false,
            skipping: None,
            sink: if layout == Layout::Single { Sink::Object } else { Sink::Frame },
            frame: Buffer::new(FRAME),
            object: Buffer::new(OBJECT),
        }
    }

    /// Takes in the next bytes. Tells `found` what they complete.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut found: impl FnMut(Found)) {
        while let Some(&byte) = bytes.first() {
            let taken = match self.state {
                State::String { escaped: true } => {
                    self.in_string(&bytes[..1]);
                    self.state = State::String { escaped: false };
                    1
                }
                State::String { escaped: false } => {
                    let plain = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(bytes.len());
                    self.in_string(&bytes[..plain]);
                    if let Some(&end) = bytes.get(plain) {
                        self.end_of_run(end);
                    }
                    (plain + 1).min(bytes.len())
                }
                State::Open => {
                    self.open(byte, &mut found);
                    1
                }
            };
            bytes = &bytes[taken..];
        }
    }

    /// The answer has ended: what is left of it, complete or not.
    pub(crate) fn finish(mut self) -> Text {
        match self.layout {
            Layout::Single => self.object.take(),
            Layout::List | Layout::Events => self.frame.take(),
        }
    }

    fn emit(&mut self, bytes: &[u8]) {
        if self.skipping.is_none() {
            self.buffer().push(bytes);
        }
    }

    fn buffer(&mut self) -> &mut Buffer {
        match self.sink {
            Sink::Frame => &mut self.frame,
            Sink::Object => &mut self.object,
        }
    }

    fn in_string(&mut self, bytes: &[u8]) {
        self.emit(bytes);
        if self.name_next && self.depth < LEVELS {
            let name = &mut self.levels[self.depth].name;
            let kept = bytes.len().min(NAME - name.len());
            name.extend_from_slice(&bytes[..kept]);
        }
    }

    /// A quote or a backslash in a string.
    fn end_of_run(&mut self, byte: u8) {
        if byte == b'\\' {
            self.in_string(&[byte]);
            self.state = State::String { escaped: true };
        } else {
            self.emit(&[byte]);
            self.name_next = false;
            self.state = State::Open;
        }
    }

    /// A byte outside of strings.
    fn open(&mut self, byte: u8, found: &mut impl FnMut(Found)) {
        let ends_value = matches!(byte, b',' | b'}' | b']');
        if ends_value && self.skipping == Some(self.depth) {
            self.skipping = None;
        }
        if ends_value && self.sink == Sink::Object && self.depth == self.outside() && self.layout != Layout::Single {
            self.sink = Sink::Frame;
            found(Found::Object(self.object.take()));
        }
        let in_items = self.is_in_items();
        match byte {
            // Nothing of what is between objects is needed.
            b',' if in_items => return,
            b' ' | b'\t' | b'\r' | b'\n' if in_items || self.depth == 0 => return,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ if in_items => self.sink = Sink::Object,
            _ => {}
        }
        self.emit(&[byte]);
        match byte {
            b'{' | b'[' => {
                self.depth += 1;
                self.name_next = byte == b'{';
                if let Some(level) = self.levels.get_mut(self.depth) {
                    level.is_object = byte == b'{';
                    level.name.clear();
                }
            }
            b',' => {
                if let Some(level) = self.levels.get_mut(self.depth) {
                    self.name_next = level.is_object;
                    level.name.clear();
                }
            }
            b':' => self.value_begins(),
            b'"' => self.state = State::String { escaped: false },
            b'}' | b']' => {
                self.name_next = false;
                if self.depth == 0 && self.layout == Layout::Events {
                    found(Found::Frame(self.frame.take()));
                }
            }
            _ => {}
        }
    }

    /// A colon: what follows is the value of the member that was named.
    fn value_begins(&mut self) {
        self.name_next = false;
        if self.skipping.is_some() {
            return;
        }
        if self.layout == Layout::Events && self.depth == 1 && self.levels[1].name == b"object" {
            self.emit(b"null");
            self.sink = Sink::Object;
        } else if self.is_unread() {
            self.emit(b"null");
            self.skipping = Some(self.depth);
        }
    }

    /// The depth around objects.
    fn outside(&self) -> usize {
        match self.layout {
            Layout::Single => 0,
            Layout::List => 2,
            Layout::Events => 1,
        }
    }

    /// Between the items of a list.
    fn is_in_items(&self) -> bool {
        self.layout == Layout::List
            && self.sink == Sink::Frame
            && self.depth == 2
            && !self.levels[2].is_object
            && self.levels[1].name == b"items"
    }

    /// Whether nobody reads the member of an object that was named last.
    fn is_unread(&self) -> bool {
        if self.sink == Sink::Frame || self.depth >= LEVELS {
            return false;
        }
        let path = self.levels.get(self.outside() + 1..=self.depth).unwrap_or_default();
        match path {
            [outer, inner] => outer.name == b"metadata" && inner.name == UNREAD,
            [outer, inner, innermost] => {
                let known = || ANNOTATIONS.iter().any(|known| known.as_bytes() == innermost.name);
                outer.name == b"metadata" && inner.name == b"annotations" && !known()
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};
    use serde_json::{Map, Value, json};

    use super::*;

    /// What is found in an answer that comes in these chunks, and what is left.
    fn sift(layout: Layout, chunks: &[&[u8]]) -> (Vec<Found>, Text) {
        let (mut sieve, mut found) = (Sieve::new(layout), Vec::new());
        for chunk in chunks {
            sieve.push(chunk, |piece| found.push(piece));
        }
        (found, sieve.finish())
    }

    /// The bytes in chunks that end at these places, counted from the start and around.
    fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
        let mut places: Vec<_> = places.iter().map(|place| place % (bytes.len() + 1)).collect();
        places.sort_unstable();
        let ends = places.iter().copied().chain([bytes.len()]);
        let starts = std::iter::once(0).chain(places.iter().copied());
        starts.zip(ends).map(|(start, end)| &bytes[start..end]).collect()
    }

    /// An object without what nobody reads.
    fn strip(mut object: Value) -> Value {
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        for (name, value) in metadata.into_iter().flatten() {
            if name.as_bytes() == UNREAD {
                *value = Value::Null;
            } else if name == "annotations" {
                for (name, value) in value.as_object_mut().into_iter().flatten() {
                    if !ANNOTATIONS.contains(&name.as_str()) {
                        *value = Value::Null;
                    }
                }
            }
        }
        object
    }

    fn value(text: &Text) -> Value {
        assert!(!text.is_cut);
        serde_json::from_str(&text.json).unwrap_or_else(|error| panic!("{error}: {}", text.json))
    }

    /// Names that mean something in one place or another, and names that look like the end of it.
    const NAMES: [&str; 14] = [
        "metadata",
        "annotations",
        "managedFields",
        "finalizers",
        "items",
        "object",
        "type",
        "spec",
        "konductor.io/revoke",
        "konductor.io/gates-from",
        "konductor.io/revoked",
        "a\"b\\",
        "{[",
        "",
    ];

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            select(vec!["\\", "\"", "\\\"", "}]", "\"items\":[", ",:{[", "\u{0}\n", "é…\u{10ffff}"])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 60, 6, |inner| {
            let member = (select(&NAMES[..]), inner.clone()).prop_map(|(name, value)| (name.to_owned(), value));
            prop_oneof![
                vec(inner, 0..5).prop_map(Value::from),
                vec(member, 0..6).prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// One of these, or with metadata where it belongs.
    fn any_object() -> impl Strategy<Value = Value> {
        prop_oneof![
            any_json(),
            (any_json(), any_json(), any_json()).prop_map(|(annotations, fields, spec)| json!({
                "metadata": {
                    "annotations": { "konductor.io/revoke": annotations, "other": annotations },
                    "finalizers": fields, "managedFields": fields, "name": "n",
                },
                "spec": spec,
            })),
        ]
    }

    fn write(value: &Value, pretty: bool) -> String {
        if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }.expect("JSON")
    }

    proptest! {
        #[test]
        fn a_list_is_its_items_and_its_frame(
            items in vec(any_object(), 0..6), other in any_json(), places in vec(any::<usize>(), 0..20),
            pretty: bool, version_first: bool,
        ) {
            let metadata = json!({ "resourceVersion": "7", "other": other });
            let items_text = write(&json!(items), pretty);
            let metadata_text = write(&metadata, pretty);
            let text = if version_first {
                format!(r#"{{"metadata":{metadata_text},"items":{items_text},"kind":"List"}}"#)
            } else {
                format!("{{ \"items\" : {items_text} ,\n\"metadata\" : {metadata_text}, \"kind\": \"List\" }}\n")
            };
            let (found, frame) = sift(Layout::List, &cut(text.as_bytes(), &places));
            let found: Vec<_> = found.iter().map(|found| match found {
                Found::Object(text) => value(text),
                Found::Frame(_) => panic!("a list has one frame, at its end"),
            }).collect();
            prop_assert_eq!(found, items.into_iter().map(strip).collect::<Vec<_>>());
            prop_assert_eq!(value(&frame), json!({ "metadata": metadata, "items": [], "kind": "List" }));
        }

        #[test]
        fn each_event_is_its_object_and_its_frame(
            objects in vec(any_object(), 0..6), places in vec(any::<usize>(), 0..20), pretty: bool, type_first: bool,
        ) {
            let events = objects.iter().map(|object| {
                let object = write(object, pretty);
                if type_first {
                    format!("{{\"type\":\"ADDED\",\"object\":{object}}}\n")
                } else {
                    format!("{{ \"object\" : {object} , \"type\" : \"ADDED\" }}")
                }
            });
            let text: String = events.collect();
            let (found, left) = sift(Layout::Events, &cut(text.as_bytes(), &places));
            let frame = json!({ "type": "ADDED", "object": null });
            let expected = objects.into_iter().flat_map(|object| [(false, strip(object)), (true, frame.clone())]);
            let found: Vec<_> = found.iter().map(|found| match found {
                Found::Object(text) => (false, value(text)),
                Found::Frame(text) => (true, value(text)),
            }).collect();
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
            prop_assert_eq!(left, Text::default());
        }

        #[test]
        fn a_single_object_is_itself(object in any_object(), places in vec(any::<usize>(), 0..20), pretty: bool) {
            let text = write(&object, pretty) + "\n";
            let (found, left) = sift(Layout::Single, &cut(text.as_bytes(), &places));
            prop_assert_eq!(found, Vec::new());
            prop_assert_eq!(value(&left), strip(object));
        }

        #[test]
        fn anything_else_is_taken_in_the_same_however_it_is_cut(
            bytes in prop_oneof![
                vec(any::<u8>(), 0..200),
                vec(select(&b"{}[]\",:\\ \n\"items\":[{\"object\":1"[..]), 0..200),
            ],
            places in vec(any::<usize>(), 0..20),
            layout in select(vec![Layout::Single, Layout::List, Layout::Events]),
        ) {
            prop_assert_eq!(sift(layout, &cut(&bytes, &places)), sift(layout, &[&bytes]));
        }
    }

    #[test]
    fn an_object_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let long = json!({ "metadata": { "name": "long" }, "spec": "x".repeat(OBJECT) });
        let text = json!({ "items": [long, { "metadata": { "name": "next" } }] }).to_string();
        let (found, _) = sift(Layout::List, &cut(text.as_bytes(), &[1000, OBJECT]));
        let [Found::Object(long), Found::Object(next)] = &found[..] else { panic!("{}", found.len()) };
        assert!(long.is_cut && long.json.len() == OBJECT && long.json.starts_with(r#"{"metadata":{"name":"long"},"#));
        assert_eq!(value(next), json!({ "metadata": { "name": "next" } }));
    }

    #[test]
    fn what_nobody_reads_is_never_held() {
        let mut sieve = Sieve::new(Layout::List);
        sieve.push(br#"{"items":[{"metadata":{"name":"a","annotations":{"other":""#, |_| ());
        for _ in 0..10_000 {
            sieve.push(br#"01234567890123456789\"]},{"#, |_| ());
        }
        assert!(sieve.object.bytes.len() < 100 && sieve.frame.bytes.len() < 100);
        let mut found = Vec::new();
        sieve.push(br#"","konductor.io/revoke":"b"}}}]}"#, |piece| found.push(piece));
        let [Found::Object(object)] = &found[..] else { panic!("{found:?}") };
        let annotations = json!({ "other": null, "konductor.io/revoke": "b" });
        assert_eq!(value(object), json!({ "metadata": { "name": "a", "annotations": annotations } }));
    }
}
