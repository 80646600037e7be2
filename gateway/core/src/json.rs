//! JSON values for what crosses the border to Python now and then (cards, rules, memories). Samples have a scanner of
//! their own (`sample.rs`).

use std::fmt::Write as _;

/// A JSON value. Whole numbers stay whole, as Python tells `1` from `1.0`. Maps keep their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Num(f64),
    Text(String),
    List(Vec<Json>),
    Map(Vec<(String, Json)>),
}

impl Json {
    /// The value under `key` of a map; `Null` where there is none.
    pub fn get(&self, key: &str) -> &Json {
        if let Json::Map(pairs) = self {
            if let Some((_, value)) = pairs.iter().find(|(name, _)| name == key) {
                return value;
            }
        }
        &Json::Null
    }

    /// A number as a float; nan where it is none.
    pub fn num(&self) -> f64 {
        match self {
            Json::Int(whole) => *whole as f64,
            Json::Num(number) => *number,
            _ => f64::NAN,
        }
    }

    /// A whole number; None where it is none.
    pub fn int(&self) -> Option<i64> {
        match self {
            Json::Int(whole) => Some(*whole),
            Json::Num(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(*number as i64),
            _ => None,
        }
    }

    /// True only for `true`.
    pub fn truth(&self) -> bool {
        *self == Json::Bool(true)
    }

    /// A string; empty where it is none.
    pub fn text(&self) -> &str {
        match self {
            Json::Text(text) => text,
            _ => "",
        }
    }

    /// The items of a list; none where it is no list.
    pub fn items(&self) -> &[Json] {
        match self {
            Json::List(items) => items,
            _ => &[],
        }
    }

    /// The pairs of a map; none where it is no map.
    pub fn pairs(&self) -> &[(String, Json)] {
        match self {
            Json::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// An optional whole number.
    pub fn of(whole: Option<i64>) -> Json {
        whole.map_or(Json::Null, Json::Int)
    }

    /// Append the value as JSON text; what is not finite becomes `null`.
    pub fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(true) => out.push_str("true"),
            Json::Bool(false) => out.push_str("false"),
            Json::Int(whole) => {
                let _ = write!(out, "{whole}");
            }
            Json::Num(number) if number.is_finite() => {
                let _ = write!(out, "{number:?}");
            }
            Json::Num(_) => out.push_str("null"),
            Json::Text(text) => write_text(text, out),
            Json::List(items) => {
                out.push('[');
                for (nth, item) in items.iter().enumerate() {
                    if nth > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Json::Map(pairs) => {
                out.push('{');
                for (nth, (key, value)) in pairs.iter().enumerate() {
                    if nth > 0 {
                        out.push(',');
                    }
                    write_text(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// Read a whole JSON text; None where it is none.
    pub fn parse(text: &[u8]) -> Option<Json> {
        let mut reader = Reader { text, at: 0, depth: 0 };
        let value = reader.value()?;
        reader.space();
        (reader.at == text.len()).then_some(value)
    }
}

/// Append `text` as a JSON string.
pub fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if (control as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

const DEEPEST: usize = 64;

impl Reader<'_> {
    fn space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Option<Json> {
        self.text[self.at..].starts_with(word.as_bytes()).then(|| {
            self.at += word.len();
            value
        })
    }

    fn value(&mut self) -> Option<Json> {
        self.space();
        match *self.text.get(self.at)? {
            b'n' => self.word("null", Json::Null),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'"' => self.string().map(Json::Text),
            b'[' => self.list(),
            b'{' => self.map(),
            _ => self.number(),
        }
    }

    fn number(&mut self) -> Option<Json> {
        let begin = self.at;
        while matches!(self.text.get(self.at), Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let said = std::str::from_utf8(&self.text[begin..self.at]).ok()?;
        if !said.contains(['.', 'e', 'E']) {
            if let Ok(whole) = said.parse::<i64>() {
                return Some(Json::Int(whole));
            }
        }
        said.parse::<f64>().ok().map(Json::Num)
    }

    fn string(&mut self) -> Option<String> {
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let byte = *self.text.get(self.at)?;
            self.at += 1;
            match byte {
                b'"' => return String::from_utf8(bytes).ok(),
                b'\\' => {
                    let escape = *self.text.get(self.at)?;
                    self.at += 1;
                    let letter = match escape {
                        b'"' | b'\\' | b'/' => escape as char,
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => self.escaped()?,
                        _ => return None,
                    };
                    bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                }
                other => bytes.push(other),
            }
        }
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = std::str::from_utf8(self.text.get(self.at..self.at + 4)?).ok()?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    fn escaped(&mut self) -> Option<char> {
        let high = self.hex()?;
        if !(0xd800..0xdc00).contains(&high) {
            return char::from_u32(high);
        }
        if self.text.get(self.at..self.at + 2)? != b"\\u" {
            return None;
        }
        self.at += 2;
        let low = self.hex()?;
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + low.checked_sub(0xdc00)?)
    }

    fn list(&mut self) -> Option<Json> {
        self.at += 1;
        self.depth += 1;
        let mut items = Vec::new();
        self.space();
        if self.text.get(self.at) == Some(&b']') {
            self.at += 1;
            self.depth -= 1;
            return Some(Json::List(items));
        }
        while self.depth < DEEPEST {
            items.push(self.value()?);
            self.space();
            self.at += 1;
            match *self.text.get(self.at - 1)? {
                b',' => {}
                b']' => {
                    self.depth -= 1;
                    return Some(Json::List(items));
                }
                _ => return None,
            }
        }
        None
    }

    fn map(&mut self) -> Option<Json> {
        self.at += 1;
        self.depth += 1;
        let mut pairs = Vec::new();
        self.space();
        if self.text.get(self.at) == Some(&b'}') {
            self.at += 1;
            self.depth -= 1;
            return Some(Json::Map(pairs));
        }
        while self.depth < DEEPEST {
            self.space();
            if self.text.get(self.at) != Some(&b'"') {
                return None;
            }
            let key = self.string()?;
            self.space();
            if self.text.get(self.at) != Some(&b':') {
                return None;
            }
            self.at += 1;
            pairs.push((key, self.value()?));
            self.space();
            self.at += 1;
            match *self.text.get(self.at - 1)? {
                b',' => {}
                b'}' => {
                    self.depth -= 1;
                    return Some(Json::Map(pairs));
                }
                _ => return None,
            }
        }
        None
    }
}
