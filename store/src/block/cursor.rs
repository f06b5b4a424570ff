//! Reading a block's bytes from the front, never past their end.

use super::BlockError;

/// What is left of the bytes.
pub(super) struct Cursor<'b>(pub(super) &'b [u8]);

impl<'b> Cursor<'b> {
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BlockError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(BlockError::Length)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, BlockError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn length_u16(&mut self) -> Result<usize, BlockError> {
        Ok(u16::from_le_bytes(self.array()?).into())
    }

    pub(super) fn length_u32(&mut self) -> Result<usize, BlockError> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| BlockError::Length)
    }

    /// Bytes behind their length.
    pub(super) fn part_u16(&mut self) -> Result<&'b [u8], BlockError> {
        let length = self.length_u16()?;
        self.part(length)
    }

    /// Bytes behind their length.
    pub(super) fn part_u32(&mut self) -> Result<&'b [u8], BlockError> {
        let length = self.length_u32()?;
        self.part(length)
    }

    pub(super) fn part(&mut self, length: usize) -> Result<&'b [u8], BlockError> {
        let (part, rest) = self.0.split_at_checked(length).ok_or(BlockError::Length)?;
        self.0 = rest;
        Ok(part)
    }
}
