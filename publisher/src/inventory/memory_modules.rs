//! The memory modules, as the firmware knows them.
//!
//! The firmware's table is for root only. What udev read from it is for all:
//!
//! ```text
//! E:MEMORY_DEVICE_0_LOCATOR=DIMM_A1                  /run/udev/data/+dmi:id
//! E:MEMORY_DEVICE_0_SIZE=17179869184
//! ```
//! The table itself is that of DSP0134, the SMBIOS reference specification, structure type 17. It is
//! read with distrust: firmware is known to lie about lengths.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use hostbus_wire::info::MemoryModule;

use super::platform::{is_placeholder, read};

const UDEV: &str = "run/udev/data/+dmi:id";
const TABLE: &str = "sys/firmware/dmi/tables/DMI";
/// Tables are a few kilobytes, and some tens on large machines.
const MAX_TABLE_BYTES: u64 = 1024 * 1024;
const MEMORY_DEVICE: u8 = 17;
const END_OF_TABLE: u8 = 127;

/// The modules that are there.
pub(super) fn memory_modules(root: &Path) -> Vec<MemoryModule> {
    let known = read(root, UDEV).map(|text| from_udev(&text));
    if let Some(modules) = known.filter(|modules| !modules.is_empty()) {
        return modules;
    }
    let mut table = Vec::new();
    let file = File::open(root.join(TABLE));
    let read = file.and_then(|file| file.take(MAX_TABLE_BYTES).read_to_end(&mut table));
    read.map(|_| from_table(&table)).unwrap_or_default()
}

/// What udev's `dmi_memory_id` found.
fn from_udev(text: &str) -> Vec<MemoryModule> {
    let mut devices: BTreeMap<u32, BTreeMap<&str, &str>> = BTreeMap::new();
    for line in text.lines() {
        let property = line.strip_prefix("E:MEMORY_DEVICE_");
        let Some((key, value)) = property.and_then(|property| property.split_once('=')) else {
            continue;
        };
        if let Some((number, key)) = key.split_once('_')
            && let Ok(number) = number.parse()
        {
            devices.entry(number).or_default().insert(key, value);
        }
    }
    let modules = devices.into_values().filter_map(|device| {
        let text = |key: &str| device.get(key).and_then(|value| known(value));
        let number = |key: &str| device.get(key)?.parse().ok().filter(|mts| *mts > 0);
        let size_bytes = device.get("SIZE").and_then(|bytes| bytes.parse().ok());
        Some(MemoryModule {
            slot: text("LOCATOR"),
            size_bytes: Some(size_bytes.filter(|bytes| *bytes > 0)?),
            kind: text("TYPE"),
            speed_mts: number("CONFIGURED_SPEED_MTS").or_else(|| number("SPEED_MTS")),
            maker: text("MANUFACTURER"),
        })
    });
    modules.collect()
}

/// What the firmware's table holds.
fn from_table(table: &[u8]) -> Vec<MemoryModule> {
    let mut modules = Vec::new();
    let mut rest = table;
    while let Some(structure) = Structure::take(&mut rest) {
        match structure.kind() {
            MEMORY_DEVICE => modules.extend(structure.memory_module()),
            END_OF_TABLE => break,
            _ => {}
        }
    }
    modules
}

/// One structure: its fields, the head of 4 bytes included, and its texts.
struct Structure<'t> {
    fields: &'t [u8],
    texts: &'t [u8],
}

impl<'t> Structure<'t> {
    /// Takes the first structure off `rest`. `None` at the end, or when the table is broken.
    fn take(rest: &mut &'t [u8]) -> Option<Self> {
        let length = usize::from(*rest.get(1)?);
        if length < 4 {
            return None;
        }
        let (fields, after) = rest.split_at_checked(length)?;
        // The texts end with two zeros.
        let end = after.windows(2).position(|pair| pair == [0, 0])?;
        let (texts, after) = after.split_at(end);
        *rest = &after[2..];
        Some(Self { fields, texts })
    }

    fn kind(&self) -> u8 {
        self.fields[0]
    }

