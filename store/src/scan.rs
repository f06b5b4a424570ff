//! A range of one series, page by page: the stream and its late rows, merged by time.
//!
//! Memory is bounded by the page, whatever the range.

use redis::{Cmd, Value};

use crate::connection::Connection;
use crate::error::StoreError;
use crate::keys::NodeKeys;
use crate::row::{Columns, Row, id_ms, items, text};

/// How many rows of the stream, and how many late ones, are fetched at once.
const PAGE_ROWS: usize = 2_000;

/// A range that is being read.
#[derive(Debug)]
pub struct Scan {
    connection: Connection,
    raw: String,
    late: String,
    /// From where the next page reads; past `to_ms` when there is none.
    from_ms: Option<u64>,
    to_ms: u64,
    columns: Columns,
}

/// Some rows in the order of time. A row has a value for each field that was known when it was
/// read: [`Scan::fields`] may have more names by the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// Rows in Redis that can't be read.
    pub malformed: u64,
}

impl Scan {
    pub(crate) fn new(
        connection: Connection,
        keys: &NodeKeys,
        series: &str,
        from_ms: u64,
        to_ms: u64,
    ) -> Self {
        Self {
            connection,
            raw: keys.raw(series),
            late: keys.late(series),
            from_ms: (from_ms <= to_ms).then_some(from_ms),
            to_ms,
            columns: Columns::default(),
        }
    }

    /// The names of the fields seen so far, in the order of each row's values.
    #[must_use]
    pub fn fields(&self) -> &[String] {
        &self.columns.names
    }

    pub(crate) fn into_fields(self) -> Vec<String> {
        self.columns.names
    }

    /// The next page; `None` at the end. A page may be empty though others follow.
    ///
    /// # Errors
    /// Redis failed; may be called again for the same page.
    pub async fn next_page(&mut self) -> Result<Option<Page>, StoreError> {
        let Some(from_ms) = self.from_ms else {
            return Ok(None);
        };
        let stream = self.fetch(&self.stream_query(from_ms)).await?;
        let late = self.fetch(&self.late_query(from_ms)).await?;
        // Where one of the two has more, the page ends before its last row's time, so that rows
        // of one time stay together.
        let mut until_ms = self.to_ms;
        let ends = [
            (stream.len(), stream.last().and_then(entry_ms)),
            (late.len(), late.last().and_then(member_ms)),
        ];
        for (rows, last_ms) in ends {
            if rows >= PAGE_ROWS {
                let end = last_ms.unwrap_or(from_ms);
                until_ms = until_ms.min(end.saturating_sub(1).max(from_ms));
            }
        }
        let mut page = Page::default();
        for entry in stream
            .iter()
            .filter(|entry| entry_ms(entry).is_none_or(|ms| ms <= until_ms))
        {
            page.take(self.columns.stream_row(entry));
        }
        for member in late
            .iter()
            .filter(|member| member_ms(member).is_none_or(|ms| ms <= until_ms))
        {
            page.take(self.columns.late_row(member));
        }
        // Stable: of two rows with one time, the stream's comes first.
        page.rows.sort_by_key(|row| row.at_ms);
        self.from_ms = (until_ms < self.to_ms).then(|| until_ms + 1);
        Ok(Some(page))
    }

    fn stream_query(&self, from_ms: u64) -> Cmd {
        let mut query = redis::cmd("XRANGE");
        query
            .arg(&self.raw)
            .arg(from_ms)
            .arg(self.to_ms)
            .arg("COUNT")
            .arg(PAGE_ROWS);
        query
    }

    fn late_query(&self, from_ms: u64) -> Cmd {
        let mut query = redis::cmd("ZRANGEBYSCORE");
        query
            .arg(&self.late)
            .arg(from_ms)
            .arg(self.to_ms)
            .arg("LIMIT")
            .arg(0)
            .arg(PAGE_ROWS);
        query
    }

    async fn fetch(&self, query: &Cmd) -> Result<Vec<Value>, StoreError> {
        match self.connection.command(query).await {
            Ok(Value::Array(rows)) => Ok(rows),
            Ok(_) => Err(StoreError::reply("a range")),
            Err(error) => Err(error),
        }
    }
}

impl Page {
    fn take(&mut self, row: Option<Row>) {
        match row {
            Some(row) => self.rows.push(row),
            None => self.malformed += 1,
        }
    }
}

fn entry_ms(entry: &Value) -> Option<u64> {
    id_ms(text(items(entry)?.first()?)?)
}

fn member_ms(member: &Value) -> Option<u64> {
    text(member)?.split_once(' ')?.0.parse().ok()
}
