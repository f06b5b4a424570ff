//! Any bytes as an MQTT client's stream: the broker's decoder never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| hostbus_broker::codec::fuzz_decode(bytes));
