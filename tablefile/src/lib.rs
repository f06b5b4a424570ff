//! A component's file of tables on its own disk, a redb database: opening it, telling damage from a
//! disk that refuses, setting a damaged one aside.
//!
//! | module | owns |
//! |---|---|
//! | [`opening`] | opening a file of one format, or beginning it |
//! | [`fault`] | why a file can't be used, and who is to blame |
//! | [`aside`] | where a damaged file goes |
//!
//! What the tables hold, and when something is written, is the component's.

pub mod aside;
pub mod fault;
pub mod opening;

pub use aside::set_aside;
pub use fault::{Fault, guarded};
pub use opening::{Layout, reopen};
