//! The numbers of tensors, whatever they are stored as.

use half::{bf16, f16};
use prost::bytes::Bytes;

use super::error::{OnnxError, invalid};
use super::proto::{TensorProto, data_type};

/// The name of a tensor, for messages.
pub(super) fn label(tensor: &TensorProto) -> &str {
    tensor.name.as_deref().unwrap_or_default()
}

/// Whether numbers of this type are floating point numbers that are read and written here.
pub(super) fn is_float(number: i32) -> bool {
    matches!(
        number,
        data_type::FLOAT | data_type::DOUBLE | data_type::FLOAT16 | data_type::BFLOAT16
    )
}

/// Whether numbers of this type are whole, or true and false.
pub(super) fn is_whole(number: i32) -> bool {
    use data_type::{BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64};
    matches!(
        number,
        BOOL | INT8 | INT16 | INT32 | INT64 | UINT8 | UINT16 | UINT32 | UINT64
    )
}

/// The shape and the number of elements.
pub(super) fn shape(tensor: &TensorProto) -> Result<(Vec<usize>, usize), OnnxError> {
    let sizes = tensor.dims.iter().map(|&dim| usize::try_from(dim));
    let sizes: Result<Vec<usize>, _> = sizes.collect();
    let whole = sizes.ok().and_then(|sizes| {
        let mut all = sizes.iter();
        let size = all.try_fold(1usize, |size, &dim| size.checked_mul(dim))?;
        Some((sizes, size))
    });
    whole.ok_or_else(|| {
        invalid(
            format!("tensor `{}`", label(tensor)),
            format!("its shape is {:?}", tensor.dims),
        )
    })
}

/// The numbers of a tensor; none where its type is not one of numbers.
///
/// # Errors
/// There are more or fewer than its shape says.
pub(super) fn values(tensor: &TensorProto) -> Result<Option<Vec<f64>>, OnnxError> {
    use data_type::*;
    let number = tensor.data_type.unwrap_or(0);
    if !is_float(number) && !is_whole(number) {
        return Ok(None);
    }
    let (_, count) = shape(tensor)?;
    let values: Vec<f64> = match &tensor.raw_data {
        Some(raw) if !raw.is_empty() => {
            let wrong = raw.len() != count.saturating_mul(width(number));
            if wrong {
                return Err(wrong_count(tensor, raw.len() / width(number), count));
            }
            from_raw(number, raw)
        }
        _ => {
            let whole = tensor.int32_data.iter();
            match number {
                FLOAT => tensor.float_data.iter().map(|&x| f64::from(x)).collect(),
                DOUBLE => tensor.double_data.clone(),
                FLOAT16 => whole
                    .map(|&bits| f16::from_bits(bits as u16).to_f64())
                    .collect(),
                BFLOAT16 => whole
                    .map(|&bits| bf16::from_bits(bits as u16).to_f64())
                    .collect(),
                INT64 => tensor.int64_data.iter().map(|&x| x as f64).collect(),
                UINT32 | UINT64 => tensor.uint64_data.iter().map(|&x| x as f64).collect(),
                _ => whole.map(|&x| f64::from(x)).collect(),
            }
        }
    };
    match values.len() == count {
        true => Ok(Some(values)),
        false => Err(wrong_count(tensor, values.len(), count)),
    }
}

fn wrong_count(tensor: &TensorProto, found: usize, count: usize) -> OnnxError {
    invalid(
        format!("tensor `{}`", label(tensor)),
        format!(
            "it holds {found} numbers, its shape {:?} says {count}",
            tensor.dims
        ),
    )
}

/// Bytes of a number.
fn width(number: i32) -> usize {
    use data_type::*;
    match number {
        BOOL | INT8 | UINT8 => 1,
        FLOAT16 | BFLOAT16 | INT16 | UINT16 => 2,
        FLOAT | INT32 | UINT32 => 4,
        _ => 8,
    }
}

