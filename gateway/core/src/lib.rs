//! The compiled path of the gateway: the ordinary message, and only that.
//!
//! What is not ordinary (an odd payload, a rule about to raise or clear, a machine nobody has registered) is handed back
//! untouched, and the Python that is the reference of all this decides.

pub mod card;
pub mod crc;
pub mod detector;
pub mod electrical;
pub mod facts;
pub mod ffi;
pub mod fleet;
pub mod frames;
pub mod freshair;
pub mod json;
pub mod lines;
pub mod memory;
pub mod probe;
pub mod program;
pub mod records;
pub mod sample;
pub mod single;
pub mod soymilk;
pub mod states;
pub mod topics;
pub mod watch;
