//! Networks in files: their graph of operations and their tensors, and files with changed tensors.

pub mod onnx;
