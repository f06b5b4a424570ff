//! What Redis answered: the bytes as they came, and a note of where each part of them stands. No I/O.
//!
//! ```text
//! +<text>\r\n   -<code> <reason>\r\n   :<number>\r\n   $<bytes>\r\n<bulk>\r\n   $-1\r\n
//! *<items>\r\n then each of them   *-1\r\n
//! ```
//! An hour of rows has some ten thousand names and values. Each is read where it lies: a tree of values,
//! with an allocation for each, costs several times what all the rest of a visit of the keeper does.
//!
//! What comes is hostile until it is parsed: a length is a promise that takes no memory, lists go so deep
//! and no deeper, and all of it has an end.

use crate::resp::Unreadable;

/// The longest line: a word, a number, a refusal.
const MOST_LINE_BYTES: usize = 64 * 1024;
/// All answers to what is asked at once. The largest is a page of rows or of blocks.
const MOST_BYTES: usize = 512 * 1024 * 1024;
/// Lists within lists. Rows within a range within a transaction are four.
const MOST_DEPTH: usize = 16;

/// Answers, one for each command.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    /// Where each answer begins in `parts`.
    begins: Vec<usize>,
    /// The lists that are not whole yet, the innermost last.
    open: Vec<Open>,
    /// Up to where the bytes have their parts.
    noted: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Number,
    Bulk,
    Nil,
    List,
}

/// One part: an answer, or something in a list.
#[derive(Debug, Clone, Copy)]
struct Part {
    kind: Kind,
    /// Where its bytes begin.
    start: u32,
    /// How many they are; of a list how many items it has.
    length: u32,
    /// The part after it and all that is in it.
    next: u32,
}

#[derive(Debug)]
struct Open {
    part: usize,
    missing: u32,
}

impl Answers {
    /// Where the bytes go that come next.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Notes what has come. Tells whether `count` answers are there, and nothing else.
    ///
    /// # Errors
    /// It is nothing that Redis answers.
    pub(crate) fn note(&mut self, count: usize) -> Result<bool, Unreadable> {
        while self.begins.len() < count || !self.open.is_empty() {
            let Some((part, noted)) = part(&self.bytes, self.noted)? else {
                return if self.bytes.len() > MOST_BYTES {
                    Err(Unreadable)
                } else {
                    Ok(false)
                };
            };
            self.noted = noted;
            self.push(part)?;
        }
        if self.noted == self.bytes.len() {
            Ok(true)
        } else {
            Err(Unreadable)
        }
    }

    fn push(&mut self, mut part: Part) -> Result<(), Unreadable> {
        if self.open.is_empty() {
            self.begins.push(self.parts.len());
        }
        let place = self.parts.len();
        part.next = index(place + 1)?;
        self.parts.push(part);
        if part.kind == Kind::List && part.length > 0 {
            if self.open.len() >= MOST_DEPTH {
                return Err(Unreadable);
            }
            self.open.push(Open {
                part: place,
                missing: part.length,
            });
            return Ok(());
        }
        // The last item of a list makes it whole, and that perhaps the one around it.
        while let Some(list) = self.open.last_mut() {
            list.missing -= 1;
            if list.missing > 0 {
                break;
            }
            self.parts[list.part].next = index(self.parts.len())?;
            self.open.pop();
        }
        Ok(())
    }

    /// Leaves the first `count` answers out.
    pub(crate) fn skip(&mut self, count: usize) {
        self.begins.drain(..count.min(self.begins.len()));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.begins.len()
    }

    /// The answer number `index`, counted from 0. One that is not there is nil.
    pub(crate) fn get(&self, index: usize) -> Answer<'_> {
        let part = self.begins.get(index).copied();
        Answer {
            all: self,
            part: part.unwrap_or(usize::MAX),
        }
    }

    /// The last answer; nil when there is none.
    pub(crate) fn last(&self) -> Answer<'_> {
        self.get(self.len().wrapping_sub(1))
    }

    /// All answers in turn.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Answer<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// An answer, or something in a list.
#[derive(Clone, Copy)]
pub(crate) struct Answer<'a> {
    all: &'a Answers,
    part: usize,
}

