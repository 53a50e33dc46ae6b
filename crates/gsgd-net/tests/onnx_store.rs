//! Bytes of files: nothing is lost, whatever tensors are stored as, and no bytes bring the reader down.

mod onnx_common;

use gsgd_core::scales::ParamKey;
use gsgd_net::onnx::proto::*;
use gsgd_net::onnx::{OnnxFile, ReadOptions};
use onnx_common::*;
use prost::Message;

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value.into()),
    }
}

fn dense() -> File {
    File::new(13)
        .input("x", &[2, 3])
        .tensor("w1", &[3, 4])
        .tensor("b1", &[4])
        .node("Gemm", &["x", "w1", "b1"], "g", &[])
        .node("Relu", &["g"], "h", &[])
        .tensor("w2", &[4, 2])
        .node("MatMul", &["h", "w2"], "out", &[])
        .output("out")
}

#[test]
fn all_fields_come_back() {
    let list = TypeProto {
        value: Some(TypeValue::SequenceType(Box::new(SequenceType {
            elem_type: Some(Box::new(TypeProto {
                value: Some(TypeValue::MapType(Box::new(MapType {
                    key_type: Some(7),
                    value_type: None,
                }))),
                denotation: None,
            })),
        }))),
        denotation: Some("list".into()),
    };
    let mut file = dense();
    file.model.functions.push(FunctionProto {
        name: Some("own".into()),
        domain: Some("mine".into()),
        overload: Some("first".into()),
        attribute: vec!["alpha".into()],
        attribute_proto: vec![float("beta", 0.5)],
        node: vec![node("Relu", &["a"], &["b"], &[])],
        ..Default::default()
    });
    file.model.configuration.push(DeviceConfigurationProto {
        name: Some("two".into()),
        num_devices: Some(2),
        device: vec!["a".into(), "b".into()],
    });
    file.model.training_info.push(TrainingInfoProto {
        update_binding: vec![entry("w1", "w1_new")],
        ..Default::default()
    });
    file.model.metadata_props.push(entry("author", "nobody"));
    let graph = file.graph();
    graph.quantization_annotation.push(TensorAnnotation {
        tensor_name: Some("g".into()),
        quant_parameter_tensor_names: vec![entry("SCALE_TENSOR", "s")],
    });
    graph.value_info.push(ValueInfoProto {
        name: Some("lists".into()),
        r#type: Some(list),
        metadata_props: vec![entry("a", "b")],
        ..Default::default()
    });
    graph.sparse_initializer.push(SparseTensorProto {
        values: Some(floats("sparse", &[1], &[2.0])),
        indices: Some(wholes("", &[3])),
        dims: vec![5],
    });
    graph.node[0]
        .device_configurations
        .push(NodeDeviceConfigurationProto {
            configuration_id: Some("two".into()),
            sharding_spec: vec![ShardingSpecProto {
                tensor_name: Some("w1".into()),
                device: vec![0, 1],
                index_to_device_group_map: vec![IntIntListEntryProto {
                    key: Some(-1),
                    value: vec![0, 1],
                }],
                sharded_dim: vec![ShardedDimProto {
                    axis: Some(1),
                    simple_sharding: vec![SimpleShardedDimProto {
                        dim: Some(SimpleShardedDim::DimParam("n".into())),
                        num_shards: Some(2),
                    }],
                }],
            }],
            pipeline_stage: Some(1),
        });
    let bytes = file.model.encode_to_vec();
    let read = OnnxFile::from_bytes(bytes.clone(), ".").unwrap();
    assert_eq!(*read.model(), file.model);
    assert_eq!(read.model().encode_to_vec(), bytes);
}

