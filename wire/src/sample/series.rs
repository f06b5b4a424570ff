//! The series that samples become: one row of one section or instance.

use std::borrow::Cow;

use super::sections::{
    Cpu, Custom, Disk, Fan, Filesystem, Gpu, Memory, Network, PowerSupply, Pressure, Sensor,
    Voltage,
};
use crate::field::{Field, FieldKind, Unit};
use crate::number::Value;

/// The name of the series of single cores.
pub const CORES: &str = "cores";

/// The field description that all single cores share; a core's field name is its number.
pub const CORE_FIELD: Field = Field {
    name: "<core>",
    unit: Unit::Percent,
    kind: FieldKind::Rate,
    decimals: 2,
    meaning: "busy time of one logical core",
};

/// One row of one series.
#[derive(Debug, Clone, Copy)]
pub struct Series<'s> {
    section: &'static str,
    instance: Option<&'s str>,
    row: Row<'s>,
}

#[derive(Debug, Clone, Copy)]
enum Row<'s> {
    Fixed(&'static [Field], &'s [Option<Value>]),
    Cores(&'s [f64]),
}

impl<'s> Series<'s> {
    pub(super) fn fixed(
        section: &'static str,
        instance: Option<&'s str>,
        fields: &'static [Field],
        values: &'s [Option<Value>],
    ) -> Self {
        Self {
            section,
            instance,
            row: Row::Fixed(fields, values),
        }
    }

    pub(super) fn cores(cores: &'s [f64]) -> Self {
        Self {
            section: CORES,
            instance: None,
            row: Row::Cores(cores),
        }
    }

    /// The series' name: `cpu`, `filesystem:/`, `gpu:0`.
    #[must_use]
    pub fn name(&self) -> Cow<'s, str> {
        match self.instance {
            None => Cow::Borrowed(self.section),
            Some(instance) => Cow::Owned(format!("{}:{instance}", self.section)),
        }
    }

    /// The section part of the name.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.section
    }

    /// The instance part of the name.
    #[must_use]
    pub fn instance(&self) -> Option<&'s str> {
        self.instance
    }

    /// How many values are known.
    #[must_use]
    pub fn points(&self) -> usize {
        match self.row {
            Row::Fixed(_, values) => values.iter().flatten().count(),
            Row::Cores(cores) => cores.len(),
        }
    }

    /// How many fields the row has, unknown ones included.
    #[must_use]
    pub fn width(&self) -> usize {
        match self.row {
            Row::Fixed(fields, _) => fields.len(),
            Row::Cores(cores) => cores.len(),
        }
    }

    /// The value of the field at `place` in the row; `None` is unknown, or past the row's end.
    #[must_use]
    pub fn value(&self, place: usize) -> Option<Value> {
        match self.row {
            Row::Fixed(_, values) => values.get(place).copied().flatten(),
            Row::Cores(cores) => cores.get(place).map(|usage| Value::Float(*usage)),
        }
    }

    /// Visits every field in its fixed order; `None` is unknown.
    pub fn for_each_field(&self, mut visit: impl FnMut(&str, Option<Value>)) {
        match self.row {
            Row::Fixed(fields, values) => {
                for (field, value) in fields.iter().zip(values) {
                    visit(field.name, *value);
                }
            }
            Row::Cores(cores) => {
                for (number, usage) in cores.iter().enumerate() {
                    visit(&number.to_string(), Some(Value::Float(*usage)));
                }
            }
        }
    }
}

/// Every field of the contract with the section it belongs to, in a fixed order.
#[must_use]
pub fn all_fields() -> Vec<(&'static str, &'static Field)> {
    const SECTIONS: [(&str, &[Field]); 13] = [
        (Cpu::SERIES, Cpu::FIELDS),
        (CORES, &[CORE_FIELD]),
        (Memory::SERIES, Memory::FIELDS),
        (Pressure::SERIES, Pressure::FIELDS),
        (Filesystem::SERIES, Filesystem::FIELDS),
        (Disk::SERIES, Disk::FIELDS),
        (Network::SERIES, Network::FIELDS),
        (Gpu::SERIES, Gpu::FIELDS),
        (Sensor::SERIES, Sensor::FIELDS),
        (Fan::SERIES, Fan::FIELDS),
        (Voltage::SERIES, Voltage::FIELDS),
        (PowerSupply::SERIES, PowerSupply::FIELDS),
        (Custom::SERIES, Custom::FIELDS),
    ];
    SECTIONS
        .iter()
        .flat_map(|(section, fields)| fields.iter().map(move |field| (*section, field)))
        .collect()
}
