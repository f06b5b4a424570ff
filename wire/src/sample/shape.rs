//! How sections stand in a payload: the sections in the order of their rows, and each one's keys. Made from
//! the sections' own lists, for a reader that keeps no structs.

use super::sections::{
    Cpu, Custom, Disk, Fan, Filesystem, Gpu, Memory, Network, PowerSupply, Pressure, Sensor,
    Voltage,
};
use crate::field::Field;

/// The keys of one section, and what they hold.
#[derive(Debug)]
pub(crate) struct Shape {
    /// The name of its series, without instance.
    pub(crate) series: &'static str,
    /// All its keys: labels, fields, and the list of numbers where it has one.
    pub(crate) keys: &'static [&'static str],
    /// How many of them are labels. The first is the instance's name, which must be there; others may be
    /// absent.
    pub(crate) labels: usize,
    /// The fields, in the order of a row.
    pub(crate) fields: &'static [Field],
    /// Which fields take whole numbers from 0 on; others take any finite number.
    pub(crate) whole: &'static [bool],
}

impl Shape {
    /// Whether it has a list of numbers, which makes a row of its own.
    pub(crate) fn has_list(&self) -> bool {
        self.keys.len() > self.labels + self.fields.len()
    }
}

/// What the rows of a section are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A host has it once: one row.
    Once,
    /// A list, with a row an instance.
    Each,
    /// A list whose instances have one value each: they make one row.
    Together,
}

/// A section of a sample.
#[derive(Debug)]
pub(crate) struct Section {
    /// Its key in a sample.
    pub(crate) key: &'static str,
    pub(crate) form: Form,
    pub(crate) shape: Shape,
}

const fn section(key: &'static str, form: Form, shape: Shape) -> Section {
    Section { key, form, shape }
}

/// Every section, in the order of the rows.
pub(crate) static SECTIONS: [Section; 12] = [
    section("cpu", Form::Once, Cpu::SHAPE),
    section("memory", Form::Once, Memory::SHAPE),
    section("pressure", Form::Once, Pressure::SHAPE),
    section("filesystems", Form::Each, Filesystem::SHAPE),
    section("disks", Form::Each, Disk::SHAPE),
    section("networks", Form::Each, Network::SHAPE),
    section("gpus", Form::Each, Gpu::SHAPE),
    section("sensors", Form::Together, Sensor::SHAPE),
    section("fans", Form::Together, Fan::SHAPE),
    section("voltages", Form::Together, Voltage::SHAPE),
    section("power_supplies", Form::Each, PowerSupply::SHAPE),
    section("custom", Form::Each, Custom::SHAPE),
];
