//! Any bytes as a payload: no reader panics, a sample that is taken reads back as itself, and its rows are
//! the same whichever way they were read.
#![no_main]

use hostbus_wire::sample::{Head, Rows};
use hostbus_wire::{Sample, codec, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = codec::to_json(bytes);
    let _ = decode::<hostbus_wire::info::Info>(bytes);
    let _ = decode::<hostbus_wire::event::Event>(bytes);
    let _ = decode::<hostbus_wire::details::Details>(bytes);
    let _ = decode::<hostbus_wire::committed::Committed>(bytes);
    let _ = decode::<hostbus_wire::alert::Alert>(bytes);
    let _ = decode::<hostbus_wire::control::ConfigDesired>(bytes);
    let _ = decode::<hostbus_wire::control::Command>(bytes);
    let _ = decode::<hostbus_wire::health::Health>(bytes);
    let sample = Sample::decode(bytes);
    let mut rows = Rows::default();
    assert_eq!(rows.read(bytes).err(), sample.as_ref().err().cloned());
    let expected = sample.as_ref().map_or_else(|_| Rows::default(), Rows::from);
    assert_eq!(seen(&rows), seen(&expected));
    if let Ok(sample) = sample {
        let again = encode(&sample).expect("a sample that was read can be written");
        assert_eq!(Sample::decode(&again), Ok(sample));
    }
});

/// All that stands in `rows`.
fn seen(rows: &Rows) -> (Head, Vec<String>) {
    let mut seen = Vec::new();
    rows.for_each_series(|series| {
        let values: Vec<_> = (0..series.width())
            .map(|place| (series.instance_at(place), series.value(place)))
            .collect();
        seen.push(format!("{} {values:?}", series.name()));
    });
    (rows.head(), seen)
}