#[test]
fn numbers_are_read_from_wherever_they_are() {
    let tensor = |number: i32, set: &dyn Fn(&mut TensorProto)| {
        let mut tensor = TensorProto {
            name: Some("t".into()),
            dims: vec![2],
            data_type: Some(number),
            ..Default::default()
        };
        set(&mut tensor);
        let mut file = File::new(13);
        file.graph().initializer.push(tensor);
        file.file().tensor("t").unwrap().unwrap()
    };
    let raw =
        |tensor: &mut TensorProto, bytes: &[u8]| tensor.raw_data = Some(bytes.to_vec().into());
    let expected = vec![1.5, -2.0];
    assert_eq!(
        tensor(data_type::FLOAT, &|t| t.float_data = vec![1.5, -2.0]),
        expected
    );
    assert_eq!(
        tensor(data_type::DOUBLE, &|t| t.double_data = vec![1.5, -2.0]),
        expected
    );
    assert_eq!(
        tensor(data_type::FLOAT16, &|t| t.int32_data = vec![0x3e00, 0xc000]),
        expected
    );
    assert_eq!(
        tensor(data_type::BFLOAT16, &|t| t.int32_data =
            vec![0x3fc0, 0xc000]),
        expected
    );
    assert_eq!(
        tensor(data_type::FLOAT16, &|t| raw(t, &[0, 0x3e, 0, 0xc0])),
        expected
    );
    assert_eq!(
        tensor(data_type::BFLOAT16, &|t| raw(t, &[0xc0, 0x3f, 0, 0xc0])),
        expected
    );
    let bytes = [1.5f32.to_le_bytes(), (-2f32).to_le_bytes()].concat();
    assert_eq!(tensor(data_type::FLOAT, &|t| raw(t, &bytes)), expected);
}

#[test]
fn numbers_are_written_in_their_own_type() {
    let write = |number: i32, value: f64| {
        let mut file = dense();
        let w1 = &mut file.graph().initializer[0];
        w1.data_type = Some(number);
        w1.float_data.clear();
        w1.int32_data = vec![0; 12];
        let (file, network) = (file.file(), file.read());
        let of_w1 = |key: ParamKey| network.param(key).is_some_and(|param| param.name == "w1");
        let new = file.replaced(&network, |key| of_w1(key).then(|| vec![value; 12]))?;
        new.tensor("w1").map(|values| values.unwrap()[0])
    };
    assert_eq!(
        write(data_type::FLOAT16, 1.0 + 1.0 / 1024.0).unwrap(),
        1.0 + 1.0 / 1024.0
    );
    assert_eq!(
        write(data_type::BFLOAT16, 1.0 + 1.0 / 128.0).unwrap(),
        1.0 + 1.0 / 128.0
    );
    let said = write(data_type::FLOAT16, 1e5).unwrap_err().to_string();
    assert!(said.contains("`w1`") && said.contains("float16"), "{said}");
    assert!(write(data_type::BFLOAT16, 1e5).is_ok());
    assert!(write(data_type::FLOAT16, f64::INFINITY).is_ok());
}

#[test]
fn tensors_in_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = dense();
    let outside = |tensor: &mut TensorProto, location: &str, offset: usize, length: usize| {
        tensor.float_data.clear();
        tensor.data_location = Some(EXTERNAL);
        tensor.external_data = vec![
            entry("location", location),
            entry("offset", &offset.to_string()),
            entry("length", &length.to_string()),
        ];
    };
    let numbers: Vec<u8> = (0..20).flat_map(|x| (x as f32).to_le_bytes()).collect();
    std::fs::write(folder.path().join("a.bin"), &numbers).unwrap();
    outside(&mut file.graph().initializer[0], "a.bin", 8, 48);
    outside(&mut file.graph().initializer[2], "./a.bin", 0, 32);
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, file.model.encode_to_vec()).unwrap();
    let read = OnnxFile::open(&path).unwrap();
    assert_eq!(read.tensor("w1").unwrap().unwrap()[0], 2.0);
    assert_eq!(read.tensor("w2").unwrap().unwrap()[7], 7.0);
    // changed and written beside a new file
    let new = rescaled(&read);
    let to = folder.path().join("new.onnx");
    new.write(&to).unwrap();
    assert!(folder.path().join("new.onnx.data").exists());
    let again = OnnxFile::open(&to).unwrap();
    assert_eq!(again.tensor("w1").unwrap(), new.tensor("w1").unwrap());
    assert_eq!(outputs(&again), outputs(&read));
    // over the file that is read
    read.write(&to).unwrap();
    assert_eq!(
        OnnxFile::open(&to).unwrap().tensor("w2").unwrap(),
        read.tensor("w2").unwrap()
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4);
    // what is not there, or outside
    let refused = |location: &str, offset: usize, length: usize| {
        let mut file = file.clone();
        outside(&mut file.graph().initializer[0], location, offset, length);
        let read = OnnxFile::from_bytes(file.model.encode_to_vec(), folder.path());
        read.map(|_| ()).unwrap_err().to_string()
    };
    assert!(refused("a.bin", 40, 48).contains("which has 80"));
    assert!(refused("a.bin", usize::MAX, 48).contains("which has 80"));
    assert!(refused("../a.bin", 0, 48).contains("a file in the model's folder is allowed"));
    assert!(refused("/etc/hostname", 0, 1).contains("a file in the model's folder is allowed"));
    assert!(refused("", 0, 1).contains("a file in the model's folder is allowed"));
    assert!(refused("b.bin", 0, 48).contains("b.bin"));
    // the same bytes again and again
    let mut many = file.clone();
    for at in 0..5 {
        let mut again = floats(&format!("again{at}"), &[20], &[]);
        outside(&mut again, "a.bin", 0, 80);
        many.graph().initializer.push(again);
    }
    let said = OnnxFile::from_bytes(many.model.encode_to_vec(), folder.path());
    let said = said.map(|_| ()).unwrap_err().to_string();
    assert!(said.contains("more than twice the 80 bytes"), "{said}");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link.bin")).unwrap();
        assert!(refused("link.bin", 0, 1).contains("leads to one outside"));
    }
}