impl<'a> Answer<'a> {
    fn part(self) -> Option<&'a Part> {
        self.all.parts.get(self.part)
    }

    fn bytes_of(self, kinds: &[Kind]) -> Option<&'a [u8]> {
        let part = self.part().filter(|part| kinds.contains(&part.kind))?;
        let start = part.start as usize;
        self.all.bytes.get(start..start + part.length as usize)
    }

    /// Its bytes, when it is a bulk.
    pub(crate) fn bulk(self) -> Option<&'a [u8]> {
        self.bytes_of(&[Kind::Bulk])
    }

    /// Its bytes, when it is a bulk or a word.
    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        self.bytes_of(&[Kind::Bulk, Kind::Text])
    }

    /// Its text, when it is one.
    pub(crate) fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// Its number, when it is one.
    pub(crate) fn number(self) -> Option<i64> {
        number(self.bytes_of(&[Kind::Number])?)
    }

    /// The code and the reason, when it is a refusal.
    pub(crate) fn refusal(self) -> Option<&'a str> {
        let bytes = self.bytes_of(&[Kind::Refusal])?;
        Some(std::str::from_utf8(bytes).unwrap_or("unreadable"))
    }

    /// There is nothing.
    pub(crate) fn is_nil(self) -> bool {
        self.part().is_none_or(|part| part.kind == Kind::Nil)
    }

    /// Its items, when it is a list.
    pub(crate) fn list(self) -> Option<List<'a>> {
        let part = self.part().filter(|part| part.kind == Kind::List)?;
        Some(List {
            all: self.all,
            next: self.part + 1,
            left: part.length as usize,
        })
    }

    /// Its items; none when it is no list.
    pub(crate) fn items(self) -> List<'a> {
        self.list().unwrap_or(List {
            all: self.all,
            next: 0,
            left: 0,
        })
    }

    /// Its items, when it is a list of two.
    pub(crate) fn pair(self) -> Option<(Self, Self)> {
        let mut items = self.list().filter(|items| items.len() == 2)?;
        items.next().zip(items.next())
    }
}

impl std::fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.list() {
            Some(items) => f.debug_list().entries(items).finish(),
            None => write!(f, "{:?}", self.part()),
        }
    }
}

/// The items of a list, in turn.
#[derive(Clone, Copy)]
pub(crate) struct List<'a> {
    all: &'a Answers,
    next: usize,
    left: usize,
}

impl<'a> List<'a> {
    /// The first one.
    pub(crate) fn first(mut self) -> Option<Answer<'a>> {
        self.next()
    }

    /// Tells whether there are none.
    pub(crate) fn is_empty(self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for List<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        self.left = self.left.checked_sub(1)?;
        let answer = Answer {
            all: self.all,
            part: self.next,
        };
        self.next = answer.part()?.next as usize;
        Some(answer)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for List<'_> {}

/// Reads the part that begins at `at`, but not what is in it. Gives it and where the next one begins;
/// `None` when not all of it is there.
fn part(bytes: &[u8], at: usize) -> Result<Option<(Part, usize)>, Unreadable> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some((sign, rest)) = rest.split_first() else {
        return Ok(None);
    };
    if !b"+-:$*".contains(sign) {
        return Err(Unreadable);
    }
    let Some(line) = line(rest)? else {
        return Ok(None);
    };
    let (start, next) = (at + 1, at + 1 + line.len() + 2);
    let (kind, start, length, next) = match (sign, line) {
        (b'+', _) => (Kind::Text, start, line.len(), next),
        (b'-', _) => (Kind::Refusal, start, line.len(), next),
        (b':', _) => {
            number(line).ok_or(Unreadable)?;
            (Kind::Number, start, line.len(), next)
        }
        (b'$' | b'*', b"-1") => (Kind::Nil, start, 0, next),
        (b'$', _) => {
            let length = length(line)?;
            let end = next + length;
            match bytes.get(end..end + 2) {
                Some(b"\r\n") => (Kind::Bulk, next, length, end + 2),
                Some(_) => return Err(Unreadable),
                None => return Ok(None),
            }
        }
        (b'*', _) => (Kind::List, start, length(line)?, next),
        _ => return Err(Unreadable),
    };
    let part = Part {
        kind,
        start: index(start)?,
        length: index(length)?,
        next: 0,
    };
    Ok(Some((part, next)))
}

/// The line that `bytes` begin with, without its end; `None` when that is not there.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, Unreadable> {
    let within = &bytes[..bytes.len().min(MOST_LINE_BYTES)];
    let mut from = 0;
    while let Some(at) = within[from..].iter().position(|byte| *byte == b'\r') {
        let end = from + at;
        match bytes.get(end + 1) {
            Some(b'\n') => return Ok(Some(&bytes[..end])),
            Some(_) => from = end + 1,
            None => return Ok(None),
        }
    }
    if within.len() == MOST_LINE_BYTES {
        Err(Unreadable)
    } else {
        Ok(None)
    }
}

/// How long a bulk or a list is.
fn length(line: &[u8]) -> Result<usize, Unreadable> {
    if line.is_empty() || line.len() > 10 {
        return Err(Unreadable);
    }
    let mut length = 0;
    for byte in line {
        if !byte.is_ascii_digit() {
            return Err(Unreadable);
        }
        length = 10 * length + usize::from(byte - b'0');
    }
    if length > MOST_BYTES {
        return Err(Unreadable);
    }
    Ok(length)
}

fn number(line: &[u8]) -> Option<i64> {
    std::str::from_utf8(line).ok()?.parse().ok()
}

fn index(place: usize) -> Result<u32, Unreadable> {
    u32::try_from(place).map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests;
