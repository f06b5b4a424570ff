//! Any bytes as a packed block: no panic, bounded memory, and what is taken packs to itself again.
#![no_main]

use hostbus_store::block;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = block::names(bytes);
    let _ = block::decode(bytes, Some(&["a"]));
    // Few bytes may say many rows; what they are worth is not the question here.
    if let Ok(read) = block::decode(bytes, None)
        && read.rows.len() < 10_000
    {
        let again = block::encode(&read.fields, &read.rows);
        assert_eq!(block::decode(&again, None), Ok(read));
    }
});