#[test]
fn no_bytes_bring_the_reader_down() {
    let file = dense()
        .whole("to", &[1, -1])
        .node("Reshape", &["h", "to"], "r", &[])
        .node("Shape", &["r"], "s", &[])
        .node("ConstantOfShape", &["s"], "z", &[])
        .node("Add", &["r", "z"], "y", &[])
        .output("y");
    let good = file.model.encode_to_vec();
    let mut random = 1u64;
    let mut next = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..1 + next(3) {
            let at = next(bytes.len());
            match next(3) {
                0 => bytes[at] = next(256) as u8,
                1 => bytes[at] ^= 1 << next(8),
                _ => bytes.truncate(at + 1),
            }
        }
        let Ok(file) = OnnxFile::from_bytes(bytes, "/nowhere") else {
            continue;
        };
        if let Ok(network) = file.read(&ReadOptions::default()) {
            let _ = network.graph.scales(Default::default());
            let _ = file.replaced(&network, |key| file.values(&network, key).ok());
        }
    }
}

#[test]
fn sizes_that_a_file_makes_up_take_no_memory() {
    // a tensor of 2^40 numbers that is computed, and a window, a split and a tiling without end
    let file = dense()
        .whole("huge", &[1 << 20, 1 << 20])
        .node("ConstantOfShape", &["huge"], "z", &[])
        .node("Add", &["h", "z"], "y1", &[])
        .whole("times", &[1 << 40, 1 << 40])
        .node("Tile", &["h", "times"], "y2", &[])
        .node("Split", &["h"], "y3", &[int("num_outputs", i64::MAX)])
        .node(
            "MaxPool",
            &["h"],
            "y4",
            &[ints("kernel_shape", &[i64::MAX])],
        )
        .node("Expand", &["h", "huge"], "y5", &[])
        .output("y1")
        .output("y2");
    assert!(file.read().notes.len() >= 2);
    // a body in a body in a body, deeper than the decoder follows: its bytes alone
    let mut bytes = Vec::new();
    let mut inner = Vec::new();
    for _ in 0..2000 {
        // attribute 5 of a node 1 of a graph 6 of an attribute
        let mut outer = Vec::new();
        for tag in [6u32, 5, 1] {
            outer.clear();
            prost::encoding::encode_key(
                tag,
                prost::encoding::WireType::LengthDelimited,
                &mut outer,
            );
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.extend(&inner);
            std::mem::swap(&mut inner, &mut outer);
        }
    }
    prost::encoding::encode_key(7, prost::encoding::WireType::LengthDelimited, &mut bytes);
    prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
    bytes.extend(inner);
    assert!(OnnxFile::from_bytes(bytes, ".").is_err());
}
