//! How much memory the messages of a file take, before it is decoded: a message of two bytes takes hundreds in memory.

use std::mem::size_of;

use super::error::{OnnxError, invalid};
use super::proto::*;

/// Bytes that the messages of a file take in memory at most, without the numbers of tensors.
const LARGEST: usize = 1 << 30;

/// Messages in messages at most, as in the decoder.
const DEEPEST: usize = 100;

/// Messages by the fields in which others are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    Info,
    Type,
    /// A type in a type.
    Inner,
    Shape,
    Training,
    Function,
    Devices,
    Sharding,
    Annotation,
    /// One in which there are no others.
    Leaf,
    /// Text, or numbers outside of tensors.
    Bytes,
}

impl Kind {
    /// What a field of bytes is in it.
    fn field(self, field: u64) -> Self {
        match (self, field) {
            (Self::Model, 7) | (Self::Attribute, 6 | 11) | (Self::Training, 1 | 2) => Self::Graph,
            (Self::Model, 8 | 14 | 26) | (Self::Function, 9 | 14) => Self::Leaf,
            (Self::Model, 20) => Self::Training,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Self::Tensor,
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Self::Sparse,
            (Self::Graph, 11..=13) | (Self::Function, 12) => Self::Info,
            (Self::Graph, 14) => Self::Annotation,
            (Self::Graph, 16)
            | (Self::Node, 9)
            | (Self::Tensor, 3 | 13 | 16)
            | (Self::Info, 4)
            | (Self::Training, 3 | 4)
            | (Self::Annotation, 2)
            | (Self::Shape, 1) => Self::Leaf,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::Node, 10) => Self::Devices,
            (Self::Devices, 2) => Self::Sharding,
            (Self::Sharding, 3 | 4) => Self::Sharding,
            (Self::Attribute, 14 | 15) | (Self::Info, 2) => Self::Type,
            (Self::Type, 1 | 4 | 5 | 7 | 8 | 9) => Self::Inner,
            // a shape, or the type of elements
            (Self::Inner, 1) => Self::Type,
            (Self::Inner, 2) => Self::Shape,
            _ => Self::Bytes,
        }
    }

    /// Its bytes in memory.
    fn size(self) -> usize {
        match self {
            Self::Model => size_of::<ModelProto>(),
            Self::Graph => size_of::<GraphProto>(),
            Self::Node => size_of::<NodeProto>(),
            Self::Attribute => size_of::<AttributeProto>(),
            Self::Tensor => size_of::<TensorProto>(),
            Self::Sparse => size_of::<SparseTensorProto>(),
            Self::Info => size_of::<ValueInfoProto>(),
            Self::Type | Self::Inner => size_of::<TypeProto>(),
            Self::Shape => size_of::<TensorShapeProto>(),
            Self::Training => size_of::<TrainingInfoProto>(),
            Self::Function => size_of::<FunctionProto>(),
            Self::Devices | Self::Sharding => size_of::<ShardingSpecProto>(),
            Self::Annotation => size_of::<TensorAnnotation>(),
            Self::Leaf => size_of::<Dimension>(),
            Self::Bytes => size_of::<Vec<u8>>(),
        }
    }
}

/// Refuses bytes whose messages take more memory than those of a network. What is wrong with them otherwise, the decoder
/// finds.
pub(super) fn check(bytes: &[u8]) -> Result<(), OnnxError> {
    let mut all = size_of::<ModelProto>();
    // the messages that are open, each with what is left of it
    let mut open = vec![(Kind::Model, bytes)];
    while let Some((kind, rest)) = open.last_mut() {
        let Some((field, inside)) = next(rest) else {
            open.pop();
            continue;
        };
        let Some(inside) = inside else { continue };
        let kind = kind.field(field);
        all = all.saturating_add(kind.size());
        if all > LARGEST {
            let what = format!(
                "its messages take more than {LARGEST} bytes of memory, which no network does"
            );
            return Err(invalid("the file", what));
        }
        if !matches!(kind, Kind::Bytes) && open.len() < DEEPEST {
            open.push((kind, inside));
        }
    }
    Ok(())
}

/// The number of the next field and, if they are such, its bytes; none at the end, or where the bytes make no sense.
fn next<'b>(rest: &mut &'b [u8]) -> Option<(u64, Option<&'b [u8]>)> {
    let key = varint(rest)?;
    let taken = match key & 7 {
        0 => {
            varint(rest)?;
            return Some((key >> 3, None));
        }
        1 => 8,
        2 => usize::try_from(varint(rest)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let (inside, behind) = rest.split_at_checked(taken)?;
    *rest = behind;
    Some((key >> 3, (key & 7 == 2).then_some(inside)))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with so many empty nodes.
    fn nodes(count: usize) -> Vec<u8> {
        let inside = [0x0a, 0].repeat(count);
        let mut bytes = vec![0x3a];
        prost::encoding::encode_varint(inside.len() as u64, &mut bytes);
        bytes.extend(inside);
        bytes
    }

    #[test]
    fn files_of_nothing_but_empty_messages_are_refused() {
        assert!(check(&nodes(1000)).is_ok());
        let said = check(&nodes(8 << 20)).unwrap_err().to_string();
        assert!(said.contains("which no network does"), "{said}");
        // what makes no sense is left to the decoder
        assert!(check(&[0x3a, 0x7f, 1]).is_ok());
        assert!(check(&[0xff; 20]).is_ok());
    }
}
