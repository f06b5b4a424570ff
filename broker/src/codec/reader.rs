//! Reads MQTT's field types (section 1.5 of both standards) from one frame.

use bytes::Bytes;
use bytestring::ByteString;

use super::error::DecodeError;

/// A place in a frame.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    at: usize,
}

const SHORT: DecodeError = DecodeError::Malformed("packet ends too early");

impl Reader {
    /// Begins at the start of `frame`.
    #[must_use]
    pub fn new(frame: Bytes) -> Self {
        Self { frame, at: 0 }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at >= self.frame.len()
    }

    fn take(&mut self, bytes: usize) -> Result<std::ops::Range<usize>, DecodeError> {
        let end = self
            .at
            .checked_add(bytes)
            .filter(|end| *end <= self.frame.len())
            .ok_or(SHORT)?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let range = self.take(N)?;
        self.frame[range].try_into().map_err(|_| SHORT)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A variable byte integer of 1 to 4 bytes, in its shortest form.
    pub fn variable(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::Malformed("integer not in its shortest form"));
                }
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed(
            "variable byte integer of more than 4 bytes",
        ))
    }

    /// A packet identifier.
    pub fn packet_id(&mut self) -> Result<u16, DecodeError> {
        match self.u16()? {
            0 => Err(DecodeError::Malformed("packet identifier 0")),
            id => Ok(id),
        }
    }

    /// Binary data with its length before it.
    pub fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let bytes = usize::from(self.u16()?);
        let range = self.take(bytes)?;
        Ok(self.frame.slice(range))
    }

    /// UTF-8 text with its length before it; no NUL, no surrogates, no overlong forms.
    pub fn text(&mut self) -> Result<ByteString, DecodeError> {
        let text = ByteString::try_from(self.binary()?)
            .map_err(|_| DecodeError::Malformed("text is not UTF-8"))?;
        if text.as_bytes().contains(&0) {
            return Err(DecodeError::Malformed("text with a NUL character"));
        }
        Ok(text)
    }

    /// The name of a topic to publish to: without wildcards. May be empty.
    pub fn topic_name(&mut self) -> Result<ByteString, DecodeError> {
        let topic = self.text()?;
        if topic
            .as_bytes()
            .iter()
            .any(|byte| matches!(byte, b'+' | b'#'))
        {
            return Err(DecodeError::TopicName);
        }
        Ok(topic)
    }

    /// A topic filter, well formed.
    pub fn topic_filter(&mut self) -> Result<ByteString, DecodeError> {
        let filter = self.text()?;
        if !hostbus_wire::pattern::is_filter(&filter) {
            return Err(DecodeError::TopicFilter);
        }
        Ok(filter)
    }

    /// A part of `bytes` bytes as a reader of its own.
    pub fn part(&mut self, bytes: usize) -> Result<Self, DecodeError> {
        let range = self.take(bytes)?;
        Ok(Self::new(self.frame.slice(range)))
    }

    /// All that is left.
    #[must_use]
    pub fn rest(self) -> Bytes {
        self.frame.slice(self.at..)
    }

    /// Where the reader stands, in bytes from the start.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The bytes from `start` to where the reader stands.
    #[must_use]
    pub fn since(&self, start: usize) -> &[u8] {
        &self.frame[start.min(self.at)..self.at]
    }

    /// The whole frame.
    #[must_use]
    pub fn whole(&self) -> Bytes {
        self.frame.clone()
    }

    /// Checks that nothing is left.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed("bytes after the packet"))
        }
    }
}
