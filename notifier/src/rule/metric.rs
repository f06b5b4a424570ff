//! The names of metrics: what a rule may watch.
//!
//! ```text
//! cpu.usage_percent                                    a field of a section
//! filesystems.used_percent, filesystem.used_percent    of each instance; both names mean the same
//! memory.swap_used_bytes / memory.swap_total_bytes     the first in percent of the second
//! node.down, node.clock_offset_seconds                 of the node as such
//! ```

use hostbus_wire::sample::{CORES, all_fields};
use hostbus_wire::{Field, Unit};

use super::mistake::did_you_mean;
use super::{Source, Watch};

const DOWN: &str = "node.down";
const CLOCK_OFFSET: &str = "node.clock_offset_seconds";
/// The sections that a sample has once.
const WHOLE: [&str; 3] = ["cpu", "memory", "pressure"];

impl Watch {
    /// Reads a metric's name, or a ratio of two.
    ///
    /// # Errors
    /// Tells what it is not, and what it may have been meant to be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((part, whole)) = text.split_once('/') else {
            return match text.trim() {
                DOWN => Ok(Self::Down),
                CLOCK_OFFSET => Ok(Self::ClockOffset),
                name => source(name).map(Self::Field),
            };
        };
        let (part, whole) = (source(part.trim())?, source(whole.trim())?);
        if part.section != whole.section {
            return Err("both fields of a ratio must be of one section".to_owned());
        }
        if part.field.unit != whole.field.unit {
            return Err(format!(
                "both fields of a ratio must have one unit, these have {} and {}",
                part.field.unit, whole.field.unit
            ));
        }
        if part == whole {
            return Err("a ratio of a field to itself is always 100".to_owned());
        }
        Ok(Self::Ratio { part, whole })
    }

    /// The name, as it is read again.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Field(source) => source.name(),
            Self::Ratio { part, whole } => format!("{} / {}", part.name(), whole.name()),
            Self::Down => DOWN.to_owned(),
            Self::ClockOffset => CLOCK_OFFSET.to_owned(),
        }
    }

    /// The unit of its values.
    #[must_use]
    pub fn unit(&self) -> Unit {
        match self {
            Self::Field(source) => source.field.unit,
            Self::Ratio { .. } => Unit::Percent,
            Self::Down | Self::ClockOffset => Unit::None,
        }
    }

    /// Whether a node has several of it, by name.
    #[must_use]
    pub fn has_instances(&self) -> bool {
        match self {
            Self::Field(source) | Self::Ratio { part: source, .. } => {
                !WHOLE.contains(&source.section)
            }
            Self::Down | Self::ClockOffset => false,
        }
    }
}

impl Source {
    /// `filesystems.used_percent`: the section as samples have it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", plural(self.section), field_name(self))
    }
}

fn source(name: &str) -> Result<Source, String> {
    let sources: Vec<Source> = all_fields()
        .into_iter()
        .map(|(section, field)| Source { section, field })
        .collect();
    let asked = name.split_once('.');
    let found = asked.and_then(|(section, field)| {
        let fits =
            |source: &&Source| is_section(section, source.section) && field == field_name(source);
        sources.iter().find(fits)
    });
    found.copied().ok_or_else(|| {
        let known: Vec<String> = sources.iter().map(Source::name).collect();
        let known = known.iter().map(String::as_str);
        let nearest = did_you_mean(name, known.chain([DOWN, CLOCK_OFFSET]));
        let own = |source: &&Source| {
            asked.is_some_and(|(section, _)| is_section(section, source.section))
        };
        let fields: Vec<&str> = sources.iter().filter(own).map(field_name).collect();
        match asked {
            Some((section, _)) if nearest.is_empty() && !fields.is_empty() => {
                let fields = fields.join(", ");
                format!("no metric has this name; {section} has {fields}")
            }
            _ => format!("no metric has this name{nearest}"),
        }
    })
}

/// Whether `text` names the section, as samples or as series do.
fn is_section(text: &str, section: &'static str) -> bool {
    [section, plural(section), singular(section)].contains(&text)
}

/// The field's own name. Where the instances of a section are the fields of one series, what they share
/// stands there as `<core>`; its unit tells the name that it has in a sample.
fn field_name(source: &Source) -> &'static str {
    let Field { name, unit, .. } = source.field;
    match unit {
        _ if !name.starts_with('<') => name,
        Unit::Celsius => "celsius",
        Unit::PerMinute => "rpm",
        Unit::Volts => "volts",
        _ => "usage_percent",
    }
}

/// The name that a section has in a sample, by its name among series: `filesystems` for `filesystem`.
#[must_use]
pub fn plural(section: &str) -> &str {
    match section {
        "filesystem" => "filesystems",
        "disk" => "disks",
        "network" => "networks",
        "gpu" => "gpus",
        // Rows from before these were one series each.
        "sensor" => "sensors",
        "fan" => "fans",
        "voltage" => "voltages",
        "power_supply" => "power_supplies",
        _ => section,
    }
}

/// The name of one of them.
fn singular(section: &'static str) -> &'static str {
    match section {
        "sensors" => "sensor",
        "fans" => "fan",
        "voltages" => "voltage",
        CORES => "core",
        _ => section,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_contract_has_a_name_that_reads_back() {
        for (section, field) in all_fields() {
            let watch = Watch::Field(Source { section, field });
            let name = watch.name();
            assert!(!name.contains('<'), "{name}");
            assert_eq!(Watch::parse(&name), Ok(watch), "{name}");
        }
        for name in [DOWN, CLOCK_OFFSET, "memory.used_bytes / memory.total_bytes"] {
            assert_eq!(Watch::parse(name).unwrap().name(), name);
        }
    }

    #[test]
    fn the_name_of_a_sample_and_that_of_a_series_mean_the_same() {
        for (one, other) in [
            ("filesystems.used_percent", "filesystem.used_percent"),
            ("power_supplies.online", "power_supply.online"),
            ("sensors.celsius", "sensor.celsius"),
            ("cores.usage_percent", "core.usage_percent"),
        ] {
            assert_eq!(Watch::parse(one), Watch::parse(other), "{one}");
            assert!(Watch::parse(one).unwrap().has_instances(), "{one}");
        }
        assert!(!Watch::parse("cpu.load1").unwrap().has_instances());
    }

    #[test]
    fn what_is_no_metric_is_said_with_the_likely_one() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Watch::parse(text).unwrap_err(), expected, "{text}");
        };
        check(
            "filesystems.use_percent",
            "no metric has this name, did you mean `filesystems.used_percent`?",
        );
        check(
            "filesytem.used_percent",
            "no metric has this name, did you mean `filesystems.used_percent`?",
        );
        check(
            "cpu.load",
            "no metric has this name, did you mean `cpu.load1`?",
        );
        check(
            "node.dwn",
            "no metric has this name, did you mean `node.down`?",
        );
        check("", "no metric has this name");
        check("zzz", "no metric has this name");
        check(
            "memory.used_bytes / cpu.load1",
            "both fields of a ratio must be of one section",
        );
        check(
            "memory.used_bytes / memory.used_percent",
            "both fields of a ratio must have one unit, these have B and %",
        );
        check(
            "memory.used_bytes/memory.used_bytes",
            "a ratio of a field to itself is always 100",
        );
        check("memory.used_bytes /", "no metric has this name");
        let known = Watch::parse("memory.qqqqqqqqqqqqqqqq").unwrap_err();
        let expected = "no metric has this name; memory has total_bytes, used_bytes, ";
        assert!(known.starts_with(expected), "{known}");
    }
}
