//! Training with Burn's trainer `burn::train`: metrics, dashboard, checkpoints, several devices. Behind the feature `train`.

mod carrier;
mod devices;
mod method;
mod strategy;

pub use method::Method;
pub use strategy::Strategy;
