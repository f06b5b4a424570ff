//! Any bytes as a payload: no reader panics, and a sample that is taken reads back as itself.
#![no_main]

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
    if let Ok(sample) = Sample::decode(bytes) {
        let again = encode(&sample).expect("a sample that was read can be written");
        assert_eq!(Sample::decode(&again), Ok(sample));
    }
});