fn from_raw(number: i32, raw: &[u8]) -> Vec<f64> {
    use data_type::*;
    fn each<const N: usize>(raw: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        raw.as_chunks::<N>().0.iter().map(|&x| read(x)).collect()
    }
    match number {
        FLOAT => each(raw, |x| f64::from(f32::from_le_bytes(x))),
        DOUBLE => each(raw, f64::from_le_bytes),
        FLOAT16 => each(raw, |x| f16::from_le_bytes(x).to_f64()),
        BFLOAT16 => each(raw, |x| bf16::from_le_bytes(x).to_f64()),
        INT8 => each(raw, |[x]| f64::from(x as i8)),
        BOOL | UINT8 => each(raw, |[x]| f64::from(x)),
        INT16 => each(raw, |x| f64::from(i16::from_le_bytes(x))),
        UINT16 => each(raw, |x| f64::from(u16::from_le_bytes(x))),
        INT32 => each(raw, |x| f64::from(i32::from_le_bytes(x))),
        UINT32 => each(raw, |x| f64::from(u32::from_le_bytes(x))),
        INT64 => each(raw, |x| i64::from_le_bytes(x) as f64),
        _ => each(raw, |x| u64::from_le_bytes(x) as f64),
    }
}

/// A type of floating point numbers, by its name and its largest number.
fn named(number: i32) -> (&'static str, f64) {
    match number {
        data_type::DOUBLE => ("float64", f64::MAX),
        data_type::FLOAT16 => ("float16", f16::MAX.to_f64()),
        data_type::BFLOAT16 => ("bfloat16", bf16::MAX.to_f64()),
        _ => ("float32", f64::from(f32::MAX)),
    }
}

/// Values as the bytes of numbers of a floating point type.
///
/// # Errors
/// A finite value becomes infinite.
pub(super) fn to_raw(tensor: &str, number: i32, values: &[f64]) -> Result<Bytes, OnnxError> {
    let mut raw = Vec::with_capacity(values.len() * width(number));
    for &value in values {
        let rounded = match number {
            data_type::DOUBLE => {
                raw.extend(value.to_le_bytes());
                value
            }
            data_type::FLOAT16 => {
                let x = f16::from_f64(value);
                raw.extend(x.to_le_bytes());
                x.to_f64()
            }
            data_type::BFLOAT16 => {
                let x = bf16::from_f64(value);
                raw.extend(x.to_le_bytes());
                x.to_f64()
            }
            _ => {
                let x = value as f32;
                raw.extend(x.to_le_bytes());
                f64::from(x)
            }
        };
        if value.is_finite() && !rounded.is_finite() {
            let (number, largest) = named(number);
            return Err(OnnxError::TooLarge {
                tensor: tensor.into(),
                value,
                number,
                largest,
            });
        }
    }
    Ok(raw.into())
}

/// Puts other values into a tensor, in the type of its numbers.
///
/// # Errors
/// It has another number of them, or a finite value becomes infinite.
pub(super) fn replace(tensor: &mut TensorProto, values: &[f64]) -> Result<(), OnnxError> {
    let (_, expected) = shape(tensor)?;
    if values.len() != expected {
        return Err(OnnxError::Count {
            tensor: label(tensor).into(),
            expected,
            found: values.len(),
        });
    }
    let raw = to_raw(label(tensor), tensor.data_type.unwrap_or(0), values)?;
    tensor.float_data.clear();
    tensor.double_data.clear();
    tensor.int32_data.clear();
    tensor.raw_data = Some(raw);
    Ok(())
}

/// A tensor of floating point numbers.
///
/// # Errors
/// A finite value becomes infinite.
pub(super) fn tensor(
    name: &str,
    dims: &[usize],
    number: i32,
    values: &[f64],
) -> Result<TensorProto, OnnxError> {
    Ok(TensorProto {
        name: Some(name.into()),
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        data_type: Some(number),
        raw_data: Some(to_raw(name, number, values)?),
        ..Default::default()
    })
}

/// Refuses a tensor with more or fewer numbers than its shape says, without reading them.
pub(super) fn check(tensor: &TensorProto) -> Result<(), OnnxError> {
    use data_type::*;
    let (_, count) = shape(tensor)?;
    let number = tensor.data_type.unwrap_or(0);
    let found = match &tensor.raw_data {
        Some(raw) if !raw.is_empty() => {
            if raw.len() == count.saturating_mul(width(number)) {
                return Ok(());
            }
            raw.len() / width(number)
        }
        _ => match number {
            FLOAT => tensor.float_data.len(),
            DOUBLE => tensor.double_data.len(),
            _ => tensor.int32_data.len(),
        },
    };
    match found == count {
        true => Ok(()),
        false => Err(wrong_count(tensor, found, count)),
    }
}