    fn word(&self, offset: usize) -> Option<u16> {
        let bytes = self.fields.get(offset..offset + 2)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?))
    }

    fn double_word(&self, offset: usize) -> Option<u32> {
        let bytes = self.fields.get(offset..offset + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The text whose number, from 1, stands at `offset`.
    fn text(&self, offset: usize) -> Option<String> {
        let number = usize::from(*self.fields.get(offset)?).checked_sub(1)?;
        let text = self.texts.split(|byte| *byte == 0).nth(number)?;
        known(&String::from_utf8_lossy(text))
    }

    /// `None` for an empty slot.
    fn memory_module(&self) -> Option<MemoryModule> {
        let size_bytes = match self.word(0x0c)? {
            0 => return None,
            0xffff => None,
            0x7fff => {
                let mebibytes = self.double_word(0x1c)? & 0x7fff_ffff;
                Some(u64::from(mebibytes) << 20)
            }
            kibibytes if kibibytes & 0x8000 != 0 => Some(u64::from(kibibytes & 0x7fff) << 10),
            mebibytes => Some(u64::from(mebibytes) << 20),
        };
        Some(MemoryModule {
            slot: self.text(0x10),
            size_bytes,
            kind: self.fields.get(0x12).and_then(|kind| kind_name(*kind)),
            speed_mts: self.speed(0x20, 0x58).or_else(|| self.speed(0x15, 0x54)),
            maker: self.text(0x17),
        })
    }

    /// A speed in MT/s: a word, or a double word elsewhere where it has no room.
    fn speed(&self, offset: usize, extended: usize) -> Option<u32> {
        match self.word(offset)? {
            0 => None,
            0xffff => self.double_word(extended).filter(|speed| *speed > 0),
            speed => Some(u32::from(speed)),
        }
    }
}

fn known(text: &str) -> Option<String> {
    let text = text.trim();
    let empty = is_placeholder(text) || text.eq_ignore_ascii_case("no dimm");
    (!empty).then(|| text.to_owned())
}

fn kind_name(kind: u8) -> Option<String> {
    let name = match kind {
        0x03 => "DRAM",
        0x0f => "SDRAM",
        0x12 => "DDR",
        0x13 => "DDR2",
        0x14 => "DDR2 FB-DIMM",
        0x18 => "DDR3",
        0x1a => "DDR4",
        0x1b => "LPDDR",
        0x1c => "LPDDR2",
        0x1d => "LPDDR3",
        0x1e => "LPDDR4",
        0x20 => "HBM",
        0x21 => "HBM2",
        0x22 => "DDR5",
        0x23 => "LPDDR5",
        0x24 => "HBM3",
        _ => return None,
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    const UDEV_DATA: &str = "\
I:3523456
E:MEMORY_ARRAY_LOCATION=System Board Or Motherboard
E:MEMORY_ARRAY_NUM_DEVICES=3
E:MEMORY_DEVICE_0_LOCATOR=DIMM_A1
E:MEMORY_DEVICE_0_SIZE=17179869184
E:MEMORY_DEVICE_0_TYPE=DDR4
E:MEMORY_DEVICE_0_SPEED_MTS=3200
E:MEMORY_DEVICE_0_CONFIGURED_SPEED_MTS=2933
E:MEMORY_DEVICE_0_MANUFACTURER=Samsung
E:MEMORY_DEVICE_0_SERIAL_NUMBER=12345678
E:MEMORY_DEVICE_1_PRESENT=0
E:MEMORY_DEVICE_1_LOCATOR=DIMM_A2
E:MEMORY_DEVICE_2_LOCATOR=DIMM_B1
E:MEMORY_DEVICE_2_SIZE=8589934592
E:MEMORY_DEVICE_2_TYPE=DDR4
E:MEMORY_DEVICE_2_MANUFACTURER=Not Specified
G:systemd
";

    fn module(slot: &str, gibibytes: u64, speed: Option<u32>, maker: Option<&str>) -> MemoryModule {
        MemoryModule {
            slot: Some(slot.to_owned()),
            size_bytes: Some(gibibytes << 30),
            kind: Some("DDR4".to_owned()),
            speed_mts: speed,
            maker: maker.map(str::to_owned),
        }
    }

    #[test]
    fn what_udev_knows_is_enough() {
        let root = tempfile::tempdir().unwrap();
        assert!(memory_modules(root.path()).is_empty());
        fs::create_dir_all(root.path().join("run/udev/data")).unwrap();
        fs::write(root.path().join(UDEV), UDEV_DATA).unwrap();
        assert_eq!(
            memory_modules(root.path()),
            [
                module("DIMM_A1", 16, Some(2933), Some("Samsung")),
                module("DIMM_B1", 8, None, None)
            ]
        );
    }

    /// A structure of type 17 as firmware of SMBIOS 2.8 writes it.
    fn device(size: u16, extended_mebibytes: u32, slot: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x28];
        (bytes[0], bytes[1]) = (MEMORY_DEVICE, 0x28);
        bytes[0x0c..0x0e].copy_from_slice(&size.to_le_bytes());
        (bytes[0x10], bytes[0x17], bytes[0x12]) = (1, 2, 0x1a);
        bytes[0x15..0x17].copy_from_slice(&3200_u16.to_le_bytes());
        bytes[0x1c..0x20].copy_from_slice(&extended_mebibytes.to_le_bytes());
        bytes[0x20..0x22].copy_from_slice(&2933_u16.to_le_bytes());
        bytes.extend(slot.bytes().chain([0]).chain(*b"Samsung\0\0"));
        bytes
    }

    fn table() -> Vec<u8> {
        let mut table = vec![0, 4, 0, 0];
        table.extend(b"a BIOS\0\0");
        table.extend(device(0x4000, 0, "DIMM_A1"));
        table.extend(device(0, 0, "DIMM_A2"));
        table.extend(device(0x7fff, 65_536, "DIMM_B1"));
        table.extend([END_OF_TABLE, 4, 0, 0, 0, 0]);
        // What stands behind the end is nobody's.
        table.extend(device(0x4000, 0, "DIMM_X"));
        table
    }

    #[test]
    fn the_firmwares_table_is_read_where_udev_has_nothing() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("sys/firmware/dmi/tables")).unwrap();
        fs::write(root.path().join(TABLE), table()).unwrap();
        assert_eq!(
            memory_modules(root.path()),
            [
                module("DIMM_A1", 16, Some(2933), Some("Samsung")),
                module("DIMM_B1", 64, Some(2933), Some("Samsung"))
            ]
        );
    }

    #[test]
    fn a_table_that_is_cut_gives_what_is_whole() {
        let table = table();
        for end in 0..table.len() {
            assert!(from_table(&table[..end]).len() <= 2);
        }
        // A structure of no length would stand there for ever.
        assert!(from_table(&[MEMORY_DEVICE, 0, 0, 0, 0, 0]).is_empty());
    }

    proptest! {
        #[test]
        fn no_table_makes_the_reader_panic(
            table in prop::collection::vec(any::<u8>(), 0..600),
            devices in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            from_table(&table);
            let mut short = vec![MEMORY_DEVICE, u8::try_from(devices.len()).unwrap_or(255)];
            short.extend(devices);
            short.extend([0, 0]);
            from_table(&short);
        }
    }
}
