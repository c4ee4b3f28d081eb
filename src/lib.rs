//! dci-operator
#[cfg(feature = "sim")]
pub mod sim;
