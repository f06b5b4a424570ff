//! A value in the file, with a checksum of its key and itself: the database checks only what it reads
//! to repair itself.
//!
//! ```text
//! crc32 u32 little-endian, value
//! ```

fn checksum(channel: &str, id: u64, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(channel.as_bytes());
    hasher.update(&id.to_le_bytes());
    hasher.update(value);
    hasher.finalize()
}

/// The row of `value`. An entry has its key for a channel and the id 0.
pub(super) fn compose(channel: &str, id: u64, value: &[u8]) -> Vec<u8> {
    let mut row = checksum(channel, id, value).to_le_bytes().to_vec();
    row.extend_from_slice(value);
    row
}

/// The value of a row; `None` when it is damaged or stands in a wrong place.
pub(super) fn parse<'a>(channel: &str, id: u64, row: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, value) = row.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*sum) == checksum(channel, id, value)).then_some(value)
}
