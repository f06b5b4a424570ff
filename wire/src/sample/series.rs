//! The series that samples become: one row of one section or instance.
//!
//! Instances with one value each (cores, sensors, fans, voltages) make one series together, with a field
//! an instance: a row of one value costs Redis three times as much a point as a row of ten.

use std::borrow::Cow;
use std::fmt;

use super::sections::{Fan, Sensor, Voltage};
use super::shape::SECTIONS;
use crate::decimal::Decimal;
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

/// What all fields of such a series share; the name of a field is that of its instance.
static SHARED: [(&str, Field); 4] = [
    (CORES, CORE_FIELD),
    (Sensor::SERIES, of_each("<sensor>", Sensor::FIELDS)),
    (Fan::SERIES, of_each("<fan>", Fan::FIELDS)),
    (Voltage::SERIES, of_each("<voltage>", Voltage::FIELDS)),
];

/// The one field of an instance, under the name of any instance.
const fn of_each(name: &'static str, fields: &[Field]) -> Field {
    Field { name, ..fields[0] }
}

/// The description that all fields of the series `section` share; `None` where each has its own.
#[must_use]
pub fn shared_field(section: &str) -> Option<&'static Field> {
    let shared = SHARED.iter().find(|(series, _)| *series == section);
    shared.map(|(_, field)| field)
}

/// Instances that have one value each.
pub(super) trait Instances: fmt::Debug {
    /// How many there are.
    fn count(&self) -> usize;
    /// Name and value of one of them.
    fn get(&self, place: usize) -> Option<(&str, Option<Value>)>;
}

macro_rules! instances {
    ($($Section:ident)*) => {
        $(impl Instances for Vec<$Section> {
            fn count(&self) -> usize {
                self.len()
            }

            fn get(&self, place: usize) -> Option<(&str, Option<Value>)> {
                let item = <[_]>::get(self, place)?;
                let [value] = item.values();
                Some((item.name.as_str(), value))
            }
        })*
    };
}

instances!(Sensor Fan Voltage);

/// The field of the instance `name`. What rows can't say is written as in a URL: a space, which parts
/// the fields of late rows, and the last letter of what a rolled-up row would take for a column of its
/// own, `n`, `<field>_min` and `<field>_max`.
fn field_of(name: &str) -> Cow<'_, str> {
    let reserved = name == "n" || name.ends_with("_min") || name.ends_with("_max");
    if !reserved && !name.contains([' ', '%']) {
        return Cow::Borrowed(name);
    }
    let mut field = name.replace('%', "%25").replace(' ', "%20");
    if reserved && let Some(last) = field.pop() {
        field.push_str(&format!("%{:02X}", u32::from(last)));
    }
    Cow::Owned(field)
}

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
    Instances(&'s dyn Instances),
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

    pub(super) fn instances(section: &'static str, instances: &'s dyn Instances) -> Self {
        Self {
            section,
            instance: None,
            row: Row::Instances(instances),
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
            Row::Instances(instances) => {
                let values = (0..instances.count()).filter_map(|place| instances.get(place)?.1);
                values.count()
            }
        }
    }

    /// Tells whether its fields are instances, which come and go. A single core is known by its place.
    #[must_use]
    pub fn has_instances(&self) -> bool {
        matches!(self.row, Row::Instances(_))
    }

    /// How many fields the row has, unknown ones included.
    #[must_use]
    pub fn width(&self) -> usize {
        match self.row {
            Row::Fixed(fields, _) => fields.len(),
            Row::Cores(cores) => cores.len(),
            Row::Instances(instances) => instances.count(),
        }
    }

    /// The value of the field at `place` in the row; `None` is unknown, or past the row's end.
    #[must_use]
    pub fn value(&self, place: usize) -> Option<Value> {
        match self.row {
            Row::Fixed(_, values) => values.get(place).copied().flatten(),
            Row::Cores(cores) => cores.get(place).map(|usage| Value::Float(*usage)),
            Row::Instances(instances) => instances.get(place)?.1,
        }
    }

    /// The name of the instance at `place` in a row whose fields are instances, as it stands in the
    /// sample; `None` in other rows and past the row's end.
    #[must_use]
    pub fn instance_at(&self, place: usize) -> Option<&'s str> {
        match self.row {
            Row::Instances(instances) => Some(instances.get(place)?.0),
            Row::Fixed(..) | Row::Cores(_) => None,
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
                let mut decimal = Decimal::default();
                for (number, usage) in cores.iter().enumerate() {
                    let number = decimal.text(Value::Integer(number as u64));
                    visit(number, Some(Value::Float(*usage)));
                }
            }
            Row::Instances(instances) => {
                for place in 0..instances.count() {
                    if let Some((name, value)) = instances.get(place) {
                        visit(&field_of(name), value);
                    }
                }
            }
        }
    }
}

/// Every field of the contract with the section it belongs to, in a fixed order. What the instances of a
/// series share stands there once.
#[must_use]
pub fn all_fields() -> Vec<(&'static str, &'static Field)> {
    let mut all = Vec::new();
    for section in &SECTIONS {
        let shape = &section.shape;
        let fields = shared_field(shape.series).map_or(shape.fields, std::slice::from_ref);
        all.extend(fields.iter().map(|field| (shape.series, field)));
        if shape.has_list() {
            all.push((CORES, &CORE_FIELD));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_gives_its_field_its_name_unless_a_row_could_not_say_it() {
        let mut fields = Vec::new();
        let mut check = |name: &str, field: &str| {
            assert_eq!(field_of(name), field, "{name}");
            assert!(!fields.contains(&field.to_owned()), "{field}");
            fields.push(field.to_owned());
        };
        for name in ["coretemp/package-id-0", "a.b", "n1", "_minimum", "Été"] {
            check(name, name);
        }
        check("n", "%6E");
        check("%6E", "%256E");
        check("a b", "a%20b");
        check("a%20b", "a%2520b");
        check("fan_min", "fan_mi%6E");
        check("fan_max", "fan_ma%78");
        check("_max", "_ma%78");
    }
}
