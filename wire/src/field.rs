//! The description of a field: unit, kind, decimals, meaning.

use std::fmt;

/// What a field's numbers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// A share of a whole, 0 to 100.
    Percent,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// Bits per second.
    BitsPerSecond,
    /// Things or events per second.
    PerSecond,
    /// Turns per minute.
    PerMinute,
    /// Milliseconds.
    Milliseconds,
    /// Degrees Celsius.
    Celsius,
    /// Watts.
    Watts,
    /// Volts.
    Volts,
    /// Megahertz.
    Megahertz,
    /// A plain count.
    Count,
    /// No unit: a load, a custom value.
    None,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Percent => "%",
            Self::Bytes => "B",
            Self::BytesPerSecond => "B/s",
            Self::BitsPerSecond => "bit/s",
            Self::PerSecond => "1/s",
            Self::PerMinute => "1/min",
            Self::Milliseconds => "ms",
            Self::Celsius => "°C",
            Self::Watts => "W",
            Self::Volts => "V",
            Self::Megahertz => "MHz",
            Self::Count | Self::None => "1",
        })
    }
}

/// How a field behaves over time, which decides how it may be summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// A level at the moment of the sample.
    Gauge,
    /// An average over the interval before the sample.
    Rate,
    /// Changes seldom; an average of it says little.
    State,
}

/// One field of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name in payloads and in Redis rows. It carries the unit.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// How it behaves over time.
    pub kind: FieldKind,
    /// How many decimals its source really knows.
    pub decimals: u8,
    /// What it means, and where it comes from.
    pub meaning: &'static str,
}
